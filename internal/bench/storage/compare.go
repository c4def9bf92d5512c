package storage

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"colorfast/chroma"
)

// compare says where the directory got differs from want: every file has the
// same bytes, or if it is the database, the same pages in use. A backup need not
// keep what is in free ones.
func compare(want, got string) error {
	w, err := hashes(want)
	if err != nil {
		return err
	}
	g, err := hashes(got)
	if err != nil {
		return err
	}
	names := maps.Clone(w)
	maps.Copy(names, g)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		switch {
		case w[name] == g[name]:
		case w[name] == "" || g[name] == "":
			err = errors.Join(err, fmt.Errorf("%s is in one of %s and %s only", name, want, got))
		case name == chroma.SQLiteFile:
			err = errors.Join(err, comparePages(filepath.Join(want, name), filepath.Join(got, name)))
		default:
			err = errors.Join(err, fmt.Errorf("%s differs between %s and %s", name, want, got))
		}
	}
	return err
}

// hashes returns the SHA-256 of every file below dir, "dir" for a folder.
func hashes(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			out[name] = "dir"
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		_, err = io.Copy(h, f)
		out[name] = hex.EncodeToString(h.Sum(nil))
		return err
	})
	if err == nil && len(out) < 2 {
		err = fmt.Errorf("%s is empty", dir)
	}
	return out, err
}

// comparePages compares two databases page by page, but for those that the first
// one's free list names as leaves: SQLite never reads these
// (sqlite.org/fileformat2.html, section 1.5).
func comparePages(want, got string) error {
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer w.Close()
	g, err := os.Open(got)
	if err != nil {
		return err
	}
	defer g.Close()
	size, free, err := freeLeaves(w)
	if err != nil {
		return fmt.Errorf("read free list of %s: %w", want, err)
	}
	wr, gr := bufio.NewReaderSize(w, 1<<20), bufio.NewReaderSize(g, 1<<20)
	a, b := make([]byte, size), make([]byte, size)
	for page := uint32(1); ; page++ {
		_, errWant := io.ReadFull(wr, a)
		_, errGot := io.ReadFull(gr, b)
		switch {
		case errWant == io.EOF && errGot == io.EOF:
			return nil
		case errWant != nil || errGot != nil:
			return fmt.Errorf("%s and %s differ in size, or are not whole pages: at page %d %v, %v", want, got, page, errWant, errGot)
		case !free[page] && !bytes.Equal(a, b):
			return fmt.Errorf("%s and %s differ in page %d, which is in use", want, got, page)
		}
	}
}

// freeLeaves returns the size of the database's pages, and which of them, from 1
// on, are leaves of the free list.
func freeLeaves(db io.ReaderAt) (size int64, free map[uint32]bool, err error) {
	be := binary.BigEndian
	header := make([]byte, 100)
	if _, err := db.ReadAt(header, 0); err != nil {
		return 0, nil, err
	}
	if size = int64(be.Uint16(header[16:])); size == 1 {
		size = 64 << 10
	}
	if size < 512 {
		return 0, nil, fmt.Errorf("pages of %d bytes", size)
	}
	left := be.Uint32(header[36:])
	free = map[uint32]bool{}
	trunk := make([]byte, size)
	for at := be.Uint32(header[32:]); at != 0; at = be.Uint32(trunk) {
		if _, err := db.ReadAt(trunk, int64(at-1)*size); err != nil {
			return 0, nil, err
		}
		n := be.Uint32(trunk[4:])
		if int64(n) > size/4-2 || n >= left {
			return 0, nil, fmt.Errorf("%d leaves in page %d", n, at)
		}
		left -= n + 1
		for i := range n {
			free[be.Uint32(trunk[8+4*i:])] = true
		}
	}
	if left != 0 {
		return 0, nil, fmt.Errorf("%d free pages are in no list", left)
	}
	return size, free, nil
}
