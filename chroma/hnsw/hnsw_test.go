package hnsw

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"colorfast/chroma"
)

// vectors returns what the segment says of every id, through every method.
func vectors(t *testing.T, s *Segment, cosine bool) map[string][]float32 {
	t.Helper()
	got := map[string][]float32{}
	_, err := s.IDs(func(id string, label uint64) error {
		slot, deleted, ok := s.Slot(label)
		if deleted || !ok {
			t.Errorf("id %q: label %d deleted %v, found %v", id, label, deleted, ok)
		}
		b, err := s.Vector(slot, cosine, []byte("kept"))
		if err != nil || string(b[:4]) != "kept" {
			return errors.Join(err, errors.New("what was in dst is gone"))
		}
		for b = b[4:]; len(b) > 0; b = b[4:] {
			got[id] = append(got[id], math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestContentsAreWhatChromaItselfReads(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			s, err := Open(filepath.Join("testdata", f.name))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Dimension() != f.want.Dimension {
				t.Errorf("dimension %d", s.Dimension())
			}
			found, err := s.Check(f.cosine())
			if err != nil || len(found) > 0 {
				t.Errorf("check found %v, error %v", found, err)
			}
			if strings.HasSuffix(f.name, "-young") {
				if s.State() != Young || s.Elements() != 0 || !slices.Equal(s.Missing(), []string{chroma.PickleFile}) {
					t.Errorf("state %v, %d elements", s.State(), s.Elements())
				}
				if _, err := s.IDs(nil); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("ids: %v", err)
				}
				return
			}
			if s.State() != Saved {
				t.Errorf("state %v", s.State())
			}
			got := vectors(t, s, f.cosine())
			if f.name == "rust-recreated" {
				f.want.Vectors = nil // the answers are from the queue
			}
			if len(got) != len(f.want.Vectors) {
				t.Errorf("%d ids, Chroma has %d", len(got), len(f.want.Vectors))
			}
			exact := 0
			for id, want := range f.want.Vectors {
				if len(got[id]) != len(want) {
					t.Fatalf("id %q has %d components, want %d", id, len(got[id]), len(want))
				}
				for i, w := range want {
					if got[id][i] == float32(w) {
						exact++
					} else if g := float64(got[id][i]); !f.cosine() || math.Abs(g-w) > 2e-7*math.Abs(w) {
						t.Errorf("id %q component %d is %v, want %v", id, i, g, w)
					}
				}
			}
			t.Logf("%d of %d components bit-equal", exact, len(got)*f.want.Dimension)
		})
	}
}

func TestOpenTellsTheStatesApart(t *testing.T) {
	full := load(t, "rust-l2-a").files
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	var bad *chroma.CorruptError
	if _, err := Open("hnsw.go"); !errors.As(err, &bad) {
		t.Errorf("a file: %v", err)
	}
	odd := on(t, with(full, chroma.DataFile, nil))
	if err := os.Mkdir(filepath.Join(odd, chroma.DataFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(odd); !errors.As(err, &bad) {
		t.Errorf("a directory in place of a file: %v", err)
	}
	for mask := range 32 {
		files := map[string][]byte{}
		for i, name := range chroma.SegmentFiles() {
			if mask>>i&1 != 0 {
				files[name] = full[name]
			}
		}
		want := map[int]State{0: Absent, 15: Young, 31: Saved}
		state, ok := want[mask]
		if !ok {
			state = Partial
		}
		s, err := Open(on(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if s.State() != state || len(s.Missing()) != 5-len(files) {
			t.Errorf("files %05b: state %v, want %v, missing %q", mask, s.State(), state, s.Missing())
		}
		found, err := s.Check(false)
		missing := 0
		for _, p := range found {
			if p.Kind == Missing {
				missing++
			} else {
				t.Errorf("files %05b: %v", mask, p)
			}
		}
		if err != nil || (state == Partial && missing != 5-len(files)) || (state != Partial && missing != 0) {
			t.Errorf("files %05b: %v, error %v", mask, found, err)
		}
		if _, _, ok := s.Slot(1); ok != (files[chroma.HeaderFile] != nil && files[chroma.DataFile] != nil) {
			t.Errorf("files %05b: label 1 found %v", mask, ok)
		}
		if _, err := s.Vector(0, true, nil); (err == nil) != (mask&7 == 7) {
			t.Errorf("files %05b: vector of slot 0: %v", mask, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSlotKnowsTheDeletedAndTheUnknown(t *testing.T) {
	f := load(t, "rust-l2-b")
	s, err := inMemory(f.files)
	if err != nil {
		t.Fatal(err)
	}
	dead, slots := 0, map[uint32]bool{}
	for label := uint64(1); label <= uint64(s.Elements()); label++ {
		slot, deleted, ok := s.Slot(label)
		if !ok || slots[slot] {
			t.Errorf("label %d: slot %d, found %v", label, slot, ok)
		}
		slots[slot] = true
		if deleted {
			dead++
		}
	}
	if dead != int(s.Elements())-len(f.want.Vectors) || dead == 0 {
		t.Errorf("%d deleted of %d", dead, s.Elements())
	}
	for _, label := range []uint64{0, uint64(s.Elements()) + 1, 4095, 4096, 1 << 32, math.MaxUint64} {
		if _, _, ok := s.Slot(label); ok {
			t.Errorf("label %d found", label)
		}
	}
	if _, err := s.Vector(uint32(s.Elements()), false, nil); err == nil {
		t.Error("a slot behind the last was read")
	}
}

func TestAHeaderDamagedBeforeTheFirstSaveIsNoError(t *testing.T) {
	files := with(load(t, "rust-young").files, chroma.HeaderFile, []byte{1, 0})
	s, err := inMemory(files)
	if err != nil || s.State() != Young || s.Elements() != 0 {
		t.Fatal(err)
	}
}

// Files as upstream issue 7510 leaves them: a link_lists.bin of 231 GiB, and
// headers that claim all that fits.
func TestSparseGiantsCostNothing(t *testing.T) {
	f := load(t, "rust-l2-b")
	const giant = 231 << 30
	grow := func(t *testing.T, files map[string][]byte, names ...string) string {
		dir := on(t, files)
		for _, name := range names {
			if err := os.Truncate(filepath.Join(dir, name), giant); err != nil {
				t.Skip(err)
			}
		}
		return dir
	}
	header := func(n uint64) []byte {
		h := slices.Clone(f.files[chroma.HeaderFile])
		binary.LittleEndian.PutUint64(h[12:], n)
		binary.LittleEndian.PutUint64(h[20:], n)
		return h
	}
	for name, dir := range map[string]string{
		"links":            grow(t, f.files, chroma.LinksFile),
		"pickle":           grow(t, f.files, chroma.PickleFile),
		"all and header":   grow(t, with(f.files, chroma.HeaderFile, header(1<<31-3)), bins[1:]...),
		"links and header": grow(t, with(f.files, chroma.HeaderFile, header(1<<30)), bins[3]),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var found []Problem
			got := allocated(func() { found, err = s.Check(true) })
			if err != nil || len(found) == 0 || got > 32<<20 {
				t.Errorf("found %v, error %v, %d bytes allocated", found, err, got)
			}
		})
	}
}

func TestReadHeaderIsThatOfTheSegment(t *testing.T) {
	for _, f := range fixtures(t) {
		s, err := inMemory(f.files)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(on(t, f.files), chroma.HeaderFile)
		h, err := ReadHeader(path)
		if err != nil || h != s.Header() {
			t.Errorf("%s: %+v, %v", f.name, h, err)
		}
		var bad *chroma.CorruptError
		if err := os.Truncate(path, 99); err != nil {
			t.Fatal(err)
		}
		if h, err := ReadHeader(path); !errors.As(err, &bad) || h != (Header{}) {
			t.Errorf("%s cut short: %+v, %v", f.name, h, err)
		}
	}
	if _, err := ReadHeader(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
