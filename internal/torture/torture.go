// Package torture proves backups of Chroma: a random workload that remembers
// all it did, and a judge that says whether a restored Chroma holds what it
// must. It does not back up; a driver does, between the two.
//
// Start reading at Workload.Run, then Judge.
package torture

import (
	"fmt"
	"sync"
	"time"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// Kind is what an operation does.
type Kind string

// The kinds: the verbs of the API, and two of our own.
const (
	Create Kind = "create" // a collection
	Drop   Kind = "drop"   // a collection with its records
	Add    Kind = Kind(client.Add)
	Update Kind = Kind(client.Update)
	Upsert Kind = Kind(client.Upsert)
	Delete Kind = Kind(client.Delete)
)

// Op is one operation of a writer: one call of the API.
type Op struct {
	Kind       Kind
	Collection string
	Spec       chromatest.Spec // of a Create
	Records    []client.Record // as given; only their IDs of a Delete
	Started    time.Time       // just before the call
	Acked      time.Time       // just after the call came back well; zero if it did not
	Err        string          // of the call, "" if it came back well, or has not come back
}

// String says what the operation is, without its content.
func (o *Op) String() string {
	return fmt.Sprintf("%s of %d in %s", o.Kind, len(o.Records), o.Collection)
}

// Writer is the history of one writer. It did its operations one after another.
// All ids it wrote start with its name and a dash, and nobody else's do. Only
// its last operation may have failed: whether that happened is not known, so
// its successor has a new name.
type Writer struct {
	Name string
	Ops  []*Op
}

// History is what a workload did. All methods are safe for concurrent use.
type History struct {
	mu      sync.Mutex
	shared  []chromatest.Spec // the collections that all writers write to
	writers []*Writer
	queries int // by readers and writers
	refused int // of the queries
}

// Shared makes the collections known that were there, empty, before the first
// writer began.
func (h *History) Shared(specs ...chromatest.Spec) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shared = append(h.shared, specs...)
}

// Writer starts the history of a new writer.
func (h *History) Writer(name string) *Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &Writer{Name: name}
	h.writers = append(h.writers, w)
	return w
}

// Begin notes that w begins an operation now.
func (h *History) Begin(w *Writer, o *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Ops = append(w.Ops, o)
	o.Started = time.Now()
}

// End notes that an operation came back.
func (h *History) End(o *Op, err error) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		o.Err = err.Error()
		return
	}
	o.Acked = now
}

// Snapshot returns the writers as they are now, which later operations do not
// change. Records are shared and must not be changed.
func (h *History) Snapshot() []Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Writer, len(h.writers))
	for i, w := range h.writers {
		out[i].Name = w.Name
		for _, o := range w.Ops {
			c := *o
			out[i].Ops = append(out[i].Ops, &c)
		}
	}
	return out
}

// Stats sums a history up.
type Stats struct {
	Ops     int // begun
	Acked   int // of the ops
	Failed  int // of the ops
	Records int // in acknowledged ops
	Queries int
	Refused int // of the queries
}

// Stats counts what was done so far.
func (h *History) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Stats{Queries: h.queries, Refused: h.refused}
	for _, w := range h.writers {
		for _, o := range w.Ops {
			s.Ops++
			switch {
			case o.Err != "":
				s.Failed++
			case !o.Acked.IsZero():
				s.Acked++
				s.Records += len(o.Records)
			}
		}
	}
	return s
}

// Errors returns what the failed operations said, oldest first in each writer.
func (h *History) Errors() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, w := range h.writers {
		for _, o := range w.Ops {
			if o.Err != "" {
				out = append(out, w.Name+": "+o.String()+": "+o.Err)
			}
		}
	}
	return out
}

func (h *History) query(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queries++
	if err != nil {
		h.refused++
	}
}
