package pages

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"colorfast"
)

// layouts are ways to cut, odd ones among them.
var layouts = []*colorfast.Layout{
	nil,
	{PageBytes: 4096},
	{PageBytes: 1},
	{PageBytes: 1676 * 39, UnitBytes: 1676, ColumnFrom: 132, ColumnTo: 1668},
	{PageBytes: 30, UnitBytes: 10, ColumnFrom: 0, ColumnTo: 10},
	{PageBytes: 30, UnitBytes: 10, ColumnFrom: 9, ColumnTo: 10},
	{PageBytes: 0}, // not valid: counts as none
}

func TestJoinIsTheInverseOfSplit(t *testing.T) {
	for _, l := range layouts {
		for _, size := range []int64{0, 1, 9, 10, 29, 30, 31, 4095, 4096, 65364, 200_001} {
			c := NewCut(size, l)
			file := make([]byte, size)
			for i := range file {
				file[i] = byte(rand.Uint32())
			}
			var again []byte
			for i := range c.Pages() {
				at, n := c.Page(i)
				page := make([]byte, n)
				total := int64(0)
				for part := range c.Parts() {
					b := c.Split(file[at:at+n], part, nil)
					if int64(len(b)) != c.PartBytes(part, i) {
						t.Fatalf("%+v, page %d: part %d has %d bytes, want %d", l, i, part, len(b), c.PartBytes(part, i))
					}
					total += int64(len(b))
					c.Join(page, part, b)
				}
				if total != n {
					t.Fatalf("%+v, page %d: its parts have %d bytes of %d", l, i, total, n)
				}
				again = append(again, page...)
			}
			if !bytes.Equal(again, file) {
				t.Errorf("%+v, %d bytes: not the same after Split and Join", l, size)
			}
		}
	}
}

func TestColumnsLieApart(t *testing.T) {
	c := NewCut(25, &colorfast.Layout{PageBytes: 20, UnitBytes: 10, ColumnFrom: 2, ColumnTo: 5})
	page := []byte("abCDEfghijklMNOpqrst")
	if got := string(c.Split(page, 1, nil)); got != "CDEMNO" {
		t.Errorf("column %q", got)
	}
	if got := string(c.Split(page, 0, nil)); got != "abfghijklpqrst" {
		t.Errorf("the rest %q", got)
	}
	if c.Pages() != 2 || c.PartBytes(1, 1) != 0 || c.PartBytes(0, 1) != 5 {
		t.Errorf("what follows the last whole unit: %d pages, %d and %d bytes", c.Pages(), c.PartBytes(1, 1), c.PartBytes(0, 1))
	}
}

func TestSumsDependOnTheKey(t *testing.T) {
	a, b := NewHasher(make([]byte, 32)), NewHasher(bytes.Repeat([]byte{1}, 32))
	if again := a.Sum([]byte("x")); again != a.Sum([]byte("x")) {
		t.Error("not the same twice")
	}
	if a.Sum([]byte("x")) == b.Sum([]byte("x")) || a.Sum([]byte("x")) == a.Sum([]byte("y")) {
		t.Error("a sum is not that of key and part")
	}
}

func TestZeroAndSparse(t *testing.T) {
	b := make([]byte, 10_001)
	if !Zero(b) || !Zero(nil) || !Sparse(b) {
		t.Error("zeros are not known as such")
	}
	for _, at := range []int{0, 4095, 4096, 10_000} {
		b[at] = 1
		if Zero(b) {
			t.Errorf("byte %d is overlooked", at)
		}
		b[at] = 0
	}
	for i := range 5001 {
		b[i] = 1
	}
	if Sparse(b) {
		t.Error("more than half of it is there, and it counts as sparse")
	}
}

// randomMap makes a map of some files, and where every part is, one by one.
func randomMap(r *rand.Rand) (*Map, []Cut, [][]Place) {
	m := &Map{}
	for range 1 + r.IntN(5) {
		m.Objects = append(m.Objects, Object{ID: "o" + string(rune('a'+len(m.Objects))), Length: MaxObject, Parts: 1000})
	}
	var cuts []Cut
	var places [][]Place
	for range r.IntN(6) {
		c := NewCut(r.Int64N(300_000), layouts[[]int{0, 1, 3, 5}[r.IntN(4)]])
		cuts = append(cuts, c)
		for part := range c.Parts() {
			s := NewStream(c, part)
			var all []Place
			next := int64(0)
			for range c.Pages() {
				p := Place{Object: r.IntN(len(m.Objects)+1) - 1, Base: None}
				if r.IntN(3) > 0 && len(all) > 0 {
					p = all[len(all)-1] // a run
				}
				if p.Object != Zeros {
					p.Offset = next
					if p.Base != None || r.IntN(8) == 0 {
						p.Base, p.BaseOffset = 0, 2*next
					}
				}
				next += s.PartBytes()
				all = append(all, p)
				s.Append(p)
			}
			m.Streams = append(m.Streams, s)
			places = append(places, all)
		}
	}
	return m, cuts, places
}

