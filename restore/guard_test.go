package restore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/openfiles"
)

// holdOpen starts a process that has a file open, after running script, and
// returns a function that ends it.
func holdOpen(t *testing.T, file, script string) (pid int, stop func()) {
	t.Helper()
	args := []string{"sh", "-ec", fmt.Sprintf("%s\nexec 3<>'%s'; echo ready; read x", script, file)}
	if script != "" {
		args = append([]string{"unshare", "-m", "--propagation", "private"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	stop = func() { in.Close(); cmd.Wait() } //nolint:errcheck // it ends either way
	t.Cleanup(stop)
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skipf("no such process can be had here: %q", line)
	}
	return cmd.Process.Pid, stop
}

// visible skips where other processes cannot be seen.
func visible(t *testing.T) {
	t.Helper()
	if rep, err := openfiles.Under(t.TempDir()); err != nil || rep.Confined {
		t.Skipf("other processes cannot be seen here: %v", err)
	}
}

func TestReplaceOfAnOpenDirectory(t *testing.T) {
	visible(t)
	s := store(t, source(t, 1))
	t.Run("is refused, and done once the process has ended", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target")
		oldChroma(t, target)
		before := snapshot(t, filepath.Dir(target))
		pid, stop := holdOpen(t, target+"/chroma.sqlite3", "")
		r := s.restore(target)
		r.Replace, r.look, r.AssumeStopped = true, nil, true
		for _, r.DryRun = range []bool{true, false} {
			_, err := r.Run(context.Background())
			wantError(t, err, colorfast.Locked, fmt.Sprintf("process %d (sh", pid), "chroma.sqlite3", "stop it")
			wantSame(t, snapshot(t, filepath.Dir(target)), before)
		}
		stop()
		r.DryRun = false
		run(t, r)
		wantSame(t, snapshot(t, target), snapshot(t, s.src))
	})
	t.Run("is refused when the process comes during the restore", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target")
		oldChroma(t, target)
		before := snapshot(t, target)
		r := s.restore(target)
		r.Replace, r.look = true, nil
		r.at = func(step string) {
			if step == "verified" {
				holdOpen(t, target+"/common/header.bin", "")
			}
		}
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Locked, "common/header.bin")
		wantSame(t, snapshot(t, target), before)
		wantNames(t, filepath.Dir(target), "target")
	})
	t.Run("is refused for a running Chroma whose directory was deleted", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target")
		oldChroma(t, target)
		holdOpen(t, target+"/chroma.sqlite3", "")
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		r := s.restore(target)
		r.look = nil
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Locked, "chroma.sqlite3")
		wantNames(t, filepath.Dir(target))
	})
	t.Run("goes in place when a container has it mounted", func(t *testing.T) {
		parent, inside := t.TempDir(), t.TempDir()
		target := filepath.Join(parent, "target")
		oldChroma(t, target)
		old := topless(snapshot(t, target))
		put(t, parent, "elsewhere", nil, 0o644)
		pid, _ := holdOpen(t, parent+"/elsewhere", fmt.Sprintf("mount --bind '%s' '%s'", target, inside))
		r := s.restore(target)
		r.Replace, r.look = true, nil
		rep := run(t, r)
		// What the container sees, which a rename would not have changed.
		seen := fmt.Sprintf("/proc/%d/root%s", pid, inside)
		want := topless(snapshot(t, s.src))
		wantSame(t, topless(snapshot(t, seen)), want)
		wantSame(t, topless(snapshot(t, rep.KeptAside)), old)
		wantNames(t, parent, "target", "elsewhere")
		if !strings.Contains(strings.Join(rep.Notes, " "), "mounted") {
			t.Errorf("notes %q", rep.Notes)
		}
	})
}

