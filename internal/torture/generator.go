package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// generator makes the operations of one writer. It keeps track of which ids
// exist, so that most operations do something.
type generator struct {
	w     Workload
	name  string
	rand  *rand.Rand
	cols  []*lane
	fresh int // number of the next id
	own   int // number of the next own collection
}

// lane is what a writer knows of one collection.
type lane struct {
	spec  chromatest.Spec
	alive []string // ids that exist
	dead  []string // some ids that existed
}

func newGenerator(w Workload, name string) *generator {
	g := &generator{w: w, name: name, rand: source(w.Seed, name)}
	for _, s := range w.Shared {
		g.cols = append(g.cols, &lane{spec: s})
	}
	return g
}

func verb(k Kind) client.Verb { return client.Verb(k) }

// next returns the next operation.
func (g *generator) next() *Op {
	if g.w.OwnCollections {
		switch owned := len(g.cols) - len(g.w.Shared); {
		case owned < 2 && g.rand.IntN(25) == 0:
			return g.create()
		case owned > 0 && g.rand.IntN(50) == 0:
			l := g.cols[len(g.w.Shared)+g.rand.IntN(owned)]
			return &Op{Kind: Drop, Collection: l.spec.Name}
		}
	}
	l := g.cols[g.rand.IntN(len(g.cols))]
	o := &Op{Collection: l.spec.Name}
	n := g.batch()
	p := g.rand.IntN(100)
	switch {
	case len(l.alive) == 0 || p < 40 && len(l.alive) < g.w.MaxRecords:
		o.Kind = Add
		again := l
		if g.w.NoReAdd {
			again = nil
		}
		o.Records = g.records(g.freshIDs(again, n), true)
	case p < 55:
		o.Kind = Upsert
		ids := append(g.pick(l.alive, n/2), g.freshIDs(l, n-n/2)...)
		o.Records = g.records(ids, true)
	case p < 65:
		o.Kind = Update
		o.Records = g.records(g.pick(l.alive, n), true)
	case p < 75:
		o.Kind = Update // of the metadata only
		o.Records = g.records(g.pick(l.alive, n), false)
	case p < 78:
		o.Kind = Add // of ids that exist: changes nothing
		o.Records = g.records(g.pick(l.alive, min(n, 20)), true)
	case p < 80:
		o.Kind = Update // of ids that do not exist: changes nothing
		o.Records = g.records(g.freshIDs(nil, min(n, 20)), true)
	default:
		o.Kind = Delete
		if len(l.alive) > g.w.MaxRecords {
			n = max(n, len(l.alive)/4)
		}
		for _, id := range g.pick(l.alive, min(n, g.w.MaxBatch)) {
			o.Records = append(o.Records, client.Record{ID: id})
		}
	}
	return o
}

// create makes an operation that creates a collection of the writer's own.
func (g *generator) create() *Op {
	s := chromatest.Spec{
		Name:          fmt.Sprintf("%s-%d", g.name, g.own),
		Space:         []string{"l2", "cosine", "ip"}[g.rand.IntN(3)],
		SyncThreshold: 20 + g.rand.IntN(280),
		Modern:        g.w.Shared[0].Modern,
	}
	g.own++
	return &Op{Kind: Create, Collection: s.Name, Spec: s}
}

// done keeps track of an operation that came back well.
func (g *generator) done(o *Op) {
	i := slices.IndexFunc(g.cols, func(l *lane) bool { return l.spec.Name == o.Collection })
	switch o.Kind {
	case Create:
		g.cols = append(g.cols, &lane{spec: o.Spec})
	case Drop:
		g.cols = slices.Delete(g.cols, i, i+1)
	case Add, Upsert:
		l := g.cols[i]
		had := set(l.alive)
		for j := range o.Records {
			if id := o.Records[j].ID; !had[id] {
				l.alive = append(l.alive, id)
			}
		}
	case Delete:
		l := g.cols[i]
		gone := map[string]bool{}
		for j := range o.Records {
			gone[o.Records[j].ID] = true
			l.dead = append(l.dead, o.Records[j].ID)
		}
		l.dead = l.dead[max(0, len(l.dead)-500):]
		l.alive = slices.DeleteFunc(l.alive, func(id string) bool { return gone[id] })
	}
}

