package e2e

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"colorfast"
	"colorfast/backup"
	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
	"colorfast/internal/fake"
)

// TestUnchanged backs a Chroma up again and again, while it idles, is read, is
// written to, dies and starts again. A backup is of an unchanged source exactly
// when nothing can have changed, and holds all that was acknowledged in any case.
func TestUnchanged(t *testing.T) {
	realChromas(t)
	for _, mode := range []string{"rollback", "wal"} {
		t.Run(mode, func(t *testing.T) {
			v := newVault(t)
			server := chromatest.Start(t, chromatest.Options{Version: newest})
			dir := server.Dir
			c := server.Chroma(t)
			if mode == "wal" {
				journalMode(t, dir, "wal")
			}
			if err := c.Create(t.Context(), chromatest.Spec{Name: rich, Space: "l2", SyncThreshold: 20}); err != nil {
				t.Fatal(err)
			}
			want := map[string]client.Record{}
			write := func(c chromatest.Chroma, name string, n int) {
				t.Helper()
				if err := c.Write(t.Context(), rich, client.Add, put(want, plain(name, n))); err != nil {
					t.Fatal(err)
				}
			}
			write(c, "first", 30) // some in the index, some in the queue
			b := backup.Backup{Source: dir, Vault: v, Staging: t.TempDir(), Memory: t.TempDir(), VaultKey: "e2e", Log: logTo(t)}
			var before *colorfast.Manifest // of the backup before
			run := func(unchanged bool) *colorfast.Manifest {
				t.Helper()
				time.Sleep(50 * time.Millisecond) // stamps of just now prove nothing, and make a backup read
				m, err := b.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				wantNext(t, m, unchanged, int64(len(want)), before)
				before = m
				return m
			}

			// The first read of a process may tidy the queue, and so write.
			if _, err := c.Records(t.Context(), rich); err != nil {
				t.Fatal(err)
			}
			first := run(false)
			files := fingerprint(t, dir)
			idle := run(true)
			unchanged(t, dir, files)
			if idle.Parent != first.ID || idle.StoredBytes >= first.StoredBytes {
				t.Errorf("parent %s, %d bytes stored, %d the first time", idle.Parent, idle.StoredBytes, first.StoredBytes)
			}
			// Readers change nothing that counts.
			got, err := c.Records(t.Context(), rich)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "while it runs", want, got, false)
			run(true)

			write(c, "second", 1) // one record, for the queue only
			one := run(false)
			if one.Parent == "" || one.Parent == first.ID {
				t.Errorf("parent %s", one.Parent)
			}
			server.Kill()
			dead := run(true)
			write(chromatest.Start(t, chromatest.Options{Version: newest, Dir: dir}).Chroma(t), "third", 25) // and a save
			last := run(false)
			idle = run(true)
			if last.RestorePoint.Before(dead.RestorePoint) || idle.RestorePoint.Before(last.RestorePoint) {
				t.Errorf("restore points %s, %s, %s", dead.RestorePoint, last.RestorePoint, idle.RestorePoint)
			}

			// What was stored without a look at a byte restores as anything else does.
			again := chromatest.Start(t, chromatest.Options{Version: newest, Dir: restoreTo(t, v, idle)})
			if got, err = again.Chroma(t).Records(t.Context(), rich); err != nil {
				t.Fatal(err)
			}
			compare(t, "restored", want, got, false)
		})
	}
}

// wantNext checks a backup of a source to which records are only added.
func wantNext(t *testing.T, m *colorfast.Manifest, unchanged bool, records int64, before *colorfast.Manifest) {
	t.Helper()
	wantWhole(t, m)
	if got := m.Consistency.Mode == colorfast.Unchanged; got != unchanged {
		t.Fatalf("mode %s, want unchanged: %t", m.Consistency.Mode, unchanged)
	}
	if m.Records != records {
		t.Errorf("%d records, want %d", m.Records, records)
	}
	if before != nil && (m.Changes == nil || *m.Changes != (colorfast.Changes{Added: records - before.Records})) {
		t.Errorf("changes %+v, want %d records added", m.Changes, records-before.Records)
	}
}

// TestUnchangedWhileWritten backs up without a pause while records come one by
// one at odd times, so that looks and writes meet in every way. Each backup must
// hold what was acknowledged before its restore point, and nothing that was
// begun after.
func TestUnchangedWhileWritten(t *testing.T) {
	realChromas(t)
	server := chromatest.Start(t, chromatest.Options{Version: newest})
	c := server.Chroma(t)
	if err := c.Create(t.Context(), chromatest.Spec{Name: rich, Space: "l2", SyncThreshold: 5}); err != nil {
		t.Fatal(err)
	}
	recs := plain("one", 400)
	var mu sync.Mutex
	begun, acked := make([]time.Time, 0, len(recs)), make([]time.Time, 0, len(recs))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		rng := rand.New(rand.NewPCG(3, 4))
		for i := range recs {
			mu.Lock()
			begun = append(begun, time.Now())
			mu.Unlock()
			if err := c.Write(t.Context(), rich, client.Add, recs[i:i+1]); err != nil {
				done <- err
				return
			}
			mu.Lock()
			acked = append(acked, time.Now())
			mu.Unlock()
			select {
			case <-time.After(time.Duration(rng.ExpFloat64() * float64(400*time.Millisecond))):
			case <-ctx.Done():
				done <- nil
				return
			}
		}
		done <- nil
	}()
	upTo := func(times []time.Time, limit time.Time) (n int64) {
		mu.Lock()
		defer mu.Unlock()
		for _, at := range times {
			if !at.After(limit) {
				n++
			}
		}
		return n
	}
	v, err := fake.NewVault(t.TempDir()) // a fast one, for many backups
	if err != nil {
		t.Fatal(err)
	}
	modes := map[colorfast.Mode]int{}
	b := backup.Backup{Source: server.Dir, Vault: v, Staging: t.TempDir(), Memory: t.TempDir()}
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); {
		m, err := b.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		modes[m.Consistency.Mode]++
		mu.Lock()
		least, most := acked, begun
		mu.Unlock()
		if lo, hi := upTo(least, m.Consistency.FrozenAt), upTo(most, m.Consistency.ReleasedAt); m.Records < lo || m.Records > hi || m.Damaged() {
			t.Errorf("%s backup, %s: %d records; %d were acknowledged before it, %d begun", m.Consistency.Mode, m.Verified, m.Records, lo, hi)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("%d records, backups %v", len(acked), modes)
	if modes[colorfast.Unchanged] < 5 || len(modes) < 2 {
		t.Errorf("this test shows little: %v", modes)
	}
}
