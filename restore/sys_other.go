//go:build !linux

package restore

import "errors"

// exchange swaps two names at once; here it cannot, and two renames under the
// journal do it.
func exchange(_, _ string) error { return errors.ErrUnsupported }

// mountRoot reports whether something is mounted at dir, which lies in parent.
func mountRoot(dir, parent string) bool { return otherDevice(dir, parent) }
