package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// scene is what a source has beside the workload's collections, each for a
// reason. It does not change after it is set, so that it is the same in every
// backup.
type scene struct {
	version string
	modern  bool // 1.0 and later
	second  bool // there is a second database, which only the HTTP API reaches here

	arrays, young map[string]client.Record
	other         map[string]client.Record // in the second database
}

// The scene's collections and its file.
const (
	emptyOne    = "scene.empty"
	youngOne    = "scene.young"
	dropped     = "scene.dropped"
	rich        = "scene.rich"
	secondDB    = "second_database"
	foreignFile = "notes of the owner.txt"
)

// sceneCollections are those in the default database that stay.
var sceneCollections = []string{emptyOne, youngOne, rich}

// setScene writes the scene into a running Chroma.
func setScene(t *testing.T, c chromatest.Chroma, version, dir string) *scene {
	t.Helper()
	s := &scene{version: version, modern: version[0] != '0', arrays: map[string]client.Record{}, young: map[string]client.Record{}, other: map[string]client.Record{}}
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(name, space string, threshold int) {
		t.Helper()
		must(c.Create(ctx, chromatest.Spec{Name: name, Space: space, SyncThreshold: threshold, Modern: s.modern}))
	}
	create(emptyOne, "ip", 0)
	create(youngOne, "cosine", 0)
	create(dropped, "l2", 10)
	create(rich, "l2", 10)

	must(c.Write(ctx, youngOne, client.Add, put(s.young, plain("young", 3))))
	must(c.Write(ctx, dropped, client.Add, plain("gone", 25)))
	must(c.Drop(ctx, dropped))

	full := plain("rich", 24)
	for i := range full {
		full[i].URI = new(fmt.Sprintf("file:///rich/%d?q=1#é", i))
		if version >= "1.5" {
			full[i].Metadata["tags"] = []any{"a", "é", "", "a"}
			full[i].Metadata["numbers"] = []any{int64(3), int64(-9007199254740993)}
			full[i].Metadata["halves"] = []any{0.5, -1.25}
			full[i].Metadata["flags"] = []any{true, false}
		}
	}
	must(c.Write(ctx, rich, client.Add, put(s.arrays, full)))
	// Then what a later life does to records: change, upsert, delete, add again.
	changed := client.Record{ID: "rich-1", Vector: []float32{9, 8.5, -7}, Document: new("changed")}
	must(c.Write(ctx, rich, client.Update, []client.Record{changed}))
	r := s.arrays["rich-1"]
	r.Vector, r.Document = changed.Vector, changed.Document
	s.arrays["rich-1"] = r
	must(c.Write(ctx, rich, client.Delete, []client.Record{{ID: "rich-2"}, {ID: "rich-3"}}))
	delete(s.arrays, "rich-2")
	delete(s.arrays, "rich-3")
	again := client.Record{ID: "rich-2", Vector: []float32{2, 2, 2}, Metadata: client.Metadata{"again": true}}
	must(c.Write(ctx, rich, client.Upsert, put(s.arrays, []client.Record{again})))

	if h, ok := c.(*chromatest.HTTP); ok {
		s.second = true
		must(h.Client.CreateDatabase(ctx, secondDB))
		col, err := s.in(h).CreateCollection(ctx, client.NewCollection{Name: rich, Metadata: client.Metadata{"note": "same name, other database"}})
		must(err)
		must(s.in(h).Write(ctx, col.ID, client.Add, put(s.other, plain("other", 7))))
	}
	path := filepath.Join(dir, foreignFile)
	must(os.WriteFile(path, []byte("not Chroma's\n"), 0o640))
	must(os.Chtimes(path, time.Time{}, time.Date(2021, 3, 4, 5, 6, 7, 123456000, time.UTC)))
	return s
}

func (s *scene) in(h *chromatest.HTTP) *client.Client {
	return h.Client.In(client.DefaultTenant, secondDB)
}

// plain returns n records; all numbers are exact in every JSON reader.
func plain(name string, n int) []client.Record {
	recs := make([]client.Record, n)
	for i := range recs {
		recs[i] = client.Record{
			ID:       fmt.Sprintf("%s-%d", name, i),
			Vector:   []float32{float32(i) + 0.5, -float32(i * i), 0.125},
			Metadata: client.Metadata{"n": int64(i), "f": float64(i) / 8, "b": i%2 == 0, "s": "größe 漢字 🙂 \"x\"\n"},
		}
		if i%3 != 0 {
			recs[i].Document = new(fmt.Sprintf("document %d of %s é", i, name))
		}
	}
	return recs
}

// put remembers records, and returns them.
func put(in map[string]client.Record, recs []client.Record) []client.Record {
	for _, r := range recs {
		in[r.ID] = r
	}
	return recs
}

// check compares the scene with what a Chroma on a restored directory says.
func (s *scene) check(t *testing.T, c chromatest.Reader, restored, source string) {
	t.Helper()
	for name, want := range map[string]map[string]client.Record{emptyOne: {}, youngOne: s.young, rich: s.arrays} {
		got, err := c.Records(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		compare(t, name, want, got, name == youngOne)
	}
	if h, ok := c.(*chromatest.HTTP); ok && s.second {
		col, err := s.in(h).Collection(t.Context(), rich)
		if err != nil {
			t.Fatal(err)
		}
		var got []client.Record
		if err := s.in(h).All(t.Context(), col.ID, func(page []client.Record) error { got = append(got, page...); return nil }); err != nil {
			t.Error(err)
		}
		compare(t, secondDB+"/"+rich, s.other, got, false)
	}
	sameFile(t, filepath.Join(restored, foreignFile), filepath.Join(source, foreignFile))
}

func compare(t *testing.T, name string, want map[string]client.Record, got []client.Record, cosine bool) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", name, len(got), len(want))
	}
	for _, g := range got {
		w, ok := want[g.ID]
		if !ok {
			t.Errorf("%s: unknown record %q", name, g.ID)
			continue
		}
		if cosine && near(w.Vector, g.Vector) {
			g.Vector = w.Vector
		}
		if !reflect.DeepEqual(w, g) {
			t.Errorf("%s: record %q:\n got %s\nwant %s", name, g.ID, words(g), words(w))
		}
	}
}

func words(r client.Record) string {
	text := func(s *string) string {
		if s == nil {
			return "none"
		}
		return fmt.Sprintf("%q", *s)
	}
	return fmt.Sprintf("%v document %s uri %s %v", r.Vector, text(r.Document), text(r.URI), r.Metadata)
}

// near allows for the rounding of cosine collections.
func near(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		d := a[i] - b[i]
		if max(d, -d) > 1e-6*max(a[i], -a[i]) {
			return false
		}
	}
	return true
}
