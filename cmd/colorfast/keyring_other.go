//go:build !linux

package main

import "colorfast"

// keyringPassword cannot be done here.
func keyringPassword(string) (given, error) {
	return given{}, colorfast.Errorf(colorfast.Unsupported, "read the password from the kernel's keyring: only Linux has one").
		WithHint("use COLORFAST_PASSWORD_COMMAND")
}
