package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/maintenance"
	"golang.org/x/sync/errgroup"
)

// Lock says for how long what is written to a vault can neither be deleted nor
// changed in its storage, by whomever. The zero value is no lock.
type Lock struct {
	Mode   LockMode
	Period time.Duration // from when something was written, or the lock extended; whole days at least two
}

// LockMode says who may lift a lock. Its values are S3's, in lower case.
type LockMode string

// The modes.
const (
	Governance LockMode = "governance" // whoever has a permission of its own for that
	Compliance LockMode = "compliance" // nobody, not even the owner of the account
)

// minLock is the shortest lock: maintenance extends it once a day, and Kopia
// wants a day to spare.
const minLock = 48 * time.Hour

// IsZero reports whether there is no lock.
func (l Lock) IsZero() bool { return l == Lock{} }

// String describes the lock for people.
func (l Lock) String() string {
	if l.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%s, %d days", l.Mode, int(l.Period/(24*time.Hour)))
}

// check returns an error of kind Usage for a lock that cannot be.
func (l Lock) check(url string) error {
	switch {
	case l.IsZero():
		return nil
	case l.Mode != Governance && l.Mode != Compliance:
		return colorfast.Errorf(colorfast.Usage, "create vault %q: lock mode %q is not known", url, l.Mode).
			WithHint("the modes are %s and %s", Governance, Compliance)
	case l.Period < minLock:
		return colorfast.Errorf(colorfast.Usage, "create vault %q: a lock of %v is too short", url, l.Period).
			WithHint("use two days at least, for locks are extended once a day")
	}
	return nil
}

// kopia returns the lock as Kopia keeps it.
func (l Lock) kopia() blob.RetentionMode {
	if l.Mode == Compliance {
		return blob.Compliance
	}
	return blob.Governance
}

func lockOf(mode blob.RetentionMode, period time.Duration) Lock {
	switch {
	case mode == blob.Compliance && period > 0:
		return Lock{Mode: Compliance, Period: period}
	case mode == blob.Governance && period > 0:
		return Lock{Mode: Governance, Period: period}
	}
	return Lock{}
}

// retention is the lock of one object.
type retention struct {
	mode  LockMode // "" for none
	until time.Time
}

// locker is what objects can do beside where their storage has locks.
type locker interface {
	// takesLocks returns nil if objects can be locked in this bucket, and else
	// an error that says why not and how to have it.
	takesLocks(ctx context.Context) error
	// writeLocked is write of an object that is locked from the first moment.
	writeLocked(ctx context.Context, name string, data blob.Bytes, onlyNew bool, r retention) (time.Time, error)
	// lock locks what is there, or extends its lock.
	lock(ctx context.Context, name string, r retention) error
	// locked returns the lock of an object.
	locked(ctx context.Context, name string) (retention, error)
}

// lockerOf returns the storage's way to lock, nil if it has none.
func lockerOf(st blob.Storage) (locker, *bucket) {
	if p, ok := st.(*patient); ok {
		st = p.Storage
	}
	b, ok := st.(*bucket)
	if !ok {
		return nil, nil
	}
	l, _ := b.objects.(locker)
	return l, b
}

// canLock returns an error unless a vault with a lock can be made in the storage.
func canLock(ctx context.Context, st blob.Storage, url string) error {
	l, _ := lockerOf(st)
	if l == nil {
		return colorfast.Errorf(colorfast.Unsupported, "create vault %q with a lock: its storage has none that colorfast can set", url).
			WithHint("use a bucket of S3 that was made with object lock, or leave --lock out")
	}
	p, ok := st.(*patient)
	if !ok {
		return l.takesLocks(ctx)
	}
	err := p.do(ctx, "ask for the object lock of", func(int) error { return l.takesLocks(ctx) })
	if err != nil {
		return fail(err, colorfast.Unsupported, "create vault %q with a lock", url)
	}
	return nil
}

// putLocked writes a blob with the lock that Kopia asks for.
func (b *bucket) putLocked(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) (time.Time, error) {
	l, ok := b.objects.(locker)
	k := lockOf(opts.RetentionMode, opts.RetentionPeriod)
	if !ok || k.IsZero() {
		return time.Time{}, blob.ErrUnsupportedPutBlobOption
	}
	return l.writeLocked(ctx, b.prefix+string(id), data, opts.DoNotRecreate, retention{k.Mode, time.Now().Add(k.Period)})
}

