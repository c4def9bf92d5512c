package pickle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"colorfast/chroma"
	"colorfast/chroma/pickle"
)

type entry struct {
	id    string
	label uint64
}

func decode(b []byte) ([]entry, *pickle.Info, error) {
	var got []entry
	info, err := pickle.Decode(bytes.NewReader(b), int64(len(b)), "p", func(id string, label uint64) error {
		got = append(got, entry{id, label})
		return nil
	})
	return got, info, err
}

// fixtures returns every real pickle by its path.
func fixtures(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"testdata/*.pickle", "../hnsw/testdata/*/" + chroma.PickleFile} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("glob %q: %d files, error %v", pattern, len(found), err)
		}
		for _, f := range found {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all[f] = b
		}
	}
	return all
}

func TestDecodeReadsWhatRealChromasWrote(t *testing.T) {
	found, err := filepath.Glob("../hnsw/testdata/*/" + chroma.PickleFile)
	if err != nil || len(found) == 0 {
		t.Fatalf("no fixtures, error %v", err)
	}
	for _, f := range found {
		t.Run(filepath.Base(filepath.Dir(f)), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got, info, err := decode(b)
			if err != nil {
				t.Fatal(err)
			}
			var want struct {
				Chroma    string
				Dimension int
				Vectors   map[string][]float64
			}
			j, err := os.ReadFile(filepath.Dir(f) + ".json")
			if err == nil {
				err = json.Unmarshal(j, &want)
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(filepath.Dir(f), "recreated") {
				want.Vectors = nil // the pickle is from before
			}
			ids := []string{}
			for _, e := range got {
				ids = append(ids, e.id)
			}
			slices.Sort(ids)
			if w := slices.Sorted(maps.Keys(want.Vectors)); !slices.Equal(ids, w) {
				t.Errorf("ids %q, Chroma has %q", ids, w)
			}
			form, dim, seq := pickle.Python, want.Dimension, false
			if want.Chroma[0] == '1' {
				form, dim = pickle.Rust, 0
			}
			if strings.HasPrefix(want.Chroma, "0.4.") {
				seq = true
			}
			if info.Form != form || info.Dimensionality != dim || (info.MaxSeqID >= 0) != seq ||
				info.IDs != int64(len(ids)) || info.Labels != info.IDs || !info.ReverseMatches || info.TotalElementsAdded < info.IDs {
				t.Errorf("info %+v", info)
			}
		})
	}
}

func TestDecodeReadsEveryProtocolAndGroupSize(t *testing.T) {
	few := []string{"a", "ünï-日本", strings.Repeat("y", 300)}
	count := func(n int) (ids []string) {
		for k := range n {
			ids = append(ids, fmt.Sprintf("%03d", k))
		}
		return ids
	}
	for name, want := range map[string]struct {
		ids []string
		seq int64
	}{
		"python-protocol-2":    {few, -1},
		"python-protocol-3":    {few, -1},
		"python-protocol-4":    {few, -1},
		"python-protocol-5":    {few, -1},
		"python-1-id":          {few[:1], -1},
		"python-labels-first":  {append(few[:3:3], strings.Repeat("z", 70000), "b"), -1},
		"python-1-label-first": {few[1:2], -1},
		"python-no-id":         {nil, -1},
		"python-1000-ids":      {count(1000), -1},
		"python-1001-ids":      {count(1001), -1},
		"python-seq-1-byte":    {few, 7},
		"python-seq-2-bytes":   {few, 70},
		"python-seq-3-bytes":   {few, 70000},
		"python-seq-8-bytes":   {few, 1<<40 + 1},
		"python-seq-none":      {few, -1},
		"python-big-id":        {append(few[:3:3], strings.Repeat("z", 70000)), -1},
		"python-more-keys":     {few, -1},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile("testdata/" + name + ".pickle")
			if err != nil {
				t.Fatal(err)
			}
			got, info, err := decode(b)
			if err != nil {
				t.Fatal(err)
			}
			n := int64(len(want.ids))
			if *info != (pickle.Info{Form: pickle.Python, Dimensionality: 3, TotalElementsAdded: n,
				MaxSeqID: want.seq, IDs: n, Labels: n, ReverseMatches: true}) {
				t.Errorf("info %+v", info)
			}
			for k, id := range want.ids {
				if got[k] != (entry{id, uint64(k + 1)}) {
					t.Fatalf("entry %d is %v, want %q", k, got[k], id)
				}
			}
		})
	}
}

