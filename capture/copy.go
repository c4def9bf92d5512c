package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"colorfast/chroma"
)

const (
	stretch = 4 << 20   // bytes that a worker takes at a time
	block   = 256 << 10 // bytes read at a time; two of them fit a second-level cache
	grain   = 64 << 10  // bytes compared, and written when they differ
)

// update makes dst equal to the source's file and returns the bytes written and
// the signature the file had before. An existing dst is compared and only what
// differs is written, for reading memory twice is much cheaper than writing.
func (s *session) update(ctx context.Context, e entry, dst string) (int64, signature, error) {
	src, done, err := s.reader(e.path)
	if err != nil {
		return 0, signature{}, err
	}
	defer done()
	fi, err := src.Stat()
	if err != nil {
		return 0, signature{}, err
	}
	sig := signatureOf(fi)
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, sig, fmt.Errorf("stage the copy: %w", err)
	}
	n, err := transfer(ctx, out, src, sig)
	return n, sig, errors.Join(err, out.Close())
}

// reader opens a file of the source. The database has one descriptor only,
// which carries the locks.
func (s *session) reader(path string) (*os.File, func(), error) {
	if path == chroma.SQLiteFile {
		return s.db, func() {}, nil
	}
	f, err := os.Open(filepath.Join(s.source, filepath.FromSlash(path)))
	if err != nil {
		return nil, nil, denied(err)
	}
	return f, func() { _ = f.Close() }, nil
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
