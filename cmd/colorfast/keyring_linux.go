package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"colorfast"
	"colorfast/vault"
)

// keyringPassword reads a key of type "user" from the keyrings of the kernel
// (keyrings(7)): those of the session, then those of the user.
//
// They need neither a desktop nor a bus, unlike the Secret Service, and so are there
// for a cron job on a server; what is in them is gone after a restart.
func keyringPassword(name string) (given, error) {
	fail := func(kind colorfast.Kind, format string, args ...any) *colorfast.Error {
		return colorfast.Errorf(kind, "read the password from the kernel's keyring: "+format, args...)
	}
	// A key in the keyring of the user can be read only by who possesses it, which
	// a process of cron or systemd does not until that keyring is linked.
	_, _ = unix.KeyctlInt(unix.KEYCTL_LINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
	var id int
	var err error
	for _, ring := range []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING} {
		if id, err = unix.KeyctlSearch(ring, "user", name, 0); err == nil {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
		return given{}, fail(colorfast.Denied, "there is no key %q: %w", name, err).
			WithHint("store it with \"keyctl padd user %s @u\"", name)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return given{}, fail(colorfast.Unsupported, "it cannot be used here: %w", err).WithHint("containers often forbid it; use COLORFAST_PASSWORD_FILE")
	case err != nil:
		return given{}, fail(colorfast.Denied, "key %q: %w", name, err)
	}
	text := make([]byte, mostPassword)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, text, 0)
	switch {
	case err != nil:
		return given{}, fail(colorfast.Denied, "key %q: %w", name, err)
	case n == 0 || n > len(text):
		return given{}, fail(colorfast.Usage, "key %q has %d bytes, want 1 to %d", name, n, len(text))
	}
	return given{Password: vault.NewSecret(string(text[:n])), from: fmt.Sprintf("the key %q in the kernel's keyring", name)}, nil
}