func TestDecodeRefusesEveryPrefixWithTheOffset(t *testing.T) {
	for name, b := range fixtures(t) {
		if len(b) > 10000 {
			continue // the same bytes as in a smaller one, only more
		}
		for n := range b {
			_, _, err := decode(b[:n])
			var c *chroma.CorruptError
			if !errors.As(err, &c) || c.Offset != int64(n) || c.File != "p" {
				t.Fatalf("%s cut to %d: %v", name, n, err)
			}
		}
		_, _, err := decode(append(b[:len(b):len(b)], 'N'))
		var c *chroma.CorruptError
		if !errors.As(err, &c) || c.Offset != int64(len(b)) {
			t.Fatalf("%s with a byte after: %v", name, err)
		}
	}
}

// A flipped bit is refused, or shows in ReverseMatches, or is one of these,
// which the bytes of a pickle cannot tell: a number of the info, the name of a
// key that is not needed, the order of the entries, and in Python's form, which
// has every id once, the characters of an id.
func TestDecodeWithAnyBitFlipped(t *testing.T) {
	for name, b := range fixtures(t) {
		if len(b) > 1000 && !strings.Contains(name, "-a/") {
			continue // no other bytes than in a smaller one
		}
		want, _, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				got, info, err := decode(b)
				var c *chroma.CorruptError
				switch {
				case err != nil:
					if !errors.As(err, &c) {
						t.Fatalf("%s byte %d bit %d: %v", name, i, bit, err)
					}
				case !info.ReverseMatches:
				case info.Form == pickle.Rust && !slices.Equal(got, want):
					t.Fatalf("%s byte %d bit %d: other ids and nothing told", name, i, bit)
				case info.Form == pickle.Python && !slices.EqualFunc(got, want, func(a, b entry) bool { return a.label == b.label }):
					t.Fatalf("%s byte %d bit %d: other labels and nothing told", name, i, bit)
				}
				b[i] ^= 1 << bit
			}
		}
	}
}

// build writes Rust's form with the given maps.
func build(ids []entry, labels []entry) []byte {
	text := func(b []byte, s string) []byte {
		return append(binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(s))), s...)
	}
	number := func(b []byte, n uint64) []byte {
		return binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(n))
	}
	b := text([]byte("\x80\x03}("), "total_elements_added")
	b = append(text(number(b, uint64(len(ids))), "id_to_label"), '}')
	for group := range slices.Chunk(ids, 1000) {
		b = append(b, '(')
		for _, e := range group {
			b = number(text(b, e.id), e.label)
		}
		b = append(b, 'u')
	}
	b = append(text(b, "label_to_id"), '}')
	for group := range slices.Chunk(labels, 1000) {
		b = append(b, '(')
		for _, e := range group {
			b = text(number(b, e.label), e.id)
		}
		b = append(b, 'u')
	}
	return append(b, "u."...)
}

func many(n int) (all []entry) {
	for k := range n {
		all = append(all, entry{fmt.Sprintf("record-%08d-of-many", k), uint64(k + 1)})
	}
	return all
}

