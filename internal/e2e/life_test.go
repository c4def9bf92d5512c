package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/internal/torture"
)

// TestLife leads one source of each version through what sources go through:
// a server writes to it, it is backed up under load, it stands still and is
// backed up, a program that embeds Chroma takes it over and it is backed up while
// that idles and while it writes. Every backup is restored and must be what the
// writers were told, to our readers and to the same Chroma.
func TestLife(t *testing.T) {
	realChromas(t)
	v := newVault(t) // one for all: several sources in one vault
	for _, version := range chromatest.Versions() {
		for _, mode := range []string{"rollback", "wal"} {
			if mode == "wal" && version != newest && version != "0.5.23" {
				continue // one of each era
			}
			t.Run(version+" "+mode, func(t *testing.T) { live(t, v, version, mode) })
		}
	}
}

// life is one source and what is known of it.
type life struct {
	vault   colorfast.Vault
	version string
	dir     string
	mode    string // rollback or wal
	load    torture.Workload
	history torture.History
	scene   *scene
	runs    int // of the workload, each a generation of writers
}

func live(t *testing.T, v colorfast.Vault, version, mode string) {
	l := &life{vault: v, version: version, dir: t.TempDir(), mode: mode}
	l.load = torture.Workload{Seed: 1, Writers: 3, OwnCollections: true, MaxBatch: 150, MaxRecords: 200, Queries: true}.For(version)
	server := chromatest.Start(t, chromatest.Options{Version: version, Dir: l.dir})
	c := server.Chroma(t)
	if mode == "wal" {
		journalMode(t, l.dir, "wal")
	}
	if err := l.load.Setup(t.Context(), c, &l.history); err != nil {
		t.Fatal(err)
	}
	l.scene = setScene(t, c, version, l.dir)
	l.write(t, c, 15)

	loaded := l.underLoad(t, c)
	l.wantManifest(t, loaded)
	t.Run("server under load", func(t *testing.T) { l.restored(t, loaded, true) })

	server.Kill()
	idle := time.Now()
	before, opened := fingerprint(t, l.dir), starts(t, l.dir)
	stopped := backUp(t, v, l.dir)
	unchanged(t, l.dir, before)
	if n := starts(t, l.dir); n != opened {
		t.Errorf("the database was opened for writing: acquire_write had %d rows, has %d", opened, n)
	}
	if stopped.Consistency.FrozenAt.Before(idle) {
		t.Error("the backup of the stopped source is of before it stopped")
	}
	l.wantManifest(t, stopped)
	t.Run("stopped", func(t *testing.T) { l.restored(t, stopped, false) })

	chromatest.RequireEmbedded(t, version)
	e := chromatest.Embed(t, chromatest.Options{Version: version, Dir: l.dir})
	l.write(t, e, 5)
	resting := backUp(t, v, l.dir)
	l.wantManifest(t, resting)
	busy := l.underLoad(t, e)
	l.wantManifest(t, busy)
	e.Kill()
	t.Run("embedded idle", func(t *testing.T) { l.restoredEmbedded(t, resting) })
	t.Run("embedded under load", func(t *testing.T) { l.restoredEmbedded(t, busy) })
}

// write lets every writer do so many operations.
func (l *life) write(t *testing.T, c chromatest.Chroma, ops int) {
	t.Helper()
	l.runs++
	if err := l.load.Run(t.Context(), c, &l.history, l.runs, ops); err != nil {
		t.Fatal(err)
	}
	l.noErrors(t)
}

func (l *life) noErrors(t *testing.T) {
	t.Helper()
	for _, e := range l.history.Errors() {
		t.Errorf("a writer met an error: %s", e)
	}
	if s := l.history.Stats(); s.Refused > 0 {
		t.Errorf("%d of %d queries were refused", s.Refused, s.Queries)
	}
}

// underLoad backs up while the writers write.
func (l *life) underLoad(t *testing.T, c chromatest.Chroma) *colorfast.Manifest {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l.runs++
	done := make(chan error, 1)
	had := l.history.Stats().Acked
	go func() { done <- l.load.Run(ctx, c, &l.history, l.runs, 0) }()
	await(t, "the writers", func() bool { return l.history.Stats().Acked > had+10 })
	m := backUp(t, l.vault, l.dir)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.noErrors(t)
	return m
}

