package capture

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"colorfast"
	"colorfast/chroma"
)

// signature is what tells that a file has changed since it was copied.
type signature struct {
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
	device       uint64
	inode        uint64
	allocated    int64 // bytes on disk; less than size for a sparse file
	uid, gid     int
}

// stampGrain is longer than the coarsest tick by which kernels stamp files
// (10 ms at 100 Hz). A file changed more recently than this before it was
// copied may have changed again under the same stamp.
const stampGrain = 20 * time.Millisecond

// coarseGrain is the coarsest unit in which file systems keep stamps.
const coarseGrain = 2 * time.Second

// aged reports whether a change after now will show in the stamps. A stamp from
// the future, left by a clock that was set back, is as good as an old one.
//
// Some file systems stamp to a second or two (vfat, ext4 with small inodes): a
// stamp of whole seconds must be older. That of the last change of the inode
// tells, for nobody can set it.
func (g signature) aged(now time.Time) bool {
	grain := int64(g.grain())
	age := now.UnixNano() - max(g.mtime, g.ctime)
	return age > grain || age < -grain
}

// grain is how long after its stamp a file may change without getting another.
func (g signature) grain() time.Duration {
	if g.ctime%int64(time.Second) == 0 {
		return stampGrain + coarseGrain
	}
	return stampGrain
}

// lostFound is where file systems of the ext family keep what a check has found,
// at the top of a volume and readable by root only.
const lostFound = "lost+found"

// entry is something in the source, as it was at one look.
type entry struct {
	path string // relative, with slashes; "." for the source itself
	info fs.FileInfo
	sig  signature
}

func (e entry) regular() bool { return e.info.Mode().IsRegular() }

func (e entry) keepable() bool {
	return e.regular() || e.info.IsDir() || e.info.Mode()&fs.ModeSymlink != 0
}

// misleads reports whether the entry is a symbolic link in the place of
// something that Chroma writes. To keep the link would keep none of its bytes.
func (e entry) misleads() bool {
	if e.info.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	return e.segment() || chroma.IsUUID(e.path) || e.path == chroma.WALFile || e.path == chroma.JournalFile
}

// segment reports whether the entry lies in a directory named like a segment.
func (e entry) segment() bool {
	dir, _, ok := strings.Cut(e.path, "/")
	return ok && chroma.IsUUID(dir)
}

// aged reports whether the entry was stamped long enough ago that a change from
// now on will show.
func (e entry) aged() bool {
	return e.sig.aged(time.Now())
}

// look lists the source and keeps the list as the last one.
func (s *session) look() (tree []entry, err error) {
	s.tree, err = look(s.source)
	return s.tree, err
}

// look lists a source, in lexical order, without what SQLite makes anew (the
// shared-memory file), and without what a restore of ours has left beside the
// data.
func look(source string) ([]entry, error) {
	var tree []entry
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && p != source {
				return nil // went away since its directory was read
			}
			if filepath.Dir(p) == source && d != nil && d.Name() == lostFound {
				return fs.SkipDir
			}
			return denied(err)
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && (colorfast.IsAside(rel) || rel == lostFound) {
			return fs.SkipDir
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) || rel == chroma.SHMFile {
			return nil
		}
		if err != nil {
			return denied(err)
		}
		e := entry{path: rel, info: info, sig: signatureOf(info)}
		if e.misleads() {
			return colorfast.Errorf(colorfast.Unsupported, "capture %q: %s is a symbolic link", source, rel).
				WithHint("move what it leads to in its place, with Chroma stopped; a bind mount does what the link was made for")
		}
		tree = append(tree, e)
		return nil
	})
	return tree, err
}

// files lists the staged copy as it is to be kept, with owners, modes and times
// of the source.
func (s *session) files() ([]colorfast.File, error) {
	var out []colorfast.File
	for _, e := range s.tree {
		fi, err := os.Lstat(s.staged(e.path))
		switch {
		case !e.keepable():
			s.seen = append(s.seen, colorfast.NewFinding(colorfast.SourceSpecial, e.path, 0, "its type is %s", e.info.Mode().Type()))
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // a journal, folded into the copy; or newer than the copy
		case err != nil:
			return nil, err
		}
		f := colorfast.File{Path: e.path, Mode: modeBits(e.info.Mode()), UID: e.sig.uid, GID: e.sig.gid, ModTime: e.info.ModTime().UTC()}
		switch {
		case e.info.IsDir():
			f.Type = colorfast.Directory
		case e.regular():
			f.Type, f.Size, f.Layout = colorfast.Regular, fi.Size(), s.layout(e.path)
		default:
			f.Type = colorfast.Symlink
			if f.Target, err = os.Readlink(s.staged(e.path)); err != nil {
				return nil, err
			}
		}
		out = append(out, f)
	}
	return out, nil
}

func (s *session) staged(path string) string {
	return filepath.Join(s.data, filepath.FromSlash(path))
}

// modeBits returns m's permission bits as chmod(2) takes them.
func modeBits(m fs.FileMode) uint32 {
	b := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		b |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		b |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		b |= 0o1000
	}
	return b
}
