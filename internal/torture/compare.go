package torture

import (
	"fmt"
	"math"
	"reflect"

	"colorfast/chroma/client"
)

type record = client.Record

// add puts the records of one collection into s.
func (s State) add(collection string, recs []record) error {
	col := make(map[string]record, len(recs))
	for _, r := range recs {
		if _, twice := col[r.ID]; twice {
			return fmt.Errorf("read collection %q: record %q comes twice", collection, r.ID)
		}
		col[r.ID] = r
	}
	s[collection] = col
	return nil
}

// size returns the number of records.
func (s State) size() int {
	n := 0
	for _, col := range s {
		n += len(col)
	}
	return n
}

// compare returns how got, which holds nothing but what is w's, differs from
// want.
func compare(w *Writer, want, got State, spaces map[string]string) []Discrepancy {
	var ds []Discrepancy
	report := func(what What, collection, id, format string, args ...any) {
		ds = append(ds, Discrepancy{What: what, Writer: w.Name, Collection: collection, ID: id, Detail: fmt.Sprintf(format, args...)})
	}
	for name, wants := range want {
		gots, ok := got[name]
		if !ok {
			if owner(name) == w.Name { // a shared one is reported once, not by each
				report(MissingCollection, name, "", "")
			}
			for id := range wants {
				report(LostRecord, name, id, "with its collection")
			}
			continue
		}
		for id := range wants {
			g, ok := gots[id]
			if !ok {
				report(LostRecord, name, id, "")
				continue
			}
			wr := wants[id]
			if what, detail := differ(&wr, &g, spaces[name]); what != "" {
				report(what, name, id, "%s", detail)
			}
		}
		for id := range gots {
			if _, ok := wants[id]; !ok {
				report(PhantomRecord, name, id, "deleted, or written too late")
			}
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			report(PhantomCollection, name, "", "dropped, or created too late; with %d records", len(got[name]))
		}
	}
	return ds
}

// differ returns the worst way in which got differs from want, "" for none.
func differ(want, got *record, space string) (What, string) {
	switch {
	case len(got.Vector) == 0:
		return MissingVector, ""
	case !sameVector(want.Vector, got.Vector, space):
		return WrongVector, vectorDetail(want.Vector, got.Vector)
	case !same(want.Document, got.Document):
		return WrongDocument, pair(want.Document, got.Document)
	case !same(want.URI, got.URI):
		return WrongURI, pair(want.URI, got.URI)
	case len(want.Metadata)+len(got.Metadata) > 0 && !reflect.DeepEqual(want.Metadata, got.Metadata):
		return WrongMetadata, fmt.Sprintf("has %v, want %v", got.Metadata, want.Metadata)
	}
	return "", ""
}

// cosineError is how far a number of a vector may be off, relative to itself,
// in a cosine collection: Chroma keeps it divided by the vector's length, and
// multiplies again.
const cosineError = 1e-6

func sameVector(a, b []float32, space string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) == math.Float32bits(b[i]) {
			continue
		}
		if space != "cosine" || !(math.Abs(float64(a[i])-float64(b[i])) <= cosineError*math.Abs(float64(a[i]))) {
			return false
		}
	}
	return true
}

// hadVector reports whether ops gave the record this vector at some time.
func hadVector(ops []*Op, id string, v []float32, space string) bool {
	for _, o := range ops {
		for i := range o.Records {
			if o.Records[i].ID == id && o.Records[i].Vector != nil && sameVector(o.Records[i].Vector, v, space) {
				return true
			}
		}
	}
	return false
}

func vectorDetail(want, got []float32) string {
	if len(want) != len(got) {
		return fmt.Sprintf("has %d dimensions, want %d", len(got), len(want))
	}
	differing, first := 0, -1
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			if differing++; first < 0 {
				first = i
			}
		}
	}
	return fmt.Sprintf("%d of %d numbers differ, the first at %d: has %v, want %v", differing, len(want), first, got[first], want[first])
}

func same(a, b *string) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func pair(want, got *string) string { return "has " + quote(got) + ", want " + quote(want) }

func quote(s *string) string {
	if s == nil {
		return "none"
	}
	if len(*s) > 60 {
		return fmt.Sprintf("%q…", (*s)[:60])
	}
	return fmt.Sprintf("%q", *s)
}
