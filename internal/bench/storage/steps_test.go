package storage

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"testing"

	"colorfast/chroma/client"
)

// walk takes a population through all steps.
func walk(records int) (*population, [][]name) {
	p := newPopulation(records)
	chosen := [][]name{slices.Clone(p.live)}
	for at := 1; at < len(steps); at++ {
		chosen = append(chosen, p.choose(at))
	}
	return p, chosen
}

func TestSteps(t *testing.T) {
	const records = 10_000
	p, chosen := walk(records)
	_, again := walk(records)
	if !reflect.DeepEqual(chosen, again) {
		t.Error("two walks differ")
	}
	live := map[name]bool{}
	for at, names := range chosen {
		s := steps[at]
		want := int(s.share * float64(len(live)))
		if at == 0 {
			want = records
		}
		if len(names) != want {
			t.Errorf("%s: %d records, want %d", s.Name, len(names), want)
		}
		var of [4]int
		for _, n := range names {
			of[n.collection]++
			add := at == 0 || s.verb == client.Add
			if live[n] == add {
				t.Fatalf("%s: %v is there: %v", s.Name, n, live[n])
			}
			live[n] = s.verb != client.Delete
			if !live[n] {
				delete(live, n)
			}
		}
		if want >= 100 && (of[0] < want*4/10 || of[3] == 0 || of[3] > want*2/10) {
			t.Errorf("%s: %v of the collections", s.Name, of)
		}
	}
	if len(p.live) != len(live) {
		t.Errorf("%d records in the end, want %d", len(p.live), len(live))
	}
}

func TestGroup(t *testing.T) {
	_, chosen := walk(1000)
	var all []name
	order := []int{}
	for _, r := range group(chosen[0], 30) {
		if len(r) == 0 || len(r) > 30 || slices.ContainsFunc(r, func(n name) bool { return n.collection != r[0].collection }) {
			t.Errorf("a request of %v", r)
		}
		all = append(all, r...)
		order = append(order, r[0].collection)
	}
	if slices.IsSorted(order) {
		t.Error("the collections are written one after the other")
	}
	byName := func(a, b name) int { return (a.collection-b.collection)*1e6 + a.number - b.number }
	slices.SortFunc(all, byName)
	slices.SortFunc(chosen[0], byName)
	if !slices.Equal(all, chosen[0]) {
		t.Error("the requests have other records")
	}
}

func TestContent(t *testing.T) {
	a := newAuthor()
	var vectors []byte
	for i := range 200 {
		n := name{i % len(collections), i}
		r := a.record(n)
		if !reflect.DeepEqual(r, a.record(n)) {
			t.Fatalf("%v has two contents", n)
		}
		var sum float64
		for _, v := range r.Vector {
			sum += float64(v) * float64(v)
			vectors = binary.LittleEndian.AppendUint32(vectors, math.Float32bits(v))
		}
		if len(r.Vector) != dimension || math.Abs(sum-1) > 1e-4 {
			t.Errorf("%d dimensions of length %f", len(r.Vector), math.Sqrt(sum))
		}
		if l := len(*r.Document); l < 200 || l > 850 {
			t.Errorf("a document of %d bytes", l)
		}
		for _, change := range []client.Record{vectorOnly(a, n, 4), metadataOnly(a, n, 6)} {
			if change.ID != r.ID || change.Document != nil || reflect.DeepEqual(change.Vector, r.Vector) || reflect.DeepEqual(change.Metadata, r.Metadata) {
				t.Errorf("a change of %v: %+v", n, change)
			}
		}
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(vectors); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	if packed.Len() < len(vectors)*88/100 {
		t.Errorf("vectors of %d bytes pack to %d: real ones do not", len(vectors), packed.Len())
	}
	if bytes.Contains(vectors, make([]byte, 8)) {
		t.Error("vectors have empty places")
	}
}
