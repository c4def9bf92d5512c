package hnsw

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"colorfast/chroma"
)

// TestVectorsInAnyOrder reads forwards, in the jumble of several threads, and at
// random, where holding blocks does not pay: it is always the same vector.
func TestVectorsInAnyOrder(t *testing.T) {
	const n, dim = 5000, 48
	files := synthetic(n, dim, 4)
	s, err := inMemory(files)
	if err != nil {
		t.Fatal(err)
	}
	h := s.Header()
	for slot := range n { // tell vectors and lengths apart
		e := files[chroma.DataFile][slot*int(h.ElementSize)+int(h.VectorOffset):]
		binary.LittleEndian.PutUint32(e, uint32(slot)|0x3f000000)
		binary.LittleEndian.PutUint32(files[chroma.LengthFile][4*slot:], uint32(slot)|0x40000000)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for name, next := range map[string]func(i int) int{
		"forwards": func(i int) int { return i % n },
		"jumbled":  func(i int) int { return min(n-1, i%n/200*200+r.IntN(200)) },
		"random":   func(int) int { return r.IntN(n) },
	} {
		for _, cosine := range []bool{false, true} {
			v := s.Vectors(cosine)
			for i := range 3 * n {
				slot := uint32(next(i))
				want, err := s.Vector(slot, cosine, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := v.Append([]byte("before"), slot)
				if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
					t.Fatalf("%s, cosine %t: slot %d is %x, %v; want %x", name, cosine, slot, got, err, want)
				}
			}
			if _, err := v.Append(nil, n); err == nil {
				t.Errorf("%s: a slot behind the last", name)
			}
		}
	}
}
