package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"colorfast"
)

// environment is where storages find their credentials: the variables of the
// process, which only the door reads, and files that they name.
type environment func(name string) string

// get returns a variable, "" if it is not set.
func (e environment) get(name string) string {
	if e == nil {
		return ""
	}
	return e(name)
}

// first returns the first of these variables that is set.
func (e environment) first(names ...string) string {
	for _, n := range names {
		if v := e.get(n); v != "" {
			return v
		}
	}
	return ""
}

// home returns a path below the user's home directory, "" if there is none.
func (e environment) home(parts ...string) string {
	home := e.get("HOME")
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(append([]string{home}, parts...)...)
}

// secret returns what the variable holds, or the file that the variable with
// _FILE behind its name names. It is read again at each call, since credentials
// may be renewed while a backup runs.
func (e environment) secret(name string) (Secret, error) {
	value, file := e.get(name), e.get(name+"_FILE")
	switch {
	case value != "" && file != "":
		return Secret{}, colorfast.Errorf(colorfast.Usage, "find the storage's credentials: %s and %s_FILE are both set", name, name).
			WithHint("unset one of them")
	case file != "":
		b, err := readSmall(file)
		if err != nil {
			return Secret{}, colorfast.Errorf(fileKind(err), "read %s_FILE: %w", name, err).WithHint("let it name a readable file with the secret in it")
		}
		return NewSecret(string(bytes.TrimRight(b, "\r\n"))), nil
	}
	return NewSecret(value), nil
}

// mostSecret is more than any key, certificate or list of hosts has.
const mostSecret = 4 << 20

// readSmall reads a file that a person has named.
func readSmall(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.IsDir() || fi.Size() > mostSecret {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("no file of a few kilobytes")}
	}
	return os.ReadFile(path)
}

// fileKind is the kind of an error about a file that a person has named.
func fileKind(err error) colorfast.Kind {
	if errors.Is(err, fs.ErrPermission) {
		return colorfast.Denied
	}
	return colorfast.Usage
}
