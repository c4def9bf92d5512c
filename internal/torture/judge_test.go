package torture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// memory is a Chroma that keeps a state, by the same model that the judge
// uses. It shows that judge and workload agree; that Chroma is like the model
// the tests against real ones show.
type memory struct {
	mu    sync.Mutex
	state State
	fail  func(n int) error // decides for the n-th write, made in any case; may be nil
	n     int
}

func (m *memory) do(o *Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == nil {
		m.state = State{}
	}
	m.state.apply(o)
	m.n++
	if m.fail != nil {
		return m.fail(m.n)
	}
	return nil
}

func (m *memory) Create(_ context.Context, s chromatest.Spec) error {
	return m.do(&Op{Kind: Create, Collection: s.Name, Spec: s})
}

func (m *memory) Drop(_ context.Context, c string) error {
	return m.do(&Op{Kind: Drop, Collection: c})
}

func (m *memory) Write(_ context.Context, c string, verb client.Verb, recs []client.Record) error {
	return m.do(&Op{Kind: Kind(verb), Collection: c, Records: recs})
}

func (m *memory) Collections(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.state)), nil
}

func (m *memory) Count(_ context.Context, c string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.state[c])), nil
}

func (m *memory) Records(_ context.Context, c string) ([]client.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.state[c])), nil
}

func (m *memory) Query(context.Context, string, []float32, int) ([]string, error) { return nil, nil }

func (s State) clone() State {
	c := State{}
	for name, recs := range s {
		c[name] = maps.Clone(recs)
	}
	return c
}

// script is a history with known times: operation i starts at second 10i and
// is acknowledged at 10i+5.
type script struct {
	h     *History
	start time.Time
	ops   []*Op
	by    map[string]*Writer
}

func newScript() *script {
	s := &script{h: &History{}, start: time.Now(), by: map[string]*Writer{}}
	s.h.Shared(chromatest.Spec{Name: "l2", Space: "l2"}, chromatest.Spec{Name: "cos", Space: "cosine"})
	return s
}

func (s *script) op(writer string, kind Kind, collection string, recs ...client.Record) *Op {
	if s.by[writer] == nil {
		s.by[writer] = s.h.Writer(writer)
	}
	o := &Op{Kind: kind, Collection: collection, Records: recs, Spec: chromatest.Spec{Name: collection}}
	o.Started = s.at(10 * len(s.ops))
	o.Acked = s.at(10*len(s.ops) + 5)
	s.by[writer].Ops = append(s.by[writer].Ops, o)
	s.ops = append(s.ops, o)
	return o
}

func (s *script) at(seconds int) time.Time { return s.start.Add(time.Duration(seconds) * time.Second) }

// state returns what the first n operations leave.
func (s *script) state(n int) State {
	st := State{"l2": {}, "cos": {}}
	for _, o := range s.ops[:n] {
		st.apply(o)
	}
	return st
}

func rec(id string, n float32) client.Record {
	return client.Record{ID: id, Vector: []float32{n, 1, n / 3}, Document: new(fmt.Sprint("doc ", n)), Metadata: client.Metadata{"n": int64(n)}}
}

// story is the history that TestJudge damages: nine operations, the last two
// begun after the cut at second 62.
func story() *script {
	s := newScript()
	s.op("a", Add, "l2", rec("a-1", 1), rec("a-2", 2), rec("a-3", 3))                                            // 0
	s.op("b", Add, "l2", rec("b-1", 1), rec("b-2", 2))                                                           // 10
	s.op("a", Add, "cos", rec("a-1", 1), rec("a-2", 2))                                                          // 20
	s.op("a", Update, "l2", rec("a-1", 11), rec("a-9", 9))                                                       // 30; no a-9
	s.op("b", Create, "b-0")                                                                                     // 40
	s.op("b", Add, "b-0", rec("b-5", 5))                                                                         // 50
	s.op("a", Upsert, "l2", rec("a-2", 22), rec("a-4", 4), client.Record{ID: "a-5", Vector: []float32{5, 5, 5}}) // 60: runs at the cut
	s.op("a", Delete, "l2", client.Record{ID: "a-3"})                                                            // 70
	s.op("a", Add, "cos", rec("a-7", 7))                                                                         // 80
	return s
}