// wantManifest looks at what a backup says of itself.
func (l *life) wantManifest(t *testing.T, m *colorfast.Manifest) {
	t.Helper()
	wantWhole(t, m)
	if m.Consistency.JournalMode != l.mode {
		t.Errorf("journal mode %q, want %q", m.Consistency.JournalMode, l.mode)
	}
	if mode := m.Consistency.Mode; mode != colorfast.Frozen && mode != colorfast.Shared && !(l.mode == "wal" && mode == colorfast.Optimistic) {
		t.Errorf("mode %q", mode)
	}
	orphans := 0
	for _, f := range m.FindingList {
		if f.Code == colorfast.HNSWOrphan {
			orphans++
		}
	}
	// Before 1.0 the directory goes with the collection if it was loaded.
	if l.scene.modern && orphans == 0 {
		t.Error("no note of the directory that the dropped collection has left")
	}
	for _, want := range append(slices.Clone(sceneCollections), l.load.Shared[0].Name) {
		if !slices.ContainsFunc(m.Inventory.Collections, func(c colorfast.Collection) bool {
			return c.Name == want && c.Database == "default_database"
		}) {
			t.Errorf("the inventory lacks collection %s", want)
		}
	}
	for i := range m.FileList {
		if p := m.FileList[i].Path; p == chroma.JournalFile || p == chroma.WALFile || p == chroma.SHMFile {
			t.Errorf("%s is in the backup", p)
		}
	}
	if dbs := len(m.Inventory.Databases); dbs != 2 {
		t.Errorf("%d databases, want 2", dbs)
	}
	if since := m.Inventory.Generation.Since; since > l.version && !strings.HasPrefix(since, l.version) {
		t.Errorf("generation since %s, written by %s", since, l.version)
	}
}

// restored restores a backup and starts a server on it. With again it also
// writes, kills and starts once more.
func (l *life) restored(t *testing.T, m *colorfast.Manifest, again bool) {
	dir := restoreTo(t, l.vault, m)
	s := chromatest.Start(t, chromatest.Options{Version: l.version, Dir: dir})
	c := s.Chroma(t)
	judge(t, &l.history, m.Consistency.FrozenAt, m.Consistency.ReleasedAt, read(t, c, sceneCollections...))
	l.scene.check(t, c, dir, l.dir)
	l.wantInventory(t, c, m)
	if again {
		check := writeMore(t, c)
		s.Kill()
		s = chromatest.Start(t, chromatest.Options{Version: l.version, Dir: dir})
		c = s.Chroma(t)
		check(c)
		l.scene.check(t, c, dir, l.dir)
	}
	s.Kill()
}

func (l *life) restoredEmbedded(t *testing.T, m *colorfast.Manifest) {
	dir := restoreTo(t, l.vault, m)
	e := chromatest.Embed(t, chromatest.Options{Version: l.version, Dir: dir})
	judge(t, &l.history, m.Consistency.FrozenAt, m.Consistency.ReleasedAt, read(t, e, sceneCollections...))
	l.scene.check(t, e, dir, l.dir)
	l.wantInventory(t, e, m)
	check := writeMore(t, e)
	check(e)
	e.Kill()
}

// wantInventory compares the manifest's numbers with Chroma's own.
func (l *life) wantInventory(t *testing.T, c chromatest.Reader, m *colorfast.Manifest) {
	t.Helper()
	for i := range m.Inventory.Collections {
		col := &m.Inventory.Collections[i]
		if col.Database != "default_database" {
			continue
		}
		if n, err := c.Count(t.Context(), col.Name); err != nil || n != col.Records {
			t.Errorf("%s: Chroma counts %d (%v), the manifest says %d", col.Name, n, err, col.Records)
		}
	}
}

// writeMore writes new records, enough for a save of the index, and returns a
// function that looks for them.
func writeMore(t *testing.T, c chromatest.Chroma) func(chromatest.Reader) {
	t.Helper()
	more := torture.Workload{Seed: 99, Writers: 1, Shared: []chromatest.Spec{{Name: "after.restore", Space: "l2", SyncThreshold: 20}}, MaxBatch: 60, MaxRecords: 300}
	h := &torture.History{}
	if err := more.Setup(t.Context(), c, h); err != nil {
		t.Fatal(err)
	}
	if err := more.Run(t.Context(), c, h, 0, 8); err != nil {
		t.Fatal(err)
	}
	if errs := h.Errors(); len(errs) > 0 {
		t.Error("writing after the restore:", errs)
	}
	now := time.Now()
	return func(r chromatest.Reader) {
		t.Helper()
		got := read(t, r)
		judge(t, h, now, now, torture.State{"after.restore": got["after.restore"]})
	}
}

// TestVersionsAreAll fails when a version is added that the tests above would
// call by the wrong name.
func TestVersionsAreAll(t *testing.T) {
	if got := fmt.Sprint(chromatest.Versions()); !strings.Contains(got, newest) || len(chromatest.Versions()) < 5 {
		t.Errorf("versions %v", got)
	}
}
