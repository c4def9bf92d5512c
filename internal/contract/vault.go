// Package contract holds the suites that every adapter of a port, and every
// fake of one, must pass: what the port's doc comments promise, as tests.
package contract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	"math/rand/v2"

	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
)

// Vault runs the suite of colorfast.Vault. newVault returns a new, empty one;
// the suite closes it.
func Vault(t *testing.T, newVault func(t *testing.T) colorfast.Vault) {
	for name, run := range map[string]func(*testing.T, colorfast.Vault){
		"holds nothing at first":                vaultEmpty,
		"gives back what was put":               vaultRoundTrip,
		"stores nothing twice":                  vaultDedup,
		"lists the newest restore point first":  vaultOrder,
		"refuses files that changed":            vaultChanged,
		"refuses paths that leave the source":   vaultHostile,
		"refuses what it cannot know":           vaultUnknown,
		"never ends a wrong file with EOF":      vaultWrongFile,
		"finds what differs from the manifest":  vaultCheck,
		"stops with its context":                vaultCancel,
		"is safe for concurrent use":            vaultConcurrent,
		"keeps earlier backups when one failed": vaultKeeps,
		"says how far it is":                    vaultProgress,
		"keeps every increment whole":           vaultIncrements,
		"takes what is the same unread":         vaultSame,
		"reads over an older copy":              vaultOlder,
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t)
			t.Cleanup(func() {
				if err := v.Close(context.Background()); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			run(t, v)
		})
	}
}

// Sample returns a small source with one file of each sort, and its manifest.
// The same seed gives the same bytes.
func Sample(seed uint64) (*colorfast.Manifest, fstest.MapFS) {
	r := rand.New(rand.NewPCG(seed, 1))
	random := func(n int) *fstest.MapFile {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return &fstest.MapFile{Data: b, Mode: 0o600}
	}
	files := fstest.MapFS{
		"chroma.sqlite3":       {Data: bytes.Repeat([]byte("SQLite format 3\x00"), 20_000), Mode: 0o644},
		"seg/data_level0.bin":  random(700_001),
		"seg/header.bin":       random(100),
		"seg/length.bin":       {},
		"deep/a/b/not listed":  random(10),
		"deep/a/b/c.txt":       random(128 << 10),
		"a name with ümlaut\n": random(1),
	}
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC).Add(time.Duration(seed) * time.Hour)
	m := &colorfast.Manifest{}
	m.Tool = "colorfast test"
	m.Source = colorfast.Source{Host: "host", Path: "/var/lib/chroma"}
	m.StartedAt = t0
	m.Consistency.FrozenAt = t0
	m.Consistency.Notes = []string{}
	m.FindingList = []colorfast.Finding{}
	m.Inventory.Collections = []colorfast.Collection{{ID: "c1", Name: "docs", Records: 3}}
	add := func(f colorfast.File) {
		f.ModTime = t0
		m.FileList = append(m.FileList, f)
	}
	add(colorfast.File{Path: ".", Type: colorfast.Directory, Mode: 0o755, UID: 7, GID: 8})
	add(colorfast.File{Path: "seg", Type: colorfast.Directory, Mode: 0o2750})
	add(colorfast.File{Path: "link", Type: colorfast.Symlink, Mode: 0o777, Target: "../elsewhere"})
	add(colorfast.File{Path: "empty", Type: colorfast.Directory, Mode: 0o700})
	for _, p := range []string{"chroma.sqlite3", "seg/data_level0.bin", "seg/header.bin", "seg/length.bin", "deep/a/b/c.txt", "a name with ümlaut\n"} {
		add(colorfast.File{Path: p, Type: colorfast.Regular, Mode: 0o640, Size: int64(len(files[p].Data))})
	}
	for i := range m.FileList {
		switch f := &m.FileList[i]; f.Path {
		case "chroma.sqlite3":
			f.Layout = &colorfast.Layout{PageBytes: 4096}
		case "seg/data_level0.bin":
			f.Layout = &colorfast.Layout{PageBytes: 64_000, UnitBytes: 1000, ColumnFrom: 132, ColumnTo: 992}
		}
	}
	m.Summarize()
	return m, files
}

