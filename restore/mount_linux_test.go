package restore

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// mount mounts what at a new directory until the test ends: "tmpfs" with
// options, or another directory.
func mount(t *testing.T, dir, what, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var flags uintptr
	if what != "tmpfs" {
		flags = unix.MS_BIND
	}
	if err := unix.Mount(what, dir, "tmpfs", flags, options); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
