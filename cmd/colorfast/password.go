package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"colorfast"
	"colorfast/internal/durable"
	"colorfast/vault"
)

// password finds the vault's password: in the environment, in the file that the
// environment names, or in the file that init made. It never comes from a flag,
// which every user of the host could read.
func (a *app) password(url string) (vault.Secret, error) {
	given, file := a.getenv("COLORFAST_PASSWORD"), a.getenv("COLORFAST_PASSWORD_FILE")
	switch {
	case given != "" && file != "":
		return vault.Secret{}, colorfast.Errorf(colorfast.Usage, "find the password: COLORFAST_PASSWORD and COLORFAST_PASSWORD_FILE are both set").
			WithHint("unset one of them")
	case given != "":
		return vault.NewSecret(given), nil
	case file != "":
		return a.readPassword(file)
	}
	file, err := a.passwordFile(url)
	if err != nil {
		return vault.Secret{}, err
	}
	if missing(file) {
		hint := "set COLORFAST_PASSWORD_FILE, or run \"colorfast init\" if there is no vault yet"
		if dir := vault.Folder(url); dir != "" && missing(dir) {
			return vault.Secret{}, colorfast.Errorf(colorfast.NotFound, "open vault %q: there is none", url).WithHint("make it with \"colorfast init\"")
		}
		return vault.Secret{}, colorfast.Errorf(colorfast.Denied, "open vault %q: no password is known for it", url).WithHint("%s", hint)
	}
	return a.readPassword(file)
}

// passwordFile is where init keeps the password that it makes up for a vault.
func (a *app) passwordFile(url string) (string, error) {
	home, err := a.home("XDG_CONFIG_HOME", ".config")
	return filepath.Join(home, "passwords", vaultKey(url)), err
}

func (a *app) readPassword(path string) (vault.Secret, error) {
	fi, err := os.Stat(path)
	if err != nil {
		kind := colorfast.Usage
		if errors.Is(err, fs.ErrPermission) {
			kind = colorfast.Denied
		}
		return vault.Secret{}, colorfast.Errorf(kind, "read the password: %w", err).WithHint("see COLORFAST_PASSWORD_FILE")
	}
	const most = 4096
	if !fi.Mode().IsRegular() && fi.Mode()&fs.ModeNamedPipe == 0 || fi.Size() > most {
		return vault.Secret{}, colorfast.Errorf(colorfast.Usage, "read the password: %q is no file of at most %d bytes", path, most)
	}
	if fi.Mode().IsRegular() && fi.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(a.stderr, "colorfast: warning: others can read the password file %q; run chmod 600 on it\n", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return vault.Secret{}, colorfast.Errorf(colorfast.Denied, "read the password: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return vault.Secret{}, colorfast.Errorf(colorfast.Usage, "read the password: %q is empty", path)
	}
	return vault.NewSecret(string(text)), nil
}

// newPassword returns the password for a new vault. Where none is given it makes
// one up and stores it first, so that no vault exists whose password does not;
// stored names that file then.
func (a *app) newPassword(url string) (_ vault.Secret, stored string, err error) {
	if a.getenv("COLORFAST_PASSWORD") != "" || a.getenv("COLORFAST_PASSWORD_FILE") != "" {
		p, err := a.password(url)
		return p, "", err
	}
	path, err := a.passwordFile(url)
	if err != nil {
		return vault.Secret{}, "", err
	}
	if missing(path) {
		err := durable.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = durable.WriteNew(path, 0o600, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, rand.Text()+rand.Text())
				return err
			})
		}
		if err != nil {
			return vault.Secret{}, "", fmt.Errorf("store the password: %w", err)
		}
	}
	p, err := a.readPassword(path)
	return p, path, err
}
