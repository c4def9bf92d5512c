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
	"strings"

	"colorfast"
	"colorfast/internal/durable"
	"colorfast/vault"
)

// given is a password, with where it came from.
type given struct {
	Password vault.Secret // exported, for only then fmt lets it hide itself
	from     string       // in words, for hints and kits; names no secret
	file     string       // the file on this host that holds it; "" for none
	madeUp   bool         // the file is the one that init made
}

// mostPassword is how long a password may be, in bytes.
const mostPassword = 4096

// source is a place that the environment names a password in.
type source struct {
	name string // as errors call it
	read func() (given, error)
}

// sources returns what the environment says about a password: none, one or, which
// is a mistake, several. Only the vault's own password has all kinds of sources.
func (a *app) sources(variable string) []source {
	var out []source
	if text := a.getenv(variable); text != "" {
		out = append(out, source{variable, func() (given, error) {
			return given{Password: vault.NewSecret(text), from: "in the environment, as " + variable}, nil
		}})
	}
	if file := a.getenv(variable + "_FILE"); file != "" {
		out = append(out, source{variable + "_FILE", func() (given, error) {
			return a.readPassword(file, variable+"_FILE", fmt.Sprintf("in the file %q, which %s_FILE names", file, variable))
		}})
	}
	if command := a.getenv(variable + "_COMMAND"); command != "" {
		out = append(out, source{variable + "_COMMAND", func() (given, error) {
			return a.commandPassword(variable+"_COMMAND", command)
		}})
	}
	if variable != passwordVariable {
		return out
	}
	if name := a.getenv(variable + "_KEYRING"); name != "" {
		out = append(out, source{variable + "_KEYRING", func() (given, error) { return keyringPassword(name) }})
	}
	if dir := a.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if file := filepath.Join(dir, "colorfast-password"); !missing(file) {
			out = append(out, source{"the systemd credential colorfast-password", func() (given, error) {
				return a.readPassword(file, "CREDENTIALS_DIRECTORY", "the systemd credential colorfast-password")
			}})
		}
	}
	return out
}

const passwordVariable = "COLORFAST_PASSWORD"

// environment reads the password that the environment names; ok is false if it
// names none. It never comes from a flag, which every user of the host could read.
func (a *app) environment(variable string) (g given, ok bool, err error) {
	all := a.sources(variable)
	switch len(all) {
	case 0:
		return given{}, false, nil
	case 1:
		g, err = all[0].read()
		return g, true, err
	}
	return given{}, true, colorfast.Errorf(colorfast.Usage, "find the password: %s and %s are both set", all[0].name, all[1].name).
		WithHint("unset one of them")
}

// password finds the vault's password: where the environment says, else in the file
// that init made.
func (a *app) password(url string) (given, error) {
	if a.holdsCopies(url) {
		if g, ok, err := a.copiesPassword(); ok {
			return g, err
		}
	}
	if g, ok, err := a.environment(passwordVariable); ok {
		return g, err
	}
	file, err := a.passwordFile(url)
	if err != nil {
		return given{}, err
	}
	if missing(file) {
		if dir := vault.Folder(url); dir != "" && missing(dir) {
			return given{}, colorfast.Errorf(colorfast.NotFound, "open vault %q: there is none", url).WithHint("make it with \"colorfast init\"")
		}
		return given{}, colorfast.Errorf(colorfast.Denied, "open vault %q: no password is known for it", url).
			WithHint("set COLORFAST_PASSWORD_FILE, or run \"colorfast init\" if there is no vault yet")
	}
	return a.madePassword(file)
}

// madePassword reads a file that colorfast made.
func (a *app) madePassword(file string) (given, error) {
	g, err := a.readPassword(file, "\"colorfast init --help\"", fmt.Sprintf("in the file %q, which \"colorfast init\" made", file))
	g.madeUp = true
	return g, err
}

// passwordFile is where init keeps the password that it makes up for a vault.
func (a *app) passwordFile(url string) (string, error) {
	home, err := a.home("XDG_CONFIG_HOME", ".config")
	return filepath.Join(home, "passwords", vaultKey(url)), err
}

// readPassword reads a password from a file; see is where to look if there is none.
func (a *app) readPassword(path, see, from string) (given, error) {
	fi, err := os.Stat(path)
	if err != nil {
		kind := colorfast.Usage
		if errors.Is(err, fs.ErrPermission) {
			kind = colorfast.Denied
		}
		return given{}, colorfast.Errorf(kind, "read the password: %w", err).WithHint("see %s", see)
	}
	if !fi.Mode().IsRegular() && fi.Mode()&fs.ModeNamedPipe == 0 || fi.Size() > mostPassword {
		return given{}, colorfast.Errorf(colorfast.Usage, "read the password: %q is no file of at most %d bytes", path, mostPassword)
	}
	// systemd lets others in by access lists of its own, which look like a group's.
	if fi.Mode().IsRegular() && fi.Mode().Perm()&0o077 != 0 && !strings.HasPrefix(from, "the systemd") {
		fmt.Fprintf(a.stderr, "colorfast: warning: others can read the password file %q; run chmod 600 on it\n", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return given{}, colorfast.Errorf(colorfast.Denied, "read the password: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return given{}, colorfast.Errorf(colorfast.Usage, "read the password: %q is empty", path)
	}
	g := given{Password: vault.NewSecret(string(text)), from: from}
	if fi.Mode().IsRegular() {
		g.file = path
	}
	return g, nil
}

// newPassword returns the password for a new vault. Where none is given it makes
// one up and stores it first, so that no vault exists whose password does not.
func (a *app) newPassword(url string) (given, error) {
	if a.holdsCopies(url) {
		if g, ok, err := a.copiesPassword(); ok {
			return g, err
		}
	}
	if g, ok, err := a.environment(passwordVariable); ok {
		return g, err
	}
	path, err := a.passwordFile(url)
	if err != nil {
		return given{}, err
	}
	return a.makeUp(path)
}

// makeUp makes a password up and stores it in a file, durably and for the user
// only, unless the file is there already; and reads it from there.
func (a *app) makeUp(path string) (given, error) {
	if missing(path) {
		err := durable.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = durable.WriteNew(path, 0o600, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, rand.Text()+rand.Text())
				return err
			})
		}
		if err != nil {
			return given{}, fmt.Errorf("store the password: %w", err)
		}
	}
	return a.madePassword(path)
}
