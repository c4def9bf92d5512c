package openfiles

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mkdev packs a device as stat does.
func mkdev(major, minor uint32) uint64 { return unix.Mkdev(major, minor) }

// mounts finds where the directory itself is mounted, looking once into every
// mount namespace.
func (s *scan) mounts(self string, pids []string) {
	me, err := stat(s.dir)
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for _, pid := range append([]string{self}, pids...) {
		ns, err := os.Readlink("/proc/" + pid + "/ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		root := "/proc/" + pid + "/root"
		if pid == self {
			root = ""
		}
		b, err := os.ReadFile("/proc/" + pid + "/mountinfo")
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			s.mount(self, pid, root, me, strings.Fields(string(line)))
		}
	}
}

// mount looks at one line of mountinfo: id parent major:minor root mountpoint …
func (s *scan) mount(self, pid, root string, me fileID, f []string) {
	if len(f) < 5 || f[3] == "/" && strings.HasPrefix(f[2], "0:") && unix.Major(me.dev) != 0 {
		return // a virtual file system, none of ours
	}
	place := unescape(f[4])
	if id, err := stat(root + place); err != nil || id != me {
		return
	}
	m := Mount{Path: place}
	if pid != self {
		m.PID, _ = strconv.Atoi(pid)
		m.Command = command("/proc/" + pid)
	}
	s.rep.Mounts = append(s.rep.Mounts, m)
}

// unescape undoes the octal escapes of mountinfo (mangle in Linux
// fs/proc_namespace.c: blank, tab, newline, backslash).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(s)
}
