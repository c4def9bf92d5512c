package vault

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
)

// generation is a backup and what it must give back.
type generation struct {
	m     *colorfast.Manifest
	files fstest.MapFS
}

// chain puts a backup and n increments, each the parent of the next.
func chain(t *testing.T, v *Vault, n int) []generation {
	t.Helper()
	m, files := contract.Sample(1)
	all := []generation{{m, files}}
	for i := range n + 1 {
		if i > 0 {
			m, files = contract.Next(m, files, uint64(i))
			all = append(all, generation{m, files})
		}
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatalf("increment %d: %v", i, err)
		}
	}
	return all
}

func forget(t *testing.T, v *Vault, gs ...generation) {
	t.Helper()
	err := repo.WriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		var errs []error
		for _, g := range gs {
			errs = append(errs, w.DeleteManifest(ctx, manifest.ID(g.m.ID)))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryIncrementStandsAlone(t *testing.T) {
	alone := t.TempDir()
	one := newVault(t, alone)
	dir := t.TempDir()
	v := newVault(t, dir)
	all := chain(t, v, 12)
	for len(all) > 1 { // the oldest, the newest, one between, and again
		gone := []int{0, len(all) - 1, len(all) / 2}[len(all)%3]
		forget(t, v, all[gone])
		all = append(all[:gone:gone], all[gone+1:]...)
		if len(all)%5 == 0 {
			reclaim(t, v)
		}
		for _, g := range all {
			contract.Whole(t, v, g.m.ID, g.files)
		}
	}
	reclaim(t, v)
	last := all[0]
	contract.Whole(t, reopen(t, Options{URL: dir}), last.m.ID, last.files)
	full := *last.m
	full.Parent = ""
	if err := one.Put(t.Context(), &full, last.files, nil); err != nil {
		t.Fatal(err)
	}
	// Twice what it needs, and what Kopia keeps of its own.
	if left, needs := du(t, dir), du(t, alone); left > 2*needs+200_000 {
		t.Errorf("one backup is left of many, in %d bytes; alone it takes %d", left, needs)
	}
}

func TestManyIncrementsStayBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred backups")
	}
	v := newVault(t, t.TempDir())
	all := chain(t, v, 100)
	for _, i := range []int{0, 50, 99, 100} {
		contract.Whole(t, v, all[i].m.ID, all[i].files)
	}
	r, err := newReading(t.Context(), v.conn, all[100].m.ID, v.pageKey)
	if err != nil {
		t.Fatal(err)
	}
	var stored, needed int64
	for i, n := range r.m.Live(cutsOf(all[100].m.FileList)) {
		stored += r.m.Objects[i].Length
		needed += n
	}
	t.Logf("%d objects with %d bytes, of which %d are needed", len(r.m.Objects), stored, needed)
	if len(r.m.Objects) > 140 {
		t.Errorf("%d objects for one backup", len(r.m.Objects))
	}
	if stored > 2*needed {
		t.Errorf("%d bytes are stored for %d", stored, needed)
	}
}