func TestJudge(t *testing.T) {
	edit := func(col, id string, f func(*client.Record)) func(State) {
		return func(s State) {
			r, ok := s[col][id]
			if !ok {
				panic("no record " + id)
			}
			f(&r)
			s[col][id] = r
		}
	}
	nothing := func(State) {}
	for _, c := range []struct {
		name          string
		ops           int // in the cut
		damage        func(State)
		want          []What
		lost, corrupt int
	}{
		{"right, the running write is not in", 6, nothing, nil, 0, 0},
		{"right, the running write is in", 7, nothing, nil, 0, 0},
		{"too early: an acknowledged write is missing", 5, nothing, []What{LostRecord}, 1, 0},
		{"too late: a later delete is in", 8, nothing, []What{LostRecord}, 1, 0},
		{"too late: later writes are in", 9, nothing, []What{LostRecord, PhantomRecord}, 1, 1},
		{"lost record", 6, func(s State) { delete(s["l2"], "b-2") }, []What{LostRecord}, 1, 0},
		{"lost collection", 6, func(s State) { delete(s, "l2") }, []What{MissingCollection, LostRecord}, 5, 0},
		{"lost own collection", 6, func(s State) { delete(s, "b-0") }, []What{MissingCollection, LostRecord}, 1, 0},
		{"missing vector", 6, edit("l2", "a-1", func(r *client.Record) { r.Vector = nil }), []What{MissingVector}, 1, 0},
		{"stale vector", 6, edit("l2", "a-1", func(r *client.Record) { r.Vector = []float32{1, 1, 1. / 3} }), []What{StaleVector}, 0, 1},
		{"wrong vector, by one bit", 6, edit("l2", "a-1", func(r *client.Record) { r.Vector = []float32{11.000001, 1, 11. / 3} }), []What{WrongVector}, 0, 1},
		{"vector of another record", 6, edit("l2", "a-3", func(r *client.Record) { r.Vector = []float32{2, 1, 2. / 3} }), []What{WrongVector}, 0, 1},
		{"short vector", 6, edit("l2", "a-3", func(r *client.Record) { r.Vector = r.Vector[:2] }), []What{WrongVector}, 0, 1},
		{"cosine rounds", 6, edit("cos", "a-2", func(r *client.Record) { r.Vector = []float32{2.0000002, 1, 2. / 3} }), nil, 0, 0},
		{"cosine does not round that much", 6, edit("cos", "a-2", func(r *client.Record) { r.Vector = []float32{2.00001, 1, 2. / 3} }), []What{WrongVector}, 0, 1},
		{"wrong document", 6, edit("l2", "a-3", func(r *client.Record) { r.Document = new("x") }), []What{WrongDocument}, 0, 1},
		{"no document", 6, edit("l2", "a-3", func(r *client.Record) { r.Document = nil }), []What{WrongDocument}, 0, 1},
		{"wrong uri", 6, edit("l2", "a-3", func(r *client.Record) { r.URI = new("x") }), []What{WrongURI}, 0, 1},
		{"wrong metadata", 6, edit("l2", "a-3", func(r *client.Record) { r.Metadata = client.Metadata{"n": 3.0} }), []What{WrongMetadata}, 0, 1},
		{"phantom of a writer", 6, func(s State) { s["l2"]["a-9"] = rec("a-9", 9) }, []What{PhantomRecord}, 0, 1},
		{"phantom of nobody", 6, func(s State) { s["l2"]["z-1"] = rec("z-1", 9) }, []What{PhantomRecord}, 0, 1},
		{"phantom in another's collection", 6, func(s State) { s["b-0"]["a-1"] = rec("a-1", 9) }, []What{PhantomRecord}, 0, 1},
		{"phantom collection", 6, func(s State) { s["c"] = map[string]record{} }, []What{PhantomCollection}, 0, 0},
		{"torn batch: one of two new", 7, func(s State) { delete(s["l2"], "a-4") }, []What{LostRecord}, 1, 0},
		{"torn batch: the update is missing", 7, func(s State) { s["l2"]["a-2"] = rec("a-2", 2) }, []What{StaleVector}, 0, 1},
		{"torn batch: half of an early one", 6, func(s State) { delete(s["l2"], "a-2") }, []What{LostRecord}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := story()
			got := s.state(c.ops).clone()
			c.damage(got)
			v := Judge(s.h, s.at(62), s.at(62), got)
			kinds := map[What]bool{}
			for _, d := range v.Discrepancies {
				kinds[d.What] = true
			}
			for _, w := range c.want {
				if !kinds[w] {
					t.Errorf("no %q", w)
				}
				delete(kinds, w)
			}
			if len(kinds) > 0 || v.Lost != c.lost || v.Corrupt != c.corrupt || v.Good() != (c.want == nil) {
				t.Errorf("want %v, lost %d, corrupt %d; got %s", c.want, c.lost, c.corrupt, v)
			}
			if v.Checked < 7 {
				t.Errorf("only %d records checked", v.Checked)
			}
		})
	}
}

func TestJudgeAcrossCollections(t *testing.T) {
	s := newScript()
	s.op("a", Add, "l2", rec("a-1", 1))
	s.op("a", Add, "cos", rec("a-1", 1))
	s.op("a", Add, "l2", rec("a-2", 2))
	got := s.state(3)
	delete(got["cos"], "a-1") // as if cos had been copied before l2
	v := Judge(s.h, s.at(-1), s.at(100), got)
	if v.Good() || v.Discrepancies[len(v.Discrepancies)-1].What != SplitCut && v.Discrepancies[0].What != SplitCut {
		t.Errorf("got %s", v)
	}
	for n := range 4 {
		if v := Judge(s.h, s.at(-1), s.at(100), s.state(n)); !v.Good() {
			t.Errorf("after %d operations: %s", n, v)
		}
	}
}

