//go:build !linux

package chromatest

import "syscall"

// dieWithParent can do nothing outside Linux: a test that is killed leaves its
// Chroma behind.
func dieWithParent() *syscall.SysProcAttr { return nil }