func TestALostListOfSumsCostsTimeOnly(t *testing.T) {
	var added [3]int64
	for i, lose := range []func(path string) error{
		func(string) error { return nil },
		os.Remove,
		func(path string) error { return os.Truncate(path, 1000) },
	} {
		v := reopenIn(t, newVault(t, t.TempDir()))
		m, files := contract.Sample(1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		if err := lose(v.sumListPath(m.Source)); err != nil {
			t.Fatal(err)
		}
		m, files = contract.Next(m, files, 1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		contract.Whole(t, v, m.ID, files)
		r, err := newReading(t.Context(), v.conn, m.ID, v.pageKey)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.m.Objects {
			added[i] += o.Length
		}
	}
	if added[0] != added[1] || added[0] != added[2] {
		t.Errorf("bytes of pages with the list, without it and with half of it: %d", added)
	}
}

// reopenIn opens a vault once more, with a cache folder.
func reopenIn(t *testing.T, v *Vault) *Vault {
	return reopen(t, Options{URL: v.opts.URL, CacheDir: t.TempDir()})
}

func TestAListOfSumsIsBelievedOnlyWhole(t *testing.T) {
	v := reopenIn(t, newVault(t, t.TempDir()))
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	path := v.sumListPath(m.Source)
	var parts int64
	for _, c := range cutsOf(m.FileList) {
		parts += c.Pages() * int64(c.Parts())
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tries := map[string]struct {
		bytes []byte
		key   []byte
		id    colorfast.BackupID
		parts int64
	}{
		"as it is":         {good, v.sumKey, m.ID, parts},
		"of another":       {good, v.sumKey, m.ID + "0", parts},
		"of another vault": {good, v.pageKey, m.ID, parts},
		"shorter":          {good[:len(good)-1], v.sumKey, m.ID, parts},
		"longer":           {append(good[:len(good):len(good)], 0), v.sumKey, m.ID, parts},
		"one part less":    {good, v.sumKey, m.ID, parts - 1},
		"one part more":    {good, v.sumKey, m.ID, parts + 1},
		"empty":            {nil, v.sumKey, m.ID, parts},
	}
	for i := 0; i < len(good); i += 97 {
		bad := append([]byte{}, good...)
		bad[i] ^= 4
		tries["flipped at "+strings.Repeat("x", i/97)] = struct {
			bytes []byte
			key   []byte
			id    colorfast.BackupID
			parts int64
		}{bad, v.sumKey, m.ID, parts}
	}
	for name, c := range tries {
		if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openSumList(path, c.key, c.id, c.parts)
		if (err == nil) != (name == "as it is") {
			t.Errorf("%s: %v", name, err)
		}
		if l != nil {
			l.close()
		}
	}
}

func TestDamageOfTheParentIsNotStoredAnew(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for p := range blobFiles(t, dir) {
		if strings.HasPrefix(strings.TrimPrefix(p, dir), "/p") {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			for i := range b {
				b[i] ^= 0x55
			}
			if err := os.WriteFile(p, b, 0o600); err != nil {
				t.Fatal(err)
			}
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("no packs of data were found")
	}
	// Everything in the new backup differs from the parent by a little, so that
	// all of it would be stored as differences to what cannot be read.
	next, nextFiles := contract.Next(m, files, 1)
	next.Parent = m.ID
	for p, f := range nextFiles {
		for i := 0; i < len(f.Data); i += 500 {
			f.Data[i] ^= 0xff
		}
		nextFiles[p] = f
	}
	if err := v.Put(t.Context(), next, nextFiles, nil); err != nil {
		t.Fatal(err)
	}
	contract.Whole(t, reopen(t, Options{URL: dir}), next.ID, nextFiles)
}

// format1 opens a vault of the release that wrote format 1. It holds two backups.
func format1(t *testing.T) *Vault {
	t.Helper()
	dir := t.TempDir()
	unpack(t, "testdata/format1.tar.gz", dir)
	v, err := Open(t.Context(), Options{URL: filepath.Join(dir, "vault"), Password: NewSecret("format one")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return v
}

// TestFormat1 reads it.
func TestFormat1(t *testing.T) {
	v := format1(t)
	l, err := v.List(t.Context())
	if err != nil || len(l) != 2 {
		t.Fatalf("%d listed, %v", len(l), err)
	}
	var newest *colorfast.Manifest
	files := fstest.MapFS{}
	for i := range l {
		m, err := v.Manifest(t.Context(), l[i].ID)
		if err != nil || m.Format != 1 || m.Records != 129 {
			t.Fatalf("manifest: %+v, %v", m, err)
		}
		read := 0
		for j := range m.FileList {
			f := &m.FileList[j]
			if f.Type != colorfast.Regular {
				continue
			}
			r, err := v.Open(t.Context(), m, f.Path, strings.NewReader("an older copy"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || r.Moved() != f.Size {
				t.Fatalf("file %q: %d of %d bytes, %v", f.Path, r.Moved(), f.Size, err)
			}
			if i == 0 {
				files[f.Path] = &fstest.MapFile{Data: b}
			}
			read++
		}
		if read != m.Files || read < 6 {
			t.Errorf("%d files were read, %d are listed", read, m.Files)
		}
		for _, level := range []colorfast.Level{colorfast.Stored, colorfast.Bytes} {
			if found, err := v.Check(t.Context(), m, level, nil); err != nil || len(found) > 0 {
				t.Errorf("check %s: %v, %v", level, found, err)
			}
		}
		if i == 0 {
			newest = m
		}
	}
	// The next backup goes beside them, in the form of today.
	next := *newest
	next.Format, next.Parent, next.ID = 0, newest.ID, ""
	if err := v.Put(t.Context(), &next, files, nil); err != nil {
		t.Fatal(err)
	}
	if next.Format != colorfast.Format {
		t.Errorf("format %d", next.Format)
	}
	contract.Whole(t, v, next.ID, files)
}

func unpack(t *testing.T, file, to string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(to, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(p, 0o700)
		} else if b, rerr := io.ReadAll(r); rerr == nil {
			err = os.WriteFile(p, b, 0o600)
		} else {
			err = rerr
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadingEndsWithItsContext ends contexts at any moment of reading: whoever
// reads comes back.
func TestReadingEndsWithItsContext(t *testing.T) {
	v := newVault(t, t.TempDir())
	m, files := bigSample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := v.Open(ctx, m, m.FileList[i%len(m.FileList)].Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
		if _, err = io.Copy(io.Discard, r); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		cancel()
	}
}
