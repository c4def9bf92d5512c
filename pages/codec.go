package pages

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// mapMark begins an encoded map.
const mapMark = "colorfast map 2\n"

// Bounds of what a map may claim, far above what one needs.
const (
	maxObjects = 1 << 24
	maxID      = 1 << 10
)

// Encode writes the map, in the form that docs/formats/vault.md describes:
// numbers as varints, offsets as their distance from where the run before it in
// the same object ended, so that a long map is small.
func (m *Map) Encode(w io.Writer) error {
	b := bufio.NewWriter(w)
	b.WriteString(mapMark)
	e := encoder{w: b, next: make([]int64, len(m.Objects))}
	e.uint(uint64(len(m.Objects)))
	for _, o := range m.Objects {
		e.uint(uint64(len(o.ID)))
		b.WriteString(o.ID)
		e.uint(uint64(o.Length))
		e.uint(uint64(o.Parts))
	}
	e.uint(uint64(len(m.Streams)))
	for _, s := range m.Streams {
		e.uint(uint64(len(s.runs)))
		for i := range s.runs {
			r := &s.runs[i]
			e.uint(uint64(r.Count))
			e.place(r.Object, r.Offset, r.Count*s.part)
			if r.Object != Zeros {
				e.place(r.Base, r.BaseOffset, r.Count*s.part)
			}
		}
	}
	return b.Flush()
}

type encoder struct {
	w    *bufio.Writer // keeps its first error until Flush
	next []int64       // of each object: where the run before ended
}

func (e *encoder) uint(v uint64) {
	var b [binary.MaxVarintLen64]byte
	e.w.Write(b[:binary.PutUvarint(b[:], v)])
}

func (e *encoder) place(object int, offset, length int64) {
	e.uint(uint64(object + 1))
	if object < 0 {
		return
	}
	var b [binary.MaxVarintLen64]byte
	e.w.Write(b[:binary.PutVarint(b[:], offset-e.next[object])])
	e.next[object] = offset + length
}

// Decode reads a map of files that are cut like this. It trusts nothing: every
// place of a map that it returns lies inside of its object.
func Decode(r io.Reader, cuts []Cut) (*Map, error) {
	d := decoder{r: bufio.NewReader(r)}
	m, err := d.decode(cuts)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read map: %w", err)
	}
	return m, nil
}

type decoder struct {
	r    *bufio.Reader
	next []int64
	err  error
}

func (d *decoder) decode(cuts []Cut) (*Map, error) {
	mark := make([]byte, len(mapMark))
	if _, err := io.ReadFull(d.r, mark); err != nil {
		return nil, err
	}
	if string(mark) != mapMark {
		return nil, errors.New("it is none")
	}
	m := &Map{}
	for range d.count(maxObjects) {
		id := make([]byte, d.count(maxID))
		if _, err := io.ReadFull(d.r, id); err != nil {
			return nil, err
		}
		o := Object{ID: string(id), Length: int64(d.uint()), Parts: int64(d.uint())}
		if d.err != nil {
			return nil, d.err
		}
		if o.Length < 0 || o.Length > MaxObject || o.Parts < 0 || o.Parts > o.Length {
			return nil, fmt.Errorf("object %q of %d bytes", o.ID, o.Length)
		}
		m.Objects = append(m.Objects, o)
	}
	d.next = make([]int64, len(m.Objects))
	want := 0
	for _, c := range cuts {
		want += c.Parts()
	}
	if n := d.uint(); d.err == nil && n != uint64(want) {
		return nil, fmt.Errorf("%d streams, want %d", n, want)
	}
	for _, c := range cuts {
		for part := range c.Parts() {
			s, err := d.stream(m, c, part)
			if err != nil {
				return nil, fmt.Errorf("stream %d: %w", len(m.Streams), err)
			}
			m.Streams = append(m.Streams, s)
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.New("bytes follow its end")
	}
	return m, nil
}

func (d *decoder) stream(m *Map, c Cut, part int) (*Stream, error) {
	s := NewStream(c, part)
	total := c.Pages()
	for range d.count(total) {
		r := Run{Count: int64(d.uint()), Place: Place{Base: None}}
		if d.err != nil || r.Count <= 0 || r.Count > total-s.count {
			return nil, errors.Join(d.err, fmt.Errorf("a run of %d parts", r.Count))
		}
		last := s.part
		if s.count+r.Count == total {
			last = c.PartBytes(part, total-1)
		}
		if r.Object, r.Offset = d.place(r.Count * s.part); r.Object != Zeros {
			r.Base, r.BaseOffset = d.place(r.Count * s.part)
		}
		if d.err != nil {
			return nil, d.err
		}
		if err := m.check(s, &r, last); err != nil {
			return nil, err
		}
		s.runs = append(s.runs, r)
		s.start = append(s.start, s.count)
		s.count += r.Count
	}
	if d.err == nil && s.count != total {
		return nil, fmt.Errorf("%d parts, want %d", s.count, total)
	}
	return s, d.err
}

// count reads a number that must not be greater than most; 0 on error.
func (d *decoder) count(most int64) int64 {
	n := d.uint()
	if d.err == nil && n > uint64(most) {
		d.err = fmt.Errorf("%d of something, at most %d can be", n, most)
	}
	if d.err != nil {
		return 0
	}
	return int64(n)
}

func (d *decoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	var v uint64
	v, d.err = binary.ReadUvarint(d.r)
	return v
}

func (d *decoder) place(length int64) (object int, offset int64) {
	n := d.uint()
	if d.err != nil || n == 0 {
		return Zeros, 0
	}
	if n > uint64(len(d.next)) {
		d.err = fmt.Errorf("object %d of %d", n-1, len(d.next))
		return Zeros, 0
	}
	object = int(n - 1)
	step, err := binary.ReadVarint(d.r)
	if err != nil {
		d.err = err
		return Zeros, 0
	}
	offset = d.next[object] + step
	d.next[object] = offset + length
	return object, offset
}
