package chromatest

import (
	"context"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"colorfast/internal/program"
)

// npmPackage holds Chroma's Rust server as an addon for Node.js.
const npmPackage = "chromadb-js-bindings-linux-x64-gnu"

type npmBinding struct{ version, integrity string }

// npmBindings are the bindings that were built from the source of a version of
// Chroma, with npm's own checksums. 1.3.4 loads with glibc 2.39 or newer,
// 1.0.1 with 2.34.
var npmBindings = map[string]npmBinding{
	"1.5.9":  {"1.3.4", "sha512-HmTUe7PEIaBngCQ70Yyle81z2wYyg9OMgJYyRUNBYCBp4ED6zTmdaOro41Vs/c/h2UyQeBXFIKNmHDeD2Nr2fw=="},
	"1.0.15": {"1.0.1", "sha512-Aw4WB+ojLgwcbopOLz2JnrmoCSRPUPmP9TBz1RUaZ3qTFINoyULkT1l6aD/O7leBZFYxRMLFQRfiCKp5uU+xYg=="},
}

//go:embed npmserver.cjs
var npmServer []byte

// The files of an installation from npm.
const (
	npmServerFile  = "npmserver.cjs"
	npmBindingFile = "chroma.node"
)

// installNPM fetches a binding with npm, checks it and tries whether it loads.
func installNPM(ctx context.Context, in *Installation, dir string) error {
	pin := npmBindings[in.Version]
	out, err := program.Run(ctx, dir, nil, "npm", "pack", "--silent", "--ignore-scripts", npmPackage+"@"+pin.version)
	if err != nil {
		return err
	}
	lines := strings.Fields(out)
	if len(lines) == 0 {
		return fmt.Errorf("npm pack %s@%s: no file", npmPackage, pin.version)
	}
	archive := filepath.Join(dir, filepath.Base(lines[len(lines)-1]))
	b, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	h := sha512.Sum512(b)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(h[:]); got != pin.integrity {
		return fmt.Errorf("%s@%s: checksum is %s, want %s", npmPackage, pin.version, got, pin.integrity)
	}
	if _, err := program.Run(ctx, dir, nil, "tar", "-xzf", archive, "--strip-components=1"); err != nil {
		return err
	}
	addons, err := filepath.Glob(filepath.Join(dir, "*.node"))
	if err != nil || len(addons) != 1 {
		return fmt.Errorf("%s@%s: %d addons inside, want one", npmPackage, pin.version, len(addons))
	}
	if err := os.Rename(addons[0], filepath.Join(dir, npmBindingFile)); err != nil {
		return err
	}
	if err := os.Remove(archive); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, npmServerFile), npmServer, 0o644); err != nil {
		return err
	}
	_, err = program.Run(ctx, dir, nil, "node", filepath.Join(dir, npmServerFile)) // without arguments: does it load?
	return err
}
