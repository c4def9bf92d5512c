package vault

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"colorfast"
	"colorfast/pages"

	"github.com/kopia/kopia/repo"
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
	old, err := v.basis(ctx, &c)
	if err != nil {
		return err
	}
	defer old.close()
	_, w, err := v.conn.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "put"})
	if err != nil {
		return fail(err, colorfast.Internal, "store backup")
	}
	s := &session{w: w, p: p, m: &c, old: old, pageKey: v.pageKey}
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
		c.FileList[i].Same = false
	}
	*m = c
	return nil
}

// basis loads what the backup is compared with. Where nothing needs it, a parent
// that cannot be read makes the backup a full one and no error.
func (v *Vault) basis(ctx context.Context, m *colorfast.Manifest) (*parent, error) {
	old, err := v.loadParent(ctx, m.Parent)
	needed := slices.ContainsFunc(m.FileList, func(f colorfast.File) bool { return f.Same })
	var st *storageError // which may be gone the next time; a full backup would stay
	switch {
	case err != nil && (needed || ctx.Err() != nil || errors.As(err, &st)):
		return nil, fail(err, colorfast.Corrupt, "store backup: read its parent %q", m.Parent)
	case err != nil:
		v.warn(ctx, "parent not read; everything is stored anew", err)
		return nil, nil
	}
	for i, f := range m.FileList {
		if !f.Same {
			continue
		}
		was := old.file(&m.FileList[i], pages.NewCut(f.Size, f.Layout))
		if was == nil || was.file.Size != f.Size {
			old.close()
			return nil, colorfast.Errorf(colorfast.NotFound, "store backup: its parent %q has no such file as %q", m.Parent, f.Path)
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
	old     *parent // nil for none
	pageKey []byte

	pages pages.Map
	sums  *sumWriter
	tree  entries      // once stored
	added atomic.Int64 // bytes added to the storage

	indexed int64 // value of added when the index was last written out
}

// indexEvery is after how many new bytes the index of what was stored so far
// is written out, because Kopia holds it in memory until then.
const indexEvery = 8 << 30

// run stores everything but the manifest that makes it a backup, and returns
// when it is durable and was found in the storage.
func (s *session) run(ctx context.Context, v *Vault, files fs.FS) (err error) {
	s.p.Begin("storing", totalSize(s.m.FileList))
	s.sums = v.newSums(ctx, s.m.Source)
	if err := s.storePages(ctx, files); err != nil {
		return err
	}
	s.m.FinishedAt = time.Now().UTC()
	if err := s.storeTree(ctx); err != nil {
		return err
	}
	if err := s.w.Flush(ctx); err != nil {
		return err
	}
	return s.confirm(ctx)
}

// index writes the index of what was stored so far, if that is much.
func (s *session) index(ctx context.Context) error {
	if s.added.Load()-s.indexed < indexEvery {
		return nil
	}
	s.indexed = s.added.Load()
	return s.w.ContentManager().Flush(ctx)
}
