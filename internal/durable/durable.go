// Package durable makes files that survive a power cut.
//
// A file is written under a temporary name in its own folder, synced, renamed
// and then its folder is synced. So whoever looks, also after a power cut, finds
// the old file, the new one or none, and never a part of one. A crash may leave
// a temporary file behind; IsTemp knows it by its name.
//
// BUG(colorfast): a disk that says that it synced and did not is believed.
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const tempMark = ".tmp."

// Write puts what fill writes into the file at path, in place of whatever was
// there. The folder must exist. When it returns nil, the file is durable; on
// error, path is as it was, unless syncing the folder was what failed.
func Write(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	return write(path, perm, fill, os.Rename)
}

// WriteNew is Write for a file that must not exist yet; the error is
// fs.ErrExist if it does, also when two processes race.
func WriteNew(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	return write(path, perm, fill, func(temp, path string) error {
		if err := os.Link(temp, path); err != nil {
			return err
		}
		return os.Remove(temp)
	})
}

func write(path string, perm fs.FileMode, fill func(io.Writer) error, publish func(temp, path string) error) error {
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return fmt.Errorf("name a temporary file: %w", err)
	}
	temp := path + tempMark + hex.EncodeToString(r[:])
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = publish(temp, path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(temp)))
	}
	return SyncDir(filepath.Dir(path))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// IsTemp reports whether name, without its folder, is that of a temporary
// file of this package.
func IsTemp(name string) bool {
	i := strings.LastIndex(name, tempMark)
	if i < 0 || len(name)-i-len(tempMark) != 16 {
		return false
	}
	_, err := hex.DecodeString(name[i+len(tempMark):])
	return err == nil
}

// MkdirAll is os.MkdirAll whose new folders are durable on return.
func MkdirAll(path string, perm fs.FileMode) error {
	if fi, err := os.Stat(path); err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
