package hnsw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"colorfast/chroma"
)

// Kind says what sort of thing is wrong with a segment.
type Kind int

// The kinds. The zero value is no kind.
const (
	// Missing: the file is not there.
	Missing Kind = iota + 1
	// Torn: the file is damaged, or of another save than the others.
	Torn
	// Pickle: the map of ids cannot be decoded, or contradicts itself.
	Pickle
)

// String returns the kind in a word.
func (k Kind) String() string {
	switch k {
	case Missing:
		return "missing"
	case Torn:
		return "torn"
	case Pickle:
		return "pickle"
	}
	return "unknown"
}

// Problem is something that was looked at and is not as in a good segment.
type Problem struct {
	File   string // path
	Offset int64  // bytes from the start of the file, -1 where that means nothing
	Kind   Kind
	Reason string // one line
}

// String names all of it in one line.
func (p Problem) String() string {
	return fmt.Sprintf("%v: %v", p.Kind, &chroma.CorruptError{File: p.File, Offset: p.Offset, Reason: p.Reason})
}

// Check looks for everything that holds in every segment that Chroma saved
// whole, and returns what does not, at most one problem for each file and
// relation. It reads every file once, front to back, and stops reading a file
// at the first thing wrong with it; link_lists.bin is not walked if
// data_level0.bin is missing or wrong. Memory: a little more than 6 bytes for
// each element, and a few MiB.
//
//   - header.bin is consistent (Open sees to that)
//   - data_level0.bin and length.bin have room for all elements
//   - labels are above 0, each there once, and none above what the pickle counts
//   - no element has more links than M allows, and all lead to elements that
//     are on the same level
//   - link_lists.bin ends with its last list; the entry point is on the top level
//   - the pickle decodes, its two maps are inverse, and it counts no fewer
//     elements than the header
//   - ids have exactly the labels that are not marked deleted
//   - cosine only: vectors are normalized or zero, and have a length
//
// For l2 and ip, length.bin has whatever was in memory and is not looked at;
// nor is what comes after the last element of any file. The format has no
// checksums, so other bytes of a vector (for l2 and ip, all of them), other
// links to existing elements, and a save that was torn while it only changed
// vectors in place, go unnoticed.
//
// Of an Absent or Young segment nothing is checked, for Chroma starts it anew;
// whether that loses anything is for the database's max_seq_id to say. Errors:
// those of reading.
func (s *Segment) Check(cosine bool) ([]Problem, error) {
	var found []Problem
	switch s.State() {
	case Absent, Young:
		return nil, nil
	case Partial:
		for _, name := range s.Missing() {
			found = append(found, Problem{File: filepath.Join(s.dir, name), Offset: -1, Kind: Missing, Reason: "the file is missing"})
		}
		if s.files[chroma.HeaderFile] == nil || s.files[chroma.PickleFile] == nil {
			return found, nil // nothing to hold the others against
		}
	}
	// note keeps err if it tells of damage, and returns it if not.
	note := func(kind Kind, err error) error {
		var c *chroma.CorruptError
		if !errors.As(err, &c) {
			return err
		}
		found = append(found, Problem{File: c.File, Offset: c.Offset, Kind: kind, Reason: c.Reason})
		return nil
	}
	var t *table
	if f := s.files[chroma.DataFile]; f != nil {
		var err error
		if t, err = s.checkData(f, cosine); note(Torn, err) != nil {
			return found, err
		}
	}
	if f := s.files[chroma.LengthFile]; f != nil && f.size < 4*s.Elements() {
		err := f.corrupt(f.size, "%d bytes long, too short for %d elements", f.size, s.Elements())
		_ = note(Torn, err)
	}
	if f := s.files[chroma.LinksFile]; f != nil {
		if err := s.checkLinks(f, t != nil); note(Torn, err) != nil {
			return found, err
		}
	}
	kind, err := s.checkPickle(s.files[chroma.PickleFile], t)
	return found, note(kind, err)
}

