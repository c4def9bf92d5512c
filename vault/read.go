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
	"colorfast/pages"

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
			from, err := v.reading(ctx, m)
			if err != nil {
				return nil, err
			}
			c, err := from.open(ctx, f, older)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
	}
	return nil, colorfast.Errorf(colorfast.NotFound, "read file %q: the backup holds no such regular file", path)
}

// reading is a stored backup whose files are being read.
type reading struct {
	id      colorfast.BackupID
	tree    *tree
	m       *pages.Map // nil in format 1, whose files are objects of Kopia
	files   map[string]pagedFile
	pieces  *pieces
	pageKey []byte
	far     bool // the storage is not on this host: ask it for much at a time
}

// pagedFile is a file of a backup, and where its parts are.
type pagedFile struct {
	file    *colorfast.File
	cut     pages.Cut
	streams []*pages.Stream
}

// reading returns what is needed to read files of a backup, and keeps it for the
// next call.
func (v *Vault) reading(ctx context.Context, m *colorfast.Manifest) (*reading, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil || v.last.id != m.ID {
		r, err := newReading(ctx, v.conn, m.ID, v.pageKey)
		if err != nil {
			return nil, fail(err, colorfast.Corrupt, "read backup %q", m.ID)
		}
		v.last = r
	}
	return v.last, nil
}

// newReading reads the map of a backup. It goes by the manifest in the vault,
// whatever a caller holds.
func newReading(ctx context.Context, conn *connection, id colorfast.BackupID, pageKey []byte) (*reading, error) {
	m, t, err := readManifest(ctx, conn, id)
	if err != nil {
		return nil, err
	}
	r := &reading{id: id, tree: t, pieces: newPieces(conn), pageKey: pageKey, far: conn.far}
	if m.Format < 2 {
		return r, nil
	}
	if r.m, err = t.pages(ctx, m.FileList); err != nil {
		return nil, err
	}
	r.files = pagedFiles(m.FileList, r.m)
	return r, nil
}

func pagedFiles(list []colorfast.File, m *pages.Map) map[string]pagedFile {
	out := map[string]pagedFile{}
	at := 0
	for _, f := range regular(list) {
		c := pages.NewCut(f.Size, f.Layout)
		out[f.Path] = pagedFile{f, c, m.Streams[at : at+c.Parts()]}
		at += c.Parts()
	}
	return out
}

// open opens a file, of which f says what is expected.
func (r *reading) open(ctx context.Context, f *colorfast.File, older io.ReaderAt) (*reader, error) {
	if len(f.SHA256) != 2*sha256.Size {
		return nil, colorfast.Errorf(colorfast.Corrupt, "read file %q: the manifest records no SHA-256 of it", f.Path)
	}
	var from colorfast.Content
	var err error
	if r.m == nil {
		from, err = r.object(ctx, f)
	} else {
		from, err = r.paged(ctx, f, older)
	}
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "read file %q", f.Path)
	}
	return &reader{ctx: ctx, from: from, file: f, hash: sha256.New()}, nil
}

// object opens a file of format 1.
func (r *reading) object(ctx context.Context, f *colorfast.File) (colorfast.Content, error) {
	e, err := r.tree.find(ctx, dataName+"/"+f.Path)
	if err != nil {
		return nil, err
	}
	if e.Type != snapshot.EntryTypeFile {
		return nil, errors.New("it was not stored as a regular file")
	}
	o, err := r.tree.rep.OpenObject(ctx, e.ObjectID)
	if err != nil {
		return nil, err
	}
	return &moved{ReadCloser: o}, nil
}

// moved counts what is read.
type moved struct {
	io.ReadCloser
	n int64
}

// Read implements io.Reader.
func (m *moved) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.n += int64(max(n, 0))
	return n, err
}

// Moved implements colorfast.Content.
func (m *moved) Moved() int64 { return m.n }

// reader reads one stored file and checks it.
type reader struct {
	ctx  context.Context
	from colorfast.Content
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
	n, err := r.from.Read(p)
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
func (r *reader) Moved() int64 { return r.from.Moved() }

// Close implements io.Closer.
func (r *reader) Close() error { return r.from.Close() }
