//go:build !linux

package apart

import (
	"errors"
)

// locate knows only Linux.
func locate(name string) (location, error) {
	return location{}, errors.New("only Linux shows it")
}
