package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"colorfast/chroma"
)

// windowSize is how much of the file is read at once, in bytes.
const windowSize = 256 << 10

// readError marks an error of the underlying reader, so that it is not taken
// for damage.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// reader reads a file front to back through one window, and anything that went
// by before through a second, smaller one.
type reader struct {
	r    io.ReaderAt
	size int64  // of the file, in bytes
	name string // of the file, for errors

	buf   []byte // the window
	pos   int    // next byte in buf
	start int64  // offset in the file of buf[0]

	long []byte // holds what does not fit into the window; reused

	back      []byte // second window, for what went by
	backStart int64
}

func newReader(r io.ReaderAt, size int64, name string) *reader {
	return &reader{r: r, size: size, name: name}
}

// offset returns the offset of the next byte.
func (r *reader) offset() int64 { return r.start + int64(r.pos) }

// left returns how many bytes the file has from the next one on.
func (r *reader) left() int64 { return r.size - r.offset() }

func (r *reader) corrupt(off int64, format string, args ...any) error {
	return &chroma.CorruptError{File: r.name, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

func (r *reader) short(off int64) error {
	return r.corrupt(off, "the pickle is cut short")
}

// readAt fills p from off on.
func (r *reader) readAt(p []byte, off int64) error {
	n, err := r.r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return r.short(off + int64(n))
	}
	return &readError{err}
}

// fill moves the window to the next byte.
func (r *reader) fill() error {
	off := r.offset()
	n := min(r.size-off, windowSize)
	if n <= 0 {
		return r.short(off)
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	r.buf, r.pos, r.start = r.buf[:n], 0, off
	if err := r.readAt(r.buf, off); err != nil {
		r.buf = r.buf[:0]
		return err
	}
	return nil
}

// byte returns the next byte.
func (r *reader) byte() (byte, error) {
	if r.pos == len(r.buf) {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	b := r.buf[r.pos]
	r.pos++
	return b, nil
}

// next returns the next n bytes, which are good until the next call.
func (r *reader) next(n int64) ([]byte, error) {
	if n <= int64(len(r.buf)-r.pos) {
		b := r.buf[r.pos : r.pos+int(n)]
		r.pos += int(n)
		return b, nil
	}
	if n > r.left() {
		return nil, r.short(r.size)
	}
	if n <= windowSize {
		if err := r.fill(); err != nil {
			return nil, err
		}
		return r.next(n)
	}
	if int64(cap(r.long)) < n {
		r.long = make([]byte, n)
	}
	off := r.offset()
	if err := r.readAt(r.long[:n], off); err != nil {
		return nil, err
	}
	r.buf, r.pos, r.start = r.buf[:0], 0, off+n
	return r.long[:n], nil
}

// skip goes past n bytes.
func (r *reader) skip(n int64) error {
	if n > r.left() {
		return r.short(r.size)
	}
	if n <= int64(len(r.buf)-r.pos) {
		r.pos += int(n)
		return nil
	}
	r.buf, r.pos, r.start = r.buf[:0], 0, r.offset()+n
	return nil
}

// uint returns the next n <= 8 bytes as a little-endian number.
func (r *reader) uint(n int64) (uint64, error) {
	b, err := r.next(n)
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:]), nil
}

// line returns the next bytes up to a newline, without it; at most limit.
func (r *reader) line(limit int) (string, error) {
	var s []byte
	for off := r.offset(); ; {
		b, err := r.byte()
		switch {
		case err != nil:
			return "", err
		case b == '\n':
			return string(s), nil
		case len(s) == limit:
			return "", r.corrupt(off, "a name is longer than any that Chroma writes")
		}
		s = append(s, b)
	}
}

// again returns the n bytes at off, which were read before. They are good until
// the next call.
func (r *reader) again(off, n int64) ([]byte, error) {
	if off >= r.backStart && off+n <= r.backStart+int64(len(r.back)) {
		return r.back[off-r.backStart:][:n], nil
	}
	if n > r.size-off {
		return nil, r.short(r.size)
	}
	size := max(n, min(windowSize/4, r.size-off))
	if int64(cap(r.back)) < size {
		r.back = make([]byte, size)
	}
	r.back, r.backStart = r.back[:size], off
	if err := r.readAt(r.back, off); err != nil {
		r.back = r.back[:0]
		return nil, err
	}
	return r.back[:n], nil
}
