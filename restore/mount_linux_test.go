package restore

import (
	"os"
	"runtime"
	"syscall"
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

// asNobody does something with the rights of a user who owns nothing.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		err := syscall.Setfsuid(65534)
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("nobody cannot be had here: %v", err)
	}
}

// ctime returns when an inode changed.
func ctime(st *syscall.Stat_t) syscall.Timespec { return st.Ctim }
