package storage

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// blockSize is the smallest part of a file that is rewritten: a page of SQLite.
const blockSize = 4 << 10

// Change is what a step has changed in the directory.
type Change struct {
	Step      string `json:"step"`
	Bytes     int64  `json:"bytes"`     // of the directory after it
	Files     int    `json:"files"`     // changed, made or removed
	Rewritten int64  `json:"rewritten"` // bytes of blocks that differ from before or are new
}

// bring makes place like state, as a running Chroma would have changed it: a
// file keeps its identity, only blocks that differ are written, and the times
// of equal files stay as they are.
func bring(place, state string) (Change, error) {
	var c Change
	err := filepath.WalkDir(state, func(from string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(state, from)
		if err != nil {
			return err
		}
		to := filepath.Join(place, name)
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		size, written, changed, err := rewrite(to, from)
		c.Bytes += size
		c.Rewritten += written
		if changed {
			c.Files++
		}
		return err
	})
	if err != nil {
		return c, err
	}
	gone, err := missing(place, state)
	if err != nil {
		return c, err
	}
	for _, path := range gone {
		c.Files++
		err = errors.Join(err, os.RemoveAll(path))
	}
	return c, err
}

// rewrite gives the file to the content of from, block by block.
func rewrite(to, from string) (size, written int64, changed bool, err error) {
	src, err := os.Open(from)
	if err != nil {
		return 0, 0, false, err
	}
	defer src.Close()
	_, err = os.Stat(to)
	changed = errors.Is(err, fs.ErrNotExist)
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return 0, 0, false, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	want, have := make([]byte, 64*blockSize), make([]byte, 64*blockSize)
	for {
		n, err := src.ReadAt(want, size)
		if err != nil && err != io.EOF {
			return size, written, changed, err
		}
		m, readErr := dst.ReadAt(have[:n], size)
		if readErr != nil && readErr != io.EOF {
			return size, written, changed, readErr
		}
		for i := 0; i < n; i += blockSize {
			block := want[i:min(i+blockSize, n)]
			if i < m && bytes.Equal(block, have[i:min(i+blockSize, m)]) {
				continue
			}
			if _, err := dst.WriteAt(block, size+int64(i)); err != nil {
				return size, written, changed, err
			}
			written += int64(len(block))
		}
		size += int64(n)
		if err == io.EOF {
			break
		}
	}
	fi, err := dst.Stat()
	if err == nil && fi.Size() > size {
		changed, err = true, dst.Truncate(size)
	}
	return size, written, changed || written > 0, err
}

// missing returns what is in place but not in state, of a folder only its top.
func missing(place, state string) (gone []string, err error) {
	err = filepath.WalkDir(place, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(place, path)
		if err != nil {
			return err
		}
		_, err = os.Lstat(filepath.Join(state, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		gone = append(gone, path)
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return gone, err
}

// warm reads all files below dir, so that the page cache has them, and returns
// their size.
func warm(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(io.Discard, f)
		size += n
		return err
	})
	return size, err
}

// sizeOf returns the size of all files below dir.
func sizeOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			size += fi.Size()
		}
		return err
	})
	return size, err
}
