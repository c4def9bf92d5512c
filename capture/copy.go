package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"colorfast/chroma"
)

const (
	stretch = 4 << 20   // bytes that a worker takes at a time
	block   = 256 << 10 // bytes read at a time; two of them fit a second-level cache
	grain   = 64 << 10  // bytes compared, and written when they differ
)

// update makes dst equal to the source's file and returns the bytes written and
// what the copy is a mirror of. An existing dst is compared and only what
// differs is written, for reading memory twice is much cheaper than writing.
func (s *session) update(ctx context.Context, e entry, dst string) (int64, mirror, error) {
	src, done, err := s.reader(e.path)
	if err != nil {
		return 0, mirror{}, err
	}
	defer done()
	fi, err := src.Stat()
	if err != nil {
		return 0, mirror{}, err
	}
	// The time after the look and before the first byte is read: what is written
	// from now on must show in the stamps.
	m := mirror{sig: signatureOf(fi)}
	now := time.Now()
	m.settled, m.lasting = m.sig.aged(now), m.sig.lasting(now)
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, m, fmt.Errorf("stage the copy: %w", err)
	}
	n, err := transfer(ctx, out, src, m.sig)
	return n, m, errors.Join(err, out.Close())
}

// reader opens a file of the source. The database has one descriptor only,
// which carries the locks.
func (s *session) reader(path string) (*os.File, func(), error) {
	if path == chroma.SQLiteFile {
		return s.db, func() {}, nil
	}
	f, err := openRegular(filepath.Join(s.source, filepath.FromSlash(path)))
	if err != nil {
		return nil, nil, denied(err)
	}
	return f, func() { _ = f.Close() }, nil
}

// openRegular opens a file of the source for reading. It does not follow a link
// and does not wait for whoever is at the other end of a pipe. What is no file
// any more counts as gone: the next look tells what it is.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// transfer makes out equal to src, which was sig.size bytes long. A src that
// shrinks meanwhile gives a copy that ends early; its changed signature tells.
func transfer(ctx context.Context, out, src *os.File, sig signature) (int64, error) {
	if cloneFile(out, src) == nil {
		return 0, out.Truncate(sig.size)
	}
	fi, err := out.Stat()
	if err != nil {
		return 0, fmt.Errorf("stage the copy: %w", err)
	}
	sparse := sig.allocated < sig.size/2
	compare := fi.Size() > 0 && !sparse
	if !compare {
		err = out.Truncate(0)
	}
	if err := errors.Join(err, out.Truncate(sig.size)); err != nil {
		return 0, fmt.Errorf("stage the copy: %w", err)
	}
	var written, next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	workers := min(int64(max(2, runtime.GOMAXPROCS(0))), (sig.size+stretch-1)/stretch)
	for range workers {
		g.Go(func() error {
			w := worker{out: out, src: src, compare: compare, have: make([]byte, block), want: make([]byte, block)}
			defer func() { written.Add(w.written) }()
			for {
				off := next.Add(stretch) - stretch
				if off >= sig.size {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				end := min(off+stretch, sig.size)
				if err := w.run(off, end, sparse); err != nil {
					return err
				}
			}
		})
	}
	err = g.Wait()
	return written.Load(), err
}

type worker struct {
	out, src   *os.File
	compare    bool
	have, want []byte
	written    int64
}

// run transfers the bytes from off to end.
func (w *worker) run(off, end int64, sparse bool) error {
	for off < end {
		stop := end
		if sparse {
			var start int64
			start, stop = dataRange(w.src, off, end)
			if start >= end {
				return nil
			}
			off = start
		}
		for off < stop {
			n, err := w.src.ReadAt(w.want[:min(block, stop-off)], off)
			if n == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the source: %w", err)
			}
			if err := w.put(w.want[:n], off); err != nil {
				return fmt.Errorf("stage the copy: %w", err)
			}
			off += int64(n)
		}
	}
	return nil
}

// put writes b at off, or only those grains of it that differ.
func (w *worker) put(b []byte, off int64) error {
	if !w.compare {
		n, err := w.out.WriteAt(b, off)
		w.written += int64(n)
		return err
	}
	if n, err := w.out.ReadAt(w.have[:len(b)], off); n != len(b) {
		return err
	}
	for i := 0; i < len(b); i += grain {
		j := min(i+grain, len(b))
		if bytes.Equal(b[i:j], w.have[i:j]) {
			continue
		}
		n, err := w.out.WriteAt(b[i:j], off+int64(i))
		w.written += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}