func TestReplaceWhereProcessesCannotBeSeen(t *testing.T) {
	s := store(t, source(t, 1))
	for _, c := range []struct {
		name    string
		rep     openfiles.Report
		err     error
		refused bool
	}{
		{"is refused in a container", openfiles.Report{Confined: true}, nil, true},
		{"is refused where nobody can look", openfiles.Report{}, colorfast.Errorf(colorfast.Unsupported, "not on plan9"), true},
		{"goes on with a note when some may not be looked into", openfiles.Report{Unseen: 3}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			oldChroma(t, target)
			before := snapshot(t, filepath.Dir(target))
			r := s.restore(target)
			r.Replace = true
			r.look = func(string) (openfiles.Report, error) { return c.rep, c.err }
			if c.refused {
				_, err := r.Run(context.Background())
				wantError(t, err, colorfast.Unsupported, "--assume-stopped")
				wantSame(t, snapshot(t, filepath.Dir(target)), before)
				r.AssumeStopped = true
			}
			if rep := run(t, r); len(rep.Notes) != 1 {
				t.Errorf("notes %q", rep.Notes)
			}
		})
	}
}

func TestSpace(t *testing.T) {
	s := store(t, source(t, 1))
	t.Run("is checked before anything is written", func(t *testing.T) {
		parent := t.TempDir()
		r := s.restore(filepath.Join(parent, "target"))
		r.free = func(string) (int64, int64, error) { return 500 << 10, -1, nil }
		for _, r.DryRun = range []bool{true, false} {
			_, err := r.Run(context.Background())
			wantError(t, err, colorfast.Usage, "needs 1.", "MiB of room", "has 500.0 KiB", "make room")
			wantNames(t, parent)
		}
	})
	t.Run("counts what is allocated, not holes", func(t *testing.T) {
		r := s.restore(filepath.Join(t.TempDir(), "target"))
		r.free = func(string) (int64, int64, error) { return 1600 << 10, -1, nil }
		if rep := run(t, r); rep.Bytes < 2<<20 {
			t.Fatalf("%d bytes prove nothing", rep.Bytes)
		}
	})
	t.Run("counts inodes", func(t *testing.T) {
		r := s.restore(filepath.Join(t.TempDir(), "target"))
		r.free = func(string) (int64, int64, error) { return 1 << 40, 3, nil }
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Usage, "room for 3")
	})
	t.Run("that ends in the middle leaves nothing", func(t *testing.T) {
		disk := filepath.Join(t.TempDir(), "disk")
		mount(t, disk, "tmpfs", "size=200k")
		r := s.restore(filepath.Join(disk, "target"))
		r.free = func(string) (int64, int64, error) { return 1 << 40, -1, nil }
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Usage, "no space left", "make room")
		wantNames(t, disk)
		r.free = nil
		_, err = r.Run(context.Background())
		wantError(t, err, colorfast.Usage, "has 200.0 KiB")
		wantNames(t, disk)
	})
	t.Run("that ends in the middle of a replacement leaves the old", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "volume")
		mount(t, target, "tmpfs", "size=200k")
		oldChroma(t, target)
		before := topless(snapshot(t, target))
		r := s.restore(target)
		r.Replace = true
		r.free = func(string) (int64, int64, error) { return 1 << 40, -1, nil }
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Usage, "no space left")
		wantSame(t, topless(snapshot(t, target)), before)
		names, _ := readNames(target)
		for _, n := range names {
			if colorfast.IsAside(n) {
				t.Errorf("%q is left", n)
			}
		}
	})
}

