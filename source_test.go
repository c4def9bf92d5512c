package colorfast_test

import (
	"strings"
	"testing"

	"colorfast"
)

func TestSourceMatches(t *testing.T) {
	s := colorfast.Source{Host: "db1", Path: "/srv/chroma/orders"}
	for q, want := range map[string]bool{
		"": true, "/srv/chroma/orders": true, "db1:/srv/chroma/orders": true, "orders": true, "chroma/orders": true, "/orders/": true,
		"rders": false, "/srv/chroma": false, "db2:/srv/chroma/orders": false, "db1": false, "orders2": false, "srv": false,
	} {
		if got := s.Matches(q); got != want {
			t.Errorf("%q: %t", q, got)
		}
	}
	if s.String() != "db1:/srv/chroma/orders" {
		t.Error(s)
	}
}

func TestIsAside(t *testing.T) {
	for name, want := range map[string]bool{
		colorfast.RestorePrefix + "x": true, colorfast.AsidePrefix + "2026": true,
		"chroma.sqlite3": false, "x" + colorfast.RestorePrefix: false, "": false,
	} {
		if got := colorfast.IsAside(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

func TestInventoryCounts(t *testing.T) {
	inv := colorfast.Inventory{Collections: []colorfast.Collection{{Records: 1, Queued: 1}, {}, {Records: 41}}}
	if n := inv.Records(); n != 42 {
		t.Errorf("%d records", n)
	}
	c := colorfast.Collection{Tenant: "t", Database: "d", Name: "n"}
	if c.String() != "t/d/n" {
		t.Error(c.String())
	}
}

// TestInventoryIn: a file of the index has data of one collection, the database of
// all, and other files of none.
func TestInventoryIn(t *testing.T) {
	inv := colorfast.Inventory{Collections: []colorfast.Collection{
		{Tenant: "t", Database: "d", Name: "a", VectorSegment: "seg1"},
		{Tenant: "t", Database: "d", Name: "b", VectorSegment: "seg10"},
		{Tenant: "t", Database: "d", Name: "empty"},
	}}
	for _, c := range []struct {
		files []string
		want  string
	}{
		{nil, ""},
		{[]string{"other.txt", "seg1"}, ""},
		{[]string{"seg1/header.bin", "seg1/length.bin"}, "t/d/a"},
		{[]string{"seg10/header.bin"}, "t/d/b"},
		{[]string{"x", "chroma.sqlite3"}, "t/d/a t/d/b t/d/empty"},
	} {
		if got := inv.In(c.files); got == nil || strings.Join(got, " ") != c.want {
			t.Errorf("%v: %q, want %q", c.files, got, c.want)
		}
	}
}
