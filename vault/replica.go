package vault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"time"

	"colorfast"
	"colorfast/pages"

	"github.com/kopia/kopia/snapshot"
)

var _ colorfast.Replica = (*Vault)(nil)

// Alike implements colorfast.Replica. It compares where the two maps have the
// parts of a page: what lies at the same place is the same.
func (v *Vault) Alike(ctx context.Context, m, older *colorfast.Manifest) (map[string][]colorfast.Span, error) {
	ctx = v.ctx(ctx)
	now, err := v.reading(ctx, m)
	if err != nil {
		return nil, err
	}
	then, err := newReading(ctx, v.conn, older.ID, v.pageKey)
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "read backup %q", older.ID)
	}
	out := map[string][]colorfast.Span{}
	if now.m == nil || then.m == nil {
		return out, nil // files of format 1 are not mapped
	}
	for p, a := range now.files {
		if b, ok := then.files[p]; ok && a.cut.Alike(b.cut) {
			if spans := alike(now.m, &a, then.m, &b); len(spans) > 0 {
				out[p] = spans
			}
		}
	}
	return out, nil
}

// alike returns the spans of the pages that two files, which are cut alike, have
// at the same place.
func alike(am *pages.Map, a *pagedFile, bm *pages.Map, b *pagedFile) []colorfast.Span {
	total := min(a.cut.Pages(), b.cut.Pages())
	same := make([]bool, total)
	for i := range same {
		same[i] = true
	}
	for part := range a.streams {
		at := int64(0)
		next := a.streams[part].Range(0, total)
		for r := range next {
			for i := range r.Count {
				x, y := a.streams[part].At(at+i), b.streams[part].At(at+i)
				same[at+i] = same[at+i] && samePlace(am, x, bm, y) &&
					a.cut.PartBytes(part, at+i) == b.cut.PartBytes(part, at+i)
			}
			at += r.Count
		}
	}
	var out []colorfast.Span
	for i, ok := range same {
		if !ok {
			continue
		}
		at, n := a.cut.Page(int64(i))
		if k := len(out) - 1; k >= 0 && out[k].Offset+out[k].Length == at {
			out[k].Length += n
			continue
		}
		out = append(out, colorfast.Span{Offset: at, Length: n})
	}
	return out
}

func samePlace(am *pages.Map, a pages.Place, bm *pages.Map, b pages.Place) bool {
	return sameObject(am, a.Object, bm, b.Object) && a.Offset == b.Offset &&
		sameObject(am, a.Base, bm, b.Base) && a.BaseOffset == b.BaseOffset
}

// sameObject compares what two numbers mean in their maps; Zeros and None are
// below 0.
func sameObject(am *pages.Map, a int, bm *pages.Map, b int) bool {
	if a < 0 || b < 0 {
		return a == b
	}
	return am.Objects[a].ID == bm.Objects[b].ID
}

// Files implements colorfast.Replica.
func (v *Vault) Files(ctx context.Context, m *colorfast.Manifest) (fs.FS, error) {
	ctx = v.ctx(ctx)
	r, err := v.reading(ctx, m)
	if err != nil {
		return nil, err
	}
	return &storedFiles{ctx: ctx, from: r, list: m.FileList}, nil
}

// storedFiles are the files of a backup.
type storedFiles struct {
	ctx  context.Context
	from *reading
	list []colorfast.File
}

// Open implements fs.FS.
func (s *storedFiles) Open(name string) (fs.File, error) {
	bad := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return bad(fs.ErrInvalid)
	}
	for i := range s.list {
		f := &s.list[i]
		if f.Path != name || f.Type != colorfast.Regular {
			continue
		}
		out := &storedFile{from: s, file: f}
		if s.from.m == nil {
			e, err := s.from.tree.find(s.ctx, dataName+"/"+name)
			if err != nil || e.Type != snapshot.EntryTypeFile {
				return bad(fail(errors.Join(err, fs.ErrNotExist), colorfast.Corrupt, "read file %q", name))
			}
			out.object = e.ObjectID.String()
			return out, nil
		}
		paged, ok := s.from.files[name]
		if !ok || paged.file.Size != f.Size {
			return bad(fs.ErrNotExist)
		}
		out.paged = &paged
		return out, nil
	}
	return bad(fs.ErrNotExist)
}

// storedFile is a stored file, read at any place.
type storedFile struct {
	from   *storedFiles
	file   *colorfast.File
	paged  *pagedFile // nil in format 1
	object string     // in format 1
	at     int64      // of the next Read
}

// ReadAt implements io.ReaderAt.
func (f *storedFile) ReadAt(b []byte, off int64) (int, error) {
	n := max(0, min(int64(len(b)), f.file.Size-off))
	if n > 0 {
		if err := f.fill(b[:n], off); err != nil {
			return 0, fail(err, colorfast.Corrupt, "read file %q", f.file.Path)
		}
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (f *storedFile) fill(b []byte, off int64) error {
	ctx := f.from.ctx
	if f.paged == nil {
		return f.from.from.pieces.readAt(ctx, f.object, b, off)
	}
	c := f.paged.cut
	first, last := off/c.PageBytes(), (off+int64(len(b))-1)/c.PageBytes()
	begin, _ := c.Page(first)
	at, size := c.Page(last)
	p := &paged{from: f.from.from, file: *f.paged}
	w := &window{first: first, count: last - first + 1}
	if begin == off && at+size == off+int64(len(b)) { // whole pages, as a rule
		w.bytes = b
		return p.fetch(ctx, w, first, w.count)
	}
	w.bytes = make([]byte, at+size-begin)
	err := p.fetch(ctx, w, first, w.count)
	copy(b, w.bytes[off-begin:])
	return err
}

// Read implements fs.File.
func (f *storedFile) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, f.at)
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Stat implements fs.File.
func (f *storedFile) Stat() (fs.FileInfo, error) { return storedInfo{f.file}, nil }

// Close implements fs.File.
func (f *storedFile) Close() error { return nil }

// storedInfo is what is recorded of a file.
type storedInfo struct{ file *colorfast.File }

// Name implements fs.FileInfo.
func (i storedInfo) Name() string { return path.Base(i.file.Path) }

// Size implements fs.FileInfo.
func (i storedInfo) Size() int64 { return i.file.Size }

// Mode implements fs.FileInfo.
func (i storedInfo) Mode() fs.FileMode { return fs.FileMode(i.file.Mode & 0o777) }

// ModTime implements fs.FileInfo.
func (i storedInfo) ModTime() time.Time { return i.file.ModTime }

// IsDir implements fs.FileInfo.
func (i storedInfo) IsDir() bool { return false }

// Sys implements fs.FileInfo.
func (i storedInfo) Sys() any { return nil }
