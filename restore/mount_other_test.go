//go:build !linux

package restore

import "testing"

// mount skips the test: only Linux has the mounts that it needs.
func mount(t *testing.T, _, _, _ string) {
	t.Helper()
	t.Skip("needs mounts of Linux")
}