func TestReverseMatchesOnlyAnExactInverse(t *testing.T) {
	ids := many(2500)
	for name, c := range map[string]struct {
		change func(l []entry) []entry
		want   bool
	}{
		"same":              {func(l []entry) []entry { return l }, true},
		"in another order":  {func(l []entry) []entry { slices.Reverse(l); return l }, true},
		"two ids swapped":   {func(l []entry) []entry { l[3].id, l[9].id = l[9].id, l[3].id; return l }, false},
		"one missing":       {func(l []entry) []entry { return l[1:] }, false},
		"one more":          {func(l []entry) []entry { return append(l, entry{"more", 2501}) }, false},
		"one another":       {func(l []entry) []entry { l[0].id = "another"; return l }, false},
		"one label another": {func(l []entry) []entry { l[0].label = 7777; return l }, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, info, err := decode(build(ids, c.change(slices.Clone(ids))))
			if err != nil || info.ReverseMatches != c.want {
				t.Fatalf("info %+v, error %v", info, err)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(build(many(2), many(2)))
	for name, b := range map[string]string{
		"an empty file":                   "",
		"text":                            "hello world",
		"protocol 1":                      "\x80\x01}.",
		"a foreign class":                 "\x80\x02cos\nsystem\n)\x81}b.",
		"a foreign class on the stack":    "\x80\x04\x8c\x02os\x8c\x06system\x93)\x81}b.",
		"a call":                          "\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.",
		"a call of the known class":       "\x80\x02cchromadb.segment.impl.vector.local_persistent_hnsw\nPersistentData\n)R.",
		"a class name without end":        "\x80\x02c" + strings.Repeat("x", 5000),
		"an empty dict":                   "\x80\x03}.",
		"a lone number":                   "\x80\x03K\x01.",
		"nothing":                         "\x80\x03.",
		"an open group":                   "\x80\x03}(.",
		"a memo far away":                 "\x80\x03}r\xff\xff\xff\xff.",
		"a memo that is not there":        "\x80\x03h\x00.",
		"a string longer than the file":   "\x80\x03}(X\xff\xff\xff\x03a",
		"a string longer than any id":     "\x80\x04}(\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa",
		"a string that is not UTF-8":      strings.Replace(good, "record-00000001", "record-0000000\xff", 1),
		"a negative label":                strings.Replace(good, "many\x4a\x01\x00\x00\x00", "many\x4a\x01\x00\x00\x80", 1),
		"a label without a number":        strings.Replace(good, "many\x4a\x01\x00\x00\x00", "manyNNNNN", 1),
		"no map of ids":                   strings.Replace(good, "id_to_label", "id_to_lobel", 1),
		"a map twice":                     strings.Replace(good, "label_to_id}", "id_to_label}", 1),
		"a map inside of another":         strings.Replace(good, "u.", "X\x01\x00\x00\x00x}X\x0b\x00\x00\x00id_to_label}ssu.", 1),
		"groups in each other":            "\x80\x03}" + strings.Repeat("(", 100000),
		"dicts in each other":             "\x80\x03" + strings.Repeat("}", 100000),
		"a group that never ends":         "\x80\x03}(" + strings.Repeat("N", 100000),
		"the end of a group, without it":  "\x80\x03}u.",
		"an entry without a dict":         "\x80\x03NNs.",
		"a tuple without values":          "\x80\x03\x87.",
		"half an entry":                   "\x80\x03}(Nu.",
		"a frame longer than the file":    "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}.",
		"an integer longer than the file": "\x80\x04}(\x8b\xff\xff\xff\x7f1",
	} {
		t.Run(name, func(t *testing.T) {
			if b == good {
				t.Fatal("the test changes nothing")
			}
			_, _, err := decode([]byte(b))
			var c *chroma.CorruptError
			if !errors.As(err, &c) || c.Offset < 0 || c.Offset > int64(len(b)) {
				t.Fatal(err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestErrorsOfOthersPassThrough(t *testing.T) {
	mine := errors.New("mine")
	var c *chroma.CorruptError
	_, err := pickle.Decode(failing{mine}, 100, "p", nil)
	if !errors.Is(err, mine) || errors.As(err, &c) || !strings.Contains(err.Error(), `read "p"`) {
		t.Errorf("of the reader: %v", err)
	}
	b := build(many(2), many(2))
	_, err = pickle.Decode(bytes.NewReader(b), int64(len(b)), "p", func(string, uint64) error { return mine })
	if err != mine {
		t.Errorf("of the function: %v", err)
	}
	_, err = pickle.Decode(bytes.NewReader(b[:50]), int64(len(b)), "p", nil)
	if !errors.As(err, &c) || c.Offset != 50 {
		t.Errorf("of a file that became shorter: %v", err)
	}
}

// allocated returns the bytes that f allocated, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestMemoryDoesNotGrowWithTheIDs(t *testing.T) {
	ids := many(200000)
	b := build(ids, ids)
	n := 0
	got := allocated(func() {
		if _, err := pickle.Decode(bytes.NewReader(b), int64(len(b)), "p", func(id string, _ uint64) error {
			n += len(id)
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	// The strings that fn gets are garbage as soon as it returns.
	if limit := uint64(200000*32 + 1<<20); got > limit {
		t.Errorf("%d bytes allocated, limit %d", got, limit)
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range fixtures(f) {
		if len(b) < 5000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var err error
		var entries int64
		var info *pickle.Info
		got := allocated(func() {
			info, err = pickle.Decode(bytes.NewReader(b), int64(len(b)), "p", func(string, uint64) error {
				entries++
				return nil
			})
		})
		if limit := uint64(100*len(b) + 4<<20); got > limit {
			t.Errorf("%d bytes allocated for a file of %d", got, len(b))
		}
		var c *chroma.CorruptError
		switch {
		case err == nil && info.IDs != entries:
			t.Errorf("%d entries told, %d counted", entries, info.IDs)
		case err != nil && (!errors.As(err, &c) || c.Offset < 0 || c.Offset > int64(len(b))):
			t.Error(err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	ids := many(500000)
	p := build(ids, ids)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pickle.Decode(bytes.NewReader(p), int64(len(p)), "p", nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(ids)*b.N)/b.Elapsed().Seconds(), "ids/s")
}
