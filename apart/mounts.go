package apart

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// mount is a line of mountinfo (proc(5), /proc/pid/mountinfo).
type mount struct {
	id      int
	device  string // major:minor; major 0 belongs to no block device
	point   string // where it is mounted
	kind    string // type of the file system
	source  string // a device, or what the type takes for one
	options map[string]string
}

// mounts reads those that this process sees.
func mounts(root fs.FS) ([]mount, error) {
	b, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []mount
	for line := range strings.Lines(string(b)) {
		if m, ok := parseMount(line); ok {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("proc/self/mountinfo names no mount")
	}
	return out, nil
}

// parseMount reads a line: id parent major:minor root point options [fields]… - type
// source super-options.
func parseMount(line string) (m mount, ok bool) {
	f := strings.Fields(line)
	dash := -1
	for i, x := range f {
		if x == "-" && i >= 6 {
			dash = i
			break
		}
	}
	if dash < 0 || len(f) < dash+3 {
		return m, false
	}
	id, err := strconv.Atoi(f[0])
	if err != nil {
		return m, false
	}
	m = mount{id: id, device: f[2], point: plain(f[4]), kind: f[dash+1], source: plain(f[dash+2]), options: map[string]string{}}
	if len(f) > dash+3 {
		for _, o := range strings.Split(f[dash+3], ",") {
			key, value, _ := strings.Cut(o, "=")
			m.options[key] = plain(value)
		}
	}
	return m, true
}

// plain undoes the escapes of mountinfo: a backslash and three octal digits.
func plain(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// mountOf finds the mount of a path: by the number that the kernel gave, else as
// the longest mount point above it, of several at one point the last.
func mountOf(all []mount, at location) *mount {
	var best *mount
	for i := range all {
		m := &all[i]
		if at.mount != 0 && m.id == at.mount {
			return m
		}
		if within(at.path, m.point) && (best == nil || len(m.point) >= len(best.point)) {
			best = m
		}
	}
	return best
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// virtual reports whether a device number belongs to no block device.
func virtual(device string) bool { return strings.HasPrefix(device, "0:") }

// Types of file systems that live in memory, and go at a restart.
var inMemory = map[string]bool{"tmpfs": true, "ramfs": true, "devtmpfs": true}

// server returns who serves a mount over the network; ok is false for one that is
// local. host is "" where it cannot be told.
func (m *mount) server() (host string, ok bool) {
	switch {
	case strings.HasPrefix(m.kind, "nfs"), m.kind == "ceph", m.kind == "glusterfs", m.kind == "fuse.glusterfs", m.kind == "fuse.sshfs", m.kind == "lustre":
		return hostOf(m.shown()), true
	case m.kind == "cifs", m.kind == "smb3", m.kind == "smbfs", m.kind == "ncpfs":
		host, _, _ = strings.Cut(strings.TrimLeft(strings.ReplaceAll(m.source, `\`, "/"), "/"), "/")
		return host[strings.LastIndex(host, "@")+1:], true
	case m.kind == "fuse" && strings.Contains(m.source, "://"), m.kind == "davfs":
		_, host, _ = strings.Cut(m.shown(), "://")
		host, _, _ = strings.Cut(host, "/")
		return host, true
	case m.kind == "9p", m.kind == "virtiofs", m.kind == "afs", m.kind == "beegfs", m.kind == "gpfs", m.kind == "vboxsf", m.kind == "fuse.vmhgfs-fuse":
		return "", true
	case strings.HasPrefix(m.kind, "fuse.") && virtual(m.device):
		return "", true // s3fs, rclone, mergerfs and others: what is behind cannot be told
	}
	return "", false
}

// hostOf returns the first host of "host:/path" or "a,b:/path"; one in brackets
// is an address of IPv6.
func hostOf(src string) string {
	if strings.HasPrefix(src, "[") {
		host, _, _ := strings.Cut(src[1:], "]")
		return host
	}
	hosts, _, found := strings.Cut(src, ":/")
	if !found {
		hosts, _, _ = strings.Cut(src, ":")
	}
	host, _, _ := strings.Cut(hosts, ",")
	if name, port, ok := strings.Cut(host, ":"); ok && strings.Trim(port, "0123456789") == "" {
		host = name
	}
	return host
}

// shown is the source of a mount without a user and a password.
func (m *mount) shown() string {
	scheme, rest, is := strings.Cut(m.source, "://")
	if !is {
		rest = m.source
	}
	host, tail, more := strings.Cut(rest, "/")
	out := host[strings.LastIndex(host, "@")+1:]
	if more {
		out += "/" + tail
	}
	if is {
		out = scheme + "://" + out
	}
	return out
}
