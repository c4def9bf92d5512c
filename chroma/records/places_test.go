package records

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestPlacesAreAMap compares the table with a map, in memory, in a file and
// over the border between them.
func TestPlacesAreAMap(t *testing.T) {
	for _, limit := range []uint64{0, 1 << 19, memoryLimit} {
		p := newPlaces(t.TempDir(), limit)
		want := map[string]where{}
		rng := rand.New(rand.NewPCG(1, limit))
		for range 60_000 {
			id := fmt.Sprint(rng.IntN(20_000))
			var err error
			switch rng.IntN(3) {
			case 0:
				delete(want, id)
				err = p.remove(id)
			default:
				w := where{slot: []int64{noSlot, 0, 1<<32 - 2, int64(rng.IntN(100))}[rng.IntN(4)], seq: rng.Int64() - 1<<62, flags: uint32(rng.IntN(4))}
				want[id] = w
				err = p.put(id, w)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if p.alive != int64(len(want)) || (p.f == nil) != (limit == memoryLimit) {
			t.Errorf("%d alive, want %d; file %v", p.alive, len(want), p.f)
		}
		for i := range 20_000 {
			id := fmt.Sprint(i)
			w, ok := want[id]
			if got, gok, err := p.get(id); err != nil || gok != ok || got != w {
				t.Fatalf("%s is %v %v, want %v %v: %v", id, got, gok, w, ok, err)
			}
		}
		if err := p.reset(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := p.get("1"); ok || err != nil || p.alive != 0 {
			t.Errorf("after reset: %v, %v", ok, err)
		}
		if err := p.close(); err != nil {
			t.Fatal(err)
		}
	}
}
