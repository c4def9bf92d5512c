//go:build !linux

package program

import "syscall"

// dieWithParent can do nothing outside Linux: a test that is killed leaves its
// program behind.
func dieWithParent() *syscall.SysProcAttr { return nil }
