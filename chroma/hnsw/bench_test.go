package hnsw

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"colorfast/chroma"
)

// synthetic makes a good segment of n elements with a flat graph, all live.
func synthetic(n, dim, m int) map[string][]byte {
	le := binary.LittleEndian
	vector := 4 + 8*m
	size := vector + 4*dim + 8
	header := make([]byte, HeaderSize)
	le.PutUint32(header, 1)
	for off, v := range map[int]int{12: n, 20: n, 28: size, 36: size - 8, 44: vector, 60: m, 68: 2 * m, 76: m, 92: 100} {
		le.PutUint64(header[off:], uint64(v))
	}
	le.PutUint64(header[84:], math.Float64bits(1/math.Log(float64(m))))
	data, length := make([]byte, n*size), make([]byte, 4*n)
	rng := rand.New(rand.NewPCG(1, 2))
	x := math.Float32bits(float32(1 / math.Sqrt(float64(dim))))
	text := func(b []byte, s string) []byte {
		return append(le.AppendUint32(append(b, 'X'), uint32(len(s))), s...)
	}
	ids, labels := []byte{}, []byte{}
	for k := range n {
		e := data[k*size:][:size]
		e[0] = byte(2 * m)
		for i := range 2 * m {
			le.PutUint32(e[4+4*i:], rng.Uint32N(uint32(n)))
		}
		for i := range dim {
			le.PutUint32(e[vector+4*i:], x)
		}
		le.PutUint64(e[size-8:], uint64(k+1))
		le.PutUint32(length[4*k:], math.Float32bits(3))
		id, label := fmt.Sprintf("id-%d", k), le.AppendUint32([]byte{'J'}, uint32(k+1))
		ids = append(text(ids, id), label...)
		labels = text(append(labels, label...), id)
	}
	p := le.AppendUint32(append(text([]byte("\x80\x03}("), "total_elements_added"), 'J'), uint32(n))
	p = append(append(append(text(p, "id_to_label"), "}("...), ids...), 'u')
	p = append(append(append(text(p, "label_to_id"), "}("...), labels...), "uu."...)
	return map[string][]byte{
		chroma.HeaderFile: header, chroma.DataFile: data, chroma.LengthFile: length,
		chroma.LinksFile: make([]byte, 4*n), chroma.PickleFile: p,
	}
}

// BenchmarkCheck measures Check with bytes of data_level0.bin as throughput.
func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		n, dim int
		cosine bool
	}{{100000, 384, false}, {100000, 384, true}, {50000, 1536, true}, {200000, 8, false}} {
		b.Run(fmt.Sprintf("n=%d/dim=%d/cosine=%v", c.n, c.dim, c.cosine), func(b *testing.B) {
			files := synthetic(c.n, c.dim, 16)
			s, err := Open(on(b, files))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			data := s.files[chroma.DataFile]
			b.SetBytes(data.size)
			b.ReportAllocs()
			b.Run("all", func(b *testing.B) {
				for b.Loop() {
					if found, err := s.Check(c.cosine); err != nil || found != nil {
						b.Fatal(found, err)
					}
				}
			})
			b.Run("data", func(b *testing.B) {
				b.SetBytes(data.size)
				for b.Loop() {
					if _, err := s.checkData(data, c.cosine); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkVector measures the reading of all vectors in order of their slots.
func BenchmarkVector(b *testing.B) {
	s, err := Open(on(b, synthetic(50000, 384, 16)))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	dst := make([]byte, 0, 4*384)
	b.SetBytes(4 * 384)
	slot := uint32(0)
	for b.Loop() {
		if dst, err = s.Vector(slot, true, dst[:0]); err != nil {
			b.Fatal(err)
		}
		slot = (slot + 1) % 50000
	}
}
