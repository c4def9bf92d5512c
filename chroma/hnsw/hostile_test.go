package hnsw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"colorfast/chroma"
)

// allocated returns the bytes that f allocated, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// look opens files and checks them; damage that Open tells counts as found.
func look(t testing.TB, files map[string][]byte, cosine bool) []Problem {
	t.Helper()
	s, err := inMemory(files)
	var c *chroma.CorruptError
	if errors.As(err, &c) {
		return []Problem{{File: c.File, Offset: c.Offset, Kind: Torn, Reason: c.Reason}}
	}
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Check(cosine)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if p.File == "" || p.Kind == 0 || p.Reason == "" || p.Offset < -1 || p.Offset > int64(len(files[p.File])) {
			t.Fatalf("problem %#v", p)
		}
	}
	// What Check accepts has to be readable to the end.
	if len(found) == 0 && s.State() == Saved {
		if err := s.Index(); err != nil {
			t.Fatal(err)
		}
		if _, err = s.IDs(func(_ string, label uint64) error {
			slot, deleted, ok := s.Slot(label)
			if !ok || deleted {
				t.Fatalf("label %d is accepted and not there", label)
			}
			_, err := s.Vector(slot, cosine, nil)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// small returns the fixtures that damage is done to, one of each kind.
func small(t testing.TB) []*fixture {
	return slices.DeleteFunc(fixtures(t), func(f *fixture) bool { return strings.HasSuffix(f.name, "-young") })
}

func TestEveryPrefixOfEveryFileIsAProblemOrHasAllThatCounts(t *testing.T) {
	for _, f := range small(t) {
		s, err := inMemory(f.files)
		if err != nil {
			t.Fatal(err)
		}
		harmless := map[string]int{ // from which length on
			chroma.DataFile:   int(s.Elements()) * int(s.Header().ElementSize),
			chroma.LengthFile: int(s.Elements()) * 4,
		}
		for name, b := range f.files {
			whole, ok := harmless[name]
			if !ok {
				whole = len(b)
			}
			for n := 0; n < len(b); n += 1 + max(0, n-whole)/8 {
				if found := look(t, with(f.files, name, b[:n:n]), f.cosine()); (len(found) == 0) != (n >= whole) {
					t.Fatalf("%s/%s cut to %d of %d: %v", f.name, name, n, whole, found)
				}
			}
		}
	}
}

// harmless reports whether a change of byte i of a file may go unnoticed: the
// format has no checksums. It gives the reason, "" for none.
func harmless(f *fixture, h *Header, name string, i int) string {
	switch name {
	case chroma.HeaderFile:
		switch {
		case i >= 12 && i < 20:
			return "a capacity that is sane costs memory only"
		case i >= 56 && i < 60:
			return "any element on the top level will do as entry point"
		case i >= 84 && i < 92:
			return "the last bits of 1/ln M"
		case i >= 92:
			return "construction_ef steers later writes only"
		}
	case chroma.DataFile:
		in := uint64(i) % h.ElementSize
		switch {
		case uint64(i) >= h.Elements*h.ElementSize:
			return "behind the last element"
		case in < 2:
			return "another number of links, up to the limit"
		case in == 2:
			return "flags that nobody uses"
		case in == 3:
			return "nobody uses it"
		case in < h.VectorOffset:
			return "a link to another element, or one that is not counted"
		case in < h.LabelOffset:
			return "a vector"
		}
	case chroma.LengthFile:
		switch {
		case uint64(i) >= 4*h.Elements:
			return "behind the last element"
		case !f.cosine():
			return "garbage"
		default:
			return "another length"
		}
	case chroma.LinksFile:
		return "a link, or an unused byte of a list" // sizes are tested below
	case chroma.PickleFile:
		return "see package pickle"
	}
	return ""
}

func TestEveryFlippedByteIsAProblemOrHarmless(t *testing.T) {
	for _, f := range small(t) {
		if strings.HasSuffix(f.name, "-b") && f.name != "rust-cosine-b" {
			continue // no other bytes than in -a
		}
		s, err := inMemory(f.files)
		if err != nil {
			t.Fatal(err)
		}
		h := s.Header()
		for name, b := range f.files {
			end := len(b)
			if name == chroma.DataFile {
				end = min(end, int(h.Elements*h.ElementSize)+500)
			}
			masks := []byte{0xff}
			if name == chroma.HeaderFile || (name == chroma.PickleFile && f.name == "rust-emptied") {
				masks = []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff}
			}
			for i := range end {
				for _, mask := range masks {
					if look(t, with(f.files, name, flipped(b, i, mask)), f.cosine()) == nil && harmless(f, &h, name, i) == "" {
						t.Errorf("%s/%s byte %d xor %02x: nothing found", f.name, name, i, mask)
					}
				}
			}
		}
	}
}

func TestPlantedDamageIsFound(t *testing.T) {
	f := load(t, "rust-cosine-b")
	s, err := inMemory(f.files)
	if err != nil {
		t.Fatal(err)
	}
	h := s.Header()
	lists := 0 // offset of the first element above level 0
	for binary.LittleEndian.Uint32(f.files[chroma.LinksFile][lists:]) == 0 {
		lists += 4
	}
	at := func(slot, in uint64) int { return int(slot*h.ElementSize + in) }
	put32 := func(b []byte, off int, v uint32) { binary.LittleEndian.PutUint32(b[off:], v) }
	for name, c := range map[string]struct {
		file string
		kind Kind
		do   func(b []byte)
	}{
		"a deleted mark set":         {chroma.DataFile, Torn, func(b []byte) { b[at(0, 2)] ^= 1 }},
		"too many links":             {chroma.DataFile, Torn, func(b []byte) { b[at(7, 0)] = byte(h.MaxLinks0 + 1) }},
		"very many links":            {chroma.DataFile, Torn, func(b []byte) { b[at(7, 1)] = 0xff }},
		"a link to nowhere":          {chroma.DataFile, Torn, func(b []byte) { put32(b, at(7, 4), uint32(h.Elements)) }},
		"a link to the end":          {chroma.DataFile, Torn, func(b []byte) { put32(b, at(7, 4), math.MaxUint32) }},
		"label 0":                    {chroma.DataFile, Torn, func(b []byte) { clear(b[at(7, h.LabelOffset):at(8, 0)]) }},
		"a label twice":              {chroma.DataFile, Torn, func(b []byte) { copy(b[at(7, h.LabelOffset):at(8, 0)], b[at(9, h.LabelOffset):at(10, 0)]) }},
		"a label beyond the last":    {chroma.DataFile, Torn, func(b []byte) { put32(b, at(7, h.LabelOffset), uint32(h.Elements+1)) }},
		"a vector of another length": {chroma.DataFile, Torn, func(b []byte) { put32(b, at(7, h.VectorOffset), math.Float32bits(1.5)) }},
		"a length of zero":           {chroma.LengthFile, Torn, func(b []byte) { put32(b, 28, 0) }},
		"a negative length":          {chroma.LengthFile, Torn, func(b []byte) { b[31] |= 0x80 }},
		"a length that is no number": {chroma.LengthFile, Torn, func(b []byte) { put32(b, 28, math.Float32bits(float32(math.NaN()))) }},
		"another length of lists":    {chroma.LinksFile, Torn, func(b []byte) { b[0] ^= 0x14 }},
		"a list without end":         {chroma.LinksFile, Torn, func(b []byte) { put32(b, 0, 0xfffffff0) }},
		"an upper link to nowhere":   {chroma.LinksFile, Torn, func(b []byte) { put32(b, lists+8, uint32(h.Elements)) }},
		"many upper links":           {chroma.LinksFile, Torn, func(b []byte) { b[lists+4] = 0xff }},
		"another top level":          {chroma.HeaderFile, Torn, func(b []byte) { b[52]++ }},
		"another entry point":        {chroma.HeaderFile, Torn, func(b []byte) { put32(b, 56, 1) }},
		"more elements":              {chroma.HeaderFile, Torn, func(b []byte) { b[20]++ }},
		"fewer elements":             {chroma.HeaderFile, Torn, func(b []byte) { b[20]-- }},
		"a label of an id":           {chroma.PickleFile, Pickle, func(b []byte) { b[bytes.Index(b, []byte("id-21J"))+6]++ }},
		"a broken pickle":            {chroma.PickleFile, Pickle, func(b []byte) { b[0] = 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(f.files[c.file])
			c.do(b)
			if bytes.Equal(b, f.files[c.file]) {
				t.Fatal("the test changes nothing")
			}
			found := look(t, with(f.files, c.file, b), true)
			if len(found) == 0 || !slices.ContainsFunc(found, func(p Problem) bool { return p.Kind == c.kind }) {
				t.Fatalf("found %v", found)
			}
			t.Log(found)
		})
	}
}

// Every way to mix two saves of one segment: some files of save a, the others
// of save b. The elements that b added give away each but the length.bin of
// another save, if it is of a later one (only the lengths of vectors that were
// updated in between are then wrong), or if the space is not cosine, where
// nothing in it counts.
func TestEveryMixtureOfTwoSavesIsAProblem(t *testing.T) {
	for _, pair := range []string{"rust-l2", "rust-cosine", "py063-l2", "py0523-cosine", "py0424-ip"} {
		a, b := load(t, pair+"-a"), load(t, pair+"-b")
		for mask := 1; mask < 31; mask++ {
			mixed, names := map[string][]byte{}, ""
			for i, name := range chroma.SegmentFiles() {
				mixed[name] = b.files[name]
				if mask>>i&1 != 0 {
					mixed[name] = a.files[name]
					names += " " + name
				}
			}
			found := look(t, mixed, a.cosine())
			// Python's files have room for 1000 elements from the start, with
			// garbage behind the last one.
			onlyLength := names == " "+chroma.LengthFile
			othersOnly := mask == 31-4
			if fine := othersOnly || onlyLength && !a.cosine() && strings.HasPrefix(pair, "py"); fine != (len(found) == 0) {
				t.Errorf("%s, of the first save%s: %v", pair, names, found)
			}
		}
	}
}

func TestAnEmptiedSegmentIsHealthyAndOneThatForgotItsIDsIsNot(t *testing.T) {
	emptied, again := load(t, "rust-emptied"), load(t, "rust-recreated")
	for _, f := range []*fixture{emptied, again} {
		if found := look(t, f.files, false); found != nil {
			t.Errorf("%s: %v", f.name, found)
		}
	}
	full := load(t, "rust-l2-a")
	if found := look(t, with(full.files, chroma.PickleFile, again.files[chroma.PickleFile]), false); found == nil {
		t.Error("elements without any id: nothing found")
	}
	mixed := maps.Clone(again.files)
	mixed[chroma.PickleFile] = full.files[chroma.PickleFile]
	if found := look(t, mixed, false); found == nil {
		t.Error("ids without any element: nothing found")
	}
}

func TestJudgeKnowsExtremeVectors(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, c := range map[string]struct {
		sum, length float64
		want        verdict
	}{
		"normal":                       {1, 5, goodVector},
		"rounded":                      {1.0000003, 5, goodVector},
		"zero":                         {0, 0, goodVector},
		"too long for float32":         {0, inf, goodVector},
		"too short for its square":     {1e4, 0, goodVector},
		"as short as hnswlib's spare":  {0.25, 1e-30, goodVector},
		"not numbers":                  {nan, nan, goodVector},
		"infinite":                     {nan, inf, goodVector},
		"not normalized":               {1.1, 5, badVector},
		"not a number, with a length":  {nan, 5, badVector},
		"normal, with garbage":         {1, nan, badLength},
		"normal, with nothing":         {1, 0, badLength},
		"normal, with less":            {1, -1, badLength},
		"normal, with too much of all": {1, inf, badLength},
	} {
		if got := judge(c.sum, c.length, normSlack(3)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// FuzzOpen gives the fuzzer all five files, one after the other; their lengths
// come first.
func FuzzOpen(f *testing.F) {
	for _, x := range fixtures(f) {
		s, err := inMemory(x.files)
		if err != nil {
			f.Fatal(err)
		}
		cut := maps.Clone(x.files)
		cut[chroma.DataFile] = cut[chroma.DataFile][:s.Elements()*int64(s.Header().ElementSize)]
		cut[chroma.LengthFile] = cut[chroma.LengthFile][:4*s.Elements()]
		f.Add(cut[bins[0]], cut[bins[1]], cut[bins[2]], cut[bins[3]], cut[chroma.PickleFile], x.cosine())
	}
	f.Fuzz(func(t *testing.T, header, data, length, links, pickle []byte, cosine bool) {
		files := map[string][]byte{}
		size := 0
		for i, b := range [][]byte{header, data, length, links, pickle} {
			size += len(b)
			if b != nil {
				files[chroma.SegmentFiles()[i]] = b
			}
		}
		got := allocated(func() { look(t, files, cosine) })
		if limit := uint64(200*size + 8<<20); got > limit {
			t.Errorf("%d bytes allocated for files of %d", got, size)
		}
	})
}
