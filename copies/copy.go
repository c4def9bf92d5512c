package copies

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"colorfast"
)

// copy brings one backup over, and looks at it there.
func (j *job) copy(ctx context.Context, b *colorfast.Backup) (*Copied, error) {
	begun := time.Now()
	m, err := j.From.Manifest(ctx, b.ID)
	if err != nil {
		return nil, fromSource(err)
	}
	files, err := j.From.Files(ctx, m)
	if err != nil {
		return nil, fromSource(err)
	}
	identity := b.Identity(j.From.Fingerprint())
	content := &counted{files: files}
	old := j.nearest(b)
	done, err := j.put(ctx, m, identity, old, content)
	if err != nil && old != nil && unusable(err) {
		// The copy of the earlier backup is no good. This one must not depend on it.
		j.log.Warn("earlier copy not usable; everything is read", "backup", b.ID, "err", err)
		old = nil
		done, err = j.put(ctx, m, identity, nil, content)
	}
	if err != nil && old == nil && colorfast.KindOf(err) == colorfast.Corrupt {
		return nil, fromSource(err) // read without an error, and not what is recorded
	}
	if err != nil {
		return nil, err
	}
	j.has[identity] = done.ID
	out := &Copied{
		Backup: b.ID, Copy: done.ID, Source: b.Source, RestorePoint: b.RestorePoint, Damaged: b.Damaged(),
		Bytes: done.OriginalBytes, Read: content.read.Load(), Stored: done.StoredBytes, Findings: []colorfast.Finding{},
	}
	if old != nil {
		out.Against = j.has[old.Identity(j.From.Fingerprint())]
	}
	j.rep.Read += out.Read
	j.rep.Stored += out.Stored
	level := j.Level
	if level == "" {
		level = colorfast.Stored
	}
	found, err := j.To.Check(ctx, done, level, j.p)
	if err != nil {
		return nil, err // it is listed; nothing is known of what has arrived
	}
	out.Findings = append(out.Findings, found...)
	out.Verified = colorfast.OutcomeOf(found)
	out.Seconds = time.Since(begun).Seconds()
	return out, nil
}

// unusable reports whether err says that something stored in the target is not
// good, in contrast to what is read from the source.
func unusable(err error) bool {
	var from *sourceError
	if errors.As(err, &from) {
		return false
	}
	kind := colorfast.KindOf(err)
	return kind == colorfast.Corrupt || kind == colorfast.NotFound
}

// nearest returns the backup of the source vault whose copy the target has and that
// b is best compared with: its parent, else the newest before it, else any of the
// same source; nil for none.
func (j *job) nearest(b *colorfast.Backup) *colorfast.Backup {
	var best *colorfast.Backup
	for i := range j.all { // newest first
		o := &j.all[i]
		if o.Source != b.Source || o.ID == b.ID || j.has[o.Identity(j.From.Fingerprint())] == "" {
			continue
		}
		switch {
		case o.ID == b.Parent:
			return o
		case best == nil, best.RestorePoint.After(b.RestorePoint):
			best = o // this one is older, and so nearer
		}
	}
	return best
}

// put stores a backup in the target, compared with old.
func (j *job) put(ctx context.Context, m *colorfast.Manifest, identity colorfast.Identity, old *colorfast.Backup, content fs.FS) (*colorfast.Manifest, error) {
	c := *m
	c.ID, c.StoredBytes = "", 0
	c.Format = colorfast.Format // whatever it was: the target gets it in today's form
	c.Origin = &colorfast.Origin{Vault: identity.Vault, Backup: identity.Backup, CopiedAt: j.now().UTC()}
	if id := j.has[colorfast.Identity{Vault: identity.Vault, Backup: m.Parent}]; id != "" {
		c.Parent = id
	} else if id := j.parent(m.Parent); id != "" {
		c.Parent = id
	}
	c.FileList = slices.Clone(m.FileList)
	for i := range c.FileList {
		f := &c.FileList[i]
		f.Sealed = f.Type == colorfast.Regular
	}
	if old != nil {
		c.Against = j.has[old.Identity(j.From.Fingerprint())]
		if err := j.markAlike(ctx, m, &c, old); err != nil {
			return nil, err
		}
	} else {
		c.Against = colorfast.AgainstNothing
	}
	if err := j.To.Put(ctx, &c, content, j.p); err != nil {
		return nil, err
	}
	return &c, nil
}

// parent returns the copy of the backup that is called id in the source vault.
func (j *job) parent(id colorfast.BackupID) colorfast.BackupID {
	for i := range j.all {
		if id != "" && j.all[i].ID == id {
			return j.has[j.all[i].Identity(j.From.Fingerprint())]
		}
	}
	return ""
}

// markAlike notes in c what the copy of old has already. That it cannot be told is
// no error: then more is read.
func (j *job) markAlike(ctx context.Context, m, c *colorfast.Manifest, old *colorfast.Backup) error {
	was, err := j.From.Manifest(ctx, old.ID)
	var spans map[string][]colorfast.Span
	if err == nil {
		spans, err = j.From.Alike(ctx, m, was)
	}
	if err != nil {
		j.log.Warn("backups not compared; everything is read", "backup", m.ID, "err", err)
		return ctx.Err()
	}
	for i := range c.FileList {
		if f := &c.FileList[i]; f.Sealed {
			f.Alike = spans[f.Path]
		}
	}
	return nil
}

// counted counts what is read of files, and marks their errors as those of the
// source vault.
type counted struct {
	files fs.FS
	read  atomic.Int64
}

// Open implements fs.FS.
func (c *counted) Open(name string) (fs.File, error) {
	f, err := c.files.Open(name)
	if err != nil {
		return nil, fromSource(colorfast.Errorf(colorfast.Corrupt, "read %q: %w", name, err))
	}
	return &countedFile{f, c}, nil
}

type countedFile struct {
	fs.File
	from *counted
}

// Read implements fs.File.
func (f *countedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	return n, f.done(n, err)
}

// ReadAt implements io.ReaderAt.
func (f *countedFile) ReadAt(b []byte, off int64) (int, error) {
	at, ok := f.File.(io.ReaderAt)
	if !ok {
		return 0, fromSource(errors.New("it cannot be read at any place"))
	}
	n, err := at.ReadAt(b, off)
	return n, f.done(n, err)
}

func (f *countedFile) done(n int, err error) error {
	f.from.read.Add(int64(n))
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fromSource(err)
}
