package apart

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// locate asks the kernel where a path lies.
func locate(name string) (location, error) {
	real, err := nearest(name)
	if err != nil {
		return location{}, err
	}
	at := location{path: real}
	var x unix.Statx_t
	// The number of the mount is there since Linux 5.8 (statx(2)).
	if err := unix.Statx(unix.AT_FDCWD, real, 0, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &x); err != nil {
		return location{}, fmt.Errorf("statx %q: %w", real, err)
	}
	at.device = fmt.Sprintf("%d:%d", x.Dev_major, x.Dev_minor)
	if x.Mask&unix.STATX_MNT_ID != 0 {
		at.mount = int(x.Mnt_id)
	}
	return at, nil
}
