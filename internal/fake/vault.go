// Package fake has adapters for tests: simple, and true to their contracts.
//
// Start reading at Vault.
package fake

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"colorfast"
)

// Vault is a colorfast.Vault that keeps plain files in a directory: one named
// by its hash for each content, one for each manifest. Several processes may
// use one directory. It neither compresses nor encrypts; damage is found by
// the hash. Nothing is flushed to disk: "durable" means here that it outlives
// the process.
type Vault struct {
	dir string

	// OnOpen, if set, is called before a file is opened and may refuse it. Set
	// it before the vault is used.
	OnOpen func(path string) error
	// OnRead, if set, is called with each portion of content that is read, and
	// may change or refuse it. Set it before the vault is used.
	OnRead func(path string, b []byte) error
}

var _ colorfast.Vault = (*Vault)(nil)

// NewVault opens the vault in dir, which is made if it does not exist.
func NewVault(dir string) (*Vault, error) {
	for _, d := range []string{"blobs", "manifests"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, colorfast.Errorf(colorfast.Internal, "make vault %q: %w", dir, err)
		}
	}
	return &Vault{dir: dir}, nil
}

// blob returns the path of a content.
func (v *Vault) blob(sum string) string { return filepath.Join(v.dir, "blobs", filepath.Base(sum)) }

// manifest returns the path of a manifest.
func (v *Vault) manifest(id colorfast.BackupID) string {
	return filepath.Join(v.dir, "manifests", filepath.Base(string(id))+".json")
}

// Put implements colorfast.Vault.
func (v *Vault) Put(ctx context.Context, m *colorfast.Manifest, content fs.FS, p colorfast.Progress) error {
	if p == nil {
		p = colorfast.Quiet{}
	}
	total, err := check(m.FileList)
	if err != nil {
		return err
	}
	p.Begin("storing", total)
	sums, stored := make([]string, len(m.FileList)), int64(0)
	var parent *colorfast.Manifest
	against := cmp.Or(m.Against, m.Parent)
	if slices.ContainsFunc(m.FileList, func(f colorfast.File) bool { return f.Same || len(f.Alike) > 0 }) {
		if parent, err = v.Manifest(ctx, against); err != nil {
			return err
		}
	}
	for i := range m.FileList {
		f := &m.FileList[i]
		if f.Type != colorfast.Regular {
			continue
		}
		if f.Same {
			was := find(parent.FileList, f.Path)
			if was == nil || was.Size != f.Size {
				return colorfast.Errorf(colorfast.NotFound, "store %q: its parent %q has no such file", f.Path, against.Short())
			}
			sums[i] = was.SHA256
			p.Advance(f.Size)
			continue
		}
		sum, added, err := v.putFile(ctx, f, content, parent, p)
		if err != nil {
			return err
		}
		sums[i] = sum
		stored += added
	}
	done := *m
	done.FileList = slices.Clone(m.FileList)
	for i, s := range sums {
		f := &done.FileList[i]
		f.SHA256, f.Same, f.Sealed, f.Alike = s, false, false, nil
	}
	done.Against = ""
	if done.Format == 0 {
		done.Format = colorfast.Format
	}
	done.ID, done.StoredBytes = newID(), stored
	if done.Origin == nil {
		done.FinishedAt = time.Now().UTC()
	}
	b, err := json.Marshal(&done)
	if err != nil {
		return colorfast.Errorf(colorfast.Internal, "encode manifest: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := v.write(v.manifest(done.ID), strings.NewReader(string(b))); err != nil {
		return colorfast.Errorf(colorfast.Internal, "store manifest: %w", err)
	}
	*m = done
	return nil
}

// check refuses a list with entries that cannot be in one directory, and
// returns the sum of the sizes.
func check(list []colorfast.File) (total int64, err error) {
	types := map[string]colorfast.FileType{}
	for i := range list {
		f := &list[i]
		if _, twice := types[f.Path]; twice || !valid(f.Path) {
			return 0, colorfast.Errorf(colorfast.Usage, "store %q: it is no path in a source, or listed twice", f.Path)
		}
		types[f.Path] = f.Type
		total += f.Size
	}
	for p := range types {
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if t, ok := types[up]; ok && t != colorfast.Directory {
				return 0, colorfast.Errorf(colorfast.Usage, "store %q: it lies below a %s", p, t)
			}
		}
	}
	return total, nil
}

// valid reports whether p can be a path in a source.
func valid(p string) bool { return fs.ValidPath(p) && !strings.ContainsRune(p, 0) }

// newID returns a name that no other backup has.
func newID() colorfast.BackupID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return colorfast.BackupID(hex.EncodeToString(b[:]))
}

