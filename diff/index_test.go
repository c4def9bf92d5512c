package diff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"colorfast"
	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
)

// set is what a collection holds, by id.
type set map[string]records.Record

// floats makes a vector.
func floats(f ...float32) []byte {
	b := []byte{}
	for _, x := range f {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// random makes a record; few values, so that records are often the same.
func random(rnd *rand.Rand, id string) records.Record {
	r := records.Record{ID: id}
	if rnd.IntN(8) > 0 {
		r.Vector = floats(float32(rnd.IntN(2)), 0.5, float32(rnd.IntN(2)))
	}
	for _, s := range []**string{&r.Document, &r.URI} {
		if n := rnd.IntN(4); n > 0 {
			*s = new([]string{"", "a", "b"}[n-1])
		}
	}
	if n := rnd.IntN(3); n > 0 {
		r.Metadata = []records.Field{{Key: "k", Value: records.Value{Kind: sysdb.Int, Int: int64(n)}}}
	}
	return r
}

// sealedIndex makes an index of sets in runs of some length, and opens it.
func sealedIndex(t testing.TB, sets map[string]set, space string, length int, detail bool) *Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	w, err := Create(path, Options{Detail: detail})
	if err != nil {
		t.Fatal(err)
	}
	w.length = length
	var wg sync.WaitGroup
	for id, s := range sets {
		wg.Go(func() {
			c := &colorfast.Collection{ID: id, Space: space}
			for _, r := range s {
				if err := w.Add(c, &r, r.Hash()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	ix, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	return ix
}

// naive compares two sets in memory.
func naive(old, new set) map[string]string {
	out := map[string]string{}
	for id, o := range old {
		n, ok := new[id]
		if !ok {
			out[id] = "deleted []"
			continue
		}
		parts := []string{}
		for name, differs := range map[string]bool{
			"vector":   (o.Vector == nil) != (n.Vector == nil) || !bytes.Equal(o.Vector, n.Vector),
			"document": !reflect.DeepEqual(o.Document, n.Document),
			"uri":      !reflect.DeepEqual(o.URI, n.URI),
			"metadata": !reflect.DeepEqual(o.Metadata, n.Metadata),
		} {
			if differs {
				parts = append(parts, name)
			}
		}
		if slices.Sort(parts); len(parts) > 0 {
			out[id] = fmt.Sprintf("updated %v", parts)
		}
	}
	for id := range new {
		if _, ok := old[id]; !ok {
			out[id] = "added []"
		}
	}
	return out
}

// TestCompareIsWhatAMapSays compares random sets, with few runs and with many, in
// every kind of index and space. The vectors have no rounding, so that all spaces
// give the same.
func TestCompareIsWhatAMapSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for trial := range 60 {
		sets := [2]map[string]set{{}, {}}
		for k := range 1 + rnd.IntN(4) {
			name := fmt.Sprint("collection ", k)
			for side := range sets {
				s := set{}
				for range rnd.IntN(300) {
					id := fmt.Sprint(strings.Repeat("long ", 60*rnd.IntN(2)), rnd.IntN(200))
					s[id] = random(rnd, id)
				}
				sets[side][name] = s
			}
			for id := range sets[0][name] { // most are the same in both
				if r, ok := sets[1][name][id]; ok && rnd.IntN(4) > 0 {
					sets[0][name][id] = r
				}
			}
		}
		space, length, detail := []string{"l2", "cosine"}[trial%2], 1+rnd.IntN(400), trial%4 < 2
		old, new := sealedIndex(t, sets[0], space, length, detail), sealedIndex(t, sets[1], space, length, detail)
		for name := range sets[0] {
			want := naive(sets[0][name], sets[1][name])
			var counts colorfast.Changes
			for _, w := range want {
				seen[w]++
				counts.Add(colorfast.Changes{Added: b2i(w[0] == 'a'), Updated: b2i(w[0] == 'u'), Deleted: b2i(w[0] == 'd')})
			}
			got := map[string]string{}
			n, err := Compare(old.Section(name), new.Section(name), func(d Difference) error {
				parts := d.Parts.Names()
				slices.Sort(parts)
				got[d.ID] = fmt.Sprintf("%s %v", d.Change, parts)
				return nil
			})
			if err != nil || n != counts {
				t.Fatalf("trial %d, %s: %+v, want %+v, %v", trial, name, n, counts, err)
			}
			if detail && !reflect.DeepEqual(got, want) {
				t.Fatalf("trial %d, %s:\n got %v\nwant %v", trial, name, got, want)
			}
		}
	}
	if len(seen) < 2+15 {
		t.Errorf("only %d kinds of differences were tried: %v", len(seen), seen)
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestSectionsKnowTheirState: a section says of which records it is, as a manifest
// does; and a section of none is none.
func TestSectionsKnowTheirState(t *testing.T) {
	s := set{"a": {ID: "a", Vector: floats(1)}, "b": {ID: "b"}}
	var want colorfast.Digest
	for _, r := range s {
		want.Add(r.Hash())
	}
	ix := sealedIndex(t, map[string]set{"c": s}, "l2", 1, false)
	if x := ix.Section("c"); x == nil || x.Records != 2 || x.Digest != want {
		t.Errorf("%+v", x)
	}
	if x := ix.Section("d"); x != nil {
		t.Errorf("%+v", x)
	}
	for _, side := range [][2]*Section{{ix.Section("c"), nil}, {nil, ix.Section("c")}} {
		if n, err := Compare(side[0], side[1], nil); err != nil || n.Added+n.Deleted != 2 || n.Updated != 0 {
			t.Errorf("%+v, %v", n, err)
		}
	}
	if n, err := Compare(nil, nil, nil); err != nil || n != (colorfast.Changes{}) {
		t.Errorf("%+v, %v", n, err)
	}
	other := sealedIndex(t, map[string]set{"c": s}, "cosine", 1, false)
	if _, err := Compare(ix.Section("c"), other.Section("c"), nil); colorfast.KindOf(err) != colorfast.Unsupported {
		t.Errorf("two kinds of sections: %v", err)
	}
	stop := errors.New("enough")
	if _, err := Compare(ix.Section("c"), nil, func(Difference) error { return stop }); err != stop {
		t.Errorf("the error of fn became %v", err)
	}
}

// TestRounding: in cosine collections vectors that differ in their last bits are
// the same, and only there; what differs by more is told.
func TestRounding(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const dim, tries = 384, 100
	names := map[string]string{ // of the collection, and its space
		"rounded": "cosine", "rounded, exact space": "l2", "moved a little": "cosine", "one part": "cosine", "shorter": "cosine", "none": "cosine",
	}
	for _, detail := range []bool{false, true} {
		for name, space := range names {
			sets := [2]set{{}, {}}
			for k := range tries {
				id := fmt.Sprint(k)
				v, x := make([]float32, dim), make([]float32, dim)
				var norm float64
				for i := range v {
					v[i] = float32(rnd.NormFloat64())
					norm += float64(v[i]) * float64(v[i])
				}
				copy(x, v)
				for i := range x {
					switch name {
					case "rounded", "rounded, exact space":
						x[i] = float32(math.Sqrt(norm)) * (v[i] * float32(1/math.Sqrt(norm)))
					case "moved a little":
						x[i] *= 1 + 2e-3*float32(rnd.NormFloat64())
					}
				}
				switch name {
				case "one part":
					x[rnd.IntN(dim)] += 0.01
				case "shorter":
					v = append(v, 0)
				case "none":
					sets[1][id] = records.Record{ID: id}
				}
				sets[0][id] = records.Record{ID: id, Vector: floats(v...)}
				if name != "none" {
					sets[1][id] = records.Record{ID: id, Vector: floats(x...)}
				}
			}
			old, new := sealedIndex(t, map[string]set{"c": sets[0]}, space, 99, detail), sealedIndex(t, map[string]set{"c": sets[1]}, space, 99, detail)
			n, err := Compare(old.Section("c"), new.Section("c"), nil)
			want := int64(tries)
			if name == "rounded" {
				want = 0
			}
			if err != nil || n.Updated != want || n.Added+n.Deleted != 0 {
				t.Errorf("%s, detail %v: %+v, want %d updated, %v", name, detail, n, want, err)
			}
		}
	}
}

// TestDamagedIndexIsRefused cuts an index at every length and flips every byte.
func TestDamagedIndexIsRefused(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, detail := range []bool{false, true} {
		s := set{}
		for i := range 5 {
			id := fmt.Sprint("secret-id-", i)
			s[id] = random(rnd, id)
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "index")
		w, err := Create(path, Options{Detail: detail})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s {
			if err := w.Add(&colorfast.Collection{ID: "c"}, &r, r.Hash()); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Seal(); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !detail && (bytes.Contains(whole, []byte("secret")) || bytes.Contains(whole, []byte("id-"))) {
			t.Error("an id is in it in clear")
		}
		try := func(b []byte) error {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			ix, err := Open(path)
			if err == nil {
				_ = ix.Close()
			}
			return err
		}
		if err := try(whole); err != nil {
			t.Fatal(err)
		}
		for n := range whole {
			if err := try(whole[:n]); err == nil || colorfast.KindOf(err) != colorfast.Corrupt {
				t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
			}
			b := bytes.Clone(whole)
			b[n] ^= 0x10
			if err := try(b); err == nil || colorfast.KindOf(err) != colorfast.Corrupt {
				t.Fatalf("byte %d flipped: %v", n, err)
			}
		}
		if err := try(append(bytes.Clone(whole), 0)); colorfast.KindOf(err) != colorfast.Corrupt {
			t.Errorf("a byte more: %v", err)
		}
		if detail {
			if err := os.Truncate(path+idsSuffix, 3); err != nil {
				t.Fatal(err)
			}
			if err := try(whole); colorfast.KindOf(err) != colorfast.Corrupt {
				t.Errorf("ids cut: %v", err)
			}
		}
		if _, err := Open(path + "-not"); colorfast.KindOf(err) != colorfast.NotFound {
			t.Errorf("no index: %v", err)
		}
	}
}

// TestWriterLeavesNothingBehind: until it is sealed there is no new index, and the
// one that was there stays; afterwards whoever has the old one open still reads it.
func TestWriterLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "index")
	names := func() []string {
		found, err := fs.Glob(os.DirFS(dir), "*")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	c, r := &colorfast.Collection{ID: "c"}, &records.Record{ID: "a"}
	write := func(seal bool, n int) {
		t.Helper()
		w, err := Create(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		w.length = 2
		for range n {
			if err := w.Add(c, r, r.Hash()); err != nil {
				t.Fatal(err)
			}
		}
		if seal {
			err = w.Seal()
		} else {
			err = w.Discard()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(false, 3)
	if got := names(); len(got) != 0 {
		t.Errorf("discarding leaves %v", got)
	}
	write(true, 5)
	old, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := os.WriteFile(path+".new", []byte("left by a killed run"), 0o644); err != nil {
		t.Fatal(err)
	}
	write(true, 2)
	if got := names(); !reflect.DeepEqual(got, []string{"index"}) {
		t.Errorf("there is %v", got)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if n, err := Compare(old.Section("c"), nil, nil); err != nil || n.Deleted != 5 {
		t.Errorf("the old index that is open: %+v, %v", n, err)
	}
}

// BenchmarkAdd measures what a record costs while it is verified: processor time,
// which others on the machine do not change, with sorting, merging and the sum.
func BenchmarkAdd(b *testing.B) {
	cpu := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	v := make([]float32, 384)
	for i := range v {
		v[i] = rnd.Float32()
	}
	ids := make([]string, 1<<20)
	for i := range ids {
		ids[i] = fmt.Sprintf("%08x-record", i)
	}
	for _, space := range []string{"l2", "cosine"} {
		for _, detail := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s detail=%v", space, detail), func(b *testing.B) {
				r := &records.Record{Vector: floats(v...), Document: new(strings.Repeat("word ", 40)),
					Metadata: []records.Field{{Key: "n", Value: records.Value{Kind: sysdb.Int, Int: 7}}}}
				hash := r.Hash()
				c := &colorfast.Collection{ID: "c", Space: space}
				w, err := Create(filepath.Join(b.TempDir(), "index"), Options{Detail: detail})
				if err != nil {
					b.Fatal(err)
				}
				n, begun := 0, cpu()
				for b.Loop() {
					r.ID = ids[n%len(ids)]
					n++
					if err := w.Add(c, r, hash); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Seal(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(cpu()-begun)/float64(n), "cpu-ns/record")
			})
		}
	}
}
