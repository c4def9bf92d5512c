package main

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"colorfast"
)

// TestKeyring uses the kernel's keyring, where that is allowed.
func TestKeyring(t *testing.T) {
	runtime.LockOSThread() // keyrings of a process belong to threads, in truth
	defer runtime.UnlockOSThread()
	const name = "colorfast test"
	id, err := unix.AddKey("user", name, []byte("from the keyring"), unix.KEY_SPEC_USER_KEYRING)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		_, err := keyringPassword(name)
		if colorfast.KindOf(err) != colorfast.Unsupported {
			t.Errorf("without keyrings: %v", err)
		}
		t.Skip("keyrings cannot be used here; run on a host, or in a container that allows keyctl(2)")
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := keyringPassword(name)
	if err != nil || g.Password.Reveal() != "from the keyring" {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_REVOKE, id, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{name, "colorfast test, never made"} {
		if _, err := keyringPassword(gone); colorfast.KindOf(err) != colorfast.Denied {
			t.Errorf("%s: %v", gone, err)
		}
	}
}
