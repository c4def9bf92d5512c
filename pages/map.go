package pages

import (
	"fmt"
	"iter"
	"math"
	"slices"
)

// MaxObject is how many bytes of parts an object holds at most. It bounds what
// one living part can keep alive.
const MaxObject = 64 << 20

// Object is what parts lie in, one after the other.
type Object struct {
	ID     string // of the object in its storage
	Length int64  // bytes of all its parts
	Parts  int64  // number of its parts
}

// Zeros is the object of parts that are all zeros, and None that of a base that
// there is none of.
const (
	Zeros = -1
	None  = -1
)

// Place is where the bytes of a part are.
type Place struct {
	Object int   // index into Map.Objects, or Zeros
	Offset int64 // in the object; 0 for Zeros
	// Base is None, or the object of other bytes of the same length: the part is
	// then what the two differ in (XOR). Bases have no base.
	Base       int
	BaseOffset int64
}

// Run is the place of consecutive parts of a stream, which lie one after the
// other there too.
type Run struct {
	Place
	Count int64 // of parts; greater than 0
}

// Stream is the places of all the parts of one number in a file.
type Stream struct {
	part  int64 // bytes of every part but the last
	runs  []Run
	start []int64 // of each run: the number of its first part
	count int64
}

// NewStream returns an empty stream of the given part of a cut file.
func NewStream(c Cut, part int) *Stream {
	s := &Stream{}
	if c.Pages() > 0 {
		s.part = c.PartBytes(part, 0)
	}
	return s
}

// Runs returns the runs, which the caller must not change.
func (s *Stream) Runs() []Run { return s.runs }

// Parts returns the number of parts.
func (s *Stream) Parts() int64 { return s.count }

// At returns the place of part i, which must be in the stream.
func (s *Stream) At(i int64) Place {
	k, found := slices.BinarySearch(s.start, i)
	if !found {
		k--
	}
	p := s.runs[k].Place
	ahead := (i - s.start[k]) * s.part
	if p.Object != Zeros {
		p.Offset += ahead
	}
	if p.Base != None {
		p.BaseOffset += ahead
	}
	return p
}

// Append adds the place of the next part.
func (s *Stream) Append(p Place) {
	if k := len(s.runs) - 1; k >= 0 && s.follows(&s.runs[k], p) {
		s.runs[k].Count++
	} else {
		s.runs = append(s.runs, Run{p, 1})
		s.start = append(s.start, s.count)
	}
	s.count++
}

// follows reports whether p comes right after a run.
func (s *Stream) follows(r *Run, p Place) bool {
	if p.Object != r.Object || p.Base != r.Base {
		return false
	}
	ahead := r.Count * s.part
	return (p.Object == Zeros || p.Offset == r.Offset+ahead) && (p.Base == None || p.BaseOffset == r.BaseOffset+ahead)
}

// Map says where every part of the files of a backup is.
type Map struct {
	Objects []Object
	Streams []*Stream // by file, in the order of the backup's list, then by part
}

// check returns what is wrong with a run of a stream; last is the length of its
// last part.
func (m *Map) check(s *Stream, r *Run, last int64) error {
	inside := func(object int, offset int64) error {
		if object < 0 || object >= len(m.Objects) {
			return fmt.Errorf("object %d of %d", object, len(m.Objects))
		}
		if need := (r.Count-1)*s.part + last; offset < 0 || offset > m.Objects[object].Length-need {
			return fmt.Errorf("%d bytes at %d of an object of %d", need, offset, m.Objects[object].Length)
		}
		return nil
	}
	if r.Object == Zeros {
		if r.Base != None {
			return fmt.Errorf("zeros with a base")
		}
		return nil
	}
	err := inside(r.Object, r.Offset)
	if err == nil && r.Base != None {
		err = inside(r.Base, r.BaseOffset)
	}
	return err
}

// Live returns for every object how many of its bytes some part needs. A byte
// that several parts need, as their base, counts once for each, up to the
// length of the object.
func (m *Map) Live(cuts []Cut) []int64 {
	live := make([]int64, len(m.Objects))
	m.each(cuts, func(s *Stream, r *Run, bytes int64) {
		if r.Object != Zeros {
			live[r.Object] += bytes
		}
		if r.Base != None {
			live[r.Base] += bytes
		}
	})
	for i, o := range m.Objects {
		live[i] = min(live[i], o.Length)
	}
	return live
}

// each calls fn for every run with the number of its bytes. cuts are those of
// the files that have streams, in order.
func (m *Map) each(cuts []Cut, fn func(s *Stream, r *Run, bytes int64)) {
	at := 0
	for _, c := range cuts {
		for part := range c.Parts() {
			s := m.Streams[at]
			at++
			for k := range s.runs {
				r := &s.runs[k]
				bytes := r.Count * s.part
				if s.start[k]+r.Count == s.count {
					bytes += c.PartBytes(part, s.count-1) - s.part
				}
				fn(s, r, bytes)
			}
		}
	}
}

// Retire says which objects a next backup should not use any more, so that their
// living parts are stored anew. It keeps two bounds: what is stored for a backup
// is at most one and a half times what it needs, and the number of objects stays near that
// which as many bytes need.
//
// It takes the deadest first, and only so many as the bounds ask for: so what
// is stored anew in one run is in proportion to what has died since the last.
func (m *Map) Retire(live []int64) []bool {
	retired := make([]bool, len(m.Objects))
	var stored, needed int64
	order := make([]int, len(m.Objects))
	for i, o := range m.Objects {
		order[i] = i
		stored += o.Length
		needed += live[i]
	}
	dead := func(i int) float64 {
		return 1 - float64(live[i])/float64(max(m.Objects[i].Length, 1))
	}
	slices.SortStableFunc(order, func(a, b int) int { return -compare(dead(a), dead(b)) })
	for _, i := range order {
		if 2*stored <= 3*needed || dead(i) == 0 {
			break
		}
		retired[i] = true
		stored -= m.Objects[i].Length - live[i]
	}
	// The smallest go when there are too many.
	const few = 128
	room := few + int(min(needed/(MaxObject/4), math.MaxInt32))
	slices.SortStableFunc(order, func(a, b int) int { return compare(live[a], live[b]) })
	if excess := len(order) - room; excess > 0 {
		for _, i := range order[:min(excess+few/2, len(order))] {
			retired[i] = true
		}
	}
	return retired
}

func compare[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// PartBytes returns the length of every part but the last.
func (s *Stream) PartBytes() int64 { return s.part }

// Range yields the runs of n parts from the given one on, cut to these. All of
// them must be in the stream.
func (s *Stream) Range(first, n int64) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		k, found := slices.BinarySearch(s.start, first)
		if !found {
			k--
		}
		for ; n > 0; k++ {
			r := Run{s.At(first), min(n, s.start[k]+s.runs[k].Count-first)}
			if !yield(r) {
				return
			}
			first, n = first+r.Count, n-r.Count
		}
	}
}