// batch returns the size of a batch: one record, a few, or hundreds.
func (g *generator) batch() int {
	most := g.w.MaxBatch
	switch p := g.rand.IntN(10); {
	case p < 3:
		most = 1
	case p < 7:
		most = min(most, 30)
	case p < 9:
		most = min(most, 300)
	}
	return 1 + g.rand.IntN(most)
}

// freshIDs returns ids that do not exist in l: new ones, and if l is given
// some that were deleted.
func (g *generator) freshIDs(l *lane, n int) []string {
	ids := make([]string, 0, n)
	if l != nil && len(l.dead) > 0 && g.rand.IntN(2) == 0 {
		had := set(l.alive)
		for _, id := range g.pick(l.dead, n/3+1) {
			if len(ids) < n && !had[id] && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	for len(ids) < n {
		// Of different lengths, and some that are not plain.
		ids = append(ids, fmt.Sprintf("%s-%d%s", g.name, g.fresh, [...]string{"", "", "", "/é", " \"x\"", strings.Repeat("z", 40)}[g.fresh%6]))
		g.fresh++
	}
	return ids
}

// pick returns n different ones of ids, or all.
func (g *generator) pick(ids []string, n int) []string {
	n = min(n, len(ids))
	out := make([]string, n)
	for i, j := range g.rand.Perm(len(ids))[:n] {
		out[i] = ids[j]
	}
	return out
}

// records gives each id a content: only metadata, or also a vector and, of the
// rest, whatever comes.
func (g *generator) records(ids []string, whole bool) []client.Record {
	recs := make([]client.Record, len(ids))
	documents, uris, metadata := g.rand.IntN(4) > 0, g.rand.IntN(4) == 0, g.rand.IntN(4) > 0
	for i, id := range ids {
		recs[i].ID = id
		if whole {
			recs[i].Vector = g.vector()
			if documents {
				recs[i].Document = new(g.text())
			}
			if uris {
				recs[i].URI = new(fmt.Sprintf("file:///%s/%d", g.name, g.rand.IntN(1e9)))
			}
		}
		if metadata || !whole {
			recs[i].Metadata = g.metadata()
		}
	}
	return recs
}

func (g *generator) vector() []float32 {
	v := make([]float32, g.w.Dimension)
	for i := range v {
		v[i] = float32(g.rand.NormFloat64())
	}
	return v
}

func (g *generator) text() string {
	words := [...]string{"ash", "birch", "cedar", "douglas", "elm", "fir", "größe", "漢字", "🙂", "\"quoted\"", "new\nline", "a\tb"}
	var b strings.Builder
	for range 1 + g.rand.IntN(12) {
		b.WriteString(words[g.rand.IntN(len(words))])
		b.WriteByte(' ')
	}
	fmt.Fprint(&b, g.rand.IntN(1e9))
	return b.String()
}

// metadata returns one to four keys, each always of the same type. Floats are
// multiples of 1/8, which every JSON reader takes exactly.
func (g *generator) metadata() client.Metadata {
	m := client.Metadata{"n": int64(g.rand.IntN(1e9))}
	if g.rand.IntN(2) == 0 {
		m["f"] = float64(g.rand.IntN(1e6)) / 8
	}
	if g.rand.IntN(2) == 0 {
		m["s"] = g.text()
	}
	if g.rand.IntN(2) == 0 {
		m["b"] = g.rand.IntN(2) == 0
	}
	return m
}

func set(ids []string) map[string]bool {
	m := make(map[string]bool, len(ids))
	for _, id := range ids {
		m[id] = true
	}
	return m
}
