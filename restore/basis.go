package restore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"colorfast"
)

// basis is a directory with older copies of the backup's files. It is read and
// never written, and it is not trusted: whatever lies in it, what the vault
// makes of it has the recorded hash, or the restore fails.
type basis struct {
	dir    string
	root   *os.Root
	denied atomic.Bool // some file may not be read
}

// openBasis opens a directory. Errors: NotFound, Usage when it is something
// else, Denied.
func openBasis(dir string) (*basis, error) {
	b := &basis{}
	var info fs.FileInfo
	p, err := filepath.Abs(dir)
	if err == nil {
		b.dir, err = filepath.EvalSymlinks(p)
	}
	if err == nil {
		info, err = os.Stat(b.dir)
	}
	if err == nil && !info.IsDir() { // not left to OpenRoot, which would wait at a pipe
		err = syscall.ENOTDIR
	}
	if err == nil {
		b.root, err = os.OpenRoot(b.dir)
	}
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, colorfast.Errorf(colorfast.NotFound, "open basis %q: there is no such directory", dir)
	case errors.Is(err, syscall.ENOTDIR):
		return nil, colorfast.Errorf(colorfast.Usage, "open basis %q: it is not a directory", dir)
	}
	return nil, colorfast.Errorf(kindOf(err), "open basis %q: %w", dir, err).WithHint("%s", hintOr(err, "restore as a user who may read it, or without it"))
}

// nameBasis opens the basis that the user names.
func (j *job) nameBasis() (err error) {
	if j.Basis == "" {
		return nil
	}
	if j.NoBasis {
		return colorfast.Errorf(colorfast.Usage, "restore with basis %q and without one: only either can be had", j.Basis).
			WithHint("leave out --basis or --no-basis")
	}
	j.basis, err = openBasis(j.Basis)
	return err
}

// findBasis takes what the target holds for the basis, unless another one is
// named.
func (j *job) findBasis() {
	if j.basis == nil && !j.NoBasis && j.to.state == full {
		b, err := openBasis(j.to.path)
		if err != nil {
			j.note("nothing is taken from what is at the target: %v", err)
			return
		}
		j.basis = b
	}
	if j.basis == nil {
		return
	}
	j.rep.Basis = j.basis.dir
	if j.DryRun {
		j.planBasis()
	}
}

// planBasis says what can be known of the basis without reading its files.
func (j *job) planBasis() {
	var found, most int64
	for i := range j.tree.files {
		f := &j.tree.files[i]
		if info, err := j.basis.root.Lstat(f.Path); err == nil && info.Mode().IsRegular() {
			found++
			most += min(f.Size, info.Size())
		}
	}
	if found > 0 {
		j.note("%q has an older copy of %d of the %d files; what is the same there, at most %s, would not be moved out of the vault",
			j.basis.dir, found, len(j.tree.files), size(most))
	}
}

// closeBasis gives the basis back, and tells what of it could not be used.
func (j *job) closeBasis() {
	if j.basis == nil {
		return
	}
	if j.basis.denied.Load() {
		j.note("some files in %q may not be read; nothing was taken from them", j.basis.dir)
	}
	j.basis.root.Close()
	j.basis = nil
}

// olderCopy is a file of a basis. An error ends it: what cannot be read of it
// comes out of the vault.
type olderCopy struct{ file *os.File }

// ReadAt implements io.ReaderAt.
func (o *olderCopy) ReadAt(b []byte, at int64) (int, error) {
	n, err := o.file.ReadAt(b, at)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// find opens the older copy of a file, nil if there is none that can be read. No
// symbolic link in its place is followed, and those on the way to it only inside
// the basis. Nothing but a regular file is opened, for a device may act on that;
// should a pipe come in between, opening it does not wait.
func (b *basis) find(path string) *olderCopy {
	if b == nil {
		return nil
	}
	info, err := b.root.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil
	}
	var f *os.File
	if err == nil {
		f, err = b.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			b.denied.Store(true)
		}
		return nil
	}
	if got, err := f.Stat(); err != nil || !os.SameFile(got, info) {
		f.Close()
		return nil
	}
	return &olderCopy{f}
}

// content is a file of the backup that is read over its older copy, if it has
// one.
type content struct {
	colorfast.Content
	older *olderCopy // nil for none
}

// open opens a file of the backup.
func (j *job) open(ctx context.Context, f *colorfast.File) (*content, error) {
	c := &content{older: j.basis.find(f.Path)}
	var older io.ReaderAt
	if c.older != nil {
		older = c.older
	}
	var err error
	if c.Content, err = j.Vault.Open(ctx, j.Manifest, f.Path, older); err != nil {
		if c.older != nil {
			c.older.file.Close()
		}
		return nil, err
	}
	return c, nil
}

// Close implements io.Closer.
func (c *content) Close() error {
	err := c.Content.Close()
	if c.older != nil {
		c.older.file.Close() // it was only read
	}
	return err
}

// blame names the older copy where it may be the cause of wrong bytes: a file
// that is written to while it is read.
func (c *content) blame(err error) error {
	if c.older == nil || colorfast.KindOf(err) != colorfast.Corrupt {
		return err
	}
	return colorfast.Errorf(colorfast.Corrupt, "%w (read over %q)", err, c.older.file.Name()).
		WithHint("see that nobody writes there, or restore with --no-basis; where that fails too, restore another backup")
}
