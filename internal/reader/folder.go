package reader

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// folder is where the blobs of a vault lie: "Blobs" and, in vault.md, "Folder".
type folder string

const (
	suffix      = ".f"
	longestFlat = 20
)

func (f folder) path(blob string) string {
	if len(blob) <= longestFlat {
		return filepath.Join(string(f), blob+suffix)
	}
	return filepath.Join(string(f), blob[:1], blob[1:4], blob[4:]+suffix)
}

// read returns a whole blob.
func (f folder) read(blob string) ([]byte, error) { return os.ReadFile(f.path(blob)) }

// readAt returns a part of a blob.
func (f folder) readAt(blob string, offset int64, length int) ([]byte, error) {
	file, err := os.Open(f.path(blob))
	if err != nil {
		return nil, err
	}
	b := make([]byte, length)
	_, err = io.ReadFull(io.NewSectionReader(file, offset, int64(length)), b)
	return b, errors.Join(err, file.Close())
}

// list returns the names of the blobs that begin with prefix.
func (f folder) list(prefix string) ([]string, error) {
	var blobs []string
	err := filepath.WalkDir(string(f), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p != string(f) {
			return nil // removed since
		}
		if err != nil || p == string(f) {
			return err
		}
		rel, err := filepath.Rel(string(f), p)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(filepath.ToSlash(rel), "/", "")
		if d.IsDir() && !strings.HasPrefix(name, prefix) && !strings.HasPrefix(prefix, name) {
			return fs.SkipDir
		}
		if name, ok := strings.CutSuffix(name, suffix); ok && !d.IsDir() && strings.HasPrefix(name, prefix) {
			blobs = append(blobs, name)
		}
		return nil
	})
	return blobs, err
}
