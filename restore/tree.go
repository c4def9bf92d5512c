package restore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"colorfast"
)

// tree is what a backup holds, checked: writing it below a directory touches
// nothing outside, whatever the manifest says.
type tree struct {
	dirs   []colorfast.File // parents first; "." is always there
	files  []colorfast.File // largest first, so that no big one is left for last
	links  []colorfast.File
	byPath map[string]*colorfast.File
	tops   []string // the names at the top, sorted
	bytes  int64    // sum of the files' sizes
}

// Limits of Linux (include/uapi/linux/limits.h), less what a target's own path
// may need.
const (
	maxName = 255
	maxPath = 3500
)

// newTree checks a manifest. It refuses paths that are absolute, leave the
// target, occur twice, lie below something that is no directory (such as a
// symbolic link restored before), or are of a form that capture never writes.
func newTree(m *colorfast.Manifest) (*tree, error) {
	bad := func(p, format string, args ...any) error {
		return colorfast.Errorf(colorfast.Corrupt, "read the file list of backup %q: entry %q %s", m.ID.Short(), p, fmt.Sprintf(format, args...))
	}
	if !plainName(string(m.ID)) {
		return nil, colorfast.Errorf(colorfast.Corrupt, "read backup %q: its ID is not one", string(m.ID))
	}
	t := &tree{byPath: make(map[string]*colorfast.File, len(m.FileList)+1)}
	for i := range m.FileList {
		f := &m.FileList[i]
		if why := wrong(f); why != "" {
			return nil, bad(f.Path, "%s", why)
		}
		if t.byPath[f.Path] != nil {
			return nil, bad(f.Path, "is listed twice")
		}
		t.byPath[f.Path] = f
		if f.Size > math.MaxInt64-t.bytes {
			return nil, bad(f.Path, "makes the backup larger than any disk")
		}
		t.bytes += f.Size
	}
	for i := range m.FileList {
		for up := path.Dir(m.FileList[i].Path); ; up = path.Dir(up) {
			f := t.byPath[up]
			if f == nil {
				t.byPath[up] = &colorfast.File{Path: up, Type: colorfast.Directory, Mode: 0o700, UID: -1, GID: -1}
			} else if f.Type != colorfast.Directory {
				return nil, bad(m.FileList[i].Path, "lies below %q, which is no directory", up)
			}
			if up == "." {
				break
			}
		}
	}
	if t.byPath["."] == nil {
		t.byPath["."] = &colorfast.File{Path: ".", Type: colorfast.Directory, Mode: 0o700, UID: -1, GID: -1}
	}
	t.sort()
	return t, nil
}

// sort fills the lists from byPath.
func (t *tree) sort() {
	for p, f := range t.byPath {
		switch f.Type {
		case colorfast.Regular:
			t.files = append(t.files, *f)
		case colorfast.Symlink:
			t.links = append(t.links, *f)
		default:
			t.dirs = append(t.dirs, *f)
		}
		if p != "." && !strings.Contains(p, "/") {
			t.tops = append(t.tops, p)
		}
	}
	byPath := func(a, b colorfast.File) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(t.dirs, func(a, b colorfast.File) int {
		switch {
		case a.Path == ".":
			return -1
		case b.Path == ".":
			return 1
		}
		return byPath(a, b)
	})
	slices.SortFunc(t.links, byPath)
	slices.SortFunc(t.files, func(a, b colorfast.File) int { return cmp.Or(cmp.Compare(b.Size, a.Size), byPath(a, b)) })
	slices.Sort(t.tops)
}

// plainName reports whether an ID can be part of a file's name.
func plainName(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// wrong says what is wrong with an entry by itself, "" if nothing is.
func wrong(f *colorfast.File) string {
	first, _, _ := strings.Cut(f.Path, "/")
	switch {
	case !fs.ValidPath(f.Path) || strings.ContainsRune(f.Path, 0) || !filepath.IsLocal(filepath.FromSlash(f.Path)):
		return "is not a path inside the backup"
	case len(f.Path) > maxPath || slices.ContainsFunc(strings.Split(f.Path, "/"), func(s string) bool { return len(s) > maxName }):
		return "is too long"
	case colorfast.IsAside(first):
		return "has a name that restores use for themselves"
	case f.Path == "." && f.Type != colorfast.Directory:
		return "is not a directory"
	case f.Mode&^0o7777 != 0:
		return fmt.Sprintf("has mode %o", f.Mode)
	case f.UID < -1 || f.GID < -1 || int64(f.UID) > math.MaxUint32 || int64(f.GID) > math.MaxUint32:
		return fmt.Sprintf("has owner %d:%d", f.UID, f.GID)
	}
	switch f.Type {
	case colorfast.Regular:
		if f.Size < 0 || len(f.SHA256) != 64 || strings.Trim(f.SHA256, "0123456789abcdef") != "" {
			return "has no proper size and hash"
		}
	case colorfast.Symlink:
		if f.Target == "" || len(f.Target) > maxPath || strings.ContainsRune(f.Target, 0) || f.Size != 0 {
			return "has no proper target"
		}
	case colorfast.Directory:
		if f.Size != 0 {
			return "has a size"
		}
	default:
		return fmt.Sprintf("has the unknown type %q", f.Type)
	}
	return ""
}

// checkCase refuses names that differ by case only. Ask it where the file
// system takes those for one.
func (t *tree) checkCase() error {
	seen := make(map[string]string, len(t.byPath))
	for p := range t.byPath {
		k := strings.ToLower(p)
		if other, ok := seen[k]; ok {
			return colorfast.Errorf(colorfast.Unsupported, "restore %q and %q: the target's file system takes them for one", min(p, other), max(p, other)).
				WithHint("restore to a file system that tells upper from lower case")
		}
		seen[k] = p
	}
	return nil
}

// compare reports the first difference between dir and the tree: names, types,
// sizes, times and targets of symbolic links, but not contents. At the top it
// overlooks names of ours if told so.
func (t *tree) compare(dir string, overlook bool) error {
	n := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if overlook && (colorfast.IsAside(rel) || rel == lostFound && t.byPath[rel] == nil) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		f := t.byPath[filepath.ToSlash(rel)]
		if f == nil {
			return fmt.Errorf("%q is not in the backup", rel)
		}
		n++
		info, err := d.Info()
		if err != nil {
			return err
		}
		return same(f, info, p)
	})
	if err == nil && n != len(t.byPath) {
		err = errors.New("an entry is missing")
	}
	return err
}

// same compares one entry; path is where it lies.
func same(f *colorfast.File, info fs.FileInfo, path string) error {
	switch {
	case f.Type == colorfast.Directory && info.IsDir():
		return nil
	case f.Type == colorfast.Symlink && info.Mode()&fs.ModeSymlink != 0:
		if target, err := os.Readlink(path); err != nil || target != f.Target {
			return fmt.Errorf("%q leads elsewhere", f.Path)
		}
		return nil
	case f.Type == colorfast.Regular && info.Mode().IsRegular():
		if info.Size() != f.Size || !sameTime(f, info) {
			return fmt.Errorf("%q has another size or time", f.Path)
		}
		return nil
	}
	return fmt.Errorf("%q is of another type", f.Path)
}

// sameTime compares times of modification, of which some file systems keep
// only a coarse one.
func sameTime(f *colorfast.File, info fs.FileInfo) bool {
	const coarse = 2e9 // FAT keeps two seconds
	d := f.ModTime.Sub(info.ModTime())
	return f.ModTime.IsZero() || (d < coarse && d > -coarse)
}
