package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"colorfast"
)

const (
	block   = 4 << 10  // the unit of holes
	minHole = 64 << 10 // a shorter run of zeros is written
	portion = 1 << 20  // read at a time
)

var zeros [minHole]byte

// fill writes all that is below the target into the stage.
func (j *job) fill(ctx context.Context) error {
	p := j.progress()
	p.Begin("restoring", j.tree.bytes)
	if err := j.sweep(); err != nil {
		return fmt.Errorf("look through stage %q: %w", j.stage.dir, err)
	}
	for i := range j.tree.dirs {
		if d := &j.tree.dirs[i]; d.Path != "." {
			if err := j.stage.root.Mkdir(d.Path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return j.writeError(d.Path, err)
			}
		}
	}
	if err := j.fillFiles(ctx, p); err != nil {
		return err
	}
	// Links come last, so that nothing can have been written through one.
	for i := range j.tree.links {
		l := &j.tree.links[i]
		if err := j.stage.root.Symlink(l.Target, l.Path); err != nil {
			return j.writeError(l.Path, err)
		}
		if err := j.sealLink(l); err != nil {
			return j.writeError(l.Path, err)
		}
	}
	j.step("filled")
	return nil
}

// fillFiles writes the regular files, several at a time.
func (j *job) fillFiles(ctx context.Context, p colorfast.Progress) error {
	workers := j.Parallel
	if workers <= 0 {
		workers = 4
	}
	g, gctx := errgroup.WithContext(ctx)
	defer g.Wait() //nolint:errcheck // for panics; the error is returned below
	g.SetLimit(workers)
	var reused atomic.Int64
	for i := range j.tree.files {
		f := &j.tree.files[i]
		if gctx.Err() != nil {
			break
		}
		j.step("file " + f.Path)
		g.Go(func() error {
			kept, err := j.reuse(gctx, f)
			if err != nil {
				return j.writeError(f.Path, err)
			}
			if kept {
				reused.Add(f.Size)
				p.Advance(f.Size)
				return nil
			}
			return j.writeFile(gctx, f, p)
		})
	}
	err := g.Wait()
	if err == nil {
		err = ctx.Err()
	}
	j.rep.BytesReused, j.rep.BytesMoved = reused.Load(), j.moved.Load()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("restore to %q: %w", j.to.path, err)
	}
	return err
}

// writeError says what went wrong with one entry of the stage.
func (j *job) writeError(path string, err error) error {
	e := colorfast.Errorf(kindOf(err), "restore %q: %w", path, err)
	if isFull(err) {
		return e.WithHint("make room in %q, then run the restore again", j.to.home())
	}
	return e
}

// sweep makes what an interrupted restore left in the stage accessible, and
// removes what does not belong in it.
func (j *job) sweep() error {
	top := j.stage.data()
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		f := j.tree.byPath[rel]
		switch {
		case f != nil && f.Type == colorfast.Directory && d.IsDir():
			return j.stage.root.Chmod(rel, 0o700) // the walk reads it after this
		case f != nil && f.Type == colorfast.Regular && d.Type().IsRegular():
			return nil
		case d.IsDir():
			if err := removeTree(p); err != nil {
				return err
			}
			return fs.SkipDir
		}
		return j.stage.root.Remove(rel)
	})
}

// reuse reports whether the stage holds a file already, whole, and removes it
// otherwise.
func (j *job) reuse(ctx context.Context, f *colorfast.File) (bool, error) {
	root := j.stage.root
	info, err := root.Lstat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Size() == f.Size && info.Mode().IsRegular() {
		if err := root.Chmod(f.Path, 0o600); err != nil {
			return false, err
		}
		h, err := root.OpenFile(f.Path, os.O_RDWR, 0)
		if err != nil {
			return false, err
		}
		defer h.Close()
		sum, err := hashOf(ctx, h)
		if err != nil {
			return false, err
		}
		if sum == f.SHA256 {
			return true, j.sealFile(h, f) // what a kill left may not be on disk yet
		}
	}
	return false, root.Remove(f.Path)
}

