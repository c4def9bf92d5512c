package records

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"colorfast/chroma"
	"colorfast/chroma/hnsw"
)

// cosine reports whether stored vectors must be multiplied with their length.
func (m *merger) cosine() bool { return m.c.Config.Space == "cosine" }

// openSegment opens the saved index and notes where the vector of each id is.
// Trouble goes to the stats.
func (m *merger) openSegment(dir string) error {
	id := m.c.VectorSegment
	if id == "" {
		return nil
	}
	if !chroma.IsUUID(id) {
		m.stats.SegmentError = fmt.Errorf("open segment %q: the name is no UUID", id)
		return nil
	}
	seg, err := hnsw.Open(filepath.Join(dir, id))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			m.stats.Segment = "absent"
		}
		if m.c.VectorSeq >= 0 || !errors.Is(err, fs.ErrNotExist) {
			m.stats.SegmentError = err // an index that nothing was ever written to has no directory
		}
		return nil
	}
	m.segment = seg
	switch seg.State() {
	case hnsw.Saved:
		m.stats.Segment = "saved"
		return m.readIDs()
	case hnsw.Young:
		m.stats.Segment = "young"
		if m.c.VectorSeq >= 0 {
			m.stats.SegmentError = fmt.Errorf("open segment %q: %s is missing", id, chroma.PickleFile)
		}
	case hnsw.Absent:
		m.stats.Segment = "absent"
		if m.c.VectorSeq >= 0 {
			m.stats.SegmentError = fmt.Errorf("open segment %q: all files are missing", id)
		}
	default:
		m.stats.Segment = "partial"
		m.stats.SegmentError = fmt.Errorf("open segment %q: missing: %s", id, strings.Join(seg.Missing(), ", "))
	}
	m.forgetSegment()
	return nil
}

// readIDs joins the ids of the saved index to their slots.
func (m *merger) readIDs() error {
	if err := m.segment.Index(); err != nil {
		m.stats.SegmentError = err
		m.forgetSegment()
		return nil
	}
	var failed error // ours, not the segment's
	info, err := m.segment.IDs(func(id string, label uint64) error {
		w := where{slot: noSlot, seq: -1, flags: wasSaved}
		if slot, deleted, ok := m.segment.Slot(label); ok && !deleted {
			w.slot = int64(slot)
		} else {
			m.stats.UnreadableSlots++
		}
		if failed = m.ctx.Err(); failed == nil {
			failed = m.scratch.put(id, w)
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		m.stats.SegmentError = err
		m.stats.UnreadableSlots = 0
		m.forgetSegment()
		return m.scratch.reset()
	}
	m.vectors = m.segment.Vectors(m.cosine())
	m.stats.Pickle = info
	if m.stats.VectorSeq < 0 {
		m.stats.VectorSeq = info.MaxSeqID
	}
	return nil
}

// forgetSegment closes the segment: none of its vectors can be had.
func (m *merger) forgetSegment() {
	if m.segment != nil {
		m.segment.Close()
		m.segment, m.vectors = nil, nil
	}
}
