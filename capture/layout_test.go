package capture

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"colorfast"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
)

func TestLayouts(t *testing.T) {
	for _, version := range chromatest.Fixtures(t) {
		dir, _ := chromatest.Fixture(t, version)
		if err := os.WriteFile(filepath.Join(dir, chroma.DataFile), []byte("not in a segment"), 0o600); err != nil {
			t.Fatal(err)
		}
		cut, err := newCapture(t, dir).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		vectors := 0
		for _, f := range cut.Files {
			l := f.Layout
			switch {
			case !l.Valid():
				t.Errorf("%s %s: %+v", version, f.Path, l)
			case f.Path == chroma.SQLiteFile:
				if l == nil || *l != (colorfast.Layout{PageBytes: 4096}) {
					t.Errorf("%s %s: %+v", version, f.Path, l)
				}
			case strings.HasSuffix(f.Path, "/"+chroma.DataFile):
				vectors++
				// 4 bytes, 2·16 links, the vector, 8 bytes of the label.
				if l == nil || l.ColumnFrom != 4+4*32 || l.UnitBytes != l.ColumnTo+8 || (l.ColumnTo-l.ColumnFrom)%4 != 0 ||
					l.PageBytes > 64<<10 || l.PageBytes+l.UnitBytes <= 64<<10 || f.Size%int64(l.UnitBytes) != 0 {
					t.Errorf("%s %s of %d bytes: %+v", version, f.Path, f.Size, l)
				}
			case l != nil:
				t.Errorf("%s %s: %+v", version, f.Path, l)
			}
		}
		if vectors == 0 {
			t.Errorf("%s: no vectors", version)
		}
	}
}

func TestLayoutOfWhatIsNotChromas(t *testing.T) {
	segment := func(dir, name string) string { return filepath.Join(dir, segmentID, name) }
	for name, c := range map[string]struct {
		spoil func(dir string) error
		path  string
	}{
		"an empty database": {func(dir string) error { return os.Truncate(filepath.Join(dir, chroma.SQLiteFile), 0) }, chroma.SQLiteFile},
		"a database that is none": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, chroma.SQLiteFile), make([]byte, 8192), 0o600)
		}, chroma.SQLiteFile},
		"vectors with a damaged header": {func(dir string) error { return os.WriteFile(segment(dir, chroma.HeaderFile), make([]byte, 100), 0o600) }, segmentID + "/" + chroma.DataFile},
		"vectors with half a header":    {func(dir string) error { return os.Truncate(segment(dir, chroma.HeaderFile), 50) }, segmentID + "/" + chroma.DataFile},
		"vectors without a header":      {func(dir string) error { return os.Remove(segment(dir, chroma.HeaderFile)) }, segmentID + "/" + chroma.DataFile},
	} {
		dir, writer := newSource(t, "delete", 10)
		writer.kill()
		if err := os.WriteFile(segment(dir, chroma.HeaderFile), header(16, 384), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, spoiled := range []bool{false, true} {
			if spoiled {
				if err := c.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			cut, err := newCapture(t, dir).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range cut.Files {
				if f.Path == c.path {
					found = true
					if (f.Layout == nil) != spoiled {
						t.Errorf("%s, spoiled %t: %+v", name, spoiled, f.Layout)
					}
				}
			}
			if !found {
				t.Errorf("%s: it is not in the cut", name)
			}
		}
	}
}

// header makes a header.bin of an index with no elements.
func header(m, dimension int) []byte {
	b := make([]byte, 0, 100)
	le := binary.LittleEndian
	vector := uint64(4 + 8*m)
	label := vector + 4*uint64(dimension)
	b = le.AppendUint32(b, 1)
	for _, n := range []uint64{0, 100, 0, label + 8, label, vector} {
		b = le.AppendUint64(b, n)
	}
	b = le.AppendUint32(b, 1<<32-1)
	b = le.AppendUint32(b, 1<<32-1)
	for _, n := range []uint64{uint64(m), uint64(2 * m), uint64(m)} {
		b = le.AppendUint64(b, n)
	}
	b = le.AppendUint64(b, levelFactor(m))
	return le.AppendUint64(b, 100)
}

// TestLayoutOfVectors: pages are as long as they may be, and hold one element at
// least.
func TestLayoutOfVectors(t *testing.T) {
	path := filepath.Join(t.TempDir(), chroma.HeaderFile)
	for _, c := range []struct{ m, dimension, unit, perPage int }{
		{16, 384, 132 + 1536 + 8, 39},
		{16, 1, 144, 455},
		{16, 16000, 64140, 1},
		{16, 20000, 80140, 1}, // longer than a page should be
		{100, 1 << 20, 4 + 800 + 4<<20 + 8, 1},
	} {
		if err := os.WriteFile(path, header(c.m, c.dimension), 0o600); err != nil {
			t.Fatal(err)
		}
		l := vectorLayout(path)
		if l == nil || !l.Valid() || l.UnitBytes != c.unit || l.PageBytes != c.perPage*c.unit || l.ColumnTo-l.ColumnFrom != 4*c.dimension {
			t.Errorf("%+v: %+v", c, l)
		}
	}
}

func levelFactor(m int) uint64 { return math.Float64bits(1 / math.Log(float64(m))) }
