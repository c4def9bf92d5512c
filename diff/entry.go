package diff

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"

	"colorfast/chroma/records"
)

// Sizes of an entry on disk, in bytes. In a run its collection's number stands
// before it.
const (
	briefSize  = 32
	detailSize = 64
)

// entry is what an index keeps of one record. The words after content are kept in
// a detailed index only.
type entry struct {
	collection uint32
	id         [2]uint64 // of the id's hash
	// content is of the record's hash, in a detailed index of the vector's hash.
	// Where vectors are rounded it is, instead of their hash, their length and
	// sketch: see sketch.
	content [2]uint64
	parts   [3]uint64 // of the hashes of document, uri and metadata
	at      uint64    // where the id is in the file of ids
}

// before orders entries: by collection and id, and then by content, so that an id
// that is there twice is always in the same order.
func (e *entry) before(f *entry) int {
	if e.collection != f.collection {
		return cmp.Compare(e.collection, f.collection)
	}
	if c := e.order(f); c != 0 {
		return c
	}
	if e.content[0] != f.content[0] {
		return cmp.Compare(e.content[0], f.content[0])
	}
	return cmp.Compare(e.content[1], f.content[1])
}

// order orders entries of one collection by id.
func (e *entry) order(f *entry) int {
	if e.id[0] != f.id[0] {
		return cmp.Compare(e.id[0], f.id[0])
	}
	return cmp.Compare(e.id[1], f.id[1])
}

// append appends the entry as it is on disk.
func (e *entry) append(b []byte, detail bool) []byte {
	be := binary.BigEndian
	b = be.AppendUint64(be.AppendUint64(b, e.id[0]), e.id[1])
	b = be.AppendUint64(be.AppendUint64(b, e.content[0]), e.content[1])
	if detail {
		for _, p := range e.parts {
			b = be.AppendUint64(b, p)
		}
		b = be.AppendUint64(b, e.at)
	}
	return b
}

// parse reads what append has written, but for the collection.
func (e *entry) parse(b []byte, detail bool) {
	be := binary.BigEndian
	e.id = [2]uint64{be.Uint64(b), be.Uint64(b[8:])}
	e.content = [2]uint64{be.Uint64(b[16:]), be.Uint64(b[24:])}
	if detail {
		e.parts = [3]uint64{be.Uint64(b[32:]), be.Uint64(b[40:]), be.Uint64(b[48:])}
		e.at = be.Uint64(b[56:])
	}
}

// words returns the first 16 bytes of a hash.
func words(sum [sha256.Size]byte) [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// summary makes the entry of a record, whose hash is known.
func summary(r *records.Record, hash [sha256.Size]byte, detail, rounded bool) entry {
	var stack [1024]byte
	e := entry{id: words(sha256.Sum256(append(stack[:0], r.ID...)))}
	switch {
	case detail:
		e.content = words(sha256.Sum256(r.Vector))
		if rounded || r.Vector == nil { // the hash of none is that of an empty one
			p := sketch(r.Vector)
			e.content = [2]uint64{uint64(length(r))<<32 | uint64(p[2]), uint64(p[0])<<32 | uint64(p[1])}
		}
		e.parts[0], e.parts[1] = part(r.Document), part(r.URI)
		rest := records.Record{Metadata: r.Metadata}
		e.parts[2] = words(sha256.Sum256(rest.Append(stack[:0])))[0]
	case rounded:
		p := sketch(r.Vector)
		rest := *r
		rest.Vector = nil
		b := binary.BigEndian.AppendUint32(rest.Append(stack[:0]), length(r))
		e.content = [2]uint64{words(sha256.Sum256(b))[0], uint64(p[0])<<32 | uint64(p[1])}
	default:
		e.content = words(hash)
	}
	return e
}

// part returns the hash of a text that may be missing.
func part(s *string) uint64 {
	if s == nil {
		return 0
	}
	return words(sha256.Sum256([]byte(*s)))[0] | 1
}

// length returns the number of bytes of a vector and one, 0 if there is none.
func length(r *records.Record) uint32 {
	if r.Vector == nil {
		return 0
	}
	return uint32(len(r.Vector)) + 1
}

// sketch returns the bits of three numbers that are nearly the same for vectors
// that are nearly the same, and for others almost surely not: the vector's
// products with three vectors of random signs, which are always the same ones. A
// hash cannot do that, for there are always two near numbers on either side of
// any border. That a vector with a part p of it changed passes for the same has a
// chance of about (1e-5/p)^2 with two of them.
func sketch(vector []byte) [3]uint32 {
	const together = 21 // signs of three numbers in 64 bits
	var a, b, c float64
	for n := uint64(0); len(vector) >= 4; n++ {
		signs := scramble(n)
		some := vector[:min(len(vector), 4*together)]
		vector = vector[len(some):]
		for ; len(some) >= 4; some = some[4:] {
			x := math.Float64bits(float64(math.Float32frombits(binary.LittleEndian.Uint32(some))))
			a += math.Float64frombits(x ^ signs<<63)
			b += math.Float64frombits(x ^ signs>>1<<63)
			c += math.Float64frombits(x ^ signs>>2<<63)
			signs >>= 3
		}
	}
	return [3]uint32{math.Float32bits(float32(a)), math.Float32bits(float32(b)), math.Float32bits(float32(c))}
}

// scramble is the finalizer of SplitMix64 (Steele, Lea and Flood 2014): 64 bits
// without a pattern.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// near reports whether pairs of numbers of two sketches are the same to rounding.
// Chroma's own error is a few units in the last of 24 bits, below 1e-6.
func near(a, b uint64) bool {
	if a == b {
		return true
	}
	half := func(x uint64) float64 { return float64(math.Float32frombits(uint32(x))) }
	a0, a1, b0, b1 := half(a>>32), half(a), half(b>>32), half(b)
	most := 1e-5 * math.Hypot(a0, a1)
	return math.Abs(a0-b0) <= most && math.Abs(a1-b1) <= most // false for what is no number
}

// Parts says which parts of a record differ.
type Parts uint8

// The parts. An index that is not detailed knows only that some do.
const (
	Vector Parts = 1 << iota
	Document
	URI
	Metadata
	Some
)

// Names returns the parts as words.
func (p Parts) Names() []string {
	out := []string{}
	for i, name := range []string{"vector", "document", "uri", "metadata"} {
		if p&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// differing returns what differs between two entries of one id, 0 for nothing.
func differing(a, b *entry, detail, rounded bool) Parts {
	if !detail {
		if a.content == b.content || rounded && a.content[0] == b.content[0] && near(a.content[1], b.content[1]) {
			return 0
		}
		return Some
	}
	var out Parts
	if a.content != b.content && (!rounded || a.content[0]>>32 != b.content[0]>>32 || !near(a.content[1], b.content[1]) || !nearThird(a, b)) {
		out = Vector
	}
	for i := range a.parts {
		if a.parts[i] != b.parts[i] {
			out |= Document << i
		}
	}
	return out
}

// nearThird compares the third numbers of two sketches by the measure of the
// first two.
func nearThird(a, b *entry) bool {
	third := func(e *entry) uint64 { return e.content[0]<<32 | e.content[1]>>32 }
	return near(third(a), third(b))
}