func TestAMapSurvivesBeingStored(t *testing.T) {
	for seed := range uint64(300) {
		m, cuts, places := randomMap(rand.New(rand.NewPCG(seed, 0)))
		var b bytes.Buffer
		if err := m.Encode(&b); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(&b, cuts)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(got.Objects) != len(m.Objects) || len(got.Streams) != len(places) {
			t.Fatalf("seed %d: %d objects, %d streams", seed, len(got.Objects), len(got.Streams))
		}
		for k, all := range places {
			s := got.Streams[k]
			if s.Parts() != int64(len(all)) {
				t.Fatalf("seed %d: %d parts, want %d", seed, s.Parts(), len(all))
			}
			for i, want := range all {
				if p := s.At(int64(i)); p != want {
					t.Fatalf("seed %d, stream %d, part %d: %+v, want %+v", seed, k, i, p, want)
				}
			}
			at, n := int64(0), int64(0)
			if len(all) > 2 {
				at, n = 1, int64(len(all)-2)
			}
			for r := range s.Range(at, n) {
				for i := range r.Count {
					want, got := all[at], r.Place
					if got.Object != Zeros {
						got.Offset += i * s.PartBytes()
					}
					if got.Base != None {
						got.BaseOffset += i * s.PartBytes()
					}
					if got != want {
						t.Fatalf("seed %d, stream %d, part %d in a range: %+v, want %+v", seed, k, at, got, want)
					}
					at++
				}
			}
		}
	}
}

// FuzzDecode: whatever the bytes, there is no panic, and no place outside of
// its object.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(20) {
		m, _, _ := randomMap(rand.New(rand.NewPCG(seed, 0)))
		var b bytes.Buffer
		if err := m.Encode(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), int64(100_000))
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		size = min(size, 1<<40)
		cuts := []Cut{NewCut(size, layouts[3]), NewCut(size/2, layouts[1])}
		m, err := Decode(bytes.NewReader(b), cuts)
		if err != nil {
			return
		}
		for k, s := range m.Streams {
			c, part := cuts[k/2], k%2
			if k == 2 {
				c, part = cuts[1], 0
			}
			if s.Parts() != c.Pages() {
				t.Fatalf("%d parts of %d pages", s.Parts(), c.Pages())
			}
			at := int64(0)
			for _, r := range s.Runs() {
				at += r.Count
				need := (r.Count-1)*s.PartBytes() + c.PartBytes(part, at-1)
				if r.Object != Zeros && (r.Offset < 0 || r.Offset+need > m.Objects[r.Object].Length) {
					t.Fatalf("a run of %d bytes at %d of %+v", need, r.Offset, m.Objects[r.Object])
				}
				if r.Base != None && (r.BaseOffset < 0 || r.BaseOffset+need > m.Objects[r.Base].Length) {
					t.Fatalf("a base of %d bytes at %d of %+v", need, r.BaseOffset, m.Objects[r.Base])
				}
			}
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	c := NewCut(10*4096, layouts[1])
	good := func() *Map {
		m := &Map{Objects: []Object{{ID: "a", Length: 10 * 4096, Parts: 10}}}
		s := NewStream(c, 0)
		for i := range int64(10) {
			s.Append(Place{0, i * 4096, None, 0})
		}
		m.Streams = []*Stream{s}
		return m
	}
	for name, change := range map[string]func(m *Map){
		"nothing wrong":       func(*Map) {},
		"an object too short": func(m *Map) { m.Objects[0].Length-- },
		"an object too long":  func(m *Map) { m.Objects[0].Length = MaxObject + 1 },
		"an offset before it": func(m *Map) { m.Streams[0].runs[0].Offset = -1 },
		"a part too few":      func(m *Map) { m.Streams[0].runs[0].Count-- },
		"a part too many":     func(m *Map) { m.Streams[0].runs[0].Count++ },
		"a base outside":      func(m *Map) { m.Streams[0].runs[0].Base, m.Streams[0].runs[0].BaseOffset = 0, 1 },
		"a stream too many":   func(m *Map) { m.Streams = append(m.Streams, m.Streams[0]) },
		"no stream":           func(m *Map) { m.Streams = nil },
	} {
		m := good()
		change(m)
		var b bytes.Buffer
		if err := m.Encode(&b); err != nil {
			t.Fatal(err)
		}
		_, err := Decode(&b, []Cut{c})
		if (err == nil) != (name == "nothing wrong") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeRefusesObjectsNotThere(t *testing.T) {
	c := NewCut(4096, layouts[1])
	head := append([]byte(mapMark), 1, 1, 'a', 0x80, 0x20, 1, 1, 1) // one object of 4096 bytes, one stream, one run
	for name, run := range map[string][]byte{
		"nothing wrong":        {1, 1, 0, 0},
		"an object not there":  {1, 2, 0, 0},
		"a base not there":     {1, 1, 0, 2, 0},
		"bytes after the end":  {1, 1, 0, 0, 0},
		"an end too early":     {1, 1, 0},
		"a number without end": bytes.Repeat([]byte{0xff}, 20),
	} {
		_, err := Decode(bytes.NewReader(append(bytes.Clone(head), run...)), []Cut{c})
		if (err == nil) != (name == "nothing wrong") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRetireKeepsItsBounds(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &Map{}
		var live []int64
		var needed, stored int64
		for range 1 + r.IntN(600) {
			n := 1 + r.Int64N(MaxObject)
			m.Objects = append(m.Objects, Object{Length: n})
			live = append(live, r.Int64N(n+1))
		}
		retired := m.Retire(live)
		left := 0
		for i, gone := range retired {
			needed += live[i]
			stored += live[i] // stored anew
			if !gone {
				stored += m.Objects[i].Length - live[i]
				left++
			}
		}
		if stored > 2*needed {
			t.Errorf("seed %d: %d bytes would be stored for %d", seed, stored, needed)
		}
		if most := 128 + int(needed/(MaxObject/4)); left > most {
			t.Errorf("seed %d: %d objects left, at most %d", seed, left, most)
		}
	}
	m := &Map{Objects: []Object{{Length: 100}, {Length: 100}}}
	for _, gone := range m.Retire([]int64{100, 90}) {
		if gone {
			t.Error("an object is retired though nearly all of it lives")
		}
	}
}
