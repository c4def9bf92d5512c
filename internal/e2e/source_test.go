package e2e

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"colorfast"
	"colorfast/internal/chromatest"
	"colorfast/internal/torture"
)

// loadedServer starts the newest Chroma and keeps writers writing until stop is
// called, which fails the test if any write or query failed.
func loadedServer(t *testing.T, journal string) (s *chromatest.Server, h *torture.History, stop func()) {
	t.Helper()
	s = chromatest.Start(t, chromatest.Options{Version: newest})
	c := s.Chroma(t)
	if journal == "wal" {
		journalMode(t, s.Dir, "wal")
	}
	h = &torture.History{}
	load := torture.Workload{Seed: 3, Writers: 3, Shared: torture.DefaultCollections(true), OwnCollections: true, MaxBatch: 200, MaxRecords: 400, Queries: true}
	if err := load.Setup(t.Context(), c, h); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx, c, h, 0, 0) }()
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := h.Stats(); st.Failed+st.Refused > 0 {
			t.Errorf("%d writes failed and %d queries were refused: %v", st.Failed, st.Refused, h.Errors())
		}
	}
	t.Cleanup(func() { cancel() })
	await(t, "the writers", func() bool { return h.Stats().Acked > 20 })
	return s, h, stop
}

// TestReadOnlySource backs up a source that colorfast can only read, as in a
// container with a read-only volume, while Chroma writes to it elsewhere. Locks
// work there too: the freeze is a real one.
func TestReadOnlySource(t *testing.T) {
	realChromas(t)
	for _, journal := range []string{"rollback", "wal"} {
		t.Run(journal, func(t *testing.T) {
			s, h, stop := loadedServer(t, journal)
			defer stop()
			view := readOnlyView(t, s.Dir)
			v := newVault(t)
			m := backUp(t, v, view)
			wantWhole(t, m)
			if c := m.Consistency; c.Mode != colorfast.Frozen || c.JournalMode != journal {
				t.Errorf("mode %s, journal mode %s", c.Mode, c.JournalMode)
			}
			stop()
			again := chromatest.Start(t, chromatest.Options{Version: newest, Dir: restoreTo(t, v, m)})
			judge(t, h, m.Consistency.FrozenAt, m.Consistency.ReleasedAt, read(t, again.Chroma(t)))
		})
	}
}

// readOnlyView mounts dir once more, for reading only.
func readOnlyView(t *testing.T, dir string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	view := t.TempDir()
	if err := unix.Mount(dir, view, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(view, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", view, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("mounting for reading only is not allowed here: %v", err)
	}
	if err := os.WriteFile(filepath.Join(view, "x"), nil, 0o600); err == nil {
		t.Fatal("the view can be written to")
	}
	return view
}

// TestNothingLeaks makes many backups in one process, as a service would.
func TestNothingLeaks(t *testing.T) {
	realChromas(t)
	s, _, stop := loadedServer(t, "rollback")
	defer stop()
	v := newVault(t)
	backUp(t, v, s.Dir) // what is opened once, is open now
	const times = 20
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for range times {
		wantWhole(t, backUp(t, v, s.Dir))
	}
	list, err := v.List(t.Context())
	if err != nil || len(list) != times+1 {
		t.Errorf("%d backups are listed, want %d: %v", len(list), times+1, err)
	}
	// The writers' own connections come and go, so a few more are no leak.
	const few = times / 2
	limit := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > goroutines+few || len(descriptors(t)) > len(files)+few {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, were %d; %d descriptors, were %d:\n%s\n%s", runtime.NumGoroutine(), goroutines,
				len(descriptors(t)), len(files), strings.Join(descriptors(t), "\n"), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, path := range descriptors(t) {
		if strings.HasPrefix(path, s.Dir) {
			t.Errorf("%s of the source is still open", path)
		}
	}
}

// descriptors returns what this process has open.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	var out []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			out = append(out, to)
		}
	}
	return out
}
