package vault

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/ledger"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
)

// series stores backups of a source that changes in every way: pages rewritten, data
// added, a file replaced.
func series(t *testing.T, v *Vault, path string, n int, seed uint64) []colorfast.BackupID {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := 0; i+8 <= n; i += 8 {
			x := r.Uint64()
			for k := range 8 {
				b[i+k] = byte(x >> (8 * k))
			}
		}
		return b
	}
	files := fstest.MapFS{"still": {Data: noise(9 << 20)}, "rewritten": {Data: noise(6 << 20)}, "replaced": {}}
	// The third one has no parent, and is nobody's: it holds much alone.
	parents := []int{-1, 0, -1, 1, 3}
	var ids []colorfast.BackupID
	for i := range n {
		at := r.IntN(5 << 20)
		copy(files["rewritten"].Data[at:], noise(600<<10))
		files["rewritten"].Data = append(files["rewritten"].Data, noise(300<<10)...)
		files["replaced"].Data = noise(3 << 20)
		m := &colorfast.Manifest{}
		m.Source = colorfast.Source{Host: "h", Path: path}
		if p := parents[i]; p >= 0 {
			m.Parent = ids[p]
		}
		for _, name := range []string{"replaced", "rewritten", "still"} {
			m.FileList = append(m.FileList, colorfast.File{Path: name, Type: colorfast.Regular, Size: int64(len(files[name].Data))})
		}
		m.Consistency.FrozenAt = time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)
		m.Summarize()
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	return ids
}

