package vault

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"colorfast"
	"colorfast/pages"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
)

// Put implements colorfast.Vault. The files must implement io.ReaderAt, as those
// of os.DirFS do.
func (v *Vault) Put(ctx context.Context, m *colorfast.Manifest, files fs.FS, p colorfast.Progress) error {
	if p == nil {
		p = colorfast.Quiet{}
	}
	ctx = v.ctx(ctx)
	c := *m // m changes only when all is done
	c.FileList = slices.Clone(m.FileList)
	if c.Format == 0 {
		c.Format = colorfast.Format
	}
	if err := checkList(c.FileList); err != nil {
		return colorfast.Errorf(colorfast.Usage, "store backup: %w", err)
	}
	if err := v.conn.Refresh(ctx); err != nil { // so as to share what others stored
		return fail(err, colorfast.Corrupt, "store backup: read the vault's index")
	}
	known, err := readBroken(ctx, v.conn.BlobReader())
	if err != nil {
		return fail(err, colorfast.Corrupt, "store backup")
	}
	old, err := v.basis(ctx, &c, known)
	if err != nil {
		return err
	}
	defer old.close()
	_, w, err := v.conn.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "put"})
	if err != nil {
		return fail(err, colorfast.Internal, "store backup")
	}
	s := &session{
		w: w, known: known, p: p, m: &c, old: old, far: v.conn.far, pageKey: v.pageKey,
		every: cmp.Or(v.opts.indexEvery, indexEvery), after: cmp.Or(v.opts.indexAfter, indexAfter), indexedAt: time.Now(),
	}
	err = s.run(countAdded(ctx, &s.added), v, files)
	if err == nil {
		err = v.commit(ctx, s)
	}
	if cerr := w.Close(context.WithoutCancel(ctx)); cerr != nil && err == nil {
		v.warn(ctx, "writer not closed", cerr) // the backup is stored and listed
	}
	if err == nil {
		v.keep(ctx, s.sums, &c)
	} else {
		s.sums.remove()
	}
	if err != nil {
		return fail(err, colorfast.Internal, "store backup")
	}
	for i := range c.FileList {
		f := &c.FileList[i]
		f.Same, f.Sealed, f.Alike = false, false, nil
	}
	c.Against = ""
	*m = c
	return nil
}

// basis loads what the backup is compared with. Where nothing needs it, a parent
// that cannot be read makes the backup a full one and no error.
func (v *Vault) basis(ctx context.Context, m *colorfast.Manifest, known map[string]blob.ID) (*parent, error) {
	id := cmp.Or(m.Against, m.Parent)
	old, err := v.loadParent(ctx, id)
	needed := slices.ContainsFunc(m.FileList, func(f colorfast.File) bool { return f.Same })
	var st *storageError // which may be gone the next time; a full backup would stay
	switch {
	case err != nil && (needed || ctx.Err() != nil || errors.As(err, &st)):
		return nil, fail(err, colorfast.Corrupt, "store backup: read its parent %q", id)
	case err != nil:
		v.warn(ctx, "parent not read; everything is stored anew", err)
		return nil, nil
	}
	if old.avoid(ctx, v.conn, known) && needed {
		old.close()
		return nil, colorfast.Errorf(colorfast.Corrupt, "store backup: its parent %q has lost something", id)
	}
	for i, f := range m.FileList {
		if !f.Same {
			continue
		}
		was := old.file(&m.FileList[i], pages.NewCut(f.Size, f.Layout))
		if was == nil || was.file.Size != f.Size {
			old.close()
			return nil, colorfast.Errorf(colorfast.NotFound, "store backup: its parent %q has no such file as %q", id, f.Path)
		}
	}
	return old, nil
}

func (v *Vault) warn(ctx context.Context, msg string, err error) { v.opts.warn(ctx, msg, err) }

func (o *Options) warn(ctx context.Context, msg string, err error) {
	if o.Log != nil {
		o.Log.WarnContext(ctx, msg, "vault", o.URL, "err", err)
	}
}

// session is one Put under way.
type session struct {
	w       repo.DirectRepositoryWriter
	p       colorfast.Progress
	m       *colorfast.Manifest
	old     *parent            // nil for none
	known   map[string]blob.ID // broken pieces, and their packs
	far     bool               // the storage is not on this host
	pageKey []byte

	pages pages.Map
	sums  *sumWriter
	tree  entries      // once stored
	added atomic.Int64 // bytes added to the storage

	every     int64         // indexEvery
	after     time.Duration // indexAfter
	indexed   int64         // value of added when the index was last written out
	indexedAt time.Time     // and when that was
}

// The index of what was stored so far is written out after indexEvery new bytes:
// until then Kopia holds it in memory, and whoever comes after a run that was
// killed does not find what that has stored, and stores it again. It is written out
// after indexAfter too, if there is something new, for a slow way to the storage.
const (
	indexEvery = 128 << 20
	indexAfter = 15 * time.Second
	indexLeast = 1 << 20 // new bytes that are worth it
)

// run stores everything but the manifest that makes it a backup, and returns
// when it is durable and was found in the storage.
func (s *session) run(ctx context.Context, v *Vault, files fs.FS) (err error) {
	s.p.Begin("storing", totalSize(s.m.FileList))
	s.sums = v.newSums(ctx, s.m.Source)
	if err := rewrite(ctx, s.w, s.known); err != nil {
		return err
	}
	if err := s.storePages(ctx, files); err != nil {
		return err
	}
	if s.m.Origin == nil {
		s.m.FinishedAt = time.Now().UTC()
	}
	if err := s.storeTree(ctx); err != nil {
		return err
	}
	if err := s.w.Flush(ctx); err != nil {
		return err
	}
	return s.confirm(ctx)
}

// index writes the index of what was stored so far, if it is time.
func (s *session) index(ctx context.Context) error {
	fresh := s.added.Load() - s.indexed
	if fresh < s.every && (fresh < indexLeast || time.Since(s.indexedAt) < s.after) {
		return nil
	}
	s.indexed, s.indexedAt = s.added.Load(), time.Now()
	return s.w.ContentManager().Flush(ctx)
}
