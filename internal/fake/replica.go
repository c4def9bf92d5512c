package fake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"colorfast"
)

var _ colorfast.Replica = (*Vault)(nil)

// Fingerprint implements colorfast.Replica.
func (v *Vault) Fingerprint() colorfast.Fingerprint {
	path := filepath.Join(v.dir, "fingerprint")
	if _, err := os.Stat(path); err != nil {
		_ = v.write(path, strings.NewReader(string(newID()))) // read back below
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "none"
	}
	return colorfast.Fingerprint(b)
}

// Files implements colorfast.Replica.
func (v *Vault) Files(ctx context.Context, m *colorfast.Manifest) (fs.FS, error) {
	stored, err := v.Manifest(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	return files{v, stored}, nil
}

type files struct {
	v *Vault
	m *colorfast.Manifest
}

// Open implements fs.FS.
func (s files) Open(name string) (fs.File, error) {
	f := find(s.m.FileList, name)
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if s.v.OnOpen != nil {
		if err := s.v.OnOpen(name); err != nil {
			return nil, err
		}
	}
	in, err := os.Open(s.v.blob(f.SHA256))
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Corrupt, "open %q: its content is missing: %w", name, err)
	}
	return &file{File: in, v: s.v, path: name}, nil
}

// file is a stored file, read at any place.
type file struct {
	*os.File
	v    *Vault
	path string
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if f.v.OnRead != nil && n > 0 {
		if err := f.v.OnRead(f.path, b[:n]); err != nil {
			return 0, err
		}
	}
	return n, err
}

// Alike implements colorfast.Replica. It compares bytes, in blocks.
func (v *Vault) Alike(ctx context.Context, m, older *colorfast.Manifest) (map[string][]colorfast.Span, error) {
	out := map[string][]colorfast.Span{}
	for _, id := range []colorfast.BackupID{m.ID, older.ID} {
		if _, err := v.Manifest(ctx, id); err != nil {
			return nil, err
		}
	}
	for i := range m.FileList {
		a := &m.FileList[i]
		b := find(older.FileList, a.Path)
		if a.Type != colorfast.Regular || b == nil {
			continue
		}
		x, err := os.ReadFile(v.blob(a.SHA256))
		y, err2 := os.ReadFile(v.blob(b.SHA256))
		if errors.Join(err, err2) != nil {
			continue // not known
		}
		for at := 0; at < min(len(x), len(y)); at += block {
			end := min(at+block, len(x))
			if end > len(y) || end < at+block && end != len(y) || !bytes.Equal(x[at:end], y[at:end]) {
				continue
			}
			out[a.Path] = append(out[a.Path], colorfast.Span{Offset: int64(at), Length: int64(end - at)})
		}
	}
	return out, nil
}

// overlay reads a file of which some spans are taken from another one.
func overlay(in io.ReaderAt, size int64, older io.ReaderAt, alike []colorfast.Span) io.Reader {
	var parts []io.Reader
	at := int64(0)
	for _, s := range alike {
		parts = append(parts, io.NewSectionReader(in, at, s.Offset-at), io.NewSectionReader(older, s.Offset, s.Length))
		at = s.Offset + s.Length
	}
	return io.MultiReader(append(parts, io.NewSectionReader(in, at, size+1-at))...)
}
