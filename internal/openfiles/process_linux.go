package openfiles

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// proc is one process that is looked into.
type proc struct {
	*scan
	dir   string // /proc/PID
	mnt   string // its mount namespace, once asked for
	files map[string]bool
	write bool
}

// descriptors looks at the open files.
func (p *proc) descriptors() error {
	d, err := os.Open(p.dir + "/fd")
	if err != nil {
		return err
	}
	defer d.Close()
	fds, err := d.Readdirnames(-1)
	if err != nil {
		return nil //nolint:nilerr // the process ended
	}
	for _, fd := range fds {
		link := p.dir + "/fd/" + fd
		name, err := os.Readlink(link)
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err != nil || !strings.HasPrefix(name, "/") {
			continue // closed meanwhile; or a socket, a pipe
		}
		id, err := stat(link)
		if err != nil {
			id = fileID{}
		}
		rel, ok := p.names[id]
		if !ok {
			rel, ok = p.byPath(name)
		}
		if ok {
			p.files[rel] = true
			if info, err := os.Lstat(link); err == nil && info.Mode()&0o200 != 0 {
				p.write = true // the mode of the link is how the file was opened
			}
		}
	}
	return nil
}

// mappings looks at the files mapped into memory, whose descriptors may be
// closed.
func (p *proc) mappings() error {
	b, err := os.ReadFile(p.dir + "/maps")
	if err != nil {
		return err
	}
	var last string
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, []byte(" /")) {
			continue
		}
		// start-end perms offset major:minor inode path
		f := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 6)
		if len(f) < 6 || f[4] == "0" {
			continue
		}
		key := f[1] + f[3] + f[4]
		if key == last {
			continue // one file makes many lines
		}
		last = key
		if rel, ok := p.mapped(f[0], f[3], f[4], strings.TrimLeft(f[5], " ")); ok {
			p.files[rel] = true
			p.write = p.write || (len(f[1]) == 4 && f[1][1] == 'w' && f[1][3] == 's')
		}
	}
	return nil
}

// mapped recognizes one mapped file. The device that maps shows is the one of
// the super block, which on btrfs and overlay file systems is not the one that
// stat gives; then the file is looked at through map_files or, where we may
// not, taken for ours if inode and base name are.
func (p *proc) mapped(span, dev, inode, name string) (string, bool) {
	ino, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		return "", false
	}
	if byIno, ok := p.inodes[ino]; ok {
		if rel, ok := p.names[fileID{device(dev), ino}]; ok {
			return rel, true
		}
		if id, err := stat(p.dir + "/map_files/" + span); err == nil {
			if rel, ok := p.names[id]; ok {
				return rel, true
			}
		} else if path.Base(byIno) == path.Base(name) {
			return byIno, true
		}
	}
	return p.byPath(name)
}

// device reads a device of maps or mountinfo.
func device(s string) uint64 {
	major, minor, _ := strings.Cut(s, ":")
	a, _ := strconv.ParseUint(major, 16, 32)
	b, _ := strconv.ParseUint(minor, 16, 32)
	return mkdev(uint32(a), uint32(b))
}

// byPath recognizes a file that has no name under the directory now: deleted,
// replaced, or made since we looked.
func (p *proc) byPath(name string) (string, bool) {
	clean := strings.TrimSuffix(name, deleted)
	same := func() bool {
		if p.mnt == "" {
			p.mnt, _ = os.Readlink(p.dir + "/ns/mnt")
		}
		return p.mnt == p.selfMnt
	}
	if rel, ok := strings.CutPrefix(clean, p.scan.dir+"/"); ok && same() {
		return rel, true
	}
	if clean == name || len(p.names) == 0 {
		return "", false
	}
	// Deleted, and perhaps seen through another mount: is the directory that
	// it was in one of ours?
	root := ""
	if !same() {
		root = p.dir + "/root"
	}
	for up := path.Dir(clean); ; up = path.Dir(up) {
		id, err := stat(root + up)
		if rel, ok := p.names[id]; ok && err == nil {
			return path.Join(rel, strings.TrimPrefix(clean, up)), true
		}
		if err == nil || up == "/" {
			return "", false // its nearest directory that is left is not ours
		}
	}
}
