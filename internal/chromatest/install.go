package chromatest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"colorfast/internal/program"
)

// cacheName is where in the cache Chromas are.
const cacheName = "chroma"

//go:embed requirements/*.txt
var requirements embed.FS

// Versions returns the versions of Chroma that can be installed, newest first.
func Versions() []string { return []string{"1.5.9", "1.0.15", "0.6.3", "0.5.23", "0.4.24"} }

// Source says where an installed Chroma is from.
type Source string

// The sources.
const (
	PyPI Source = "pip" // the Python package of this very version
	NPM  Source = "npm" // the server inside the JavaScript binding: no embedded client
)

// Installation is an installed Chroma.
type Installation struct {
	Version string
	Dir     string
	Source  Source
}

// ErrNotInstalled says that a version of Chroma is not in the cache.
var ErrNotInstalled = errors.New("not installed")

// Lookup finds an installed version. Errors: ErrNotInstalled, also where it was
// installed from other pins.
func Lookup(version string) (*Installation, error) {
	if !slices.Contains(Versions(), version) {
		return nil, fmt.Errorf("chroma %s: no such version here; there are %s", version, strings.Join(Versions(), ", "))
	}
	cache, err := program.CacheDir(cacheName)
	if err != nil {
		return nil, err
	}
	in := &Installation{Version: version, Dir: filepath.Join(cache, version)}
	mark, err := program.Marker(in.Dir)
	if err != nil {
		return nil, err
	}
	for _, in.Source = range []Source{PyPI, NPM} {
		if want, ok := in.marker(); ok && want == mark {
			return in, nil
		}
	}
	return nil, fmt.Errorf("chroma %s: %w", version, ErrNotInstalled)
}

// marker returns what a good installation says it is: its source and the hash
// of its pins; false if the version cannot be had from that source.
func (in *Installation) marker() (string, bool) {
	var pins string
	switch in.Source {
	case PyPI:
		pins = string(in.pins())
	case NPM:
		b, ok := npmBindings[in.Version]
		if !ok {
			return "", false
		}
		pins = b.version + " " + b.integrity
	}
	h := sha256.Sum256([]byte(pins))
	return string(in.Source) + " " + hex.EncodeToString(h[:]) + "\n", true
}

func (in *Installation) pins() []byte {
	b, err := requirements.ReadFile("requirements/" + in.Version + ".txt")
	if err != nil {
		panic(err) // embedded; a test reads all
	}
	return b
}

// Install installs a version unless it is there. Where pip cannot fetch it, the
// binding on npm stands in, for the versions that have one, until pip can. log
// is told each step; nil means silent. Several processes may call it at the
// same time.
func Install(ctx context.Context, version string, log func(format string, args ...any)) (*Installation, error) {
	if log == nil {
		log = func(string, ...any) {}
	}
	if in, err := Lookup(version); done(in, err) {
		return in, err
	}
	cache, err := program.CacheDir(cacheName)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := program.Lock(ctx, filepath.Join(cache, version+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	standIn, err := Lookup(version)
	if done(standIn, err) { // somebody else just did
		return standIn, err
	}
	in := &Installation{Version: version, Dir: filepath.Join(cache, version), Source: PyPI}
	log("chroma %s: installing with pip", version)
	err = in.install(ctx, installPip)
	if err == nil {
		return in, nil
	}
	if _, ok := npmBindings[version]; !ok {
		return nil, fmt.Errorf("%w (no stand-in on npm: that has servers from 1.0 on only)", err)
	}
	if ctx.Err() != nil || errors.Is(err, errHashes) {
		return nil, err
	}
	log("chroma %s: %v", version, err)
	log("chroma %s: falling back to the server in npm's %s %s", version, npmPackage, npmBindings[version].version)
	if standIn != nil {
		return standIn, nil
	}
	in.Source = NPM
	if npmErr := in.install(ctx, installNPM); npmErr != nil {
		return nil, errors.Join(err, npmErr)
	}
	return in, nil
}

// done reports whether what Lookup returned leaves nothing to install.
func done(in *Installation, err error) bool {
	if err != nil {
		return !errors.Is(err, ErrNotInstalled)
	}
	return in.Source == PyPI
}

// install fills a directory beside in.Dir and puts it in place whole.
func (in *Installation) install(ctx context.Context, fill func(ctx context.Context, in *Installation, dir string) error) error {
	mark, _ := in.marker()
	return program.Install(ctx, in.Dir, mark, func(ctx context.Context, dir string) error { return fill(ctx, in, dir) })
}

// errHashes says that a package was not the pinned one, which no other source
// makes good.
var errHashes = errors.New("pip got a package that is not the pinned one")

// installPip makes a virtual environment with the pinned packages. It is
// started by its bin/python only, so that it may be renamed afterwards.
func installPip(ctx context.Context, in *Installation, dir string) error {
	python, err := exec.LookPath("python3.11") // which the pins were resolved for
	if err != nil {
		if python, err = exec.LookPath("python3"); err != nil {
			return err
		}
	}
	pins := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(pins, in.pins(), 0o644); err != nil {
		return err
	}
	if _, err := program.Run(ctx, dir, nil, python, "-m", "venv", dir); err != nil {
		return err
	}
	out, err := program.Run(ctx, dir, nil, filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--no-input",
		"--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile", "-r", pins)
	if err != nil && strings.Contains(out, "DO NOT MATCH THE HASHES") {
		return fmt.Errorf("%w: %w", errHashes, err)
	}
	return err
}
