package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/backup"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/internal/contract"
	"colorfast/internal/fake"
)

// source unpacks a persist directory that a real Chroma wrote.
func source(t *testing.T) string {
	t.Helper()
	dir, _ := chromatest.Fixture(t, "1.5.9")
	return dir
}

func newVault(t *testing.T) *fake.Vault {
	t.Helper()
	v, err := fake.NewVault(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// left lists what is in a staging directory beside locks.
func left(t *testing.T, staging string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(staging, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range all {
		if !strings.HasSuffix(path, ".lock") {
			out = append(out, path)
		}
	}
	return out
}

func TestBackup(t *testing.T) {
	dir, v := source(t), newVault(t)
	b := backup.Backup{Source: dir, Vault: v, Staging: filepath.Join(t.TempDir(), "made", "anew")}
	m, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Verified != colorfast.Passed || m.Records != 129 || m.Collections != 8 || m.Since != "1.5.0" || m.Format != colorfast.Format {
		t.Errorf("%+v", m.Backup)
	}
	if m.StartedAt.After(m.RestorePoint) || m.RestorePoint.After(m.FinishedAt) || m.Source.Path != dir || m.Source.Host == "" || !strings.HasPrefix(m.Tool, "colorfast ") {
		t.Errorf("%+v", m.Backup)
	}
	contract.Whole(t, v, m.ID, kept(t, dir))
	if fi, err := os.Stat(b.Staging); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the staging directory: %v %v", fi.Mode(), err)
	}
	if got := left(t, b.Staging); len(got) > 0 {
		t.Errorf("left in the staging directory: %v", got)
	}
}

// TestManifestHasNoNulls: a list with nothing in it is a list in JSON too, so
// that scripts need not look twice. It looks at a Chroma with nothing in it.
func TestManifestHasNoNulls(t *testing.T) {
	dir := source(t)
	found, err := filepath.Glob(filepath.Join(dir, "*-*-*"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	for _, segment := range found {
		if err := os.RemoveAll(segment); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteScript(db, `DELETE FROM collections; DELETE FROM segments; DELETE FROM max_seq_id; DELETE FROM embeddings; DELETE FROM embedding_metadata;
		DELETE FROM embedding_metadata_array; DELETE FROM embedding_fulltext_search; DELETE FROM embeddings_queue; DELETE FROM collection_metadata;`, nil)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b := backup.Backup{Source: dir, Vault: newVault(t), Staging: t.TempDir()}
	m, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil || strings.Contains(string(text), "null") || m.Verified != colorfast.Passed || len(m.FindingList) > 0 {
		t.Errorf("%v: %s", err, text)
	}
}

func TestDamagedSourceIsBackedUpAsItIs(t *testing.T) {
	dir, v := source(t), newVault(t)
	found, err := filepath.Glob(filepath.Join(dir, "*", chroma.PickleFile))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	if err := os.Truncate(found[0], 20); err != nil {
		t.Fatal(err)
	}
	b := backup.Backup{Source: dir, Vault: v, Staging: t.TempDir()}
	m, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !m.Damaged() || m.Consistency.Attempts < 2 || len(m.Consistency.Notes) == 0 {
		t.Errorf("%s after %d attempts, notes %v", m.Verified, m.Consistency.Attempts, m.Consistency.Notes)
	}
	contract.Whole(t, v, m.ID, os.DirFS(dir))
	list, err := v.List(t.Context())
	if err != nil || len(list) != 1 || !list[0].Damaged() {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestBackupRefuses(t *testing.T) {
	dir := source(t)
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(dir, alias); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		source, staging string
		want            colorfast.Kind
	}{
		"a source that is not there":             {filepath.Join(dir, "nowhere"), t.TempDir(), colorfast.NotFound},
		"a directory that is no source":          {t.TempDir(), t.TempDir(), colorfast.NotFound},
		"a file":                                 {filepath.Join(dir, chroma.SQLiteFile), t.TempDir(), colorfast.Usage},
		"staging in the source":                  {dir, filepath.Join(dir, "a", "b"), colorfast.Usage},
		"staging in the source, by a link":       {dir, filepath.Join(alias, "a"), colorfast.Usage},
		"staging is the source":                  {dir, dir, colorfast.Usage},
		"staging in the source, both by a link":  {alias, filepath.Join(alias, "a"), colorfast.Usage},
		"staging in the source, spelled crooked": {dir, dir + "/../" + filepath.Base(dir) + "/a", colorfast.Usage},
	} {
		before, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		v := newVault(t)
		b := backup.Backup{Source: c.source, Vault: v, Staging: c.staging}
		if m, err := b.Run(t.Context()); err == nil || colorfast.KindOf(err) != c.want || m != nil {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		after, err := os.ReadDir(dir)
		if err != nil || len(after) != len(before) {
			t.Errorf("%s: something was made in the source: %v %v", name, after, err)
		}
		if list, err := v.List(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("%s: %v %v", name, list, err)
		}
	}
}

// gate is a vault whose Put waits, and then may fail.
type gate struct {
	*fake.Vault
	entered chan struct{}
	leave   chan error
}

func (g *gate) Put(ctx context.Context, m *colorfast.Manifest, content fs.FS, p colorfast.Progress) error {
	g.entered <- struct{}{}
	if err := <-g.leave; err != nil {
		return err
	}
	return g.Vault.Put(ctx, m, content, p)
}

// TestOneRunForASource: a second run of the same source is refused at once, one
// of another source in the same staging directory is not.
func TestOneRunForASource(t *testing.T) {
	dir, staging := source(t), t.TempDir()
	g := &gate{Vault: newVault(t), entered: make(chan struct{}), leave: make(chan error)}
	var wg sync.WaitGroup
	var first error
	wg.Go(func() {
		b := backup.Backup{Source: dir, Vault: g, Staging: staging}
		_, first = b.Run(t.Context())
	})
	<-g.entered
	if len(left(t, staging)) != 1 {
		t.Errorf("in the staging directory of a run: %v", left(t, staging))
	}
	second := backup.Backup{Source: dir, Vault: g.Vault, Staging: staging}
	if _, err := second.Run(t.Context()); colorfast.KindOf(err) != colorfast.Locked || colorfast.HintOf(err) == "" {
		t.Errorf("a second run: %v", err)
	}
	other := backup.Backup{Source: source(t), Vault: g.Vault, Staging: staging}
	if _, err := other.Run(t.Context()); err != nil {
		t.Errorf("another source: %v", err)
	}
	g.leave <- nil
	wg.Wait()
	if first != nil {
		t.Error(first)
	}
	if _, err := second.Run(t.Context()); err != nil {
		t.Errorf("when the first is done: %v", err)
	}
	if list, err := g.List(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("%d backups, %v", len(list), err)
	}
}

// TestFailureLeavesNothing: neither a vault that refuses nor a context that ends
// leaves a copy, a lock or a backup; what an earlier run left when it was killed
// goes too.
func TestFailureLeavesNothing(t *testing.T) {
	dir, staging := source(t), t.TempDir()
	g := &gate{Vault: newVault(t), entered: make(chan struct{}, 2), leave: make(chan error, 2)}
	full := errors.New("the disk is full")
	g.leave <- full
	b := backup.Backup{Source: dir, Vault: g, Staging: staging}
	if m, err := b.Run(t.Context()); !errors.Is(err, full) || m != nil {
		t.Errorf("a full vault: %v", err)
	}
	if got := left(t, staging); len(got) > 0 {
		t.Errorf("left by a failed run: %v", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if got := left(t, staging); len(got) > 0 {
		t.Errorf("left by a canceled run: %v", got)
	}

	locks, err := filepath.Glob(filepath.Join(staging, "*.lock"))
	if err != nil || len(locks) != 1 {
		t.Fatal(locks, err)
	}
	killed := filepath.Join(strings.TrimSuffix(locks[0], ".lock"), "data", "old")
	if err := os.MkdirAll(killed, 0o700); err != nil {
		t.Fatal(err)
	}
	g.leave <- nil
	m, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := left(t, staging); len(got) > 0 {
		t.Errorf("left after a killed run: %v", got)
	}
	for i := range m.FileList {
		if m.FileList[i].Path == "old" {
			t.Error("what a killed run left is in the backup")
		}
	}
}
