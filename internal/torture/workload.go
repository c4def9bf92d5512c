package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"colorfast/internal/chromatest"
)

// Workload writes to a Chroma at random, from several writers at once. The
// content of every operation follows from Seed and the writer's name alone, so
// a trial can be done again; how the writers interleave does not.
type Workload struct {
	Seed    uint64
	Writers int // 0 means 4
	// Shared are the collections that all writers write to; none means
	// DefaultCollections.
	Shared []chromatest.Spec
	// Dimension of all vectors; 0 means 16.
	Dimension int
	// MaxBatch is the largest batch, in records; 0 means 900. Most are small.
	MaxBatch int
	// MaxRecords is how many records a writer keeps in each collection, about;
	// 0 means 3000. Above it, it deletes.
	MaxRecords int
	// OwnCollections lets writers create and drop collections of their own.
	OwnCollections bool
	// NoReAdd keeps writers from adding ids that were deleted, other than by
	// Upsert.
	NoReAdd bool
	// Queries lets writers count and query now and then, which writes too: the
	// first read in a process makes Chroma catch up with its queue.
	Queries bool
	// Pause is how long a writer rests after each operation; 0 means not at all.
	Pause time.Duration
	// Timeout bounds one operation; 0 means a minute.
	Timeout time.Duration
}

// DefaultCollections returns one collection of each space that saves often,
// and one with Chroma's own threshold. modern as in chromatest.Spec.
func DefaultCollections(modern bool) []chromatest.Spec {
	return []chromatest.Spec{
		{Name: "often.l2", Space: "l2", SyncThreshold: 20, Modern: modern},
		{Name: "often.cosine", Space: "cosine", SyncThreshold: 100, Modern: modern},
		{Name: "often.ip", Space: "ip", SyncThreshold: 300, Modern: modern},
		{Name: "seldom.l2", Space: "l2", Modern: modern},
	}
}

// For returns the workload with what that version of Chroma needs: the form in
// which it takes settings, and no operations that it gets wrong by itself.
func (w Workload) For(version string) Workload {
	modern := !strings.HasPrefix(version, "0.")
	if len(w.Shared) == 0 {
		w.Shared = DefaultCollections(modern)
	}
	w.Shared = slices.Clone(w.Shared)
	for i := range w.Shared {
		w.Shared[i].Modern = modern
	}
	// 0.4.24 takes an id whose delete waits in the batch for one that exists, and
	// ignores the vector of an add (_write_records in
	// chromadb/segment/impl/vector/local_persistent_hnsw.py; right in 0.5.23).
	w.NoReAdd = w.NoReAdd || strings.HasPrefix(version, "0.4.")
	return w
}

// withDefaults returns the workload with its zero values replaced.
func (w Workload) withDefaults() Workload {
	set := func(n *int, fallback int) {
		if *n == 0 {
			*n = fallback
		}
	}
	set(&w.Writers, 4)
	set(&w.Dimension, 16)
	set(&w.MaxBatch, 900)
	set(&w.MaxRecords, 3000)
	if len(w.Shared) == 0 {
		w.Shared = DefaultCollections(false)
	}
	if w.Timeout == 0 {
		w.Timeout = time.Minute
	}
	return w
}

// Setup creates the shared collections and makes them known to h. It is called
// once, before Run.
func (w Workload) Setup(ctx context.Context, c chromatest.Writer, h *History) error {
	w = w.withDefaults()
	for _, s := range w.Shared {
		if err := c.Create(ctx, s); err != nil {
			return fmt.Errorf("create collection %q: %w", s.Name, err)
		}
	}
	h.Shared(w.Shared...)
	return nil
}

// Run writes until the context ends, or each writer has done maxOps operations
// unless that is 0, and notes all in h. Operations that run when the context
// ends are waited for. It gives up with an error when a writer is refused ten
// times in a row, as after a crash: that is for the driver to judge.
//
// It may be called again with the same h, such as after a restart: generation
// then differs, which gives the writers new names.
func (w Workload) Run(ctx context.Context, c chromatest.Chroma, h *History, generation, maxOps int) error {
	w = w.withDefaults()
	errs := make([]error, w.Writers)
	var wg sync.WaitGroup
	for i := range w.Writers {
		wg.Go(func() {
			errs[i] = w.write(ctx, c, h, fmt.Sprintf("g%dw%d", generation, i), maxOps)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// maxRefusals is how many operations in a row may fail.
const maxRefusals = 10

// write is one writer's life: a sequence of operations, under a new name after
// each that failed.
func (w Workload) write(ctx context.Context, c chromatest.Chroma, h *History, name string, maxOps int) error {
	refused := 0
	var g *generator
	var me *Writer
	for n := 0; ctx.Err() == nil && (maxOps == 0 || n < maxOps); n++ {
		if g == nil {
			era := fmt.Sprintf("%se%d", name, n)
			g, me = newGenerator(w, era), h.Writer(era)
		}
		o := g.next()
		h.Begin(me, o)
		err := w.do(ctx, c, o)
		h.End(o, err)
		if err != nil {
			g = nil
			if refused++; refused == maxRefusals {
				return fmt.Errorf("writer %s: %d operations in a row failed, the last: %w", name, refused, err)
			}
			w.rest(ctx, 100*time.Millisecond)
			continue
		}
		refused = 0
		g.done(o)
		if w.Queries && g.rand.IntN(10) == 0 {
			h.query(w.query(ctx, c, g, o))
		}
		w.rest(ctx, w.Pause)
	}
	return nil
}

func (w Workload) rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// do does one operation. It outlives the context, so that the end of a workload
// breaks none off.
func (w Workload) do(ctx context.Context, c chromatest.Writer, o *Op) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Timeout)
	defer cancel()
	switch o.Kind {
	case Create:
		return c.Create(ctx, o.Spec)
	case Drop:
		return c.Drop(ctx, o.Collection)
	}
	return c.Write(ctx, o.Collection, verb(o.Kind), o.Records)
}

func (w Workload) query(ctx context.Context, c chromatest.Reader, g *generator, o *Op) error {
	v := g.vector()
	count := g.rand.IntN(2) == 0
	if o.Kind == Drop || o.Kind == Create {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Timeout)
	defer cancel()
	var err error
	if count {
		_, err = c.Count(ctx, o.Collection)
	} else {
		_, err = c.Query(ctx, o.Collection, v, 1)
	}
	return err
}

// source returns the random numbers of a writer.
func source(seed uint64, name string) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a, which no version of Go changes
	for _, b := range []byte(name) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}