// put stores Sample(seed).
func put(t *testing.T, v colorfast.Vault, seed uint64) (*colorfast.Manifest, fstest.MapFS) {
	t.Helper()
	m, files := Sample(seed)
	if err := v.Put(t.Context(), m, files, colorfast.Quiet{}); err != nil {
		t.Fatalf("put: %v", err)
	}
	return m, files
}

// Whole fails the test unless the backup is listed and every file of it reads
// back as it is in files.
func Whole(t *testing.T, v colorfast.Vault, id colorfast.BackupID, files fs.FS) {
	t.Helper()
	m, err := v.Manifest(t.Context(), id)
	if err != nil {
		t.Fatalf("manifest: %v", err)
	}
	for i := range m.FileList {
		f := &m.FileList[i]
		if f.Type != colorfast.Regular {
			continue
		}
		want, err := fs.ReadFile(files, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(t.Context(), v, m, f.Path); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("file %q: %d bytes, %v; want the %d that were put", f.Path, len(got), err, len(want))
		}
	}
	for _, level := range []colorfast.Level{colorfast.Stored, colorfast.Bytes} {
		if found, err := v.Check(t.Context(), m, level, colorfast.Quiet{}); err != nil || len(found) > 0 {
			t.Fatalf("check %s: %v, %v", level, found, err)
		}
	}
}