func TestRestoreToAMount(t *testing.T) {
	s := store(t, source(t, 1))
	for _, kind := range []string{"tmpfs", "bind"} {
		t.Run("of kind "+kind+" moves the entries", func(t *testing.T) {
			leaks(t)
			target := filepath.Join(t.TempDir(), "volume")
			if kind == "tmpfs" {
				mount(t, target, "tmpfs", "")
			} else {
				mount(t, target, t.TempDir(), "")
			}
			if err := os.Mkdir(target+"/lost+found", 0o700); err != nil {
				t.Fatal(err)
			}
			rep := run(t, s.restore(target)) // lost+found alone is no content
			if rep.KeptAside != "" {
				t.Errorf("kept %q", rep.KeptAside)
			}
			want := topless(snapshot(t, s.src))
			wantSame(t, topless(snapshot(t, target)), want)
			if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o711 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			_, err := s.restore(target).Run(context.Background())
			wantError(t, err, colorfast.Usage, "--replace")
			r := s.restore(target)
			r.Replace = true
			for _, name := range []string{stamp, stamp + "-2"} {
				rep = run(t, r)
				if rep.KeptAside != target+"/.before-restore-"+name {
					t.Errorf("kept %q", rep.KeptAside)
				}
				wantSame(t, topless(snapshot(t, rep.KeptAside)), want)
			}
			wantSame(t, topless(snapshot(t, target)), want)
			if info, err := os.Stat(rep.KeptAside); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("what is kept aside has mode %v, %v", info.Mode(), err)
			}
		})
	}
	t.Run("undoes its moves when one of them fails", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "volume")
		mount(t, target, "tmpfs", "")
		oldChroma(t, target)
		mount(t, target+"/seg-mounted", "tmpfs", "")
		before := topless(snapshot(t, target))
		r := s.restore(target)
		r.Replace = true
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Internal, "busy", "new directory")
		got := topless(snapshot(t, target))
		wantSame(t, got, before)
		wantNames(t, target, "chroma.sqlite3", "chroma.sqlite3-wal", "seg-old", "common", "empty", "seg-mounted")
	})
	t.Run("keeps what a Chroma wrote that was started in the middle", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "volume")
		mount(t, target, "tmpfs", "")
		oldChroma(t, target)
		r := s.restore(target)
		r.Replace, r.Parallel = true, 1
		crashAtStep(t, r, "moved in seg-1")
		put(t, target, "chroma.sqlite3", []byte("new and small"), 0o600)
		rep := run(t, r)
		want := topless(snapshot(t, s.src))
		wantSame(t, topless(snapshot(t, target)), want)
		aside, _ := filepath.Glob(target + "/.before-restore-*/chroma.sqlite3*")
		small := 0
		for _, a := range aside {
			if info, err := os.Stat(a); err == nil && info.Size() == 13 {
				small++
			}
		}
		if small != 1 {
			t.Errorf("kept %q, report %+v", aside, rep)
		}
	})
}

func TestIsAside(t *testing.T) {
	for name, want := range map[string]bool{
		".colorfast-restore-12345678": true, ".before-restore-" + stamp: true,
		"chroma.sqlite3": false, "target.before-restore-x": false, "": false, ".": false,
	} {
		if colorfast.IsAside(name) != want {
			t.Errorf("colorfast.IsAside(%q) is %v", name, !want)
		}
	}
}

func TestTimesAreInUTC(t *testing.T) {
	s, target := store(t, source(t, 1)), filepath.Join(t.TempDir(), "target")
	oldChroma(t, target)
	r := s.restore(target)
	r.Replace = true
	r.Now = func() time.Time { return clock.In(time.FixedZone("X", 7*3600)) }
	if rep := run(t, r); !strings.HasSuffix(rep.KeptAside, stamp) {
		t.Errorf("kept %q", rep.KeptAside)
	}
}

func TestOwnersThatCannotBeSetAreTold(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may set any owner")
	}
	s, target := store(t, source(t, 1)), filepath.Join(t.TempDir(), "target")
	for i := range s.m.FileList {
		s.m.FileList[i].UID = 0
	}
	rep := run(t, s.restore(target))
	wantSame(t, snapshot(t, target), snapshot(t, s.src))
	if len(rep.Notes) != 1 || !strings.Contains(rep.Notes[0], "owners") {
		t.Errorf("notes %q", rep.Notes)
	}
}