// writeFile writes one file and proves its hash.
func (j *job) writeFile(ctx context.Context, f *colorfast.File, p colorfast.Progress) (err error) {
	in, err := j.open(ctx, f)
	if err != nil {
		return fmt.Errorf("restore %q: %w", f.Path, err)
	}
	defer in.Close()
	out, err := j.stage.root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return j.writeError(f.Path, err)
	}
	c := &copier{size: f.Size, out: out, sum: sha256.New(), progress: p}
	err = c.copy(ctx, in)
	if err == nil && hex.EncodeToString(c.sum.Sum(nil)) != f.SHA256 {
		err = colorfast.Errorf(colorfast.Corrupt, "its content has not the hash recorded in the backup").
			WithHint("run \"colorfast verify %s\", and restore another backup", j.Manifest.ID.Short())
	}
	err = in.blame(err)
	j.moved.Add(in.Moved())
	if err == nil {
		err = j.sealFile(out, f)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return j.writeError(f.Path, err)
	}
	return nil
}

// copier copies one file and leaves holes where there are zeros.
type copier struct {
	size      int64
	out       *os.File  // nil to only count
	sum       hash.Hash // nil for none
	progress  colorfast.Progress
	at        int64 // offset of the next byte
	run       int64 // zeros before it that are not written yet
	allocated int64 // bytes that were, or would be, written
}

// copy copies until the end of in, which must have the announced size.
func (c *copier) copy(ctx context.Context, in io.Reader) error {
	buf := make([]byte, min(portion, max(block, c.size+1)))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && (!end || errors.Is(err, io.ErrUnexpectedEOF) && n == 0) {
			return err
		}
		if c.at+int64(n) > c.size {
			return colorfast.Errorf(colorfast.Corrupt, "its content is longer than the %d bytes recorded in the backup", c.size)
		}
		if c.sum != nil {
			c.sum.Write(buf[:n])
		}
		if err := c.write(buf[:n]); err != nil {
			return err
		}
		if c.progress != nil {
			c.progress.Advance(int64(n))
		}
		if end {
			break
		}
	}
	if c.at != c.size {
		return colorfast.Errorf(colorfast.Corrupt, "its content has %d bytes, not the %d recorded in the backup", c.at, c.size)
	}
	return c.finish()
}

// write writes b, whose blocks of zeros are kept back until it is known how
// long their run is. All but the last b of a file are whole blocks.
func (c *copier) write(b []byte) error {
	for len(b) > 0 {
		n := extent(b)
		if n > 0 {
			if err := c.flush(); err != nil {
				return err
			}
			if c.out != nil {
				if _, err := c.out.WriteAt(b[:n], c.at); err != nil {
					return err
				}
			}
			c.allocated += int64(n)
		} else {
			n = min(block, len(b))
			c.run += int64(n)
		}
		c.at += int64(n)
		b = b[n:]
	}
	return nil
}

// extent returns how much of b goes up to the next block of zeros, 0 if it
// begins with one.
func extent(b []byte) int {
	n := 0
	for n < len(b) {
		end := min(n+block, len(b))
		if bytes.Equal(b[n:end], zeros[:end-n]) {
			break
		}
		n = end
	}
	return n
}

// flush writes the zeros kept back, or leaves a hole.
func (c *copier) flush() error {
	run := c.run
	c.run = 0
	if run == 0 || run >= minHole {
		return nil
	}
	c.allocated += run
	if c.out == nil {
		return nil
	}
	_, err := c.out.WriteAt(zeros[:run], c.at-run)
	return err
}

// finish ends the file, which may end in a hole.
func (c *copier) finish() error {
	if err := c.flush(); err != nil || c.out == nil {
		return err
	}
	return c.out.Truncate(c.size)
}

// hashOf returns the SHA-256 of all that can be read.
func hashOf(ctx context.Context, in io.Reader) (string, error) {
	h, buf := sha256.New(), make([]byte, portion)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := in.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// hashFile returns the SHA-256 of a file.
func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hashOf(ctx, f)
}

// sealDirectories gives the staged directories their modes, owners and times,
// the deepest first, and makes them durable.
func (j *job) sealDirectories() error {
	for _, d := range slices.Backward(j.tree.dirs) {
		h, err := j.stage.root.Open(d.Path)
		if err != nil {
			return j.writeError(d.Path, err)
		}
		if d.Path == "." {
			d.Mode |= 0o700 // to rename it, some need to write; see sealTop
		}
		if err := errors.Join(j.sealDirectory(h, &d), h.Close()); err != nil {
			return j.writeError(d.Path, err)
		}
	}
	return nil
}
