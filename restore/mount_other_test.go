//go:build !linux

package restore

import (
	"syscall"
	"testing"
)

// mount skips the test: only Linux has the mounts that it needs.
func mount(t *testing.T, _, _, _ string) {
	t.Helper()
	t.Skip("needs mounts of Linux")
}

// asNobody skips the test: only Linux has rights of a thread.
func asNobody(t *testing.T, _ func()) {
	t.Helper()
	t.Skip("needs threads of Linux")
}

// ctime returns nothing, for its name differs by platform.
func ctime(*syscall.Stat_t) syscall.Timespec { return syscall.Timespec{} }
