package reader

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/vault"
)

const newPassword = "pässword of a new vault"

func newVault(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "vault")
	if err := vault.Create(t.Context(), vault.Options{URL: dir, Password: vault.NewSecret(newPassword)}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// with opens a vault with colorfast's own package for a while.
func with(t *testing.T, dir, password string, do func(ctx context.Context, v *vault.Vault) error) {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.Options{URL: dir, Password: vault.NewSecret(password)})
	if err != nil {
		t.Fatal(err)
	}
	if err := do(t.Context(), v); err != nil {
		t.Error(err)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// put stores samples.
func put(t *testing.T, dir, password string, seeds ...uint64) {
	t.Helper()
	if len(seeds) == 0 {
		return
	}
	with(t, dir, password, func(ctx context.Context, v *vault.Vault) error {
		for _, seed := range seeds {
			m, files := contract.Sample(seed)
			if err := v.Put(ctx, m, files, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// maintain runs colorfast's maintenance after making it due: all blobs become
// three days older, and when it was done last is forgotten.
func maintain(t *testing.T, dir, password string) {
	t.Helper()
	err := os.Remove(folder(dir).path("kopia.maintenance"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		then := fi.ModTime().Add(-72 * time.Hour)
		return os.Chtimes(p, then, then)
	}); err != nil {
		t.Fatal(err)
	}
	with(t, dir, password, func(ctx context.Context, v *vault.Vault) error { return v.Maintain(ctx) })
}

// advance begins an epoch, as maintenance does when the one before has grown.
func advance(t *testing.T, dir string, epoch int) {
	t.Helper()
	write(t, folder(dir).path(fmt.Sprintf("xe%d", epoch)), []byte("epoch-marker"))
}

// sameAsColorfast compares what the reader reads with what colorfast reads.
func sameAsColorfast(t *testing.T, dir, password string, backups int) {
	t.Helper()
	v := open(t, dir, password)
	list, err := v.Backups()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != backups {
		t.Fatalf("%d backups, want %d", len(list), backups)
	}
	with(t, dir, password, func(ctx context.Context, w *vault.Vault) error {
		theirs, err := w.List(ctx)
		if err != nil || len(theirs) != backups {
			return fmt.Errorf("colorfast lists %d backups, %w", len(theirs), err)
		}
		for i, b := range list {
			if !theirs[i].RestorePoint.Equal(b.RestorePoint) {
				t.Errorf("backup %d: of %v, colorfast has one of %v", i, b.RestorePoint, theirs[i].RestorePoint)
			}
			m, err := w.Manifest(ctx, colorfast.BackupID(b.ID))
			if err != nil {
				return err
			}
			_, files, err := v.Manifest(b)
			if err != nil {
				return err
			}
			if !slices.EqualFunc(files, m.FileList, func(f File, g colorfast.File) bool {
				var l Layout
				if g := g.Layout; g != nil {
					l = Layout{int64(g.PageBytes), int64(g.UnitBytes), int64(g.ColumnFrom), int64(g.ColumnTo)}
				}
				return f == File{Path: g.Path, Type: string(g.Type), Size: g.Size, Target: g.Target, SHA256: g.SHA256, Layout: l}
			}) {
				t.Errorf("backup %s: files %v, colorfast has %v", b.ID, files, m.FileList)
			}
		}
		return nil
	})
	reads(t, dir, password, backups)
}

// reads fails the test unless so many backups are there and all of them reads.
func reads(t *testing.T, dir, password string, backups int) {
	t.Helper()
	if n, files := readEverything(t, open(t, dir, password)); n != backups || files < 5*backups {
		t.Errorf("%d backups with %d files, want %d backups", n, files, backups)
	}
}

// count returns how many blobs begin with prefix.
func count(t *testing.T, dir, prefix string) int {
	t.Helper()
	names, err := folder(dir).list(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func remove(t *testing.T, dir string, prefixes ...string) {
	t.Helper()
	for _, prefix := range prefixes {
		names, err := folder(dir).list(prefix)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d blobs, %v", prefix, len(names), err)
		}
		for _, n := range names {
			if err := os.Remove(folder(dir).path(n)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNewVault(t *testing.T) {
	dir := newVault(t)
	if v := open(t, dir, newPassword); len(v.index) != 0 {
		t.Errorf("%d contents in an empty vault", len(v.index))
	}
	put(t, dir, newPassword, 0, 0, 1) // the same files again, too
	put(t, dir, newPassword, 1, 2)
	sameAsColorfast(t, dir, newPassword, 5)

	v := open(t, dir, newPassword)
	list, err := v.Backups()
	if err != nil {
		t.Fatal(err)
	}
	_, files := contract.Sample(2) // the newest
	_, fileList, err := v.Manifest(list[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fileList {
		if f.Type != "file" {
			continue
		}
		var got bytes.Buffer
		if err := v.Read(&got, list[0], f); err != nil || !bytes.Equal(got.Bytes(), files[f.Path].Data) {
			t.Errorf("%s: %d bytes, %v", f.Path, got.Len(), err)
		}
	}
}

// moveAfter is an age at which maintenance has moved a content out of its small
// pack.
const moveAfter = 3 * time.Hour

// TestEpochs reads a vault, of new backups and those of the fixture, whose
// index was merged: single epochs, a range, and packs that were written anew.
func TestEpochs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds")
	}
	dir := fixture(t)
	before := open(t, dir, fixturePassword).index
	backups := 2
	// From 16 backups on, Kopia merges their manifests, deletes those that were
	// merged, and so writes anew what keeps the index's clock going.
	// Every time that colorfast opens the vault takes a good part of a second.
	for epoch, n := range []uint64{4, 3, 2, 2, 1, 0, 0, 0, 1, 1, 1} {
		if epoch > 0 {
			advance(t, dir, epoch)
		}
		var seeds []uint64
		for i := range n {
			seeds = append(seeds, uint64(epoch)+100*i)
		}
		put(t, dir, fixturePassword, seeds...)
		backups += len(seeds)
		if epoch == 3 || epoch == 4 {
			maintain(t, dir, fixturePassword)
			reads(t, dir, fixturePassword, backups)
		}
	}
	maintain(t, dir, fixturePassword)
	reads(t, dir, fixturePassword, backups)
	maintain(t, dir, fixturePassword)
	sameAsColorfast(t, dir, fixturePassword, backups)
	after := open(t, dir, fixturePassword).index
	for id, e := range before { // two hours are what Kopia waits for
		if a := after[id]; a.pack == e.pack && !a.deleted && time.Since(time.Unix(e.time, 0)) > moveAfter {
			t.Errorf("content %s was not moved to another pack", id)
		}
	}
	for prefix, want := range map[string]bool{"xs0_": true, "xs1_": true, "xr0_8_": true, "xn0_": false, "xn1_": false, "xn8_": true, "xn9_": true, "xn10_": true} {
		if (count(t, dir, prefix) > 0) != want {
			all, _ := folder(dir).list("x")
			t.Fatalf("blobs %s: want some: %v; there are %v", prefix, want, all)
		}
	}
	deleted := func(v *Vault) (n int) {
		for _, e := range v.index {
			if e.deleted {
				n++
			}
		}
		return n
	}
	if n := deleted(open(t, dir, fixturePassword)); n == 0 {
		t.Error("no content is deleted")
	}
	write(t, folder(dir).path(fmt.Sprintf("xw%d", time.Now().Unix()+1)), []byte("deletion-watermark"))
	if n := deleted(open(t, dir, fixturePassword)); n != 0 {
		t.Errorf("%d deleted contents are left", n)
	}
	reads(t, dir, fixturePassword, backups)
	remove(t, dir, "xs0_", "xs1_", "xn2_", "xn8_") // the range has their entries
	sameAsColorfast(t, dir, fixturePassword, backups)
	remove(t, dir, "xr0_8_")
	v := open(t, dir, fixturePassword)
	if everythingReads(v) == nil {
		t.Error("the range held nothing")
	}
}

// TestListOfListOfPieces reads a file of 200 MiB, which are nearly all 0, in so
// many pieces that their list has pieces too.
func TestListOfListOfPieces(t *testing.T) {
	const size, piece = 200 << 20, 128 << 10
	v := open(t, unpack(t, "testdata/pieces.tar.gz"), "many pieces")
	if backups, files := readEverything(t, v); backups != 1 || files != 1 {
		t.Errorf("%d backups, %d files", backups, files)
	}
	list, err := v.Backups()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	id, err := v.find(list[0], "data/big", "f")
	if err != nil || !strings.HasPrefix(id, "IIx") {
		t.Fatal(id, err)
	}
	o, err := v.object(id)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, piece+8)
	if n, err := o.ReadAt(b, 150<<20-piece+2); n != len(b) || err != nil || string(b[piece-4:piece+4]) != "\x00\x00here\x00\x00" {
		t.Errorf("%d bytes, %v, %q", n, err, b[piece-4:])
	}
	if n, err := o.ReadAt(b, size-4); n != 4 || err != io.EOF || string(b[:4]) != "here" {
		t.Errorf("at the end: %d bytes, %v, %q", n, err, b[:4])
	}
	if n, err := o.ReadAt(b, size); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
}
