package diff

import (
	"os"
	"path/filepath"
	"testing"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/sysdb"
)

// since sets m's changes as a backup does, from the indexes that lie there; a nil
// manifest's index is missing.
func (r *room) since(parent, m, old *colorfast.Manifest) {
	r.t.Helper()
	m.Parent = parent.ID
	m.Summarize()
	open := func(of *colorfast.Manifest) *Index {
		if of == nil {
			return nil
		}
		ix, err := Open(r.index(of.ID))
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = ix.Close() })
		return ix
	}
	if err := Since(parent, m, open(old), open(m)); err != nil {
		r.t.Fatal(err)
	}
}

func find(t *testing.T, m *colorfast.Manifest, name string) *colorfast.Collection {
	t.Helper()
	for i := range m.Inventory.Collections {
		if c := &m.Inventory.Collections[i]; c.Name == name && c.Database == "default_database" {
			return c
		}
	}
	t.Fatalf("no collection %s", name)
	return nil
}

// TestSince leads a source through four backups.
func TestSince(t *testing.T) {
	x := newRoom(t)
	dir := x.fixture()
	first := x.backUp(dir)
	execute(t, dir, write("all-l2", sysdb.Add, "new", vectorA, "")+write("all-l2", sysdb.Upsert, "tail-0", vectorA, "")+
		write("all-cosine", sysdb.Delete, "tail-3", "", "")+write("empty", sysdb.Add, "first", vectorA, ""))
	execute(t, dir, "UPDATE collections SET dimension=4 WHERE name='empty'")
	second := x.backUp(dir)
	check := func(what string, m *colorfast.Manifest, want map[string]*colorfast.Changes) {
		t.Helper()
		for name, w := range want {
			got := find(t, m, name).Changes
			if (got == nil) != (w == nil) || got != nil && *got != *w {
				t.Errorf("%s: %s: %+v, want %+v", what, name, got, w)
			}
		}
	}
	zero := &colorfast.Changes{}
	known := map[string]*colorfast.Changes{"all-l2": {Added: 1, Updated: 1}, "all-cosine": {Deleted: 1}, "empty": {Added: 1}, "all-ip": zero, "emptied": zero}
	x.since(first, second, first)
	check("with its index", second, known)
	if c := second.Changes; c == nil || *c != (colorfast.Changes{Added: 2, Updated: 1, Deleted: 1}) || len(second.Inventory.Dropped) != 0 {
		t.Errorf("%+v, dropped %v", c, second.Inventory.Dropped)
	}

	// Without an index only what needs none is known.
	unsure := map[string]*colorfast.Changes{"all-l2": nil, "all-cosine": nil, "empty": {Added: 1}, "all-ip": zero, "emptied": zero}
	x.since(first, second, nil)
	check("without an index", second, unsure)
	if second.Changes != nil {
		t.Errorf("in all %+v", second.Changes)
	}
	// Nor with the index of another backup, but for what is the same in that.
	execute(t, dir, write("all-l2", sysdb.Delete, "tail-1", "", ""))
	execute(t, dir, "DELETE FROM collections WHERE name='all-ip'")
	third := x.backUp(dir)
	x.since(second, third, first)
	check("with an older index", third, map[string]*colorfast.Changes{"all-l2": nil, "all-cosine": zero})
	x.since(second, third, second)
	check("again with its index", third, map[string]*colorfast.Changes{"all-l2": {Deleted: 1}, "all-cosine": zero, "empty": zero})
	gone := find(t, second, "all-ip")
	if d := third.Inventory.Dropped; len(d) != 1 || d[0].ID != gone.ID || d[0].Name != "all-ip" || d[0].Records != gone.Records {
		t.Errorf("dropped: %+v", d)
	}
	if c := third.Changes; c == nil || *c != (colorfast.Changes{Deleted: 1 + gone.Records}) {
		t.Errorf("%+v", c)
	}
	// A collection that the parent has not got.
	x.since(third, first, third)
	check("backwards", first, map[string]*colorfast.Changes{"all-ip": {Added: gone.Records}})

	// Where the source is damaged, nothing is known of what is damaged.
	execute(t, dir, write("all-cosine", sysdb.Add, "more", vectorA, ""))
	if err := os.Remove(filepath.Join(dir, find(t, third, "all-cosine").VectorSegment, chroma.PickleFile)); err != nil {
		t.Fatal(err)
	}
	fourth := x.backUp(dir)
	x.since(third, fourth, third)
	check("damaged", fourth, map[string]*colorfast.Changes{"all-cosine": nil, "all-l2": zero})
	if fourth.Changes != nil {
		t.Errorf("%+v", fourth.Changes)
	}
	if err := os.Truncate(filepath.Join(dir, chroma.SQLiteFile), 0); err != nil {
		t.Fatal(err)
	}
	blinded := x.backUp(dir)
	x.since(fourth, blinded, fourth)
	if blinded.Changes != nil || len(blinded.Inventory.Dropped) != 0 {
		t.Errorf("no database: %+v, dropped %v", blinded.Changes, blinded.Inventory.Dropped)
	}
}
