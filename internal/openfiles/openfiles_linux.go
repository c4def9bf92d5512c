package openfiles

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"colorfast"
)

// initPIDNamespace is the inode of the first PID namespace (PROC_PID_INIT_INO
// in Linux include/linux/proc_ns.h, the same since 3.8).
const initPIDNamespace = "pid:[4026531836]"

// deleted is what Linux appends to the path of an open file that has no name
// any more (d_path in fs/d_path.c).
const deleted = " (deleted)"

// fileID is a file, whatever its name.
type fileID struct{ dev, ino uint64 }

// scan is one look at all processes.
type scan struct {
	dir     string            // absolute, symbolic links resolved
	names   map[fileID]string // what lies under dir, relative to it
	inodes  map[uint64]string // the same by inode alone; see mapped
	selfMnt string            // our own mount namespace
	rep     Report
}

// Under reports which other processes have dir, or anything under it, open or
// mapped into memory. Files that are deleted but still open count too. Symbolic
// links under dir are followed, one directory deep, because Chroma follows them.
//
// A dir that does not exist is no error: deleted files of it may be open still.
// Processes that end during the look are passed over. Errors: Unsupported when
// there is no /proc, Denied when dir cannot be read.
func Under(dir string) (Report, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Report{}, colorfast.Errorf(colorfast.Internal, "look who has files in %q open: %w", dir, err)
	}
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return Report{}, colorfast.Errorf(colorfast.Unsupported, "look who has files in %q open: %w", dir, err)
	}
	s := &scan{dir: resolve(abs), names: map[fileID]string{}, inodes: map[uint64]string{}}
	if err := s.index(s.dir, "."); err != nil {
		kind := colorfast.Internal
		if errors.Is(err, fs.ErrPermission) {
			kind = colorfast.Denied
		}
		return Report{}, colorfast.Errorf(kind, "look who has files in %q open: %w", dir, err)
	}
	s.selfMnt, _ = os.Readlink("/proc/self/ns/mnt")
	ns, _ := os.Readlink("/proc/self/ns/pid")
	_, hidden := os.Lstat("/proc/1")
	s.rep.Confined = ns != initPIDNamespace || hidden != nil
	pids, err := processIDs()
	if err != nil {
		return Report{}, colorfast.Errorf(colorfast.Unsupported, "look who has files in %q open: %w", dir, err)
	}
	s.mounts(self, pids)
	for _, pid := range pids {
		if pid != self {
			s.process(pid)
		}
	}
	return s.rep, nil
}

// resolve resolves the symbolic links of path, as far as it exists.
func resolve(path string) string {
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	}
	if up := filepath.Dir(path); up != path {
		return filepath.Join(resolve(up), filepath.Base(path))
	}
	return path
}

// processIDs returns the names of the processes in /proc, lowest first.
func processIDs() ([]string, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n[0] < '0' || n[0] > '9' })
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return names, nil
}

// index notes the files at and under path, which is called rel.
func (s *scan) index(path, rel string) error {
	return filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted during the walk, or there is no such directory
		}
		if err != nil {
			if d != nil && d.IsDir() && p != s.dir {
				return nil // noted itself; what is in it can be known by path only
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // deleted during the walk
		}
		name := rel
		if p != path {
			name = filepath.Join(rel, p[len(path):])
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return s.follow(p, name)
		}
		s.note(info, name)
		return nil
	})
}

// follow notes what a symbolic link leads to: a file, or a directory with what
// is directly in it, as a segment of Chroma's would be. It goes no deeper, for
// the link may lead to the root of everything.
func (s *scan) follow(path, rel string) error {
	dest, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil //nolint:nilerr // dangling: nobody can have it open through this link
	}
	info, err := os.Lstat(dest)
	if err != nil || dest == s.dir || strings.HasPrefix(s.dir+"/", strings.TrimSuffix(dest, "/")+"/") {
		return nil //nolint:nilerr // deleted meanwhile; or a directory that dir lies in
	}
	s.note(info, rel)
	if !info.IsDir() {
		return nil
	}
	entries, _ := os.ReadDir(dest) // what cannot be read is known by path only
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Type()&fs.ModeSymlink == 0 {
			s.note(info, filepath.Join(rel, e.Name()))
		}
	}
	return nil
}

// note notes one file, under its first name.
func (s *scan) note(info fs.FileInfo, rel string) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	id := fileID{st.Dev, st.Ino}
	if _, ok := s.names[id]; !ok {
		s.names[id], s.inodes[st.Ino] = rel, rel
	}
}

// stat identifies the file behind a path without waiting for a dead server of
// a network file system.
func stat(path string) (fileID, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &st)
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, err
}

// process looks into one process.
func (s *scan) process(pid string) {
	p := &proc{scan: s, dir: "/proc/" + pid, files: map[string]bool{}}
	err := p.descriptors()
	if err == nil {
		err = p.mappings()
	}
	if errors.Is(err, fs.ErrPermission) && !kernelThread(p.dir) {
		s.rep.Unseen++
	}
	if len(p.files) == 0 {
		return
	}
	files := make([]string, 0, len(p.files))
	for f := range p.files {
		files = append(files, f)
	}
	slices.Sort(files)
	n, _ := strconv.Atoi(pid)
	s.rep.Processes = append(s.rep.Processes, Process{PID: n, Command: command(p.dir), Write: p.write, Files: files})
}

// kernelThread reports whether a process is a kernel thread or a zombie, which
// have no files; a process that has gone counts as one.
func kernelThread(dir string) bool {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	// pid (comm) state ppid pgrp session tty tpgid flags; comm may hold anything.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 7 {
		return false
	}
	flags, _ := strconv.ParseUint(string(f[6]), 10, 64)
	const kthread = 0x00200000 // PF_KTHREAD in Linux include/linux/sched.h
	return flags&kthread != 0 || string(f[0]) == "Z" || string(f[0]) == "X"
}

// command returns how a person would call the process.
func command(dir string) string {
	b, _ := os.ReadFile(dir + "/cmdline")
	var words []string
	for i, w := range strings.Split(strings.TrimRight(string(b), "\x00"), "\x00") {
		if w == "" || strings.HasPrefix(w, "-") || len(words) == 3 {
			break
		}
		if i <= 1 {
			w = filepath.Base(w)
		}
		words = append(words, strings.Map(printable, w[:min(len(w), 64)]))
	}
	if len(words) == 0 {
		b, _ = os.ReadFile(dir + "/comm")
		return strings.Map(printable, strings.TrimSpace(string(b)))
	}
	return strings.Join(words, " ")
}

// printable keeps error messages on one line.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
