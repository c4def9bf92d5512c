package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/content"
)

// smallVault makes a vault with three backups of one source and one of another.
func smallVault(t *testing.T, dir string) (all []*colorfast.Manifest, files []fstest.MapFS) {
	t.Helper()
	v := newVault(t, dir)
	m, f := contract.Sample(1)
	m.Inventory.Collections[0].VectorSegment = "seg"
	for i := range 3 {
		if i > 0 {
			m, f = contract.Next(m, f, uint64(i))
		}
		if err := v.Put(t.Context(), m, f, nil); err != nil {
			t.Fatal(err)
		}
		all, files = append(all, m), append(files, f)
	}
	m, f = contract.Sample(9)
	m.Source.Path = "/srv/other"
	if err := v.Put(t.Context(), m, f, nil); err != nil {
		t.Fatal(err)
	}
	return append(all, m), append(files, f)
}

// blobs lists the files of a vault.
func blobs(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, p)
		}
		return err
	})
	if err != nil || len(out) < 6 {
		t.Fatalf("%d blobs, %v", len(out), err)
	}
	return out
}

func verifyVault(t *testing.T, dir string, what Verification) *Verified {
	t.Helper()
	rep, err := VerifyVault(t.Context(), Options{URL: dir, Password: password}, what)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestVerifyWholeVault(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	newVault(t, empty)
	if rep := verifyVault(t, empty, Verification{Level: colorfast.Bytes}); rep.Outcome != colorfast.Passed || rep.Backups != 0 {
		t.Errorf("of nothing: %+v", rep)
	}
	dir = filepath.Join(dir, "vault")
	smallVault(t, dir)
	for _, level := range []colorfast.Level{colorfast.Stored, colorfast.Bytes} {
		rep := verifyVault(t, dir, Verification{Level: level})
		if rep.Outcome != colorfast.Passed || rep.Backups != 4 || rep.Objects < 12 || rep.Packs < 4 || (rep.Read > 0) != (level == colorfast.Bytes) || len(rep.Hurt)+len(rep.Findings) != 0 {
			t.Errorf("%s: %+v", level, rep)
		}
	}
	_, err := VerifyVault(t.Context(), Options{URL: dir, Password: NewSecret("wrong")}, Verification{Level: colorfast.Stored})
	wantKind(t, err, colorfast.Denied, "")
	_, err = VerifyVault(t.Context(), Options{URL: t.TempDir(), Password: password}, Verification{Level: colorfast.Stored})
	wantKind(t, err, colorfast.NotFound, "init")
	_, err = VerifyVault(t.Context(), Options{URL: dir, Password: password}, Verification{Level: "deep"})
	wantKind(t, err, colorfast.Usage, "stored and bytes")
}

// TestVerifyBySamples: as many samples as it says are all there is, whatever the
// days between them; and none but those that cannot be.
func TestVerifyBySamples(t *testing.T) {
	for percent, want := range map[int]int{0: 1, 100: 1, 33: 3, 25: 3, 20: 5, 10: 7, 5: 19, 1: 97} {
		if n, err := CheckSample(percent); err != nil || n != want {
			t.Errorf("%d%%: %d slices, %v; want %d", percent, n, err, want)
		}
	}
	for _, bad := range []int{-1, 34, 50, 99, 101} {
		if _, err := CheckSample(bad); colorfast.KindOf(err) != colorfast.Usage {
			t.Errorf("%d%%: %v", bad, err)
		}
	}
	dir := t.TempDir()
	smallVault(t, dir)
	all := verifyVault(t, dir, Verification{Level: colorfast.Bytes}).Read
	day := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	sum, slices := int64(0), 3
	for i := range slices {
		rep := verifyVault(t, dir, Verification{Level: colorfast.Bytes, Sample: 33, Now: day.AddDate(0, 0, 7*i)})
		if rep.Slices != slices || rep.Outcome != colorfast.Passed {
			t.Fatalf("%+v", rep)
		}
		sum += rep.Read
	}
	if sum != all || all == 0 {
		t.Errorf("samples have read %d bytes, all are %d", sum, all)
	}
}

// TestVerifyTellsWhoIsHurt: a piece that only one file of some backups needs hurts
// these and no other.
func TestVerifyTellsWhoIsHurt(t *testing.T) {
	dir := t.TempDir()
	all, _ := smallVault(t, dir)
	packs, err := filepath.Glob(filepath.Join(dir, "p", "*", "*.f"))
	if err != nil || len(packs) < 4 {
		t.Fatal(packs, err)
	}
	hurt := 0
	for _, p := range packs {
		saved, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
		rep := verifyVault(t, dir, Verification{Level: colorfast.Stored})
		if rep.Outcome != colorfast.Failed || len(rep.Hurt) == 0 {
			t.Fatalf("without %s: %+v", p, rep)
		}
		// What it says of each backup is what reading each file says.
		v := reopen(t, Options{URL: dir})
		for _, m := range all {
			i := slices.IndexFunc(rep.Hurt, func(h Hurt) bool { return h.Backup == m.ID })
			for _, f := range m.FileList {
				if f.Type != colorfast.Regular {
					continue
				}
				said := i >= 0 && (rep.Hurt[i].Whole || slices.Contains(rep.Hurt[i].Files, f.Path))
				_, err := readFile(t, v, m, f.Path)
				if said != (err != nil) {
					t.Errorf("without %s: backup %s, file %q: said to be hurt: %v; read: %v", p, m.ID.Short(), f.Path, said, err)
				}
			}
			if i >= 0 {
				hurt++
				want := slices.ContainsFunc(rep.Hurt[i].Files, func(f string) bool { return strings.HasPrefix(f, "seg/") || f == "chroma.sqlite3" }) && m.Source.Path != "/srv/other"
				if got := len(rep.Hurt[i].Collections) > 0; got != want && m.Source.Path != "/srv/other" {
					t.Errorf("collections %v of files %v", rep.Hurt[i].Collections, rep.Hurt[i].Files)
				}
			}
		}
		if err := os.WriteFile(p, saved, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if hurt == 0 || hurt == len(packs)*len(all) {
		t.Errorf("%d hurt backups over %d packs", hurt, len(packs))
	}
}

func readFile(t *testing.T, v colorfast.Vault, m *colorfast.Manifest, path string) ([]byte, error) {
	t.Helper()
	in, err := v.Open(t.Context(), m, path, nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(in)
	return b, errors.Join(err, in.Close())
}

// TestBitFlips flips one bit in every blob of a small vault, one after the other, at
// several places. Each must be found by a look at all bytes, and no file may ever
// read back as something else. It is bounded in CI; "make flips" tries more places.
func TestBitFlips(t *testing.T) {
	places := 1
	if n := os.Getenv("COLORFAST_FLIPS"); n != "" {
		if _, err := fmt.Sscan(n, &places); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	all, files := smallVault(t, dir)
	meaning := meaningful(t, dir)
	seed := uint64(1)
	r := rand.New(rand.NewPCG(seed, 1))
	flipped, found, noise, refused, read := 0, 0, 0, 0, 0
	for _, path := range blobs(t, dir) {
		saved, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range places {
			at := r.IntN(len(saved))
			if meaning[filepath.Base(path)] != nil && i%3 == 1 {
				at = len(saved) - 1 - r.IntN(min(200, len(saved)))
			}
			b := bytes.Clone(saved)
			b[at] ^= 1 << r.IntN(8)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			flipped++
			rep := verifyVault(t, dir, Verification{Level: colorfast.Bytes})
			switch {
			case len(rep.Findings) > 0:
				found++
			case noMeaning(path, saved, at, meaning):
				noise++
			default:
				t.Errorf("byte %d of %d of %s: not found", at, len(saved), path)
			}
			no, yes := readEverything(t, dir, all, files)
			refused, read = refused+no, read+yes
		}
		if err := os.WriteFile(path, saved, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d: %d bits flipped, one at a time: %d found by verify, %d in bytes without meaning; of the files read then, %d were refused, %d were as stored, 0 were wrong",
		seed, flipped, found, noise, refused, read)
	if found == 0 || refused == 0 || read == 0 {
		t.Error("nothing was tried")
	}
}

// meaningful returns where in each pack, by the name of its file, the pieces are.
func meaningful(t *testing.T, dir string) map[string][]colorfast.Span {
	t.Helper()
	v := reopen(t, Options{URL: dir})
	out := map[string][]colorfast.Span{}
	err := v.conn.ContentReader().IterateContents(t.Context(), content.IterateOptions{Range: allContents, IncludeDeleted: true}, func(i content.Info) error {
		name := string(i.PackBlobID)[4:] + ".f"
		out[name] = append(out[name], colorfast.Span{Offset: int64(i.PackOffset), Length: int64(i.PackedLength)})
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatal(len(out), err)
	}
	return out
}

// noMeaning reports whether a byte means nothing to anybody: random bytes that Kopia
// puts before the first piece of a pack and behind its last, up to the pack's list of
// its pieces, whose place is said at the end; and a line end of JSON.
func noMeaning(path string, b []byte, at int, meaning map[string][]colorfast.Span) bool {
	spans := meaning[filepath.Base(path)]
	if spans == nil {
		return filepath.Base(path) == ".shards" && b[at] == '\n'
	}
	tail := b[len(b)-1-int(b[len(b)-1]):]
	_, n := binary.Uvarint(tail)
	iv, k := binary.Uvarint(tail[n:])
	list, _ := binary.Uvarint(tail[n+k+int(iv):])
	return at < int(list) && !slices.ContainsFunc(spans, func(s colorfast.Span) bool {
		return int64(at) >= s.Offset && int64(at) < s.Offset+s.Length
	})
}

// readEverything reads every file of all backups, and counts those that are refused
// and those that are as they were stored. Others end the test.
func readEverything(t *testing.T, dir string, all []*colorfast.Manifest, files []fstest.MapFS) (refused, read int) {
	t.Helper()
	v, err := Open(t.Context(), Options{URL: dir, Password: password})
	if err != nil {
		return 1, 0
	}
	defer func() { _ = v.Close(t.Context()) }()
	for i, m := range all {
		for _, f := range m.FileList {
			if f.Type != colorfast.Regular {
				continue
			}
			b, err := readFile(t, v, m, f.Path)
			switch {
			case err != nil:
				refused++
			case !bytes.Equal(b, files[i][f.Path].Data):
				t.Fatalf("backup %d, file %q: read back as other bytes without an error", i, f.Path)
			default:
				read++
			}
		}
	}
	return refused, read
}
