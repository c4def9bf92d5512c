package hnsw

import (
	"encoding/binary"
	"fmt"
	"math"

	"colorfast/chroma"
)

// Vector appends to dst the vector of the element in the given slot: Dimension
// float32, little-endian, in the scale in which the client gave it. For cosine,
// hnswlib stores the vector normalized, and its length apart: the product is
// made in float32 as in hnswlib's getDataByLabel (hnswalg.h), so it is what
// Chroma's get returns, equal to the client's own only up to rounding.
//
// It costs one read system call, two for cosine, and no memory besides dst; for
// many vectors see Vectors. Errors: *chroma.CorruptError if a file ends before
// the slot.
func (s *Segment) Vector(slot uint32, cosine bool, dst []byte) ([]byte, error) {
	v := Vectors{s: s, cosine: cosine}
	return v.Append(dst, slot)
}

// Vectors reads vectors of a segment, for one goroutine. Slots are mostly in the
// order in which the records were added, but for those of one request, which
// Chroma adds by several threads; so it reads blocks, and holds a few.
type Vectors struct {
	s             *Segment
	cosine        bool
	data, lengths blocks
}

// Vectors returns a reader of vectors, which takes a few MiB.
func (s *Segment) Vectors(cosine bool) *Vectors {
	return &Vectors{s: s, cosine: cosine, data: newBlocks(), lengths: newBlocks()}
}

// Append is Segment.Vector.
func (v *Vectors) Append(dst []byte, slot uint32) ([]byte, error) {
	s := v.s
	if int64(slot) >= s.Elements() {
		return dst, fmt.Errorf("read vector: no slot %d in %d elements", slot, s.Elements())
	}
	data, err := s.file(chroma.DataFile)
	if err != nil {
		return dst, err
	}
	h := &s.header
	n := 4 * int64(h.Dimension())
	b, err := v.data.read(data, int64(slot)*int64(h.ElementSize)+int64(h.VectorOffset), n)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, b...)
	if !v.cosine {
		return dst, nil
	}
	file, err := s.file(chroma.LengthFile)
	if err != nil {
		return dst, err
	}
	if b, err = v.lengths.read(file, 4*int64(slot), 4); err != nil {
		return dst, err
	}
	norm := math.Float32frombits(binary.LittleEndian.Uint32(b))
	for e := dst[start:]; len(e) > 0; e = e[4:] {
		x := math.Float32frombits(binary.LittleEndian.Uint32(e))
		binary.LittleEndian.PutUint32(e, math.Float32bits(x*norm))
	}
	return dst, nil
}

const (
	blockSize  = 64 << 10
	blocksHeld = 48
	// trial is after how many reads it is asked whether holding blocks pays: it
	// does if most of them were held.
	trial = 512
)

// blocks is a file of which some blocks are held. The zero value holds none.
type blocks struct {
	held   map[int64][]byte // by number
	order  []int64          // of held, a ring
	oldest int
	room   []byte // for reads of their own

	reads, misses int // in this trial
	direct        int // reads that go without blocks
}

func newBlocks() blocks {
	return blocks{held: map[int64][]byte{}, order: make([]int64, 0, blocksHeld)}
}

// read returns n bytes from off on, valid until the next call.
func (c *blocks) read(f *file, off, n int64) ([]byte, error) {
	if off < 0 || off+n > f.size {
		return nil, f.short()
	}
	first, last := off/blockSize, (off+n-1)/blockSize
	if c.held == nil || n > blockSize || c.direct > 0 {
		c.direct = max(0, c.direct-1)
		c.room = sized(c.room, n)
		return c.room, f.read(c.room, off)
	}
	if c.reads++; c.reads == trial {
		if 4*c.misses > c.reads {
			c.direct = 16 * trial
		}
		c.reads, c.misses = 0, 0
	}
	b, err := c.block(f, first)
	if err != nil {
		return nil, err
	}
	if first == last {
		return b[off%blockSize:][:n], nil
	}
	c.room = sized(c.room, n)
	k := copy(c.room, b[off%blockSize:])
	if b, err = c.block(f, last); err != nil {
		return nil, err
	}
	copy(c.room[k:], b)
	return c.room, nil
}

// block returns a block, which may be short at the end of the file.
func (c *blocks) block(f *file, number int64) ([]byte, error) {
	if b, ok := c.held[number]; ok {
		return b, nil
	}
	c.misses++
	b := make([]byte, 0, blockSize)
	if len(c.order) == blocksHeld {
		old := c.order[c.oldest]
		b = c.held[old]
		delete(c.held, old)
		c.order[c.oldest] = number
		c.oldest = (c.oldest + 1) % blocksHeld
	} else {
		c.order = append(c.order, number)
	}
	b = b[:min(blockSize, f.size-number*blockSize)]
	if err := f.read(b, number*blockSize); err != nil {
		*c = newBlocks()
		return nil, err
	}
	c.held[number] = b
	return b, nil
}

// sized returns b with n bytes.
func sized(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}