// putFile stores one file and returns its hash and the bytes that were new.
func (v *Vault) putFile(ctx context.Context, f *colorfast.File, content fs.FS, parent *colorfast.Manifest, p colorfast.Progress) (sum string, added int64, err error) {
	file, err := content.Open(f.Path)
	if err != nil {
		return "", 0, colorfast.Errorf(colorfast.Corrupt, "store %q: %w", f.Path, err)
	}
	defer file.Close()
	in := io.Reader(file)
	if f.Sealed && len(f.Alike) > 0 {
		was := find(parent.FileList, f.Path)
		if was == nil {
			return "", 0, colorfast.Errorf(colorfast.NotFound, "store %q: its parent has no such file", f.Path)
		}
		older, err := os.Open(v.blob(was.SHA256))
		if err != nil {
			return "", 0, colorfast.Errorf(colorfast.Corrupt, "store %q: %w", f.Path, err)
		}
		defer older.Close()
		in = overlay(file.(io.ReaderAt), f.Size, older, f.Alike)
	}
	tmp, err := os.CreateTemp(v.dir, "incoming-")
	if err != nil {
		return "", 0, colorfast.Errorf(colorfast.Internal, "store %q: %w", f.Path, err)
	}
	defer os.Remove(tmp.Name())
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h, advance{p}), &reader{ctx: ctx, in: io.LimitReader(in, f.Size+1)})
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		kind := colorfast.Corrupt
		if e := (*colorfast.Error)(nil); errors.As(err, &e) || ctx.Err() != nil {
			kind = colorfast.KindOf(err)
		}
		return "", 0, colorfast.Errorf(kind, "store %q: %w", f.Path, err)
	}
	if n != f.Size {
		return "", 0, colorfast.Errorf(colorfast.Corrupt, "store %q: it has not the listed size of %d bytes", f.Path, f.Size)
	}
	sum = hex.EncodeToString(h.Sum(nil))
	if f.Sealed && sum != f.SHA256 {
		return "", 0, colorfast.Errorf(colorfast.Corrupt, "store %q: it has not the recorded hash", f.Path)
	}
	if _, err := os.Stat(v.blob(sum)); err == nil {
		return sum, 0, nil
	}
	if err := os.Rename(tmp.Name(), v.blob(sum)); err != nil {
		return "", 0, colorfast.Errorf(colorfast.Internal, "store %q: %w", f.Path, err)
	}
	return sum, n, nil
}

// advance tells a Progress what is written to it.
type advance struct{ p colorfast.Progress }

// Write implements io.Writer.
func (a advance) Write(b []byte) (int, error) { a.p.Advance(int64(len(b))); return len(b), nil }

// write makes a file that appears at once and whole.
func (v *Vault) write(path string, r io.Reader) error {
	tmp, err := os.CreateTemp(v.dir, "incoming-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, r)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// List implements colorfast.Vault.
func (v *Vault) List(ctx context.Context) ([]colorfast.Backup, error) {
	names, err := os.ReadDir(filepath.Join(v.dir, "manifests"))
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Unreachable, "list backups: %w", err)
	}
	list := make([]colorfast.Backup, 0, len(names))
	for _, n := range names {
		m, err := v.Manifest(ctx, colorfast.BackupID(strings.TrimSuffix(n.Name(), ".json")))
		if colorfast.KindOf(err) == colorfast.NotFound && err != nil {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m.Backup)
	}
	slices.SortStableFunc(list, func(a, b colorfast.Backup) int {
		return cmp.Or(b.RestorePoint.Compare(a.RestorePoint), b.FinishedAt.Compare(a.FinishedAt))
	})
	return list, nil
}

// Manifest implements colorfast.Vault.
func (v *Vault) Manifest(ctx context.Context, id colorfast.BackupID) (*colorfast.Manifest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(v.manifest(id))
	if errors.Is(err, fs.ErrNotExist) || id == "" {
		return nil, colorfast.Errorf(colorfast.NotFound, "find backup %q: the vault holds no such backup", string(id))
	}
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Unreachable, "read backup %q: %w", string(id), err)
	}
	m := &colorfast.Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, colorfast.Errorf(colorfast.Corrupt, "read backup %q: %w", string(id), err)
	}
	if m.Format > colorfast.Format {
		return nil, colorfast.Errorf(colorfast.Unsupported, "read backup %q: format %d is newer than this program", string(id), m.Format)
	}
	return m, nil
}

// Open implements colorfast.Vault.
func (v *Vault) Open(ctx context.Context, m *colorfast.Manifest, path string, older io.ReaderAt) (colorfast.Content, error) {
	if !valid(path) {
		return nil, colorfast.Errorf(colorfast.Usage, "open %q: it is no path in a backup", path)
	}
	stored, err := v.Manifest(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	f := find(m.FileList, path)
	if f == nil {
		return nil, colorfast.Errorf(colorfast.NotFound, "open %q: backup %q has no such file", path, m.ID.Short())
	}
	if v.OnOpen != nil {
		if err := v.OnOpen(path); err != nil {
			return nil, err
		}
	}
	was := find(stored.FileList, path)
	if was == nil {
		return nil, colorfast.Errorf(colorfast.Corrupt, "open %q: it was not stored", path)
	}
	in, err := os.Open(v.blob(was.SHA256))
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Corrupt, "open %q: its content is missing: %w", path, err)
	}
	r := &reader{ctx: ctx, in: in, Closer: in, path: path, change: v.OnRead, want: f, sum: sha256.New(), older: older}
	if older != nil {
		r.same = unchanged(in, was.Size, older)
	}
	return r, nil
}

