package apart

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mounted mounts something for the length of a test, which is skipped where this
// process may not.
func mounted(t *testing.T, source, point, kind, options string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	flags := uintptr(0)
	if kind == "bind" {
		flags, kind = unix.MS_BIND, ""
	}
	if err := unix.Mount(source, point, kind, flags, options); err != nil {
		t.Skipf("mount %s on %s: %v", kind, point, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// looped makes a file system in a file, with a command that gets its name, and mounts
// it.
func looped(t *testing.T, file, point string, size int64, mkfs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{append(mkfs, file), {"mount", "-o", "loop", file, point}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v: %s", args[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", point).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

// distance looks at two places of this very machine.
func realDistance(t *testing.T, a, b string) (Verdict, []Place) {
	t.Helper()
	p := Prober{Offline: true}
	places := p.Places(t.Context(), a, b)
	return Between(&places[0], &places[1]), places
}

func TestRealFolders(t *testing.T) {
	dir := t.TempDir()
	v, places := realDistance(t, dir, filepath.Join(dir, "not", "made", "yet"))
	if v.Distance != SameFileSystem {
		t.Errorf("%+v\n%+v", v, places)
	}
	if h := places[0].Host; h.Here != Yes || h.Name == "" {
		t.Errorf("%+v", h)
	}
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 8 && strings.Contains(places[0].Host.ID, strings.TrimSpace(string(id))[:8]) {
		t.Errorf("the machine-id is shown")
	}
}

func TestRealTmpfs(t *testing.T) {
	dir := t.TempDir()
	mounted(t, "tmpfs", filepath.Join(dir, "memory"), "tmpfs", "size=1m")
	v, places := realDistance(t, dir, filepath.Join(dir, "memory", "vault"))
	if v.Distance != SameHost || places[1].Volatile == "" {
		t.Errorf("%+v\n%+v", v, places[1])
	}
}

func TestRealBindMount(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	mounted(t, filepath.Join(dir, "real"), filepath.Join(dir, "bound"), "bind", "")
	v, places := realDistance(t, dir, filepath.Join(dir, "bound", "vault"))
	if v.Distance != SameFileSystem || places[1].FileSystems[0].Mount != filepath.Join(dir, "bound") {
		t.Errorf("%+v\n%+v", v, places[1])
	}
}

// TestRealOverlay: the upper layer says where the bytes are.
func TestRealOverlay(t *testing.T) {
	dir := t.TempDir()
	mounted(t, "tmpfs", filepath.Join(dir, "memory"), "tmpfs", "size=4m")
	for _, d := range []string{"lower", "upper", "work", "memory/upper", "memory/work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := "lowerdir=" + dir + "/lower"
	t.Run("in memory", func(t *testing.T) {
		mounted(t, "overlay", filepath.Join(dir, "b"), "overlay", lower+",upperdir="+dir+"/memory/upper,workdir="+dir+"/memory/work")
		v, places := realDistance(t, dir, filepath.Join(dir, "b"))
		if v.Distance != SameHost || places[1].Volatile == "" || places[1].Open {
			t.Errorf("%+v\n%+v", v, places[1])
		}
	})
	t.Run("on the source's file system", func(t *testing.T) {
		mounted(t, "overlay", filepath.Join(dir, "a"), "overlay", lower+",upperdir="+dir+"/upper,workdir="+dir+"/work")
		v, places := realDistance(t, dir, filepath.Join(dir, "a"))
		if v.Distance != SameFileSystem {
			t.Errorf("%+v\n%+v", v, places[1])
		}
	})
}

func TestRealLoop(t *testing.T) {
	dir := t.TempDir()
	looped(t, filepath.Join(dir, "disk.img"), filepath.Join(dir, "loop"), 8<<20, "mke2fs", "-q", "-F")
	v, places := realDistance(t, dir, filepath.Join(dir, "loop", "vault"))
	if v.Distance != SameFileSystem || len(places[1].FileSystems) != 2 {
		t.Errorf("on the source's file system: %+v\n%+v", v, places[1])
	}
	mounted(t, "tmpfs", filepath.Join(dir, "memory"), "tmpfs", "size=16m")
	looped(t, filepath.Join(dir, "memory", "disk.img"), filepath.Join(dir, "other"), 8<<20, "mke2fs", "-q", "-F")
	if v, places = realDistance(t, dir, filepath.Join(dir, "other")); v.Distance != SameHost || places[1].Volatile == "" {
		t.Errorf("in memory: %+v\n%+v", v, places[1])
	}
	if v, places = realDistance(t, filepath.Join(dir, "memory"), filepath.Join(dir, "other")); v.Distance != SameFileSystem {
		t.Errorf("both in memory: %+v\n%+v", v, places)
	}
}

// TestRealBtrfs: subvolumes have device numbers of their own, and are one file system.
func TestRealBtrfs(t *testing.T) {
	dir := t.TempDir()
	pool := filepath.Join(dir, "pool")
	looped(t, filepath.Join(dir, "btrfs.img"), pool, 256<<20, "mkfs.btrfs", "-q")
	for _, name := range []string{"a", "b"} {
		if out, err := exec.Command("btrfs", "subvolume", "create", filepath.Join(pool, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	at, err := locate(filepath.Join(pool, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if other, err := locate(filepath.Join(pool, "b")); err != nil || other.device == at.device {
		t.Errorf("%+v, %+v, %v: the subvolumes have one number", at, other, err)
	}
	v, places := realDistance(t, filepath.Join(pool, "a"), filepath.Join(pool, "b"))
	if v.Distance != SameFileSystem || !strings.HasPrefix(places[1].FileSystems[0].ID, "btrfs ") || strings.Contains(places[1].FileSystems[0].ID, "/") {
		t.Errorf("%+v\n%+v", v, places[1])
	}
	if v, places = realDistance(t, dir, filepath.Join(pool, "b")); v.Distance != SameFileSystem || places[1].Open {
		t.Errorf("its file is on the source's: %+v\n%+v", v, places[1])
	}
}

// inContainer is set for the child that TestRealContainer starts.
const inContainer = "COLORFAST_TEST_IN_CONTAINER"

// TestRealContainer looks from within one: an overlay is the root, and a volume is
// mounted in it.
func TestRealContainer(t *testing.T) {
	if os.Getenv(inContainer) != "" {
		p := Prober{Offline: true}
		places := p.Places(t.Context(), "/volume/chroma", "/vault", "/volume/vault")
		b, err := json.Marshal([]any{Between(&places[0], &places[1]), places[1], Between(&places[0], &places[2]), p.fill().contained()})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("found %s", b)
		return
	}
	dir := t.TempDir()
	for _, d := range []string{"layers", "root", "volume"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers, root := filepath.Join(dir, "layers"), filepath.Join(dir, "root")
	mounted(t, "tmpfs", layers, "tmpfs", "size=16m")
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(layers, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mounted(t, "overlay", root, "overlay", "lowerdir=/,upperdir="+layers+"/upper,workdir="+layers+"/work")
	mounted(t, filepath.Join(dir, "volume"), root+"/volume", "bind", "")
	mounted(t, "proc", root+"/proc", "proc", "")
	mounted(t, "/sys", root+"/sys", "bind", "")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestRealContainer$", "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), inContainer+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{`found [{"distance":"same-host"`, `"disk":"unknown"`, "the upper layer of the overlay at /", "in the layer of a container", `{"distance":"same-file-system"`, `,true]`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not find %s:\n%s", want, out)
		}
	}
}

// TestRealProbeIsQuick: at each backup it must cost next to nothing.
func TestRealProbeIsQuick(t *testing.T) {
	began := time.Now()
	for range 20 {
		realDistance(t, t.TempDir(), "/")
	}
	if took := time.Since(began) / 20; took > 200*time.Millisecond {
		t.Errorf("one look takes %v", took)
	} else {
		t.Logf("one look takes %v", took)
	}
}
