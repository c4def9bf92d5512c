package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"colorfast/chroma/hnsw"
	"colorfast/chroma/sysdb"
)

// yielder hands records on, for one goroutine.
type yielder struct {
	ctx     context.Context
	db      *sysdb.DB
	c       *sysdb.Collection
	fn      func(*Record) error
	scratch *scratch // of all; only read meanwhile
	point   *sysdb.Point
	vectors *hnsw.Vectors // nil where there is no saved index that can be read

	stats   Stats
	matched int64 // vectors that have a record
	rec     Record
	fields  []Field
	vector  []byte
}

// yieldPart yields part i of so many of the records of the metadata segment,
// which no row of the queue changes.
func (y *yielder) yieldPart(i, of int) error {
	return y.db.EmbeddingsPart(y.ctx, y.c.MetadataSegment, i, of, func(e *sysdb.Embedding) error {
		y.fields = append(y.fields[:0], e.Metadata...)
		return y.yield(e.ID)
	})
}

// yield finds the vector of a record and hands it on.
func (y *yielder) yield(id string) error {
	if err := y.ctx.Err(); err != nil {
		return fmt.Errorf("read records of %q: %w", y.c.ID, err)
	}
	y.rec.ID, y.rec.Vector = id, nil
	y.rec.split(y.fields)
	w, ok, err := y.scratch.get(id)
	if err != nil {
		return err
	}
	if ok {
		y.matched++
		if err := y.findVector(w); err != nil {
			return err
		}
	}
	y.stats.Records++
	switch n := len(y.rec.Vector); {
	case y.rec.Vector == nil:
		y.stats.Missing.add(id)
	case y.c.Dimension > 0 && n != 4*y.c.Dimension:
		y.stats.WrongDimension.add(id)
	}
	return y.fn(&y.rec)
}

// findVector reads the vector from where it is.
func (y *yielder) findVector(w where) (err error) {
	switch {
	case w.seq >= 0:
		if y.vector, err = y.point.Vector(w.seq, y.vector[:0]); err != nil {
			return err
		}
		y.stats.FromQueue++
	case w.slot >= 0 && y.vectors != nil:
		if y.vector, err = y.vectors.Append(y.vector[:0], uint32(w.slot)); err != nil {
			if y.stats.SegmentError == nil {
				y.stats.SegmentError = err
			}
			return nil
		}
	default:
		return nil
	}
	y.rec.Vector = slices.Grow(y.vector, 1)[:len(y.vector)] // not nil, even if empty
	return nil
}

// yieldParts yields the records of the metadata segment by several goroutines,
// each with a reader of the database of its own.
func (m *merger) yieldParts(fns []func(*Record) error) error {
	if m.c.MetadataSegment == "" || m.patched || len(fns) == 1 {
		return m.yieldStored()
	}
	parts := make([]yielder, len(fns))
	g, ctx := errgroup.WithContext(m.ctx)
	for i := range parts {
		g.Go(func() (err error) {
			y := &parts[i]
			*y = yielder{ctx: ctx, c: m.c, fn: fns[i], scratch: m.scratch}
			if y.db, err = sysdb.Open(m.db.Path()); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, y.db.Close()) }()
			if y.point, err = y.db.Point(); err != nil {
				return err
			}
			defer y.point.Close()
			if m.segment != nil {
				y.vectors = m.segment.Vectors(m.cosine())
			}
			return y.yieldPart(i, len(parts))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range parts {
		m.take(&parts[i])
	}
	return nil
}

// take adds what another yielder has met.
func (y *yielder) take(o *yielder) {
	y.matched += o.matched
	y.stats.Records += o.stats.Records
	y.stats.FromQueue += o.stats.FromQueue
	y.stats.Missing.take(&o.stats.Missing)
	y.stats.WrongDimension.take(&o.stats.WrongDimension)
	if y.stats.SegmentError == nil {
		y.stats.SegmentError = o.stats.SegmentError
	}
}

// take adds the trouble of another part.
func (t *Trouble) take(o *Trouble) {
	t.Count += o.Count
	t.Sample = append(t.Sample, o.Sample[:min(len(o.Sample), maxSamples-len(t.Sample))]...)
}
