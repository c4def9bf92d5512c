package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"colorfast"

	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
)

// Open implements colorfast.Vault. Kopia authenticates every piece before any
// byte of it is given out; io.EOF comes only if the whole also has the length
// and the SHA-256 that m records.
func (v *Vault) Open(ctx context.Context, m *colorfast.Manifest, path string, older io.ReaderAt) (colorfast.Content, error) {
	ctx = v.ctx(ctx)
	if !fs.ValidPath(path) {
		return nil, colorfast.Errorf(colorfast.Usage, "read file %q: not a path inside the backup", path)
	}
	for i := range m.FileList {
		if f := &m.FileList[i]; f.Path == path && f.Type == colorfast.Regular {
			t, err := v.treeOf(ctx, m.ID)
			if err != nil {
				return nil, err
			}
			return openFile(ctx, t, f)
		}
	}
	return nil, colorfast.Errorf(colorfast.NotFound, "read file %q: the backup holds no such regular file", path)
}

// treeOf returns the stored tree of a backup, and keeps it for the next call.
func (v *Vault) treeOf(ctx context.Context, id colorfast.BackupID) (*tree, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tree == nil || v.tree.id != id {
		_, t, err := readSummary(ctx, v.conn, id)
		if err != nil {
			return nil, err
		}
		v.tree = t
	}
	return v.tree, nil
}

func openFile(ctx context.Context, t *tree, f *colorfast.File) (*reader, error) {
	if len(f.SHA256) != 2*sha256.Size {
		return nil, colorfast.Errorf(colorfast.Corrupt, "read file %q: the manifest records no SHA-256 of it", f.Path)
	}
	e, err := t.find(ctx, dataName+"/"+f.Path)
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "read file %q", f.Path)
	}
	if e.Type != snapshot.EntryTypeFile {
		return nil, colorfast.Errorf(colorfast.Corrupt, "read file %q: it was not stored as a regular file", f.Path)
	}
	r, err := t.rep.OpenObject(ctx, e.ObjectID)
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "read file %q", f.Path)
	}
	return &reader{ctx: ctx, r: r, file: f, hash: sha256.New()}, nil
}

// reader reads one stored file.
type reader struct {
	ctx  context.Context // Kopia reads under the context that the object was opened with
	r    object.Reader
	file *colorfast.File
	hash hash.Hash
	n    int64
	err  error // io.EOF only after all was good
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	if n < 0 || n > len(p) {
		n, err = 0, fmt.Errorf("read gave %d bytes of %d", n, len(p))
	}
	_, _ = r.hash.Write(p[:n])
	r.n += int64(n)
	switch {
	case r.n > r.file.Size:
		n, err = 0, fmt.Errorf("it has more than the recorded %d bytes", r.file.Size)
	case errors.Is(err, io.EOF):
		err = r.whole()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fail(err, colorfast.Corrupt, "read file %q", r.file.Path)
	}
	r.err = err
	return n, err
}

func (r *reader) whole() error {
	if r.n != r.file.Size {
		return fmt.Errorf("it has %d bytes, %d are recorded", r.n, r.file.Size)
	}
	if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.file.SHA256 {
		return fmt.Errorf("it has SHA-256 %s, %s is recorded", got, r.file.SHA256)
	}
	return io.EOF
}

// Moved implements colorfast.Content.
func (r *reader) Moved() int64 { return r.n }

// Close implements io.Closer.
func (r *reader) Close() error { return r.r.Close() }