func read(ctx context.Context, v colorfast.Vault, m *colorfast.Manifest, path string) ([]byte, error) {
	r, err := v.Open(ctx, m, path, nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func list(t *testing.T, v colorfast.Vault, n int) []colorfast.Backup {
	t.Helper()
	l, err := v.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	if len(l) != n {
		t.Fatalf("%d backups are listed, want %d", len(l), n)
	}
	return l
}

func wantKind(t *testing.T, err error, kind colorfast.Kind) {
	t.Helper()
	if err == nil || colorfast.KindOf(err) != kind {
		t.Errorf("got error %v of kind %v, want kind %v", err, colorfast.KindOf(err), kind)
	}
}

func vaultEmpty(t *testing.T, v colorfast.Vault) {
	if l := list(t, v, 0); l == nil {
		t.Error("an empty list is nil")
	}
	_, err := v.Manifest(t.Context(), "0123456789abcdef0123456789abcdef")
	wantKind(t, err, colorfast.NotFound)
	m := &colorfast.Manifest{}
	m.Summarize()
	if err := v.Put(t.Context(), m, fstest.MapFS{}, nil); err != nil {
		t.Fatalf("put nothing: %v", err)
	}
	Whole(t, v, m.ID, fstest.MapFS{})
}

func vaultRoundTrip(t *testing.T, v colorfast.Vault) {
	before := time.Now().Add(-time.Second)
	m, files := put(t, v, 1)
	if m.ID == "" || m.StoredBytes <= 0 || m.FinishedAt.Before(before) || m.FinishedAt.Location() != time.UTC {
		t.Errorf("put set ID %q, StoredBytes %d, FinishedAt %v", m.ID, m.StoredBytes, m.FinishedAt)
	}
	for _, f := range m.FileList {
		want := ""
		if f.Type == colorfast.Regular {
			sum := sha256.Sum256(files[f.Path].Data)
			want = hex.EncodeToString(sum[:])
		}
		if f.SHA256 != want {
			t.Errorf("file %q: SHA-256 %q, want %q", f.Path, f.SHA256, want)
		}
	}
	same(t, "summary", list(t, v, 1)[0], m.Backup)
	got, err := v.Manifest(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "manifest", got, m)
	Whole(t, v, m.ID, files)
}

func same(t *testing.T, what string, a, b any) {
	t.Helper()
	ja, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	jb, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ja, jb) {
		t.Errorf("%s differs:\n%s\n%s", what, ja, jb)
	}
}

func vaultDedup(t *testing.T, v colorfast.Vault) {
	first, _ := put(t, v, 1)
	second, files := put(t, v, 1)
	if second.ID == first.ID {
		t.Error("two backups have one ID")
	}
	if second.StoredBytes > 32<<10 || second.StoredBytes > first.StoredBytes/4 {
		t.Errorf("an unchanged backup added %d bytes, the first one %d", second.StoredBytes, first.StoredBytes)
	}
	list(t, v, 2)
	Whole(t, v, second.ID, files)
}

func vaultOrder(t *testing.T, v colorfast.Vault) {
	for _, seed := range []uint64{2, 3, 1} {
		put(t, v, seed)
	}
	l := list(t, v, 3)
	if !l[0].RestorePoint.After(l[1].RestorePoint) || !l[1].RestorePoint.After(l[2].RestorePoint) {
		t.Errorf("order: %v, %v, %v", l[0].RestorePoint, l[1].RestorePoint, l[2].RestorePoint)
	}
}

func vaultChanged(t *testing.T, v colorfast.Vault) {
	for name, change := range map[string]func(fstest.MapFS){
		"grown":     func(f fstest.MapFS) { f["seg/header.bin"].Data = make([]byte, 101) },
		"shrunk":    func(f fstest.MapFS) { f["seg/data_level0.bin"].Data = make([]byte, 700_000) },
		"gone":      func(f fstest.MapFS) { delete(f, "seg/length.bin") },
		"no file":   func(f fstest.MapFS) { f["seg/length.bin"].Mode |= fs.ModeDir },
		"was empty": func(f fstest.MapFS) { f["seg/length.bin"].Data = []byte{1} },
	} {
		m, files := Sample(1)
		change(files)
		err := v.Put(t.Context(), m, files, nil)
		if err == nil || colorfast.KindOf(err) != colorfast.Corrupt {
			t.Errorf("%s: got %v, want Corrupt", name, err)
		}
		if m.ID != "" || m.FileList[4].SHA256 != "" {
			t.Errorf("%s: a put that failed changed the manifest", name)
		}
	}
	list(t, v, 0)
}

func vaultHostile(t *testing.T, v colorfast.Vault) {
	for _, p := range []string{"../x", "/etc/passwd", "a/../b", "a//b", "", "a/.", "a\x00b", "\xff", "seg/header.bin/x", "seg", "link/x"} {
		m, files := Sample(1)
		m.FileList = append(m.FileList, colorfast.File{Path: p, Type: colorfast.Regular})
		wantKind(t, v.Put(t.Context(), m, files, nil), colorfast.Usage)
	}
	list(t, v, 0)
	m, _ := put(t, v, 1)
	for _, p := range []string{"../data/seg/header.bin", "/seg/header.bin", "seg/../seg/header.bin", ""} {
		_, err := v.Open(t.Context(), m, p, nil)
		wantKind(t, err, colorfast.Usage)
	}
}

func vaultUnknown(t *testing.T, v colorfast.Vault) {
	m, _ := put(t, v, 1)
	for _, p := range []string{"nothing", "seg", "link", ".", "deep/a/b/not listed"} {
		_, err := v.Open(t.Context(), m, p, nil)
		wantKind(t, err, colorfast.NotFound)
	}
	other := *m
	other.ID = "0123456789abcdef0123456789abcdef"
	_, err := v.Open(t.Context(), &other, "chroma.sqlite3", nil)
	wantKind(t, err, colorfast.NotFound)
	_, err = v.Check(t.Context(), &other, colorfast.Stored, nil)
	wantKind(t, err, colorfast.NotFound)
	_, err = v.Check(t.Context(), m, "unknown", nil)
	wantKind(t, err, colorfast.Usage)
	newer, files := Sample(2)
	newer.Format = colorfast.Format + 1
	if err := v.Put(t.Context(), newer, files, nil); err != nil {
		t.Fatal(err)
	}
	_, err = v.Manifest(t.Context(), newer.ID)
	wantKind(t, err, colorfast.Unsupported)
}

func vaultWrongFile(t *testing.T, v colorfast.Vault) {
	m, _ := put(t, v, 1)
	const path = "seg/data_level0.bin"
	for name, change := range map[string]func(*colorfast.File){
		"hash":    func(f *colorfast.File) { f.SHA256 = hex.EncodeToString(make([]byte, 32)) },
		"no hash": func(f *colorfast.File) { f.SHA256 = "" },
		"longer":  func(f *colorfast.File) { f.Size++ },
		"shorter": func(f *colorfast.File) { f.Size-- },
	} {
		c := *m
		c.FileList = append([]colorfast.File(nil), m.FileList...)
		for i := range c.FileList {
			if c.FileList[i].Path == path {
				change(&c.FileList[i])
			}
		}
		_, err := read(t.Context(), v, &c, path)
		if err == nil || colorfast.KindOf(err) != colorfast.Corrupt {
			t.Errorf("%s: got %v, want Corrupt", name, err)
		}
	}
}

func vaultCheck(t *testing.T, v colorfast.Vault) {
	m, files := put(t, v, 1)
	Whole(t, v, m.ID, files)
	c := *m
	c.FileList = append([]colorfast.File(nil), m.FileList...)
	for i := range c.FileList {
		if c.FileList[i].Path == "seg/header.bin" {
			c.FileList[i].SHA256 = hex.EncodeToString(make([]byte, 32))
		}
	}
	c.FileList = append(c.FileList, colorfast.File{Path: "seg/never stored", Type: colorfast.Regular, SHA256: hex.EncodeToString(make([]byte, 32))})
	found, err := v.Check(t.Context(), &c, colorfast.Bytes, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]colorfast.Code{}
	for _, f := range found {
		got[f.Object] = f.Code
	}
	if got["seg/header.bin"] != colorfast.StoredDiffers || got["seg/never stored"] != colorfast.StoredMissing {
		t.Errorf("findings: %v", found)
	}
}

func vaultCancel(t *testing.T, v colorfast.Vault) {
	ctx, cancel := context.WithCancel(t.Context())
	m, files := Sample(1)
	if err := v.Put(ctx, m, cancelFS{files, cancel}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	list(t, v, 0)
	m, _ = put(t, v, 1)
	r, err := v.Open(ctx, m, "seg/data_level0.bin", nil)
	if err == nil {
		_, err = io.ReadAll(r)
		err = errors.Join(err, r.Close())
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	if _, err := v.Check(ctx, m, colorfast.Bytes, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("check: %v", err)
	}
}

// cancelFS cancels when the last file is opened.
type cancelFS struct {
	fs.FS
	cancel func()
}

// Open implements fs.FS.
func (c cancelFS) Open(name string) (fs.File, error) {
	if name == "a name with ümlaut\n" {
		c.cancel()
	}
	return c.FS.Open(name)
}

func vaultConcurrent(t *testing.T, v colorfast.Vault) {
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			m, files := Sample(seed % 3)
			if err := v.Put(t.Context(), m, files, nil); err != nil {
				t.Error(err)
				return
			}
			if _, err := v.List(t.Context()); err != nil {
				t.Error(err)
			}
			if b, err := read(t.Context(), v, m, "seg/data_level0.bin"); err != nil || !bytes.Equal(b, files["seg/data_level0.bin"].Data) {
				t.Errorf("read: %d bytes, %v", len(b), err)
			}
			if found, err := v.Check(t.Context(), m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
				t.Errorf("check: %v, %v", found, err)
			}
		})
	}
	wg.Wait()
	list(t, v, 4)
}

