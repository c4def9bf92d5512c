package openfiles

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play the process that has a file open.
func TestMain(m *testing.M) {
	if mode := os.Getenv("OPENFILES_TEST_MODE"); mode != "" {
		if err := holder(mode, os.Getenv("OPENFILES_TEST_PATH")); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holder opens path as mode says, prints "ready" and waits for the end of its
// standard input.
func holder(mode, path string) error {
	flag := os.O_RDONLY
	if mode == "rw" || mode == "map-rw" {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var mem []byte
	switch mode {
	case "deleted":
		if err := os.Remove(path); err != nil {
			return err
		}
	case "map-ro", "map-rw":
		prot := unix.PROT_READ
		if mode == "map-rw" {
			prot |= unix.PROT_WRITE
		}
		if mem, err = unix.Mmap(int(f.Fd()), 0, 4096, prot, unix.MAP_SHARED); err != nil {
			return err
		}
		f.Close()
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	_ = mem
	return err
}

// hold starts a process that has path open until the test ends, or until the
// returned function is called. script, if any, runs before it in a mount
// namespace of its own.
func hold(t *testing.T, mode, path, script string) (pid int, stop func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	if script != "" {
		cmd = exec.Command("unshare", "-m", "--propagation", "private", "sh", "-ec", script+"\nexec \"$0\"", exe)
	}
	cmd.Env = append(os.Environ(), "OPENFILES_TEST_MODE="+mode, "OPENFILES_TEST_PATH="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { in.Close(); cmd.Wait() } //nolint:errcheck // it ends either way
	t.Cleanup(stop)
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("holder said %q", line)
	}
	return cmd.Process.Pid, stop
}

// canUnshare skips a test where no mount namespace can be had.
func canUnshare(t *testing.T) {
	t.Helper()
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skipf("no mount namespace can be made here: %v", err)
	}
}

// chroma makes a directory like Chroma's.
func chroma(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "chroma data")
	if err := os.MkdirAll(filepath.Join(dir, "seg"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"chroma.sqlite3", "seg/data_level0.bin"} {
		if err := os.WriteFile(filepath.Join(dir, f), make([]byte, 8192), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func under(t *testing.T, dir string) Report {
	t.Helper()
	rep, err := Under(dir)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// wantOne asserts that exactly one process has exactly these files open.
func wantOne(t *testing.T, rep Report, pid int, write bool, files ...string) {
	t.Helper()
	if len(rep.Processes) != 1 {
		t.Fatalf("%d processes, want 1: %+v", len(rep.Processes), rep)
	}
	p := rep.Processes[0]
	if p.PID != pid || p.Write != write || !slices.Equal(p.Files, files) || !strings.Contains(p.Command, "openfiles.test") {
		t.Fatalf("saw %+v, want pid %d write %v files %q", p, pid, write, files)
	}
}

func TestUnder(t *testing.T) {
	t.Run("sees nobody, although this process has a file open itself", func(t *testing.T) {
		dir := chroma(t)
		f, err := os.Open(filepath.Join(dir, "chroma.sqlite3"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if rep := under(t, dir); len(rep.Processes) != 0 || len(rep.Mounts) != 0 {
			t.Fatalf("%+v", rep)
		}
	})
	for _, c := range []struct {
		name, mode, path string
		write            bool
		files            string
	}{
		{"sees a file open for reading", "ro", "chroma.sqlite3", false, "chroma.sqlite3"},
		{"sees a file open for writing", "rw", "seg/data_level0.bin", true, "seg/data_level0.bin"},
		{"sees a mapping whose descriptor is closed", "map-ro", "seg/data_level0.bin", false, "seg/data_level0.bin"},
		{"sees a writable mapping", "map-rw", "seg/data_level0.bin", true, "seg/data_level0.bin"},
		{"sees a deleted file", "deleted", "chroma.sqlite3", false, "chroma.sqlite3"},
		{"sees an open directory", "ro", "seg", false, "seg"},
		{"sees the directory itself", "ro", ".", false, "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := chroma(t)
			pid, stop := hold(t, c.mode, filepath.Join(dir, c.path), "")
			wantOne(t, under(t, dir), pid, c.write, c.files)
			stop()
			if rep := under(t, dir); len(rep.Processes) != 0 {
				t.Fatalf("after it ended: %+v", rep)
			}
		})
	}
	t.Run("sees a deleted file of a directory that is gone", func(t *testing.T) {
		dir := chroma(t)
		pid, _ := hold(t, "rw", filepath.Join(dir, "chroma.sqlite3"), "")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		wantOne(t, under(t, dir), pid, true, "chroma.sqlite3")
	})
	t.Run("sees a deleted file in a deleted directory", func(t *testing.T) {
		dir := chroma(t)
		pid, _ := hold(t, "rw", filepath.Join(dir, "seg/data_level0.bin"), "")
		if err := os.RemoveAll(filepath.Join(dir, "seg")); err != nil {
			t.Fatal(err)
		}
		wantOne(t, under(t, dir), pid, true, "seg/data_level0.bin")
	})
	t.Run("is not misled by a name that only begins alike", func(t *testing.T) {
		dir := chroma(t)
		other := dir + "-2"
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other+"/chroma.sqlite3", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		hold(t, "ro", other+"/chroma.sqlite3", "")
		if rep := under(t, dir); len(rep.Processes) != 0 {
			t.Fatalf("%+v", rep)
		}
	})
}

func TestUnderOtherPaths(t *testing.T) {
	t.Run("sees what was opened through a symbolic link to the directory", func(t *testing.T) {
		dir := chroma(t)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		pid, _ := hold(t, "rw", link+"/chroma.sqlite3", "")
		wantOne(t, under(t, dir), pid, true, "chroma.sqlite3")
		wantOne(t, under(t, link), pid, true, "chroma.sqlite3")
	})
	t.Run("follows symbolic links in the directory, even in a circle", func(t *testing.T) {
		dir, away := chroma(t), t.TempDir()
		if err := os.WriteFile(away+"/link_lists.bin", make([]byte, 10), 0o644); err != nil {
			t.Fatal(err)
		}
		for name, dest := range map[string]string{"moved": away, "up": filepath.Dir(dir), "self": dir, "nowhere": "/no/such"} {
			if err := os.Symlink(dest, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(away, away+"/circle"); err != nil {
			t.Fatal(err)
		}
		pid, _ := hold(t, "ro", away+"/link_lists.bin", "")
		wantOne(t, under(t, dir), pid, false, "moved/link_lists.bin")
	})
	for _, c := range []struct{ name, mode, file string }{
		{"sees a container's file", "rw", "chroma.sqlite3"},
		{"sees a container's mapping", "map-rw", "seg/data_level0.bin"},
		{"sees a container's deleted file", "deleted", "seg/data_level0.bin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			canUnshare(t)
			dir, inside := chroma(t), t.TempDir()
			pid, _ := hold(t, c.mode, filepath.Join(inside, c.file), fmt.Sprintf("mount --bind '%s' '%s'", dir, inside))
			rep := under(t, dir)
			wantOne(t, rep, pid, c.mode != "deleted", c.file)
			if len(rep.Mounts) != 1 || rep.Mounts[0].PID != pid || rep.Mounts[0].Path != inside {
				t.Fatalf("mounts %+v, want %s in process %d", rep.Mounts, inside, pid)
			}
		})
	}
	t.Run("is not misled by another container's directory of the same name", func(t *testing.T) {
		canUnshare(t)
		dir, theirs := chroma(t), chroma(t)
		hold(t, "deleted", filepath.Join(dir, "chroma.sqlite3"), fmt.Sprintf("mount --bind '%s' '%s'", theirs, dir))
		if rep := under(t, dir); len(rep.Processes) != 0 || len(rep.Mounts) != 0 {
			t.Fatalf("%+v", rep)
		}
	})
	t.Run("sees a bind mount in our own namespace", func(t *testing.T) {
		dir, alias := chroma(t), filepath.Join(t.TempDir(), "an alias")
		if err := os.Mkdir(alias, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(dir, alias, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("no bind mount can be made here: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(alias, unix.MNT_DETACH) }) //nolint:errcheck // best effort
		pid, _ := hold(t, "deleted", alias+"/chroma.sqlite3", "")
		rep := under(t, dir)
		wantOne(t, rep, pid, false, "chroma.sqlite3")
		if len(rep.Mounts) != 1 || rep.Mounts[0].PID != 0 || rep.Mounts[0].Path != alias {
			t.Fatalf("mounts %+v", rep.Mounts)
		}
	})
}

func TestUnderCountsProcessesItMayNotSee(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	if rep := under(t, t.TempDir()); rep.Unseen > 1 {
		t.Skipf("%d processes are unseen even by root", rep.Unseen)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The binary must be in a place that nobody can reach.
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.MkdirTemp("/tmp", "openfiles-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(public)
	if err := os.Chmod(public, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(public+"/t", b, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		public+"/t", "-test.run=^TestUnseenAsNobody$", "-test.v").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestUnseenAsNobody") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestUnseenAsNobody(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("run by TestUnderCountsProcessesItMayNotSee")
	}
	rep, err := Under("/tmp/no-such-directory")
	if err != nil || rep.Unseen < 2 {
		t.Fatalf("%+v, %v: want unseen processes", rep, err)
	}
	kthreads := 0
	pids, _ := processIDs()
	for _, pid := range pids {
		if kernelThread("/proc/" + pid) {
			kthreads++
		}
	}
	if rep.Unseen+kthreads > len(pids) {
		t.Fatalf("%d unseen and %d kernel threads of %d", rep.Unseen, kthreads, len(pids))
	}
}

func TestUnderToleratesProcessesThatVanish(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 60 {
			exec.Command("true").Run() //nolint:errcheck // only its coming and going matters
		}
	}()
	dir := chroma(t)
	for {
		if rep := under(t, dir); len(rep.Processes) != 0 {
			t.Fatalf("%+v", rep)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestUnderIsFastAndGivesBackItsDescriptors(t *testing.T) {
	dir := chroma(t)
	before, _ := os.ReadDir("/proc/self/fd")
	start := time.Now()
	const n = 10
	for range n {
		under(t, dir)
	}
	pids, _ := processIDs()
	t.Logf("%v a look at %d processes", time.Since(start)/n, len(pids))
	after, _ := os.ReadDir("/proc/self/fd")
	if len(after) > len(before) {
		t.Fatalf("%d descriptors before, %d after", len(before), len(after))
	}
}
