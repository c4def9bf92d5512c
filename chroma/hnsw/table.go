package hnsw

import (
	"encoding/binary"

	"colorfast/chroma"
)

// bufferSize is how much is read at once in a pass through a file, in bytes.
const bufferSize = 1 << 20

// pageSize is the number of entries in a page of a table. Pages are made as
// labels turn up, so that the number of elements that a header claims costs
// nothing until the elements are there.
const pageSize = 4096

// deletedBit marks an entry of a deleted element.
const deletedBit = 1 << 31

// table finds the slot of a label: 4 bytes for each element. An entry is
// slot+1, with deletedBit; 0 is no entry.
//
// Chroma 1.x numbers labels from 1 without a gap. Python-era Chroma leaves gaps
// when a record is added, upserted and deleted within one batch (Batch.apply in
// chromadb's segment/impl/vector/batch.py counts it as added, 0.4.24 to 0.6.3),
// so labels may lie beyond the number of elements; these go into a map, at some
// 40 bytes each.
type table struct {
	pages    []*[pageSize]uint32
	elements uint64
	beyond   map[uint64]uint32
	highest  uint64 // label
	live     int64  // elements that are not deleted
}

func newTable(elements int64) *table {
	return &table{pages: make([]*[pageSize]uint32, elements/pageSize+1), elements: uint64(elements), beyond: map[uint64]uint32{}}
}

// put enters an element, and reports whether its label was free.
func (t *table) put(label uint64, slot uint32, deleted bool) bool {
	if _, _, taken := t.get(label); taken {
		return false
	}
	entry := slot + 1
	if deleted {
		entry |= deletedBit
	} else {
		t.live++
	}
	t.highest = max(t.highest, label)
	if label > t.elements {
		t.beyond[label] = entry
		return true
	}
	p := &t.pages[label/pageSize]
	if *p == nil {
		*p = new([pageSize]uint32)
	}
	(*p)[label%pageSize] = entry
	return true
}

func (t *table) get(label uint64) (slot uint32, deleted, ok bool) {
	var e uint32
	if label > t.elements {
		e = t.beyond[label]
	} else if p := t.pages[label/pageSize]; p != nil {
		e = p[label%pageSize]
	}
	if e == 0 {
		return 0, false, false
	}
	return e&^deletedBit - 1, e&deletedBit != 0, true
}

// Index reads data_level0.bin once, front to back, and keeps the slot of every
// label: 4 bytes for each element. Later calls return what the first one did.
//
// Errors: a *chroma.CorruptError if a label is 0 or there twice; fs.ErrNotExist
// if the file is missing.
func (s *Segment) Index() error {
	if s.table != nil || s.err != nil {
		return s.err
	}
	f, err := s.file(chroma.DataFile)
	if err != nil {
		s.err = err
		return err
	}
	t := newTable(s.Elements())
	s.err = s.scan(f, func(slot uint32, e []byte) error { return s.enter(f, t, slot, e) })
	if s.err == nil {
		s.table = t
	}
	return s.err
}

// Slot returns where the element with the given label is, and whether it is
// marked deleted. It calls Index if nobody did; if that fails, no label is
// found.
func (s *Segment) Slot(label uint64) (slot uint32, deleted, ok bool) {
	if s.Index() != nil {
		return 0, false, false
	}
	return s.table.get(label)
}

// enter puts the element e in t.
func (s *Segment) enter(f *file, t *table, slot uint32, e []byte) error {
	at := func() int64 { return int64(slot)*int64(s.header.ElementSize) + int64(s.header.LabelOffset) }
	label := binary.LittleEndian.Uint64(e[s.header.LabelOffset:])
	if label < 1 {
		return f.corrupt(at(), "element %d has the label 0", slot)
	}
	if !t.put(label, slot, e[2]&1 != 0) {
		first, _, _ := t.get(label)
		return f.corrupt(at(), "elements %d and %d have the same label %d", first, slot, label)
	}
	return nil
}

// scan calls fn with every element in f, the deleted ones too. e has
// ElementSize bytes and is good until fn returns:
//
//	0              u16 number of links, u8 flags (1: deleted), u8
//	4              u32 MaxLinks0 times: slots of neighbours, the first of them valid
//	VectorOffset   f32 Dimension times
//	LabelOffset    u64 label
func (s *Segment) scan(f *file, fn func(slot uint32, e []byte) error) error {
	size, n := int64(s.header.ElementSize), s.Elements()
	if n*size > f.size {
		return f.corrupt(f.size, "%d bytes long, too short for %d elements of %d bytes", f.size, n, size)
	}
	if n == 0 {
		return nil
	}
	batch := min(max(bufferSize/size, 1), n)
	buf := make([]byte, batch*size)
	for slot := int64(0); slot < n; {
		b := buf[:min(batch, n-slot)*size]
		if err := f.read(b, slot*size); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[size:] {
			if err := fn(uint32(slot), b[:size:size]); err != nil {
				return err
			}
			slot++
		}
	}
	return nil
}
