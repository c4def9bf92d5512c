package hnsw

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"colorfast/chroma"
	"colorfast/chroma/pickle"
)

// checkLinks walks link_lists.bin: for each element a u32 of bytes that follow,
// and for each of its levels from 1 up a list of u16 count, 2 bytes, M slots.
//
// proven tells that there are as many elements as the header says. Only then
// the walk is made: it takes memory for each of them, and a torn save can leave
// hundreds of GiB of zeroes here, each four of which are an element.
func (s *Segment) checkLinks(f *file, proven bool) error {
	h := &s.header
	if f.size < 4*s.Elements() {
		return f.corrupt(f.size, "%d bytes long, too short for %d elements", f.size, s.Elements())
	}
	if !proven {
		return nil
	}
	w := &walk{
		h: h, f: f, r: bufio.NewReaderSize(io.NewSectionReader(f, 0, f.size), int(max(16, min(bufferSize, f.size)))),
		levels: make([]uint8, h.Elements), wanted: make([]uint8, h.Elements),
	}
	top := 0
	for slot := range h.Elements {
		level, err := w.next(slot)
		if err != nil {
			return err
		}
		if slot == uint64(h.EntryPoint) {
			top = level
		}
	}
	if w.off != f.size {
		return f.corrupt(w.off, "%d bytes follow the last list", f.size-w.off)
	}
	if h.Elements > 0 && top != int(h.TopLevel) {
		return f.corrupt(-1, "the entry point is on level %d, not on the top level %d", top, h.TopLevel)
	}
	for slot, level := range w.wanted {
		if level > w.levels[slot] {
			return f.corrupt(-1, "element %d is linked to on level %d and is only on %d", slot, level, w.levels[slot])
		}
	}
	return nil
}

// walk is a walk through link_lists.bin.
type walk struct {
	h      *Header
	f      *file
	r      *bufio.Reader
	off    int64   // of the next byte
	buf    []byte  // the lists of an element
	levels []uint8 // of each element so far
	wanted []uint8 // highest level on which each element is linked to
}

// next reads the lists of the next element and returns its level.
func (w *walk) next(slot uint64) (int, error) {
	start := w.off
	b, err := w.read(4)
	if err != nil {
		return 0, err
	}
	size, list := int64(binary.LittleEndian.Uint32(b)), int64(4+4*w.h.MaxLinks)
	if size == 0 {
		return 0, nil
	}
	level := size / list
	if size%list != 0 || level > int64(w.h.TopLevel) {
		return 0, w.f.corrupt(start, "element %d has lists of %d bytes, which is no level up to %d", slot, size, w.h.TopLevel)
	}
	if b, err = w.read(size); err != nil {
		return 0, err
	}
	for l := int64(1); l <= level; l++ {
		one := b[(l-1)*list : l*list]
		if bad := checkTargets(one, w.h.MaxLinks, w.h.Elements); bad != "" {
			return 0, w.f.corrupt(start+4+(l-1)*list, "element %d on level %d %s", slot, l, bad)
		}
		for i := range int(binary.LittleEndian.Uint16(one)) {
			to := binary.LittleEndian.Uint32(one[4+4*i:])
			w.wanted[to] = max(w.wanted[to], uint8(l))
		}
	}
	w.levels[slot] = uint8(level)
	return int(level), nil
}

// read returns the next n bytes, which are good until the next call.
func (w *walk) read(n int64) ([]byte, error) {
	if n > w.f.size-w.off {
		return nil, w.f.corrupt(w.off, "a list goes past the end of the file")
	}
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	b := w.buf[:n]
	if _, err := io.ReadFull(w.r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, w.f.short()
		}
		return nil, fmt.Errorf("read %q: %w", w.f.name, err)
	}
	w.off += n
	return b, nil
}

// checkPickle checks the map of ids, against the elements too if t is not nil,
// and returns the kind of what is wrong.
func (s *Segment) checkPickle(f *file, t *table) (Kind, error) {
	h := &s.header
	var m struct{ absent, deleted, twice, good int64 }
	var seen []uint64 // a bit for each slot
	if t != nil {
		seen = make([]uint64, h.Elements/64+1)
	}
	info, err := pickle.Decode(f, f.size, f.name, func(_ string, label uint64) error {
		if t == nil {
			return nil
		}
		slot, deleted, ok := t.get(label)
		if !ok {
			m.absent++
			return nil
		}
		bit := uint64(1) << (slot % 64)
		switch {
		case seen[slot/64]&bit != 0:
			m.twice++
		case deleted:
			m.deleted++
		default:
			m.good++
		}
		seen[slot/64] |= bit
		return nil
	})
	var bad *chroma.CorruptError
	switch {
	case errors.As(err, &bad):
		return Pickle, err
	case err != nil:
		return 0, err
	case !info.ReverseMatches:
		return Pickle, f.corrupt(-1, "id_to_label (%d) and label_to_id (%d) are not inverse", info.IDs, info.Labels)
	case m.twice > 0:
		return Pickle, f.corrupt(-1, "%d ids have a label that another id has too", m.twice)
	case h.Elements == 0 && info.IDs == 0:
		// All records were deleted, then Chroma started the other files anew
		// and left the pickle (PersistentLocalHnswSegment, local_hnsw.rs: a map
		// without ids counts as no index).
		return 0, nil
	case info.TotalElementsAdded < s.Elements():
		return Torn, f.corrupt(-1, "%d elements were added, and the header has %d", info.TotalElementsAdded, h.Elements)
	case t != nil && t.highest > uint64(info.TotalElementsAdded):
		return Torn, f.corrupt(-1, "%d elements were added, and one has the label %d", info.TotalElementsAdded, t.highest)
	case info.Dimensionality != 0 && info.Dimensionality != h.Dimension():
		return Torn, f.corrupt(-1, "vectors have %d dimensions, and in the header %d", info.Dimensionality, h.Dimension())
	case t != nil && (m.absent > 0 || m.deleted > 0 || m.good != t.live):
		return Torn, f.corrupt(-1, "%d ids have no element, %d a deleted one, and %d elements have no id", m.absent, m.deleted, t.live-m.good)
	}
	return 0, nil
}