// ExtendBlobRetention implements blob.Storage.
func (b *bucket) ExtendBlobRetention(ctx context.Context, id blob.ID, opts blob.ExtendOptions) error {
	l, ok := b.objects.(locker)
	k := lockOf(opts.RetentionMode, opts.RetentionPeriod)
	if !ok || k.IsZero() {
		return blob.ErrUnsupportedObjectLock
	}
	return interrupted(ctx, l.lock(ctx, b.prefix+string(id), retention{k.Mode, time.Now().Add(k.Period)}))
}

// ExtendBlobRetention implements blob.Storage.
func (s *patient) ExtendBlobRetention(ctx context.Context, id blob.ID, opts blob.ExtendOptions) error {
	return s.do(ctx, "extend the lock of "+quoted(id)+" in", func(int) error { return s.Storage.ExtendBlobRetention(ctx, id, opts) })
}

// ExtendBlobRetention implements blob.Storage.
func (g *guard) ExtendBlobRetention(ctx context.Context, id blob.ID, opts blob.ExtendOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return mark(g.Storage.ExtendBlobRetention(ctx, id, opts))
}

// Lock returns the lock of all that is written to the vault.
func (v *Vault) Lock(ctx context.Context) (Lock, error) {
	c, err := v.conn.FormatManager().BlobCfgBlob(v.ctx(ctx))
	if err != nil {
		return Lock{}, fail(err, colorfast.Corrupt, "read the lock of vault %q", v.opts.URL)
	}
	return lockOf(c.RetentionMode, c.RetentionPeriod), nil
}

// keepLocked has maintenance extend the locks of all that is there, if the vault
// has a lock.
func (v *Vault) keepLocked(ctx context.Context, w repo.DirectRepositoryWriter) error {
	l, err := v.Lock(ctx)
	if err != nil || l.IsZero() {
		return err
	}
	p, err := maintenance.GetParams(ctx, w)
	if err != nil || p.ExtendObjectLocks {
		return err
	}
	p.ExtendObjectLocks = true
	if err := maintenance.SetParams(ctx, w, p); err != nil {
		return err
	}
	return w.Flush(ctx)
}

// extendDue extends the locks of all blobs with credentials that may lock but not
// delete, so that locks last also where nobody else maintains the vault. It does so
// when the format blob, whose lock it extends last, is locked for less than within;
// 0 means three quarters of the vault's period.
func (v *Vault) extendDue(ctx context.Context, within time.Duration) (err error) {
	l, err := v.Lock(ctx)
	if err != nil || l.IsZero() {
		return err
	}
	if within == 0 {
		within = l.Period * 3 / 4 // a new password locks the format blob anew, up to a quarter of a period later than the rest
	}
	st, err := v.opts.openStorage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(context.WithoutCancel(ctx))) }()
	k, b := lockerOf(st)
	if k == nil {
		return nil
	}
	if r, err := k.locked(ctx, b.prefix+formatBlob); err != nil || time.Until(r.until) > within {
		return err
	}
	o := blob.ExtendOptions{RetentionMode: l.kopia(), RetentionPeriod: l.Period}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	for _, prefix := range append(repo.GetLockingStoragePrefixes(), formatCopyBlob) {
		err := st.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
			if m.BlobID != formatBlob {
				g.Go(func() error { return st.ExtendBlobRetention(gctx, m.BlobID, o) })
			}
			return gctx.Err()
		})
		if err != nil {
			return errors.Join(err, g.Wait())
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return st.ExtendBlobRetention(ctx, formatBlob, o)
}

// extenders is how many locks are extended at the same time.
const extenders = 8

// extendOwn extends the lock of the blob that Kopia does not know, when a
// maintenance that began at start has extended all others.
func (v *Vault) extendOwn(ctx context.Context, w repo.DirectRepositoryWriter, start time.Time) error {
	l, err := v.Lock(ctx)
	if err != nil || l.IsZero() {
		return err
	}
	s, err := maintenance.GetSchedule(ctx, w)
	if err != nil {
		return err
	}
	runs := s.Runs[maintenance.TaskExtendBlobRetentionTimeFull]
	if len(runs) == 0 || runs[0].Start.Before(start) || !runs[0].Success {
		return nil
	}
	err = w.BlobStorage().ExtendBlobRetention(ctx, formatCopyBlob, blob.ExtendOptions{RetentionMode: l.kopia(), RetentionPeriod: l.Period})
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil // a vault without a copy is what "vault check" speaks about
	}
	return err
}
