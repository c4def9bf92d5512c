package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
)

var errLie = errors.New("storage says no")

// liar is a storage that reports a failure of writes number from to to.
type liar struct {
	blob.Storage
	kept bool // and yet did them

	mu       sync.Mutex
	n        int
	from, to int
}

func (l *liar) arm(from, to int, kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n, l.from, l.to, l.kept = 0, from, to, kept
}

func (l *liar) lies() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return l.n >= l.from && l.n <= l.to
}

func (l *liar) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if !l.lies() {
		return l.Storage.PutBlob(ctx, id, data, opts)
	}
	if l.kept {
		if err := l.Storage.PutBlob(ctx, id, data, opts); err != nil {
			return err
		}
	}
	return errLie
}

func (l *liar) DeleteBlob(ctx context.Context, id blob.ID) error {
	if !l.lies() {
		return l.Storage.DeleteBlob(ctx, id)
	}
	if l.kept {
		if err := l.Storage.DeleteBlob(ctx, id); err != nil {
			return err
		}
	}
	return errLie
}

const always = 1 << 30

func TestPutWithALyingStorage(t *testing.T) {
	dir := t.TempDir()
	earlier := newVault(t, dir)
	first, firstFiles := contract.Sample(0)
	if err := earlier.Put(t.Context(), first, firstFiles, nil); err != nil {
		t.Fatal(err)
	}
	var l *liar
	v := reopen(t, Options{URL: dir, wrap: func(st blob.Storage) blob.Storage {
		l = &liar{Storage: st}
		return l
	}})
	l.arm(always, always, false)
	m, files := contract.Next(first, firstFiles, 1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	writes := l.n
	good := map[colorfast.BackupID]uint64{first.ID: 0, m.ID: 1}
	seed := uint64(2)
	outcome := map[string]int{}
	for _, to := range []int{0, always} { // one lie, or lies from then on
		for _, kept := range []bool{false, true} {
			for n := 1; n <= writes; n++ {
				m, files := contract.Next(first, firstFiles, seed)
				l.arm(n, max(n, to), kept)
				err := v.Put(t.Context(), m, files, nil)
				l.arm(always, always, false)
				if err == nil {
					good[m.ID] = seed
					outcome["stored"]++
				} else {
					outcome["refused"]++
					wantKind(t, err, colorfast.Unreachable, "")
				}
				seed++
				others, lerr := earlier.List(t.Context())
				if lerr != nil || len(others) != len(good) {
					t.Fatalf("write %d to %d, kept %v: put %v; %d listed, want %d; %v", n, max(n, to), kept, err, len(others), len(good), lerr)
				}
			}
		}
	}
	t.Logf("%d writes in a put; %v", writes, outcome)
	m, files = contract.Next(first, firstFiles, seed)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal("next put:", err)
	}
	good[m.ID] = seed
	for id, seed := range good {
		m, err := earlier.Manifest(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		_, files := contract.Next(first, firstFiles, seed)
		if id == first.ID {
			files = firstFiles
		}
		r, err := earlier.Open(t.Context(), m, "seg/data_level0.bin", nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(b, files["seg/data_level0.bin"].Data) {
			t.Fatalf("backup %d: %d bytes, %v", seed, len(b), err)
		}
	}
	contract.Whole(t, earlier, first.ID, firstFiles)
	contract.Whole(t, earlier, m.ID, files)
}

func blobFiles(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	m := map[string]int64{}
	if err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			m[p] = fi.Size()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	blobs := blobFiles(t, dir)
	if len(blobs) < 6 {
		t.Fatalf("only %d files in the vault", len(blobs))
	}
	for path, size := range blobs {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{size / 2, size - 1, 20} {
			at = min(at, size-1)
			bad := bytes.Clone(good)
			bad[at] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s byte %d: %s", filepath.Base(path), at, found(t, dir, m, files))
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path := range blobs { // and every one missing
		if strings.HasSuffix(path, ".shards") || strings.HasSuffix(path, formatCopyBlob+".f") || strings.HasSuffix(path, configBlob+".f") {
			continue
		}
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if got := found(t, dir, m, files); got == "harmless" {
			t.Errorf("%s is missing, and nobody noticed", path)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	contract.Whole(t, v, m.ID, files)
}

// found says how damage is noticed, and fails the test if a file reads back
// differently, or does not read back and no check says so.
func found(t *testing.T, dir string, m *colorfast.Manifest, files fstest.MapFS) string {
	t.Helper()
	v, err := Open(t.Context(), Options{URL: dir, Password: password})
	if err != nil {
		return "open: " + err.Error()
	}
	defer func() {
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	findings, err := v.Check(t.Context(), m, colorfast.Bytes, nil)
	if err != nil && colorfast.KindOf(err) != colorfast.Corrupt && colorfast.KindOf(err) != colorfast.NotFound {
		t.Fatalf("check: %v", err)
	}
	said := err != nil || len(findings) > 0
	for _, f := range m.FileList {
		if f.Type != colorfast.Regular {
			continue
		}
		var b []byte
		r, err := v.Open(t.Context(), m, f.Path, nil)
		if err == nil {
			b, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		if err == nil && !bytes.Equal(b, files[f.Path].Data) {
			t.Fatalf("%s reads back differently", f.Path)
		}
		if err != nil && !said {
			t.Fatalf("check says nothing, but: %v", err)
		}
	}
	if !said {
		return "harmless"
	}
	if err != nil {
		return "check: " + err.Error()
	}
	return "check: " + string(findings[0].Code) + " " + findings[0].Object
}

func TestListPassesOverWhatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	err := repo.WriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		for _, p := range []any{
			&snapshot.Manifest{Description: "stock kopia", RootEntry: &snapshot.DirEntry{}},
			map[string]any{"colorfast": "no backup"},
			map[string]any{"colorfast": map[string]any{"format": "one"}},
		} {
			if _, err := w.PutManifest(ctx, map[string]string{manifest.TypeLabelKey: "snapshot"}, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := v.List(t.Context()); err != nil || len(l) != 1 || l[0].ID != m.ID {
		t.Errorf("listed: %v, %v", l, err)
	}
	all, damage, err := v.conn.manifests.snapshots(t.Context(), v.conn)
	if err != nil || len(all) != 4 || len(damage) > 0 {
		t.Fatalf("%d manifests, %v, %v", len(all), damage, err)
	}
	for id := range all {
		if id := colorfast.BackupID(id); id != m.ID {
			if _, err := v.Manifest(t.Context(), id); err == nil {
				t.Errorf("%s is taken for a backup", id)
			}
		}
	}
	snaps, err := snapshot.LoadSnapshots(t.Context(), v.conn, []manifest.ID{manifest.ID(m.ID)})
	if err != nil || len(snaps) != 1 || snaps[0].Source.Path != m.Source.Path || snaps[0].RootEntry.DirSummary.TotalFileSize == 0 {
		t.Errorf("stock kopia sees %+v, %v", snaps, err)
	}
}

func TestManifestFromSomebodyHostile(t *testing.T) {
	v := newVault(t, t.TempDir())
	m, files := contract.Sample(1)
	for _, path := range []string{"../../etc/cron.d/x", "/etc/passwd"} {
		_, w, err := v.conn.NewDirectWriter(t.Context(), repo.WriteSessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		evil := *m
		evil.Format = colorfast.Format
		evil.FileList = []colorfast.File{{Path: path, Type: colorfast.Directory}}
		s := &session{w: w, p: colorfast.Quiet{}, m: &evil, pageKey: v.pageKey}
		if err := s.run(t.Context(), v, files); err != nil {
			t.Fatal(err)
		}
		s.sums.remove()
		if err := v.commit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = v.Manifest(t.Context(), evil.ID)
		wantKind(t, err, colorfast.Corrupt, "")
	}
}

func TestPutFindsWhatTheVaultLost(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	removed := 0
	for p := range blobFiles(t, dir) {
		if filepath.Base(filepath.Dir(filepath.Dir(p))) == "p" {
			removed++
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if removed == 0 {
		t.Fatal("no pack was found")
	}
	found, err := v.Check(t.Context(), m, colorfast.Stored, nil)
	if err != nil || len(found) < 5 || found[0].Code != colorfast.StoredMissing {
		t.Errorf("check: %v, %v", found, err)
	}
	again, files := contract.Sample(1)
	wantKind(t, v.Put(t.Context(), again, files, nil), colorfast.Corrupt, "storage")
	if l, err := v.List(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("%d listed, %v", len(l), err)
	}
}

func TestMaintain(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.f.tmp.0123456789abcdef"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Garbage: a backup whose manifest is taken away again.
	before := du(t, dir)
	gone, goneFiles := contract.Sample(2)
	if err := v.Put(t.Context(), gone, goneFiles, nil); err != nil {
		t.Fatal(err)
	}
	err := repo.WriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		return w.DeleteManifest(ctx, manifest.ID(gone.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	full := du(t, dir)
	if err := v.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := du(t, dir); now < full {
		t.Errorf("with its margin of safety, maintenance removed what is seconds old: %d bytes, %d before", now, full)
	}
	reclaim(t, v)
	if now := du(t, dir); now > before+100_000 {
		t.Errorf("%d bytes after maintenance, %d before the garbage, %d with it", now, before, full)
	}
	contract.Whole(t, v, m.ID, files)
	contract.Whole(t, reopen(t, Options{URL: dir}), m.ID, files)

	// Somebody else is at it.
	l, err := takeLease(t.Context(), v.conn.BlobReader().(blob.Storage), leasePrefix, leaseLife)
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	if again, err := takeLease(t.Context(), l.st, leasePrefix, leaseLife); err != nil || again != nil {
		t.Errorf("two have the lease: %v, %v", again, err)
	}
	if err := l.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Or was made owner.
	err = repo.WriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		p, err := maintenance.GetParams(ctx, w)
		if err != nil {
			return err
		}
		p.Owner = "admin@host"
		return maintenance.SetParams(ctx, w, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, v.Maintain(t.Context()), colorfast.Locked, "maintenance set")
}

// reclaim runs full maintenance without any margin of safety.
func reclaim(t *testing.T, v *Vault) {
	t.Helper()
	safety := maintenance.SafetyNone
	// Rewriting what was just marked as deleted dates the mark one second into
	// the future, where it is not yet believed.
	safety.RewriteMinAge = time.Hour
	for range 3 {
		if err := v.maintain(t.Context(), maintenance.ModeFull, safety, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // marks have whole seconds
	}
}

func du(t *testing.T, dir string) int64 {
	var n int64
	for _, size := range blobFiles(t, dir) {
		n += size
	}
	return n
}

func TestOneDamagedManifestHidesNoOther(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	var ids []colorfast.BackupID
	packs := []map[string]int64{blobFiles(t, dir)}
	for seed := range uint64(3) {
		m, files := contract.Sample(seed)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
		packs = append(packs, blobFiles(t, dir))
	}
	// The newest small "q" pack of the second backup holds its manifest alone.
	var newest string
	var at time.Time
	for p := range packs[2] {
		fi, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, old := packs[1][p]; !old && strings.HasPrefix(strings.TrimPrefix(p, dir), "/q") && fi.ModTime().After(at) {
			newest, at = p, fi.ModTime()
		}
	}
	if err := os.Remove(newest); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, Options{URL: dir})
	l, err := again.List(t.Context())
	if err != nil || len(l) != 2 {
		t.Fatalf("%d listed, %v", len(l), err)
	}
	_, err = again.Manifest(t.Context(), ids[1])
	wantKind(t, err, colorfast.Corrupt, "")
	for _, i := range []uint64{0, 2} {
		_, files := contract.Sample(i)
		contract.Whole(t, again, ids[i], files)
	}
	m, files := contract.Sample(7)
	if err := again.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	contract.Whole(t, again, m.ID, files)
	if err := again.Maintain(t.Context()); err == nil || colorfast.KindOf(err) != colorfast.Corrupt {
		t.Errorf("maintenance of a damaged vault: %v", err)
	}
}