// block is the unit in which content is taken from an older copy.
const block = 4096

// unchanged tells of each block whether an older copy has it.
func unchanged(in io.ReaderAt, size int64, older io.ReaderAt) []bool {
	same := make([]bool, (size+block-1)/block)
	a, b := make([]byte, block), make([]byte, block)
	for i := range same {
		at := int64(i) * block
		n, _ := in.ReadAt(a[:min(block, size-at)], at)
		k, _ := older.ReadAt(b[:n], at)
		same[i] = k == n && bytes.Equal(a[:n], b[:n])
	}
	return same
}

// find returns the regular file of a path, nil if there is none.
func find(list []colorfast.File, path string) *colorfast.File {
	i := slices.IndexFunc(list, func(f colorfast.File) bool { return f.Path == path && f.Type == colorfast.Regular })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// reader reads until its context ends, and checks the hash if it is to.
type reader struct {
	io.Closer
	ctx    context.Context
	in     io.Reader
	path   string
	change func(path string, b []byte) error
	want   *colorfast.File
	size   int64
	sum    hash.Hash
	older  io.ReaderAt // nil for none
	same   []bool      // of each block, whether the older copy had it at first
	moved  int64
}

// Moved implements colorfast.Content.
func (r *reader) Moved() int64 { return r.moved }

// take puts the older copy's bytes in the place of those of the vault, where
// they were the same when it was opened. It does not look again: an older copy
// that was changed since then is found by the hash of the whole. b is what comes
// at r.size.
func (r *reader) take(b []byte) {
	for at := r.size; len(b) > 0; {
		i := at / block
		n := min(int64(len(b)), (i+1)*block-at)
		part := b[:n]
		b, at = b[n:], at+n
		if i < int64(len(r.same)) && r.same[i] {
			have := make([]byte, n)
			if k, _ := r.older.ReadAt(have, at-n); k == len(have) {
				copy(part, have)
				continue
			}
		}
		r.moved += n
	}
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.in.Read(b)
	r.take(b[:n])
	if r.change != nil && n > 0 {
		if err := r.change(r.path, b[:n]); err != nil {
			return 0, err
		}
	}
	if r.sum != nil {
		r.sum.Write(b[:n])
		r.size += int64(n)
		if err == io.EOF && (r.size != r.want.Size || hex.EncodeToString(r.sum.Sum(nil)) != r.want.SHA256) {
			return n, colorfast.Errorf(colorfast.Corrupt, "read %q: its content is not what was stored", r.path)
		}
	}
	return n, err
}

// Check implements colorfast.Vault. Deeper than Bytes it cannot look.
func (v *Vault) Check(ctx context.Context, m *colorfast.Manifest, level colorfast.Level, p colorfast.Progress) ([]colorfast.Finding, error) {
	if level != colorfast.Stored && level != colorfast.Bytes {
		return nil, colorfast.Errorf(colorfast.Usage, "check backup %q: no such level as %q here", m.ID.Short(), level)
	}
	stored, err := v.Manifest(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	if p == nil {
		p = colorfast.Quiet{}
	}
	var total int64
	if level == colorfast.Bytes {
		total = m.OriginalBytes
	}
	p.Begin("checking", total)
	var found []colorfast.Finding
	for i := range m.FileList {
		f := &m.FileList[i]
		if f.Type != colorfast.Regular {
			continue
		}
		was := find(stored.FileList, f.Path)
		if was == nil {
			found = append(found, colorfast.NewFinding(colorfast.StoredMissing, f.Path, 0, "it was not stored"))
			continue
		}
		if info, err := os.Stat(v.blob(was.SHA256)); err != nil {
			found = append(found, colorfast.NewFinding(colorfast.StoredMissing, f.Path, 0, "its content is missing"))
			continue
		} else if level == colorfast.Stored {
			if info.Size() != f.Size {
				found = append(found, colorfast.NewFinding(colorfast.StoredDiffers, f.Path, 0, "%d bytes are stored, not %d", info.Size(), f.Size))
			}
			continue
		}
		r, err := v.Open(ctx, m, f.Path, nil)
		if err == nil {
			_, err = io.Copy(advance{p}, r)
			err = errors.Join(err, r.Close())
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			found = append(found, colorfast.NewFinding(colorfast.StoredDiffers, f.Path, 0, "%v", err))
		}
	}
	return found, ctx.Err()
}

// Close implements colorfast.Vault.
func (v *Vault) Close(context.Context) error { return nil }

// Blob returns the file in which a content is kept, so that tests can damage
// or delete it.
func (v *Vault) Blob(f *colorfast.File) string { return v.blob(f.SHA256) }
