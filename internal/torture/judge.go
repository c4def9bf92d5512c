package torture

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"colorfast/internal/chromatest"
)

// Verdict is what the judge found.
type Verdict struct {
	Discrepancies []Discrepancy
	Lost          int // records that are not there, or without vector
	Corrupt       int // records that are there and should not be so, or not be at all
	Checked       int // records that had to be there
}

// Good reports whether the Chroma holds what it must.
func (v *Verdict) Good() bool { return len(v.Discrepancies) == 0 }

// String says all in words, at most a few dozen lines.
func (v *Verdict) String() string {
	const most = 40
	var b strings.Builder
	fmt.Fprintf(&b, "%d records checked, %d lost, %d corrupt", v.Checked, v.Lost, v.Corrupt)
	for i := range v.Discrepancies {
		if i == most {
			fmt.Fprintf(&b, "\n  … and %d more", len(v.Discrepancies)-most)
			break
		}
		b.WriteString("\n  " + v.Discrepancies[i].String())
	}
	return b.String()
}

// Discrepancy is one thing that is not as it must be.
type Discrepancy struct {
	What       What
	Writer     string // "" for what is nobody's
	Collection string
	ID         string // of a record; "" for a whole collection
	Detail     string // one line
}

// String says it on one line.
func (d *Discrepancy) String() string {
	s := string(d.What) + ": " + d.Collection
	if d.ID != "" {
		s += "/" + d.ID
	}
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	return s
}

// What is a way in which something is not as it must be.
type What string

// The ways.
const (
	LostRecord        What = "lost record"        // acknowledged, and not there
	MissingVector     What = "missing vector"     // there, without vector
	StaleVector       What = "stale vector"       // has one that it had before
	WrongVector       What = "wrong vector"       // has one that it never had
	WrongDocument     What = "wrong document"     // another one, or none, or should have none
	WrongURI          What = "wrong uri"          // likewise
	WrongMetadata     What = "wrong metadata"     // a key missing, added, or with another value
	PhantomRecord     What = "phantom record"     // there, though nobody wrote it, or deleted, or too late
	MissingCollection What = "missing collection" // created, and not there
	PhantomCollection What = "phantom collection" // there, though nobody created it, or dropped
	SplitCut          What = "split cut"          // each collection is as it was once, but not all at the same time
)

// lost says that the record itself, or what it is for, is gone.
func (w What) lost() bool { return w == LostRecord || w == MissingVector }

// Read returns all that a Chroma holds, for Judge.
func Read(ctx context.Context, r chromatest.Reader) (State, error) {
	names, err := r.Collections(ctx)
	if err != nil {
		return nil, err
	}
	s := State{}
	for _, name := range names {
		recs, err := r.Records(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read collection %q: %w", name, err)
		}
		n, err := r.Count(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("count collection %q: %w", name, err)
		}
		if err := s.add(name, recs); err != nil {
			return nil, err
		}
		if n != int64(len(recs)) {
			return nil, fmt.Errorf("read collection %q: %d records, but the count is %d", name, len(recs), n)
		}
	}
	return s, nil
}

// Judge says whether got is a consistent cut of the history: all writes that
// were acknowledged before frozenAt are in, none that began after releasedAt
// is, and of those between, the first few of each writer are, the same cut in
// all collections. Whatever a record holds must be what these writes, in
// order, left in it, bit by bit; for cosine, where Chroma keeps the vector
// normalised, within 1e-6 of each number.
//
// For a Chroma that crashed and was started again, both times are that of the
// crash.
func Judge(h *History, frozenAt, releasedAt time.Time, got State) *Verdict {
	j := &judge{got: got, spaces: map[string]string{}, verdict: &Verdict{}}
	h.mu.Lock()
	for _, s := range h.shared {
		j.shared = append(j.shared, s.Name)
		j.spaces[s.Name] = s.Space
	}
	h.mu.Unlock()
	explained := map[string]bool{} // collections
	for _, name := range j.shared {
		explained[name] = true
		if got[name] == nil {
			j.report(Discrepancy{What: MissingCollection, Collection: name})
		}
	}
	writers := h.Snapshot()
	for i := range writers {
		j.writer(&writers[i], frozenAt, releasedAt, explained)
	}
	j.strangers(writers, explained)
	slices.SortFunc(j.verdict.Discrepancies, func(a, b Discrepancy) int { return strings.Compare(a.String(), b.String()) })
	return j.verdict
}

type judge struct {
	got     State
	shared  []string          // names
	spaces  map[string]string // by name of collection
	verdict *Verdict
}

