package hnsw

import (
	"encoding/binary"
	"errors"
	"math"

	"colorfast/chroma"
)

// HeaderSize is the size of header.bin in bytes.
const HeaderSize = 100

// Limits above which a header is taken for damage. They stand far above what
// Chroma can use, and keep all products of header fields within 63 bits.
const (
	// MaxDimension is the greatest number of components of a vector.
	MaxDimension = 1 << 20
	// MaxElements is the greatest number of elements, with the deleted ones.
	MaxElements = 1<<31 - 2
	// maxLinks is the greatest M; hnswlib caps it (HierarchicalNSW, hnswalg.h).
	maxLinks = 10000
	// maxLevel is the greatest level of an element. hnswlib draws it as
	// -ln(random)·1/ln M with 53 random bits, so M = 2 gives 53 at most.
	maxLevel = 64
)

// Header is header.bin: 100 bytes, packed, little-endian (saveIndex and
// persistDirty in Chroma's hnswalg.h; the same since before Chroma 0.4.0).
type Header struct {
	Version        int32   // offset 0: of the format; 1
	Level0Offset   uint64  // 4: of an element's level 0 links, in bytes; 0
	Capacity       uint64  // 12: elements that memory was reserved for; not the file's size
	Elements       uint64  // 20: elements, with the deleted ones; called n below
	ElementSize    uint64  // 28: bytes of an element in data_level0.bin; called S below
	LabelOffset    uint64  // 36: of an element's label, in bytes
	VectorOffset   uint64  // 44: of an element's vector, in bytes
	TopLevel       int32   // 52: highest level; -1 if there are no elements
	EntryPoint     uint32  // 56: slot where a search begins; 0xffffffff if there are no elements
	MaxLinks       uint64  // 60: links of an element on a level above 0; M
	MaxLinks0      uint64  // 68: links of an element on level 0; 2M
	M              uint64  // 76: hnsw:M
	LevelFactor    float64 // 84: 1/ln M
	ConstructionEF uint64  // 92: hnsw:construction_ef
}

// Dimension returns the number of components of a vector.
func (h *Header) Dimension() int { return int(h.LabelOffset-h.VectorOffset) / 4 }

// ReadHeader reads the header.bin at path, without a look at the files beside
// it. Errors: those of the operating system, and *chroma.CorruptError for a
// header that contradicts itself.
func ReadHeader(path string) (Header, error) {
	f, err := openFile(path)
	if err != nil {
		return Header{}, err
	}
	h, err := readHeader(f)
	return h, errors.Join(err, f.Close())
}

// readHeader reads header.bin.
func readHeader(f *file) (Header, error) {
	if f.size != HeaderSize {
		return Header{}, f.corrupt(min(f.size, HeaderSize), "%d bytes long, not %d", f.size, HeaderSize)
	}
	var b [HeaderSize]byte
	if err := f.read(b[:], 0); err != nil {
		return Header{}, err
	}
	return parseHeader(b[:], f.name)
}

// parseHeader reads the HeaderSize bytes b of the file name.
func parseHeader(b []byte, name string) (Header, error) {
	le := binary.LittleEndian
	h := Header{
		Version:        int32(le.Uint32(b[0:])),
		Level0Offset:   le.Uint64(b[4:]),
		Capacity:       le.Uint64(b[12:]),
		Elements:       le.Uint64(b[20:]),
		ElementSize:    le.Uint64(b[28:]),
		LabelOffset:    le.Uint64(b[36:]),
		VectorOffset:   le.Uint64(b[44:]),
		TopLevel:       int32(le.Uint32(b[52:])),
		EntryPoint:     le.Uint32(b[56:]),
		MaxLinks:       le.Uint64(b[60:]),
		MaxLinks0:      le.Uint64(b[68:]),
		M:              le.Uint64(b[76:]),
		LevelFactor:    math.Float64frombits(le.Uint64(b[84:])),
		ConstructionEF: le.Uint64(b[92:]),
	}
	if off, reason := h.validate(); reason != "" {
		return Header{}, &chroma.CorruptError{File: name, Offset: off, Reason: reason}
	}
	return h, nil
}

// validate returns the offset of the first field that contradicts those before
// it or is absurd, and what is wrong with it.
func (h *Header) validate() (int64, string) {
	empty := h.Elements == 0
	dim := (h.LabelOffset - h.VectorOffset) / 4
	factor := 1 / math.Log(float64(h.M))
	switch {
	case h.Version != 1:
		return 0, "the format version is not 1"
	case h.Level0Offset != 0:
		return 4, "the links of level 0 do not come first"
	case h.Elements > MaxElements:
		return 20, "the number of elements is absurd"
	case h.Capacity < h.Elements || h.Capacity > max(1<<20, 1024*h.Elements):
		return 12, "the capacity does not fit the number of elements"
	case h.M < 1 || h.M > maxLinks:
		return 76, "the number of links is absurd"
	case h.MaxLinks != h.M:
		return 60, "the number of links above level 0 is not M"
	case h.MaxLinks0 != 2*h.M:
		return 68, "the number of links on level 0 is not 2M"
	case h.VectorOffset != 4+4*h.MaxLinks0:
		return 44, "the vector does not follow the links"
	case h.LabelOffset <= h.VectorOffset || dim > MaxDimension || (h.LabelOffset-h.VectorOffset)%4 != 0:
		return 36, "the dimension is absurd"
	case h.ElementSize != h.LabelOffset+8:
		return 28, "the label does not end the element"
	case math.Abs(h.LevelFactor-factor) > 1e-12*factor || h.LevelFactor != h.LevelFactor:
		return 84, "the level factor is not 1/ln M"
	case h.ConstructionEF < h.M || h.ConstructionEF > math.MaxInt32:
		return 92, "construction_ef is absurd"
	case empty && h.TopLevel != -1, !empty && (h.TopLevel < 0 || h.TopLevel > maxLevel):
		return 52, "the top level is impossible"
	case empty && h.EntryPoint != math.MaxUint32, !empty && uint64(h.EntryPoint) >= h.Elements:
		return 56, "the entry point is no element"
	}
	return 0, ""
}
