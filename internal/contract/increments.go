package contract

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
)

// Next returns a source some time after m and files, which it leaves alone: some
// bytes have changed here and there, a file has grown, another come or gone. Its
// Parent is m.
func Next(m *colorfast.Manifest, files fstest.MapFS, seed uint64) (*colorfast.Manifest, fstest.MapFS) {
	r := rand.New(rand.NewPCG(seed, 3))
	next, out := *m, fstest.MapFS{}
	for p, f := range files {
		out[p] = &fstest.MapFile{Data: slices.Clone(f.Data), Mode: f.Mode}
	}
	for _, p := range []string{"chroma.sqlite3", "seg/data_level0.bin"} {
		b := out[p].Data
		for range 5 {
			at := r.IntN(len(b))
			for i := at; i < min(len(b), at+1+r.IntN(3000)); i++ {
				b[i] = byte(r.Uint32())
			}
		}
	}
	clear(out["chroma.sqlite3"].Data[4096:8192])
	grown := &out["seg/data_level0.bin"].Data
	for range 1 + r.IntN(5000) {
		*grown = append(*grown, byte(r.Uint32()))
	}
	const comes = "seg/comes and goes"
	next.FileList = slices.DeleteFunc(slices.Clone(m.FileList), func(f colorfast.File) bool { return f.Path == comes })
	if len(next.FileList) == len(m.FileList) {
		out[comes] = &fstest.MapFile{Data: []byte("here again")}
		next.FileList = append(next.FileList, colorfast.File{Path: comes, Type: colorfast.Regular})
	}
	for i := range next.FileList {
		if f := &next.FileList[i]; f.Type == colorfast.Regular {
			f.Size, f.SHA256 = int64(len(out[f.Path].Data)), ""
		}
	}
	next.Consistency.FrozenAt = m.Consistency.FrozenAt.Add(time.Hour)
	next.Parent, next.ID = m.ID, ""
	next.Summarize()
	return &next, out
}

func vaultIncrements(t *testing.T, v colorfast.Vault) {
	m, files := put(t, v, 1)
	all := map[colorfast.BackupID]fstest.MapFS{m.ID: files}
	first := m.StoredBytes
	for seed := range uint64(6) {
		m, files = Next(m, files, seed)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatalf("put increment: %v", err)
		}
		all[m.ID] = files
		if m.StoredBytes >= first {
			t.Errorf("an increment adds %d bytes, the first backup added %d", m.StoredBytes, first)
		}
	}
	// A parent that is not there makes it a full one.
	m, files = Next(m, files, 7)
	m.Parent = "0123456789abcdef0123456789abcdef"
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatalf("put without the parent: %v", err)
	}
	all[m.ID] = files
	for id, files := range all {
		Whole(t, v, id, files)
	}
}

func vaultSame(t *testing.T, v colorfast.Vault) {
	parent, files := put(t, v, 1)
	again := func() *colorfast.Manifest {
		m := *parent
		m.FileList = slices.Clone(parent.FileList)
		m.Parent = parent.ID
		for i := range m.FileList {
			if f := &m.FileList[i]; f.Type == colorfast.Regular && f.Path != "seg/header.bin" {
				f.Same, f.SHA256 = true, ""
			}
		}
		return &m
	}
	m := again()
	changed := fstest.MapFS{"seg/header.bin": {Data: bytes.Repeat([]byte("h"), 100)}} // the others cannot be read
	if err := v.Put(t.Context(), m, changed, nil); err != nil {
		t.Fatalf("put: %v", err)
	}
	whole := maps.Clone(files)
	whole["seg/header.bin"] = changed["seg/header.bin"]
	Whole(t, v, m.ID, whole)
	for i := range m.FileList {
		if f := &m.FileList[i]; f.Same || f.Type == colorfast.Regular && len(f.SHA256) != 64 {
			t.Errorf("%q: same %v, SHA-256 %q after the put", f.Path, f.Same, f.SHA256)
		}
	}
	for name, change := range map[string]func(*colorfast.Manifest){
		"no parent":        func(m *colorfast.Manifest) { m.Parent = "" },
		"a lost parent":    func(m *colorfast.Manifest) { m.Parent = "0123456789abcdef0123456789abcdef" },
		"another size":     func(m *colorfast.Manifest) { m.FileList[4].Size-- },
		"a file not there": func(m *colorfast.Manifest) { m.FileList[4].Path = "seg/never stored" },
	} {
		m := again()
		change(m)
		err := v.Put(t.Context(), m, changed, nil)
		if err == nil || colorfast.KindOf(err) != colorfast.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	list(t, v, 2)
}

func vaultOlder(t *testing.T, v colorfast.Vault) {
	m, files := put(t, v, 1)
	const path = "seg/data_level0.bin"
	stored := files[path].Data
	some := slices.Clone(stored)
	some[300_000] ^= 1
	for name, c := range map[string]struct {
		older       io.ReaderAt
		most, least int64 // bytes that may move
	}{
		"none":      {nil, int64(len(stored)), int64(len(stored))},
		"the same":  {bytes.NewReader(stored), 0, 0},
		"longer":    {bytes.NewReader(append(slices.Clone(stored), 1, 2, 3)), 0, 0},
		"one byte":  {bytes.NewReader(some), 64_000, 1},
		"shorter":   {bytes.NewReader(stored[:500_000]), 264_000, 200_000},
		"empty":     {bytes.NewReader(nil), int64(len(stored)), int64(len(stored))},
		"unrelated": {bytes.NewReader(make([]byte, 2*len(stored))), int64(len(stored)), int64(len(stored))},
		"broken":    {broken{}, int64(len(stored)), int64(len(stored))},
	} {
		r, err := v.Open(t.Context(), m, path, c.older)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, stored) {
			t.Errorf("%s: %d bytes that differ or %v", name, len(b), err)
		}
		if n := r.Moved(); n < c.least || n > c.most {
			t.Errorf("%s: %d bytes moved, want %d to %d", name, n, c.least, c.most)
		}
	}
}

// broken is an older copy on a disk that fails.
type broken struct{}

// ReadAt implements io.ReaderAt.
func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }
