package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/internal/torture"
)

// crash lets writers write to a server until it is killed after the given time,
// and returns the moment of its death.
func crash(t *testing.T, s *chromatest.Server, load torture.Workload, h *torture.History, generation int, after func()) time.Time {
	t.Helper()
	c, err := s.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Client.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx, c, h, generation, 0) }()
	after()
	s.Kill()
	dead := time.Now()
	stop()
	<-done // its last requests failed, as they must
	return dead
}

// TestHotJournal kills a Chroma in the middle of a transaction, so that SQLite
// leaves a hot journal. Whoever opens the database next rolls it back; colorfast
// does so in its copy only.
func TestHotJournal(t *testing.T) {
	realChromas(t)
	h := &torture.History{}
	load := torture.Workload{Seed: 5, Writers: 3, Shared: torture.DefaultCollections(true), MaxBatch: 900, MaxRecords: 2000}
	dir := t.TempDir()
	var dead time.Time
	for n := 0; ; n++ {
		s := chromatest.Start(t, chromatest.Options{Version: newest, Dir: dir})
		if n == 0 {
			if err := load.Setup(t.Context(), s.Chroma(t), h); err != nil {
				t.Fatal(err)
			}
		}
		dead = crash(t, s, load, h, n, func() { awaitJournal(t, dir) })
		if hotJournal(t, dir) {
			t.Logf("kill %d left a hot journal", n+1)
			break
		}
		if n == 2 {
			t.Log("no kill left a hot journal: made one")
			dir = makeHot(t, dir)
			break
		}
	}
	before := fingerprint(t, dir)
	v := newVault(t)
	m := backUp(t, v, dir)
	unchanged(t, dir, before)
	if c := m.Consistency; c.Mode != colorfast.HotJournal || !c.HotJournal {
		t.Errorf("mode %s, hot journal %t", c.Mode, c.HotJournal)
	}
	if m.Damaged() { // by a save that the kill cut short; then Chroma is no judge
		t.Skipf("the kill also damaged the source: %v", m.FindingList)
	}
	restored := restoreTo(t, v, m)
	if _, err := os.Stat(filepath.Join(restored, chroma.JournalFile)); err == nil {
		t.Error("the journal was restored too")
	}
	again := chromatest.Start(t, chromatest.Options{Version: newest, Dir: restored})
	judge(t, h, dead, dead, read(t, again.Chroma(t)))
}

// awaitJournal waits until a journal lies in dir that is worth a kill, or for a
// few seconds.
func awaitJournal(t *testing.T, dir string) {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	for limit := time.Now().Add(2 * time.Second); time.Now().Before(limit); {
		// A journal gets its magic number in the end, when it is synced; between
		// that and the commit it is hot.
		if hotJournal(t, dir) {
			return
		}
	}
}

func hotJournal(t *testing.T, dir string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, chroma.JournalFile))
	return err == nil && len(b) > 512 && b[0] != 0
}

// makeHot returns a copy of dir as a crash in a large transaction leaves it.
func makeHot(t *testing.T, dir string) string {
	t.Helper()
	work := copyOf(t, dir)
	db, err := sqlite.OpenConn(filepath.Join(work, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, sql := range []string{"PRAGMA cache_size=5", "PRAGMA cache_spill=ON", "BEGIN", "UPDATE embedding_metadata SET string_value = 'never committed' || key"} {
		if err := sqlitex.ExecuteTransient(db, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	hot := copyOf(t, work)
	if !hotJournal(t, hot) {
		t.Fatal("could not make a hot journal")
	}
	return hot
}

// TestKilledSaves kills a Chroma that saves its indexes all the time and backs
// up what it left. Either the backup passes, and then a real Chroma reads every
// record from it; or the backup says what is wrong. A real Chroma on a copy of
// the same directory tells which it should be.
func TestKilledSaves(t *testing.T) {
	realChromas(t)
	v := newVault(t)
	rng := rand.New(rand.NewPCG(1, 2))
	passed := 0
	for i, version := range []string{newest, newest, newest, "0.6.3"} {
		h := &torture.History{}
		often := 5
		if version[0] == '0' {
			often = 50 // it saves several times in one request, and slowly
		}
		load := torture.Workload{Seed: 11, Writers: 3, MaxBatch: 300, MaxRecords: 600, Shared: []chromatest.Spec{
			{Name: "always.l2", Space: "l2", SyncThreshold: often},
			{Name: "always.cosine", Space: "cosine", SyncThreshold: 2 * often},
		}}.For(version)
		s := chromatest.Start(t, chromatest.Options{Version: version})
		if err := load.Setup(t.Context(), s.Chroma(t), h); err != nil {
			t.Fatal(err)
		}
		dead := crash(t, s, load, h, 0, func() {
			await(t, "the writers", func() bool { return h.Stats().Acked > 15 })
			time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
			if i > 0 {
				awaitSave(s.Dir)
			}
		})
		before := fingerprint(t, s.Dir)
		m := backUp(t, v, s.Dir)
		unchanged(t, s.Dir, before)
		whole := chromaReads(t, version, copyOf(t, s.Dir), h, dead)
		t.Logf("chroma %s killed: backup %s, findings %d, Chroma alone reads all: %t", version, m.Verified, m.Findings, whole)
		for _, f := range m.FindingList {
			t.Logf("  %s %s: %s", f.Code, f.Object, f.Detail)
		}
		if m.Damaged() {
			continue
		}
		passed++
		if !whole {
			t.Errorf("the backup passed, but Chroma %s does not read every record from that directory", version)
		}
		if passed == 1 && !chromaReads(t, version, restoreTo(t, v, m), h, dead) {
			t.Errorf("the backup passed, but Chroma %s does not read every record from what was restored", version)
		}
	}
	if passed == 0 {
		t.Error("no backup passed: this test shows little")
	}
}

// awaitSave waits until a save of an index in dir is under way, or for a few
// seconds. The header is written first, the pickle last.
func awaitSave(dir string) {
	for limit := time.Now().Add(3 * time.Second); time.Now().Before(limit); {
		headers, _ := filepath.Glob(filepath.Join(dir, "*", chroma.HeaderFile)) // never fails
		for _, header := range headers {
			h, err := os.Stat(header)
			p, perr := os.Stat(filepath.Join(filepath.Dir(header), chroma.PickleFile))
			if err == nil && perr == nil && h.ModTime().After(p.ModTime()) {
				return
			}
		}
	}
}

// chromaReads reports whether a real Chroma reads from dir all that was
// acknowledged when it died, and nothing else.
func chromaReads(t *testing.T, version, dir string, h *torture.History, dead time.Time) bool {
	t.Helper()
	s, err := chromatest.Launch(t.Context(), chromatest.Options{Version: version, Dir: dir})
	if err != nil {
		t.Log(err)
		return false
	}
	defer s.Kill()
	c, err := s.Connect(t.Context())
	if err != nil {
		t.Log(err)
		return false
	}
	defer c.Client.Close()
	got, err := torture.Read(t.Context(), c)
	if err != nil {
		t.Log(err)
		return false
	}
	verdict := torture.Judge(h, dead, dead, got)
	if !verdict.Good() {
		t.Logf("%d records lost, %d corrupt, such as %s", verdict.Lost, verdict.Corrupt, &verdict.Discrepancies[0])
	}
	return verdict.Good()
}
