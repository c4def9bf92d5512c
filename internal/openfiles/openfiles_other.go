//go:build !linux

package openfiles

import (
	"runtime"

	"colorfast"
)

// Under is not available on this system: it returns an error of kind
// Unsupported, which callers must show as "unknown", never as "nobody".
func Under(dir string) (Report, error) {
	return Report{}, colorfast.Errorf(colorfast.Unsupported, "look who has files in %q open: not possible on %s", dir, runtime.GOOS)
}
