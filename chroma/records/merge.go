package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"colorfast/chroma/hnsw"
	"colorfast/chroma/sysdb"
)

// merger is one call of Read.
type merger struct {
	yielder
	segment *hnsw.Segment // nil where there is no saved index that can be read
	patched bool          // some row of the queue changes metadata
}

// newMerger makes one; the caller closes it.
func newMerger(ctx context.Context, db *sysdb.DB, c *sysdb.Collection, parent string, fn func(*Record) error) (*merger, error) {
	m := &merger{yielder: yielder{ctx: ctx, db: db, c: c, fn: fn}}
	m.stats.VectorSeq = c.VectorSeq
	var err error
	if m.scratch, err = newScratch(parent); err != nil {
		return nil, err
	}
	if m.point, err = db.Point(); err != nil {
		return nil, errors.Join(err, m.scratch.close())
	}
	return m, nil
}

// close frees everything.
func (m *merger) close() error {
	m.point.Close()
	if m.segment != nil {
		m.segment.Close()
	}
	return m.scratch.close()
}

// overlayVectors lays the rows of the queue that the index has not seen over
// the vectors.
func (m *merger) overlayVectors() error {
	return m.db.Queue(m.ctx, m.c.ID, m.stats.VectorSeq, func(q *sysdb.QueueRow) error {
		m.stats.VectorRows++
		w, present, err := m.scratch.get(q.ID)
		if err != nil {
			return err
		}
		switch q.Operation {
		case sysdb.Add:
			if present {
				if w.flags == wasSaved|wasUpdated {
					m.stats.Ambiguous.add(q.ID)
					w.flags = 0
					return m.scratch.put(q.ID, w)
				}
				return nil
			}
			return m.setVector(q, where{})
		case sysdb.Update:
			if !present {
				return nil
			}
			if w.flags&wasSaved != 0 && q.HasVector {
				w.flags |= wasUpdated
			}
			return m.setVector(q, w)
		case sysdb.Upsert:
			return m.setVector(q, w)
		case sysdb.Delete:
			if !present {
				return nil
			}
			return m.scratch.remove(q.ID)
		}
		m.stats.BadQueueRows++
		return nil
	})
}

// setVector makes a queue row the place of an id's vector, if it has one.
func (m *merger) setVector(q *sysdb.QueueRow, w where) error {
	if !q.HasVector {
		return nil
	}
	w.slot, w.seq = noSlot, q.Seq
	return m.scratch.put(q.ID, w)
}

// overlayMetadata notes which rows of the queue that the metadata segment has
// not seen change which record. There are none unless Chroma was stopped or
// failed in the middle of a write.
func (m *merger) overlayMetadata() error {
	return m.db.Queue(m.ctx, m.c.ID, m.c.MetadataSeq, func(q *sysdb.QueueRow) error {
		m.stats.Overlaid++
		m.patched = true
		st, ord, err := m.scratch.getState(q.ID)
		if err != nil {
			return err
		}
		if st == untouched {
			st = absent
			if ok, err := m.point.Exists(m.c.MetadataSegment, q.ID); err != nil {
				return err
			} else if ok {
				st = patched
			}
		}
		switch q.Operation {
		case sysdb.Add, sysdb.Upsert:
			if st == absent {
				st, ord = added, q.Seq
			} else if q.Operation == sysdb.Add {
				return m.scratch.setState(q.ID, st, ord)
			}
		case sysdb.Update:
			if st == absent {
				return m.scratch.setState(q.ID, st, ord)
			}
		case sysdb.Delete:
			if err := m.scratch.dropPatches(q.ID); err != nil {
				return err
			}
			return m.scratch.setState(q.ID, absent, 0)
		default:
			m.stats.BadQueueRows++
			return m.scratch.setState(q.ID, st, ord)
		}
		if err := m.scratch.setState(q.ID, st, ord); err != nil {
			return err
		}
		return m.scratch.addPatch(q.ID, q.Seq)
	})
}

// yieldStored yields the records of the metadata segment.
func (m *merger) yieldStored() error {
	if m.c.MetadataSegment == "" {
		return nil
	}
	if !m.patched {
		return m.yieldPart(0, 1)
	}
	return m.db.Embeddings(m.ctx, m.c.MetadataSegment, func(e *sysdb.Embedding) error {
		st, _, err := m.scratch.getState(e.ID)
		if err != nil {
			return err
		}
		if st == absent || st == added {
			return nil // deleted; a new one of that id comes at the end
		}
		m.fields = append(m.fields[:0], e.Metadata...)
		if err := m.patch(e.ID); err != nil {
			return err
		}
		return m.yield(e.ID)
	})
}

// yieldQueued yields the records that only the queue has.
func (m *merger) yieldQueued() error {
	if !m.patched {
		return nil
	}
	return each(m.scratch.queued, func(id string) (bool, error) {
		m.fields = m.fields[:0]
		if err := m.patch(id); err != nil {
			return false, err
		}
		return true, m.yield(id)
	})
}

// patch lays the noted rows of the queue over m.fields.
func (m *merger) patch(id string) error {
	return m.scratch.patches(id, func(seq int64) error {
		text, err := m.point.Metadata(seq)
		if err != nil {
			return err
		}
		p, err := parsePatch(text)
		if err != nil {
			m.stats.BadQueueRows++
			return nil
		}
		m.fields = applyPatch(m.fields, p)
		return nil
	})
}

// countGhosts counts the vectors that have no record, and looks for a few.
func (m *merger) countGhosts() error {
	m.stats.Ghosts.Count = m.scratch.alive - m.matched
	if m.stats.Ghosts.Count <= 0 {
		m.stats.Ghosts.Count = 0
		return nil
	}
	if m.segment != nil {
		_, err := m.segment.IDs(func(id string, _ uint64) error { return m.sampleGhost(id) })
		if err != nil && !errors.Is(err, errEnough) {
			return fmt.Errorf("read records of %q: %w", m.c.ID, err)
		}
	}
	err := m.db.Queue(m.ctx, m.c.ID, m.stats.VectorSeq, func(q *sysdb.QueueRow) error { return m.sampleGhost(q.ID) })
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends the search for samples.
var errEnough = errors.New("enough")

// sampleGhost keeps the id of a vector that has no record.
func (m *merger) sampleGhost(id string) error {
	g := &m.stats.Ghosts
	if len(g.Sample) >= maxSamples {
		return errEnough
	}
	if _, ok, err := m.scratch.get(id); err != nil || !ok || slices.Contains(g.Sample, id) {
		return errors.Join(err, m.ctx.Err())
	}
	st, _, err := m.scratch.getState(id)
	if err != nil {
		return err
	}
	known := st == patched || st == added
	if st == untouched {
		if known, err = m.point.Exists(m.c.MetadataSegment, id); err != nil {
			return err
		}
	}
	if !known {
		g.Sample = append(g.Sample, id)
	}
	return nil
}
