package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/snapshot/snapshotmaintenance"
)

// A lease is a blob that says: somebody maintains the vault. It is renewed while
// that lasts, and is dead when it was not for leaseLife, by the storage's clock.
const (
	leasePrefix = blob.ID("colorfast.lease-")
	leaseLife   = 10 * time.Minute
)

// tempAge is the age of a temporary file that nobody can be writing any more.
const tempAge = 24 * time.Hour

// Maintain does the housekeeping that is due, which may be nothing: merging
// indexes every hour, collecting garbage every day. It is safe while others
// write, because nothing younger than a day is removed.
//
// Kopia lets only one user maintain a repository, and keeps two processes of
// that user apart by a file on its own host. Here all hosts are one user, which
// takes ownership unless an administrator gave it to somebody else (then
// Locked), and a lease in the vault keeps them apart: where somebody else is at
// it, Maintain does nothing.
func (v *Vault) Maintain(ctx context.Context) error {
	next, err := maintenance.TimeToAttemptNextMaintenance(v.ctx(ctx), v.conn)
	if err == nil && time.Now().Before(next) {
		return nil // most often so, and then nothing is written either
	}
	return v.maintain(ctx, maintenance.ModeAuto, maintenance.SafetyFull, tempAge)
}

func (v *Vault) maintain(ctx context.Context, mode maintenance.Mode, safety maintenance.SafetyParameters, tempAge time.Duration) error {
	ctx = v.ctx(ctx)
	err := repo.DirectWriteSession(ctx, v.conn, repo.WriteSessionOptions{Purpose: "maintain"}, func(ctx context.Context, w repo.DirectRepositoryWriter) (err error) {
		if !mayDelete(ctx, w.BlobStorage()) {
			return v.extendDue(ctx, 0) // somebody with other credentials does the rest
		}
		l, err := takeLease(ctx, w.BlobStorage())
		if err != nil || l == nil {
			return err
		}
		defer func() { err = errors.Join(err, l.release(ctx)) }()
		if err := errors.Join(takeOwnership(ctx, w), v.keepLocked(ctx, w)); err != nil {
			return err
		}
		start := w.Time()
		if err := snapshotmaintenance.Run(l.ctx, w, mode, false, safety); err != nil {
			return err
		}
		if err := v.extendOwn(l.ctx, w, start); err != nil {
			return err
		}
		return v.sweep(l.ctx, l, tempAge)
	})
	if err != nil {
		return fail(err, colorfast.Corrupt, "maintain vault %q", v.opts.URL)
	}
	return nil
}

// sweeper is a storage in which killed processes leave temporary files.
type sweeper interface {
	// sweep removes those from before a time of the storage's clock.
	sweep(ctx context.Context, before time.Time) error
}

// sweep removes the temporary files of killed processes from a storage that
// has such, if they were older than age when the lease was taken.
func (v *Vault) sweep(ctx context.Context, l *lease, age time.Duration) (err error) {
	st, err := v.opts.openStorage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(ctx)) }()
	if s, ok := st.(sweeper); ok {
		return s.sweep(ctx, l.taken.Add(-age))
	}
	return nil
}

// takeOwnership makes all users of colorfast the owner of the maintenance.
func takeOwnership(ctx context.Context, w repo.DirectRepositoryWriter) error {
	p, err := maintenance.GetParams(ctx, w)
	if err != nil {
		return err
	}
	switch p.Owner {
	case owner:
		return nil
	case "":
		p.Owner = owner
		if err := maintenance.SetParams(ctx, w, p); err != nil {
			return err
		}
		return w.Flush(ctx)
	}
	return colorfast.Errorf(colorfast.Locked, "%q was made the only one who may maintain it", p.Owner).
		WithHint("give it back with \"kopia maintenance set --owner=%s\"", owner)
}

// lease is a lease that we hold.
type lease struct {
	ctx    context.Context // ends when the lease cannot be renewed
	st     blob.Storage
	id     blob.ID
	life   time.Duration
	taken  time.Time // by the storage's clock
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// takeLease takes the lease of whoever maintains; see takeLeaseOf.
func takeLease(ctx context.Context, st blob.Storage) (*lease, error) {
	return takeLeaseOf(ctx, st, leasePrefix, leaseLife)
}

// takeLeaseOf takes a lease, or returns nil if somebody else has it. Each
// writes its own blob first and looks at the others' then: of two who come at
// the same time at most one goes on, maybe none, who comes again.
func takeLeaseOf(ctx context.Context, st blob.Storage, prefix blob.ID, life time.Duration) (*lease, error) {
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return nil, err
	}
	l := &lease{life: life, st: st, id: prefix + blob.ID(hex.EncodeToString(r[:]))}
	if err := l.write(ctx); err != nil {
		return nil, err
	}
	all, err := blob.ListAllBlobs(ctx, st, prefix)
	var mine time.Time
	for _, b := range all {
		if b.BlobID == l.id {
			mine = b.Timestamp
		}
	}
	for _, b := range all {
		switch {
		case b.BlobID == l.id:
		case mine.Sub(b.Timestamp) > life:
			err = errors.Join(err, st.DeleteBlob(ctx, b.BlobID))
		default:
			return nil, errors.Join(err, st.DeleteBlob(ctx, l.id))
		}
	}
	if err != nil {
		return nil, errors.Join(err, st.DeleteBlob(ctx, l.id))
	}
	l.taken = mine
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.done.Go(l.renew)
	return l, nil
}

// leased reports whether somebody holds such a lease, by the storage's clock as far
// as the newest of them tells it, and by ours.
func leased(ctx context.Context, st blob.Storage, prefix blob.ID, life time.Duration) (bool, error) {
	all, err := blob.ListAllBlobs(ctx, st, prefix)
	for _, b := range all {
		if time.Since(b.Timestamp) <= life {
			return true, err
		}
	}
	return false, err
}

func (l *lease) write(ctx context.Context) error {
	return l.st.PutBlob(ctx, l.id, raw(owner), blob.PutOptions{})
}

func (l *lease) renew() {
	t := time.NewTicker(l.life / 5)
	defer t.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-t.C:
			if l.write(l.ctx) != nil {
				l.cancel()
				return
			}
		}
	}
}

func (l *lease) release(ctx context.Context) error {
	l.cancel()
	l.done.Wait()
	return l.st.DeleteBlob(context.WithoutCancel(ctx), l.id)
}

// raw is a blob.Bytes.
type raw []byte

// WriteTo implements io.WriterTo.
func (r raw) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r)
	return int64(n), err
}

// Length implements blob.Bytes.
func (r raw) Length() int { return len(r) }

// Reader implements blob.Bytes.
func (r raw) Reader() io.ReadSeekCloser { return rawReader{bytes.NewReader(r)} }

type rawReader struct{ *bytes.Reader }

// Close implements io.Closer.
func (rawReader) Close() error { return nil }