func (j *judge) report(d Discrepancy) {
	j.verdict.Discrepancies = append(j.verdict.Discrepancies, d)
	switch {
	case d.What.lost():
		j.verdict.Lost++
	case d.ID != "":
		j.verdict.Corrupt++
	}
}

// window returns the smallest and the largest number of w's first operations
// that a cut may hold.
func window(w *Writer, frozenAt, releasedAt time.Time) (least, most int) {
	for i, o := range w.Ops {
		if !o.Acked.IsZero() && o.Acked.Before(frozenAt) {
			least = i + 1
		}
		if !o.Started.After(releasedAt) {
			most = i + 1
		}
	}
	return least, max(least, most)
}

// writer judges the records and the own collections of one writer.
func (j *judge) writer(w *Writer, frozenAt, releasedAt time.Time, explained map[string]bool) {
	for _, o := range w.Ops {
		if o.Kind == Create {
			j.spaces[o.Collection] = o.Spec.Space
			explained[o.Collection] = true // there or not, this one judges it
		}
	}
	least, most := window(w, frozenAt, releasedAt)
	mine := j.of(w.Name, explained)
	s := State{}
	for _, name := range j.shared {
		s[name] = map[string]record{}
	}
	past := map[string][]*Op{} // operations in the cut, by collection
	var best []Discrepancy
	var bestPast map[string][]*Op
	checked := 0
	fits := map[string]bool{} // collections that some cut explains
	for k := 0; ; k++ {
		if k >= least {
			ds := compare(w, s, mine, j.spaces)
			bad := map[string]bool{}
			for i := range ds {
				bad[ds[i].Collection] = true
			}
			for _, state := range []State{s, mine} {
				for name := range state {
					fits[name] = fits[name] || !bad[name]
				}
			}
			if k == least || len(ds) < len(best) {
				best, checked = ds, s.size()
				bestPast = maps.Clone(past)
			}
			if len(best) == 0 {
				break
			}
		}
		if k == most {
			break
		}
		o := w.Ops[k]
		s.apply(o)
		past[o.Collection] = append(past[o.Collection], o)
	}
	j.verdict.Checked += checked
	j.conclude(w, best, bestPast, fits)
}

// conclude reports the discrepancies of the cut that explains most. If every
// collection by itself is explained by some cut, the fault is that no one cut
// explains all.
func (j *judge) conclude(w *Writer, ds []Discrepancy, past map[string][]*Op, fits map[string]bool) {
	split := len(ds) > 0
	for i := range ds {
		split = split && fits[ds[i].Collection]
	}
	if split {
		j.report(Discrepancy{What: SplitCut, Writer: w.Name, Collection: ds[0].Collection,
			Detail: fmt.Sprintf("writer %s: this collection and its others are of different moments; %d records differ at the nearest one", w.Name, len(ds))})
	}
	for i := range ds {
		if ds[i].What == WrongVector && hadVector(past[ds[i].Collection], ds[i].ID, j.got[ds[i].Collection][ds[i].ID].Vector, j.spaces[ds[i].Collection]) {
			ds[i].What = StaleVector
		}
		j.report(ds[i])
	}
}

// of returns what is there of one writer: its records in the shared
// collections, and all of the collections that it created.
func (j *judge) of(writer string, explained map[string]bool) State {
	mine := State{}
	for name, recs := range j.got {
		if !explained[name] {
			continue
		}
		col := map[string]record{}
		for id, r := range recs {
			if owner(id) == writer {
				col[id] = r
			}
		}
		if slices.Contains(j.shared, name) || owner(name) == writer {
			mine[name] = col
		}
	}
	return mine
}

// strangers reports what is no writer's.
func (j *judge) strangers(writers []Writer, explained map[string]bool) {
	known := map[string]bool{}
	for i := range writers {
		known[writers[i].Name] = true
	}
	for name, recs := range j.got {
		if !explained[name] {
			j.report(Discrepancy{What: PhantomCollection, Collection: name, Detail: fmt.Sprintf("with %d records", len(recs))})
			continue
		}
		for id := range recs {
			w := owner(id)
			if !known[w] || !slices.Contains(j.shared, name) && w != owner(name) {
				j.report(Discrepancy{What: PhantomRecord, Collection: name, ID: id, Detail: "nobody wrote it"})
			}
		}
	}
}

// owner returns the name of the writer in an id or in the name of a collection
// that a writer created.
func owner(id string) string {
	name, _, _ := strings.Cut(id, "-")
	return name
}
