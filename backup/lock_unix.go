package backup

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"colorfast"
)

// lockFile takes the lock at path, or gives Locked at once. The file stays: to
// remove it would let two runs hold locks on two files of one name.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the source: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = colorfast.Errorf(colorfast.Locked, "lock the source: another run is backing it up").
			WithHint("wait for it to end; its lock is %s", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
