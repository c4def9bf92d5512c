package vault

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"colorfast"
)

// copyPeak returns the peak memory in KiB of a process that copies a backup of so
// many MB from one vault into another, and then the next one.
func copyPeak(t *testing.T, mb int) int64 {
	t.Helper()
	dir := t.TempDir()
	from, to := newVault(t, filepath.Join(dir, "from")), filepath.Join(dir, "to")
	newVault(t, to)
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(src, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 1<<20)
	for i := range mb {
		randomBytes(uint64(i), buf)
		if _, err := f.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	var parent colorfast.BackupID
	for i := range 2 {
		if _, err := f.WriteAt([]byte{byte(i)}, int64(i)<<20); err != nil {
			t.Fatal(err)
		}
		m := &colorfast.Manifest{FileList: []colorfast.File{{Path: "file", Type: colorfast.Regular, Size: int64(mb) << 20, Layout: &colorfast.Layout{PageBytes: 4096}}}}
		m.Parent = parent
		m.Summarize()
		if err := from.Put(t.Context(), m, os.DirFS(src), nil); err != nil {
			t.Fatal(err)
		}
		parent = m.ID
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|1", childEnv, to), childDoes+"=copy "+filepath.Join(dir, "from"), "GOMEMLIMIT=160MiB")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var kib int64
	if _, err := fmt.Sscan(string(out), &kib); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wholeVault(t, reopen(t, Options{URL: to}), 2)
	return kib
}

func TestMemoryOfACopyDoesNotGrow(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 700 MB")
	}
	small, large := copyPeak(t, 50), copyPeak(t, 300)
	t.Logf("peak of resident memory of a copy: %d KiB for 50 MB, %d KiB for 300 MB", small, large)
	if large > 256<<10 {
		t.Errorf("a copy of 300 MB takes %d KiB", large)
	}
}