func vaultKeeps(t *testing.T, v colorfast.Vault) {
	good, files := put(t, v, 1)
	bad, badFiles := Sample(1)
	badFiles["chroma.sqlite3"].Data = nil
	wantKind(t, v.Put(t.Context(), bad, badFiles, nil), colorfast.Corrupt)
	list(t, v, 1)
	Whole(t, v, good.ID, files)
	next, _ := put(t, v, 2)
	list(t, v, 2)
	_, files = Sample(2)
	Whole(t, v, next.ID, files)
}

type meter struct{ total, done atomic.Int64 }

// Begin implements colorfast.Progress.
func (m *meter) Begin(_ string, total int64) { m.total.Store(total); m.done.Store(0) }

// Advance implements colorfast.Progress.
func (m *meter) Advance(n int64) { m.done.Add(n) }

func vaultProgress(t *testing.T, v colorfast.Vault) {
	m, files := Sample(1)
	var p meter
	if err := v.Put(t.Context(), m, files, &p); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"put", "check"} {
		if p.total.Load() != m.OriginalBytes || p.done.Load() != m.OriginalBytes {
			t.Errorf("%s: %d of %d bytes done, want %d", what, p.done.Load(), p.total.Load(), m.OriginalBytes)
		}
		if _, err := v.Check(t.Context(), m, colorfast.Bytes, &p); err != nil {
			t.Fatal(err)
		}
	}
}