// drop deletes a backup's manifest, as retention will.
func drop(t *testing.T, v *Vault, id colorfast.BackupID) {
	t.Helper()
	err := repo.DirectWriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		return w.DeleteManifest(ctx, manifest.ID(id))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// settle maintains until nothing is left to do: marks what nobody needs and forgets
// it (see reclaim), and then packs short packs anew.
func settle(t *testing.T, v *Vault) {
	t.Helper()
	reclaim(t, v)
	for range 2 {
		if err := v.maintain(t.Context(), maintenance.ModeFull, maintenance.SafetyNone, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// packBytes sums the packs in a vault's folder.
func packBytes(t *testing.T, dir string) (n int64) {
	for path, size := range blobFiles(t, dir) {
		if rel, err := filepath.Rel(dir, path); err == nil && (rel[0] == 'p' || rel[0] == 'q') {
			n += size
		}
	}
	return n
}

func readUsage(t *testing.T, v *Vault) *ledger.Reading {
	t.Helper()
	r, err := v.Usage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Unread) > 0 {
		t.Fatalf("unread: %v", r.Unread)
	}
	return r
}

// TestUsageForetellsWhatADeletionFrees deletes backups for real, lets maintenance do
// all it can, and compares what the folder lost with what was foretold.
func TestUsageForetellsWhatADeletionFrees(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for marks of whole seconds")
	}
	dir := t.TempDir()
	v := newVault(t, dir)
	ids := series(t, v, "/one", 5, 1)
	other := series(t, v, "/two", 2, 2)
	settle(t, v)
	// The bound: what packs have beside their pieces, which changes as they are packed
	// anew, and the list of backups and the notes of maintenance.
	const bound = 64 << 10
	foretold := int64(0)
	for _, victims := range [][]colorfast.BackupID{{ids[0]}, {ids[2]}, {ids[4], other[0]}, {ids[3]}, {other[1]}} {
		r := readUsage(t, v)
		before := packBytes(t, dir)
		if got := r.Totals().Packs; got != before {
			t.Errorf("packs: %d, in the folder are %d", got, before)
		}
		chosen := map[int]bool{}
		holds := r.OfBackups()
		var alone, freed int64
		for i, b := range r.Backups {
			for _, id := range victims {
				if b.ID == id {
					chosen[i] = true
					alone += holds[i].Alone
					freed += holds[i].Freed
				}
			}
		}
		c := r.Without(func(b int) bool { return chosen[b] })
		if c.Backups != len(victims) || len(victims) == 1 && (c.Freed != freed || c.Unique != alone) {
			t.Errorf("%+v, alone %d, freed %d", c, alone, freed)
		}
		for _, id := range victims {
			drop(t, v, id)
		}
		settle(t, v)
		got := before - packBytes(t, dir)
		t.Logf("%d deleted: %d bytes only theirs, %d foretold, %d freed", len(victims), c.Unique, c.Freed, got)
		if d := got - c.Freed; d > bound || d < -bound {
			t.Errorf("%v: foretold %d, freed %d", victims, c.Freed, got)
		}
		foretold += c.Freed
	}
	if foretold < 20<<20 {
		t.Errorf("only %d bytes were foretold: this test shows little", foretold)
	}
	if left := readUsage(t, v).Totals(); left.Reclaimable > bound {
		t.Errorf("left: %+v", left)
	}
}

// shardsText is what the file .shards holds, which is no blob (docs/formats/vault.md).
const shardsText = `{"default":[1,3],"maxNonShardedLength":20}` + "\n"

// TestUsageSums: what is said of backups, sources and the vault fits together.
func TestUsageSums(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	if r := readUsage(t, v); len(r.Backups) != 0 || r.Totals().Needed > 4096 {
		t.Errorf("an empty vault: %+v", r.Totals())
	}
	ids := series(t, v, "/one", 3, 1)
	series(t, v, "/two", 1, 1) // with the same content: it is stored once
	r := readUsage(t, v)
	var listed int64
	for _, k := range r.Blobs {
		listed += k.Bytes
	}
	if want := du(t, dir) - int64(len(shardsText)); listed != want {
		t.Errorf("blobs: %d bytes, the folder has %d", listed, want)
	}
	if len(r.Backups) != 4 || r.Backups[0].ID != ids[0] {
		t.Fatalf("%d backups", len(r.Backups))
	}
	var alone int64
	holds, sources := r.OfBackups(), r.OfSources()
	for i, h := range holds {
		alone += h.Alone
		if h.Full < 15<<20 || h.Full != h.Alone+h.Shared || h.Full > r.Totals().Needed {
			t.Errorf("%s: %+v", r.Backups[i].ID, h)
		}
	}
	if len(sources) != 2 || sources[0].Full <= holds[0].Full || sources[0].Alone < alone-holds[3].Alone {
		t.Errorf("sources: %+v", sources)
	}
	all := r.Without(func(int) bool { return true })
	if needed := r.Totals().Needed; all.Unique > needed || all.Unique < needed-64<<10 {
		t.Errorf("without all: %+v, needed %d", all, needed)
	}
}

// TestUsageOfADamagedVault: what cannot be read is said, and the rest is counted.
func TestUsageOfADamagedVault(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	ids := series(t, v, "/one", 1, 1)
	before := blobFiles(t, dir)
	more := series(t, v, "/two", 1, 2)
	gone := 0
	for path := range blobFiles(t, dir) {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, old := before[path]; !old && rel[0] == 'p' {
			gone++
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := reopen(t, Options{URL: dir}).Usage(t.Context(), nil)
	if err != nil || gone == 0 {
		t.Fatalf("%d removed, %v", gone, err)
	}
	if len(r.Backups) != 1 || r.Backups[0].ID != ids[0] || !strings.Contains(r.Unread[more[0]], "not found") {
		t.Errorf("%d backups, unread %v", len(r.Backups), r.Unread)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Usage(ctx, nil); err == nil {
		t.Error("no error although the context has ended")
	}
}

// TestUsageOfFormat1: its backups are trees of Kopia's directories.
func TestUsageOfFormat1(t *testing.T) {
	r := readUsage(t, format1(t))
	if len(r.Backups) != 2 || r.Totals().Needed == 0 {
		t.Fatalf("%d backups, %+v", len(r.Backups), r.Totals())
	}
	for i, h := range r.OfBackups() {
		if h.Full < r.Totals().Needed/4 || h.Full > r.Totals().Needed || h.Alone <= 0 {
			t.Errorf("%s: %+v of %+v", r.Backups[i].ID, h, r.Totals())
		}
	}
}