func TestJudgeFailedWrite(t *testing.T) {
	s := newScript()
	s.op("a", Add, "l2", rec("a-1", 1))
	o := s.op("a", Add, "l2", rec("a-2", 2), rec("a-3", 3))
	o.Acked, o.Err = time.Time{}, "connection reset"
	s.op("b", Add, "l2", rec("b-1", 1))
	for _, n := range []int{1, 2} { // it may have happened, or not
		got := s.state(n)
		got.apply(s.ops[2])
		if v := Judge(s.h, s.at(100), s.at(100), got); !v.Good() {
			t.Errorf("with %d: %s", n, v)
		}
	}
	got := s.state(3)
	delete(got["l2"], "a-3")
	if v := Judge(s.h, s.at(100), s.at(100), got); v.Good() {
		t.Error("half of a failed write is good")
	}
}

func TestJudgeSaysSo(t *testing.T) {
	s := story()
	got := s.state(6)
	delete(got["l2"], "b-2")
	said := Judge(s.h, s.at(62), s.at(62), got).String()
	if want := "8 records checked, 1 lost, 0 corrupt\n  lost record: l2/b-2"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
}

func TestWorkload(t *testing.T) {
	w := Workload{Seed: 7, Writers: 3, OwnCollections: true, Queries: true, MaxRecords: 300, MaxBatch: 60}
	m, h := &memory{}, &History{}
	if err := w.Setup(t.Context(), m, h); err != nil {
		t.Fatal(err)
	}
	m.fail = func(n int) error {
		if n%40 == 0 {
			return errors.New("refused, but it happened")
		}
		return nil
	}
	if err := w.Run(t.Context(), m, h, 0, 400); err != nil {
		t.Fatal(err)
	}
	st := h.Stats()
	if st.Ops != 1200 || st.Failed < 20 || st.Acked+st.Failed != st.Ops || st.Queries == 0 || st.Refused != 0 || len(h.Errors()) != st.Failed {
		t.Errorf("stats %+v", st)
	}
	got, err := Read(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if v := Judge(h, now, now, got); !v.Good() || v.Checked < 1000 {
		t.Errorf("the truth was judged: %s", v)
	}
	kinds := map[Kind]int{}
	unsure := map[string]bool{} // ids and collections of failed operations, which may be there or not
	for _, wr := range h.Snapshot() {
		for _, o := range wr.Ops {
			kinds[o.Kind]++
			if o.Err == "" {
				continue
			}
			if o.Kind == Create || o.Kind == Drop {
				unsure[o.Collection] = true
			}
			for _, r := range o.Records {
				unsure[r.ID] = true
			}
		}
	}
	for _, k := range []Kind{Create, Drop, Add, Update, Upsert, Delete} {
		if kinds[k] == 0 {
			t.Errorf("no %s was made", k)
		}
	}
	planted := 0
	for name, col := range got { // one record of each, lost and changed, is noticed
		for id, r := range col {
			if unsure[name] || unsure[id] {
				continue
			}
			planted++
			delete(col, id)
			if Judge(h, now, now, got).Good() {
				t.Errorf("the loss of %s/%s was not noticed", name, id)
			}
			damaged := r
			damaged.Document = new("damaged")
			col[id] = damaged
			if Judge(h, now, now, got).Good() {
				t.Errorf("the damage of %s/%s was not noticed", name, id)
			}
			col[id] = r
			break
		}
	}
	if planted < 4 {
		t.Errorf("only %d losses were tried", planted)
	}
}

func TestWorkloadCanBeDoneAgain(t *testing.T) {
	var first string
	for range 2 {
		w := Workload{Seed: 9, Writers: 2, OwnCollections: true}
		m, h := &memory{}, &History{}
		if err := w.Setup(t.Context(), m, h); err != nil {
			t.Fatal(err)
		}
		if err := w.Run(t.Context(), m, h, 0, 60); err != nil {
			t.Fatal(err)
		}
		writers := h.Snapshot()
		slices.SortFunc(writers, func(a, b Writer) int { return strings.Compare(a.Name, b.Name) })
		var b strings.Builder
		for _, wr := range writers {
			for _, o := range wr.Ops {
				fmt.Fprintln(&b, wr.Name, o.Kind, o.Collection, client.ColumnsOf(client.Verb(o.Kind), o.Records).IDs)
				for _, r := range o.Records {
					fmt.Fprintln(&b, r.Vector, quote(r.Document), quote(r.URI), r.Metadata)
				}
			}
		}
		if first == "" {
			first = b.String()
		} else if b.String() != first {
			t.Error("the same seed gave something else")
		}
	}
}
