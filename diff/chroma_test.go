package diff

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"colorfast"
	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// TestRealChroma writes to a real Chroma between two backups. What a client has not
// written is no change, even where Chroma itself has saved vectors meanwhile, which
// gives those of cosine collections other last bits.
func TestRealChroma(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real Chroma")
	}
	server := chromatest.Start(t, chromatest.Options{Version: newest})
	c, ctx := server.Chroma(t), t.Context()
	x := newRoom(t)
	rnd := rand.New(rand.NewPCG(9, 10))
	make := func(from, n int) []client.Record {
		out := []client.Record{}
		for i := range n {
			v := []float32{}
			for range 96 {
				v = append(v, float32(rnd.NormFloat64()))
			}
			out = append(out, client.Record{ID: fmt.Sprintf("id-%03d", from+i), Vector: v, Document: new(fmt.Sprint("document ", from+i)), Metadata: client.Metadata{"n": int64(i)}})
		}
		return out
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	spaces := []string{"of-l2", "of-ip", "of-cosine"} // the collections' names, too
	for _, space := range spaces {
		must(c.Create(ctx, chromatest.Spec{Name: space, Space: space[3:], SyncThreshold: 100, Modern: true}))
		must(c.Write(ctx, space, client.Add, make(0, 90)))
	}
	a := x.backUp(quiet(t, server.Dir))
	for _, space := range spaces {
		must(c.Write(ctx, space, client.Add, make(100, 20)))
		must(c.Write(ctx, space, client.Update, []client.Record{{ID: "id-001", Vector: make(0, 1)[0].Vector}, {ID: "id-002", Vector: make(0, 1)[0].Vector}}))
		must(c.Write(ctx, space, client.Update, []client.Record{{ID: "id-003", Document: new("other")}, {ID: "id-004", Document: new("other")}}))
		must(c.Write(ctx, space, client.Delete, []client.Record{{ID: "id-005"}}))
	}
	b := x.backUp(quiet(t, server.Dir))
	want := colorfast.Changes{Added: 20, Updated: 4, Deleted: 1}
	r := x.diff(a, b, true)
	x.since(a, b, a)
	for _, space := range spaces {
		d, o, n := named(t, r, space), find(t, a, space), find(t, b, space)
		if o.Queued < 80 || n.Queued > 50 {
			t.Errorf("%s: %d and %d records are queued: nothing was saved between", space, o.Queued, n.Queued)
		}
		if d.State != Changed || *d.Changes != want || n.Changes == nil || *n.Changes != want {
			t.Errorf("%s: %s %+v, since the parent %+v, want %+v", space, d.State, d.Changes, n.Changes, want)
		}
		got := slices.DeleteFunc(lines(t, r, d), func(s string) bool { return s[0] == 'a' })
		if !slices.Equal(got, []string{"deleted id-005", "updated id-001 vector", "updated id-002 vector", "updated id-003 document", "updated id-004 document"}) {
			t.Errorf("%s: %q", space, got)
		}
	}
	// Of a cosine collection that is only saved, nothing has changed.
	for _, space := range spaces {
		must(c.Write(ctx, space, client.Upsert, make(200, 100)))
		must(c.Write(ctx, space, client.Delete, ids(200, 100)))
	}
	saved := x.backUp(quiet(t, server.Dir))
	r = x.diff(b, saved, true)
	x.since(b, saved, b)
	for _, space := range spaces {
		if d, n := named(t, r, space), find(t, saved, space); d.State != Equal || n.Changes == nil || *n.Changes != (colorfast.Changes{}) {
			t.Errorf("%s: %s %+v, since the parent %+v", space, d.State, d.Changes, n.Changes)
		}
	}
	if d := named(t, r, "of-cosine"); same(d.Old, d.New) {
		t.Error("no vector was rounded: this test shows nothing")
	}
}

func ids(from, n int) []client.Record {
	out := []client.Record{}
	for i := range n {
		out = append(out, client.Record{ID: fmt.Sprintf("id-%03d", from+i)})
	}
	return out
}

// quiet copies the directory of a server that nobody writes to.
func quiet(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
