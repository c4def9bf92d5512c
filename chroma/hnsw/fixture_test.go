package hnsw

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"colorfast/chroma"
)

// fixture is a real segment directory in memory, with Chroma's own answers.
type fixture struct {
	name  string
	files map[string][]byte
	want  struct {
		Chroma    string
		Space     string
		Dimension int
		Vectors   map[string][]float64
	}
}

func (f *fixture) cosine() bool { return f.want.Space == "cosine" }

// fixtures returns all fixtures of testdata, in order of their names.
func fixtures(t testing.TB) []*fixture {
	t.Helper()
	found, err := filepath.Glob("testdata/*.json")
	if err != nil || len(found) < 15 {
		t.Fatalf("%d fixtures, error %v", len(found), err)
	}
	all := []*fixture{}
	for _, path := range found {
		dir := strings.TrimSuffix(path, ".json")
		f := &fixture{name: filepath.Base(dir), files: map[string][]byte{}}
		j, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(j, &f.want)
		}
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) < 4 {
			t.Fatalf("fixture %s has %d files, error %v", f.name, len(entries), err)
		}
		for _, e := range entries {
			if f.files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, f)
	}
	return all
}

// load returns the fixture of the given name.
func load(t testing.TB, name string) *fixture {
	t.Helper()
	all := fixtures(t)
	i := slices.IndexFunc(all, func(f *fixture) bool { return f.name == name })
	if i < 0 {
		t.Fatalf("no fixture %q", name)
	}
	return all[i]
}

// inMemory makes a segment of files without a file system.
func inMemory(files map[string][]byte) (*Segment, error) {
	open := map[string]*file{}
	for name, b := range files {
		open[name] = &file{ReaderAt: bytes.NewReader(b), name: name, size: int64(len(b)), Closer: io.NopCloser(nil)}
	}
	return newSegment("", open)
}

// with returns files with one of them replaced; nil takes it away.
func with(files map[string][]byte, name string, b []byte) map[string][]byte {
	files = maps.Clone(files)
	files[name] = b
	if b == nil {
		delete(files, name)
	}
	return files
}

// flipped returns b with the bits of mask in byte i turned.
func flipped(b []byte, i int, mask byte) []byte {
	b = bytes.Clone(b)
	b[i] ^= mask
	return b
}

// on writes files into a new directory.
func on(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var bins = chroma.SegmentFiles()[:4]