// checkData checks the elements and returns their table, nil if there was
// something wrong.
func (s *Segment) checkData(f *file, cosine bool) (*table, error) {
	h := &s.header
	t := newTable(s.Elements())
	lengths := &floats{f: s.files[chroma.LengthFile], n: s.Elements()}
	slack := normSlack(h.Dimension())
	err := s.scan(f, func(slot uint32, e []byte) error {
		if err := s.enter(f, t, slot, e); err != nil {
			return err
		}
		if err := checkTargets(e, h.MaxLinks0, h.Elements); err != "" {
			return f.corrupt(int64(slot)*int64(h.ElementSize), "element %d %s", slot, err)
		}
		if !cosine || lengths.f == nil || lengths.f.size < 4*lengths.n {
			return nil
		}
		length, err := lengths.next()
		if err != nil {
			return err
		}
		switch judge(squares(e[h.VectorOffset:h.LabelOffset]), float64(length), slack) {
		case badVector:
			return f.corrupt(int64(slot)*int64(h.ElementSize)+int64(h.VectorOffset), "the vector of element %d is not normalized", slot)
		case badLength:
			return lengths.f.corrupt(4*int64(slot), "element %d has a vector and the length %v", slot, length)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.table == nil && s.err == nil {
		s.table = t
	}
	return t, nil
}

// checkTargets checks a list of links: u16 count, 2 bytes, u32 slots. It
// returns what is wrong, "" if nothing is.
func checkTargets(list []byte, limit, elements uint64) string {
	count := int(binary.LittleEndian.Uint16(list))
	if uint64(count) > limit {
		return fmt.Sprintf("has %d links, more than %d", count, limit)
	}
	var highest uint32
	for l := list[4 : 4+4*count]; len(l) >= 4; l = l[4:] {
		highest = max(highest, binary.LittleEndian.Uint32(l))
	}
	if count > 0 && uint64(highest) >= elements {
		return fmt.Sprintf("has a link to element %d of %d", highest, elements)
	}
	return ""
}

// verdict is what judge says of a vector.
type verdict int

const (
	goodVector verdict = iota
	badVector
	badLength
)

// Lengths between which hnswlib's float32 sum of squares neither underflows nor
// overflows, so that the normalized vector's length is 1.
const (
	leastLength = 1e-18
	mostLength  = 1e18
)

// judge judges a stored vector of cosine, given the sum of its squares and its
// entry in length.bin. normalize_vector in hnswalg.h multiplies the client's
// vector by 1/(length+1e-30).
func judge(sum, length, slack float64) verdict {
	unit := math.Abs(sum-1) <= slack
	switch {
	case sum == 0:
		return goodVector // zero, or so long that the length overflowed
	case math.IsNaN(sum) && (math.IsNaN(length) || math.IsInf(length, 1)):
		return goodVector // as the client gave it
	case !(length >= 0) || math.IsInf(length, 0), unit && length == 0:
		return badLength
	case !unit && length >= leastLength && length <= mostLength:
		return badVector
	}
	return goodVector
}

// normSlack returns how far the sum of the squares of a normalized vector may
// be from 1: the error of a float32 sum of dim terms at its very worst, twice.
func normSlack(dim int) float64 { return 2e-4 + float64(dim)*(1.0/(1<<22)) }

// squares returns the sum of the squares of float32s, in four sums because one
// would wait for itself.
func squares(v []byte) float64 {
	var a, b, c, d float64
	f := func(i int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(v[i:]))) }
	for ; len(v) >= 16; v = v[16:] {
		x, y, z, w := f(0), f(4), f(8), f(12)
		a, b, c, d = a+x*x, b+y*y, c+z*z, d+w*w
	}
	for ; len(v) >= 4; v = v[4:] {
		a += f(0) * f(0)
	}
	return a + b + c + d
}

// floats reads the first n float32s of a file in order.
type floats struct {
	f   *file
	n   int64
	off int64 // of what comes after buf
	buf []byte
	all []byte
}

func (r *floats) next() (float32, error) {
	if len(r.buf) == 0 {
		if r.all == nil {
			r.all = make([]byte, min(bufferSize, 4*r.n))
		}
		r.buf = r.all[:min(int64(len(r.all)), 4*r.n-r.off)]
		if err := r.f.read(r.buf, r.off); err != nil {
			r.buf = nil
			return 0, err
		}
		r.off += int64(len(r.buf))
	}
	x := math.Float32frombits(binary.LittleEndian.Uint32(r.buf))
	r.buf = r.buf[4:]
	return x, nil
}
