package vault

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"colorfast"
	"colorfast/copies"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/blob"
)

// moving counts what moves between a vault and its storage.
type moving struct {
	blob.Storage
	in, out *atomic.Int64
}

func (m *moving) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	err := m.Storage.GetBlob(ctx, id, offset, length, out)
	m.out.Add(int64(out.Length()))
	return err
}

func (m *moving) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	m.in.Add(int64(data.Length()))
	return m.Storage.PutBlob(ctx, id, data, opts)
}

// metered opens a vault, made if it is missing, and counts its bytes.
func metered(t *testing.T, dir, cache string) (v *Vault, in, out *atomic.Int64) {
	t.Helper()
	in, out = &atomic.Int64{}, &atomic.Int64{}
	if err := Create(t.Context(), Options{URL: dir, Password: password}); err != nil && colorfast.KindOf(err) != colorfast.Usage {
		t.Fatal(err)
	}
	v = reopen(t, Options{URL: dir, CacheDir: cache, wrap: func(st blob.Storage) blob.Storage { return &moving{st, in, out} }})
	in.Store(0)
	out.Store(0)
	return v, in, out
}

// bigChroma is a source of n MiB in the layouts of Chroma.
func bigChroma(n int) (*colorfast.Manifest, fstest.MapFS) {
	m, files := contract.Sample(1)
	db, index := make([]byte, n<<20/3), make([]byte, n<<20/3*2)
	randomBytes(1, db)
	randomBytes(2, index)
	files["chroma.sqlite3"].Data, files["seg/data_level0.bin"].Data = db, index
	for i := range m.FileList {
		switch f := &m.FileList[i]; f.Path {
		case "chroma.sqlite3", "seg/data_level0.bin":
			f.Size = int64(len(files[f.Path].Data))
		}
	}
	m.Summarize()
	return m, files
}

func TestCopyMovesOnlyWhatDiffers(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	from, _, read := metered(t, filepath.Join(dir, "a"), cache)
	to, written, back := metered(t, filepath.Join(dir, "b"), cache)
	m, files := bigChroma(24)
	if err := from.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	c := copies.Copy{From: from, To: to}
	step := func(what string) (readN, writtenN int64) {
		t.Helper()
		read.Store(0)
		written.Store(0)
		back.Store(0)
		rep, err := c.Run(t.Context())
		if err != nil || len(rep.Copied) != 1 || rep.Copied[0].Verified != colorfast.Passed {
			t.Fatalf("%s: %+v, %v", what, rep, err)
		}
		t.Logf("%s: %d bytes of %d read in files; out of the source's storage %d, into the target's %d, out of the target's %d",
			what, rep.Read, rep.Copied[0].Bytes, read.Load(), written.Load(), back.Load())
		return read.Load(), written.Load()
	}
	first, stored := step("first")
	if first < 20<<20 || stored < 20<<20 {
		t.Fatalf("nothing was measured: %d, %d", first, stored)
	}
	for seed := range uint64(4) {
		m, files = contract.Next(m, files, seed)
		if err := from.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		r, w := step("next")
		// Ten places have changed. Around each a piece of 512 KiB is read, and that of
		// what it is stored as the difference to.
		if r > first/3 || w > stored/20 {
			t.Errorf("increment %d: %d bytes read, %d written; the first %d and %d", seed, r, w, first, stored)
		}
	}
	l, err := to.List(t.Context())
	if err != nil || len(l) != 5 {
		t.Fatal(len(l), err)
	}
	contract.Whole(t, to, l[0].ID, files)
}

// TestCopyResumes: a copy that dies at any write leaves nothing that is listed, and
// the next one does not send again what the storage has.
func TestCopyResumes(t *testing.T) {
	dir := t.TempDir()
	from, _, _ := metered(t, filepath.Join(dir, "a"), "")
	m, files := bigChroma(90)
	if err := from.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	whole, all, _ := metered(t, filepath.Join(dir, "whole"), "")
	if _, err := (&copies.Copy{From: from, To: whole}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for n := 1; ; n += 7 {
		to := filepath.Join(dir, "to")
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := Create(t.Context(), Options{URL: to, Password: password}); err != nil {
			t.Fatal(err)
		}
		sent := &atomic.Int64{}
		dying := reopen(t, Options{URL: to, indexEvery: 16 << 20, wrap: func(st blob.Storage) blob.Storage {
			return &stopStorage{&moving{st, sent, &atomic.Int64{}}, n, n%2 == 1}
		}})
		_, err := (&copies.Copy{From: from, To: dying}).Run(t.Context())
		if err == nil {
			break
		}
		tried++
		again, more, _ := metered(t, to, "")
		l, err := again.List(t.Context())
		if err != nil || len(l) > 1 {
			t.Fatal(len(l), err)
		}
		listed := len(l) == 1 // it died after that write
		rep, err := (&copies.Copy{From: from, To: again}).Run(t.Context())
		if err != nil || len(rep.Copied) == 1 == listed {
			t.Fatalf("write %d: %+v, %v", n, rep, err)
		}
		if l, err = again.List(t.Context()); err != nil || len(l) != 1 {
			t.Fatal(len(l), err)
		}
		contract.Whole(t, again, l[0].ID, files)
		// What is not in an index yet is sent again: here 16 MiB, and the packs under
		// way.
		twice := sent.Load() + more.Load() - all.Load()
		t.Logf("died at write %d after %d bytes; then %d more, %d twice", n, sent.Load(), more.Load(), twice)
		if twice > 3*21<<20 {
			t.Errorf("write %d: %d bytes were sent twice", n, twice)
		}
	}
	if tried < 2 {
		t.Fatalf("it died only %d times", tried)
	}
}

func TestCopyRefusesWhatIsCorrupt(t *testing.T) {
	dir := t.TempDir()
	from, to := newVault(t, filepath.Join(dir, "a")), newVault(t, filepath.Join(dir, "b"))
	m, files := bigChroma(24)
	if err := from.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	good, _ := contract.Sample(5)
	good.Source.Path = "/srv/other"
	_, other := contract.Sample(5)
	if err := from.Put(t.Context(), good, other, nil); err != nil {
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(dir, "a", "p", "*", "*.f"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	largest := packs[0]
	for _, p := range packs {
		a, _ := os.Stat(p)
		b, _ := os.Stat(largest)
		if a.Size() > b.Size() {
			largest = p
		}
	}
	b, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(largest, b, 0o600); err != nil {
		t.Fatal(err)
	}
	rep, err := (&copies.Copy{From: from, To: to}).Run(t.Context())
	if err != nil || len(rep.Copied) != 1 || len(rep.Refused) != 1 || rep.Refused[0].Backup != m.ID || rep.Refused[0].Kind != "corrupt" {
		t.Fatalf("%+v, %v", rep, err)
	}
	if l, err := to.List(t.Context()); err != nil || len(l) != 1 || l[0].Origin.Backup != good.ID {
		t.Errorf("listed %+v, %v", l, err)
	}
}
