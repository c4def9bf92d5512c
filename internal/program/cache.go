package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// CacheDir returns the directory where programs of a kind are installed:
// $COLORFAST_TEST_CACHE/kind, or .cache/kind at the root of the repository,
// which it looks for from the working directory up.
func CacheDir(kind string) (string, error) {
	if d := os.Getenv("COLORFAST_TEST_CACHE"); d != "" {
		d, err := filepath.Abs(d)
		return filepath.Join(d, kind), err
	}
	d, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if b, err := os.ReadFile(filepath.Join(d, "go.mod")); err == nil && strings.HasPrefix(string(b), "module colorfast\n") {
			return filepath.Join(d, ".cache", kind), nil
		}
		up := filepath.Dir(d)
		if up == d {
			return "", errors.New("find the test cache: not inside colorfast's repository, and COLORFAST_TEST_CACHE is not set")
		}
		d = up
	}
}

// Lock takes the lock file at path, waiting for whoever has it, and returns
// what gives it back. Locks of a process that dies are free.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		f, ok, err := tryLock(path)
		if err != nil {
			return nil, err
		}
		if ok {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLock takes the lock file at path if nobody has it; closing the file gives
// it back.
func tryLock(path string) (*os.File, bool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, true, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", path, err)
}
