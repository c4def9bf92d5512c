package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"colorfast"
	"colorfast/internal/openfiles"
)

// state is what a target holds before the restore.
type state int

// The states.
const (
	missing state = iota
	empty
	full
)

// lostFound is what mkfs puts at the top of an ext file system.
const lostFound = "lost+found"

// maxTarget leaves room in a name for what a restore adds to it.
const maxTarget = 200

// place is where a restore goes.
type place struct {
	path    string // absolute, symbolic links resolved
	parent  string
	base    string
	link    string // the symbolic link that the user named, "" if none
	state   state
	inPlace bool // it is mounted somewhere, so that a rename will not do
	names   []string
}

// locate resolves a target and refuses those that will never do.
func locate(target, vaultDir string) (*place, error) {
	if target == "" || strings.ContainsRune(target, 0) {
		return nil, colorfast.Errorf(colorfast.Usage, "restore to %q: that is no directory's name", target)
	}
	p, err := filepath.Abs(target)
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Internal, "restore to %q: %w", target, err)
	}
	to := &place{}
	for range 40 { // as many links as Linux follows
		parent, err := filepath.EvalSymlinks(filepath.Dir(p))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, colorfast.Errorf(colorfast.NotFound, "restore to %q: there is no directory %q", target, filepath.Dir(p)).
				WithHint("make it first, with the owner that it is to have")
		}
		if err != nil {
			return nil, colorfast.Errorf(kindOf(err), "restore to %q: %w", target, err)
		}
		to.parent, to.base = parent, filepath.Base(p)
		to.path = filepath.Join(parent, to.base)
		dest, err := os.Readlink(to.path)
		if err != nil {
			return to, to.check(target, vaultDir)
		}
		to.link = target
		if p = dest; !filepath.IsAbs(p) {
			p = filepath.Join(parent, p)
		}
	}
	return nil, colorfast.Errorf(colorfast.Usage, "restore to %q: its symbolic links go in a circle", target)
}

// check refuses a target for what it is.
func (to *place) check(target, vaultDir string) error {
	if to.path == "/" || to.base == "/" {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: that is the whole system", target)
	}
	if len(to.base) > maxTarget {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: the name is longer than %d bytes", target, maxTarget)
	}
	if strings.Contains(to.base, colorfast.RestorePrefix) || colorfast.IsAside(to.base) {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: such names are those of other restores", target).
			WithHint("name another directory; one kept aside is put back with \"mv\", with Chroma stopped")
	}
	info, err := os.Lstat(to.path)
	if err == nil && !info.IsDir() {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: it is a file, not a directory", to.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return colorfast.Errorf(kindOf(err), "restore to %q: %w", target, err)
	}
	if info, err := os.Stat(to.parent); err != nil || !info.IsDir() {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: %q is not a directory", target, to.parent)
	}
	if vaultDir == "" {
		return nil
	}
	v, err := filepath.Abs(vaultDir)
	if err != nil {
		return colorfast.Errorf(colorfast.Internal, "restore to %q: %w", target, err)
	}
	if r, err := filepath.EvalSymlinks(v); err == nil {
		v = r
	}
	if within(to.path, v) || within(v, to.path) {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: the vault lies in %q", to.path, v).
			WithHint("name a directory outside the vault")
	}
	return nil
}

// within reports whether path is dir or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// inspect looks at what the target holds now, and whether it is mounted.
func (to *place) inspect(mounts []openfiles.Mount) error {
	to.state, to.names, to.inPlace = missing, nil, false
	info, err := os.Lstat(to.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory any more")
	}
	var names []string
	if err == nil {
		to.inPlace = len(mounts) > 0 || mountRoot(to.path, to.parent)
		names, err = readNames(to.path)
	}
	if err != nil {
		return colorfast.Errorf(kindOf(err), "look into target %q: %w", to.path, err)
	}
	to.state = empty
	for _, n := range names {
		if to.inPlace && (colorfast.IsAside(n) || n == lostFound) {
			continue
		}
		to.names = append(to.names, n)
		to.state = full
	}
	return nil
}

// home is the directory in which the stage lies.
func (to *place) home() string {
	if to.inPlace {
		return to.path
	}
	return to.parent
}

// homes are the directories in which stages for this target may lie.
func (to *place) homes() []string {
	if to.state == missing {
		return []string{to.parent}
	}
	return []string{to.parent, to.path}
}

// stagePrefix is how the names of this target's stages in home begin; eight
// characters of the backup's ID follow.
func (to *place) stagePrefix(home string) string {
	if home == to.path {
		return colorfast.RestorePrefix
	}
	return "." + to.base + colorfast.RestorePrefix
}

// aside returns a path, not yet taken, for what is in the way.
func (to *place) aside(now time.Time) string {
	p := to.path + colorfast.AsidePrefix + now.Format("20060102T150405Z")
	if to.inPlace {
		p = filepath.Join(to.path, colorfast.AsidePrefix+now.Format("20060102T150405Z"))
	}
	return unused(p)
}

// unused returns path, or path with a number if something has that name.
func unused(path string) string {
	for n, p := 2, path; ; n++ {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) || n > 10000 {
			return p
		}
		p = fmt.Sprintf("%s-%d", path, n)
	}
}

// readNames returns the names in a directory.
func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// inode returns the inode of what lies at path, 0 if there is nothing. All that
// is compared lies in one file system, so the device does not matter; it may
// change with a reboot.
func inode(path string) (uint64, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("no inode of %q", path)
	}
	return st.Ino, nil
}

// foldsCase reports whether the file system takes upper and lower case for the
// same, judged by the name of a directory itself.
func foldsCase(dir string) bool {
	base := filepath.Base(dir)
	other := strings.ToUpper(base)
	if other == base {
		other = strings.ToLower(base)
	}
	if other == base {
		return false
	}
	a, err := os.Lstat(dir)
	if err != nil {
		return false
	}
	b, err := os.Lstat(filepath.Join(filepath.Dir(dir), other))
	return err == nil && os.SameFile(a, b)
}

// kindOf translates an error of the operating system.
func kindOf(err error) colorfast.Kind {
	var e *colorfast.Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return colorfast.Denied
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EFBIG):
		return colorfast.Usage
	}
	return colorfast.Internal
}

// otherDevice reports whether two directories lie in different file systems.
func otherDevice(a, b string) bool {
	x, err := os.Lstat(a)
	if err != nil {
		return false
	}
	y, err := os.Lstat(b)
	if err != nil {
		return false
	}
	s, ok := x.Sys().(*syscall.Stat_t)
	t, ok2 := y.Sys().(*syscall.Stat_t)
	return ok && ok2 && s.Dev != t.Dev
}
