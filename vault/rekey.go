package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// A change of the password holds this lease, a short one, so that whoever was
// killed can soon try again; but no shorter than a write may take that is tried again.
const (
	rekeyLease     = blob.ID("colorfast.rekey-")
	rekeyLeaseLife = 5 * time.Minute
)

// ChangePassword makes next the password of the vault at o.URL, in place of
// o.Password. Others may use the vault meanwhile, and those who have it open go on.
// When it returns nil, next opens the vault and o.Password does not, which was
// tried. On error, also after a kill, one of the two opens it; calling it again
// with the same two finishes it, or does nothing if it was finished. What the
// vault holds is not encrypted anew: whoever had the old password and a copy of
// the vault can read that copy, and what is written later with the keys from it.
//
// Errors: Usage when there is nothing to change, Denied when neither opens the
// vault, Locked when somebody else is changing it, NotFound, Corrupt, Unreachable.
func ChangePassword(ctx context.Context, o Options, next Secret) (err error) {
	if o.Password.IsZero() || next.IsZero() {
		return colorfast.Errorf(colorfast.Usage, "change the password of vault %q: a password is missing", o.URL)
	}
	if o.Password == next {
		return colorfast.Errorf(colorfast.Usage, "change the password of vault %q: the new one is the old one", o.URL)
	}
	storage, err := o.openStorage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storage.Close(context.WithoutCancel(ctx))) }()
	ctx = withLog(ctx, o.Log)
	r := &rekey{o: o, st: &guard{Storage: o.wrapped(storage)}, next: next}
	if _, err := readFormat(ctx, r.st, o.URL); err != nil {
		return err
	}
	if !mayDelete(ctx, r.st) {
		return colorfast.Errorf(colorfast.Denied, "change the password of vault %q: these credentials may not delete, and a change has to", o.URL).
			WithHint("use credentials that may do everything; \"colorfast vault check --policy full\" prints what that is")
	}
	l, err := takeLeaseOf(ctx, r.st, rekeyLease, rekeyLeaseLife)
	if err != nil {
		return r.fail(err)
	}
	r.lease = l
	if l == nil {
		return colorfast.Errorf(colorfast.Locked, "change the password of vault %q: somebody else is at it, or was killed less than five minutes ago", o.URL).
			WithHint("try again in five minutes")
	}
	// Once it has begun, a few small writes are better finished than left: an
	// end of ctx does not stop them.
	err = r.run(context.WithoutCancel(l.ctx))
	if err = errors.Join(err, l.release(ctx)); err != nil {
		return r.fail(err)
	}
	return nil
}

// rekey is a change of the password under way.
//
// Two blobs are encrypted under the password, the format and the settings, and
// Kopia opens a vault only if it can read both, or if there are no settings. No
// storage replaces two blobs at once. So the settings are put aside under both
// passwords, in rekeyBlob, and taken away; then one write replaces the format, and
// that is the change; then the settings come back. Whoever opens the vault between
// finds the settings that fit in rekeyBlob (see pinned.pending), and a stock kopia
// does without. The copy of the format follows when both open. Whatever write
// is the last one, the old password or the new one opens the vault.
type rekey struct {
	o     Options
	st    blob.Storage
	next  Secret
	lease *lease
}

// ours returns an error when the lease was lost, or the format is not any more what
// it was when the change began: then somebody else has changed it.
func (r *rekey) ours(ctx context.Context, was *keyBlobs) error {
	if r.lease != nil && r.lease.ctx.Err() != nil {
		return colorfast.Errorf(colorfast.Locked, "the storage answered so late that somebody else may be at it")
	}
	now, _, err := r.read(ctx)
	if err == nil && !bytes.Equal(now.format, was.format) {
		err = colorfast.Errorf(colorfast.Locked, "somebody else has changed it meanwhile")
	}
	return err
}

func (r *rekey) fail(err error) error {
	err = fail(err, colorfast.Internal, "change the password of vault %q", r.o.URL)
	var e *colorfast.Error
	if colorfast.HintOf(err) == "" && errors.As(err, &e) && e.Kind != colorfast.Denied {
		return e.WithHint("the old password or the new one opens it; change it again with the same two to finish")
	}
	return err
}

func (r *rekey) run(ctx context.Context) error {
	now, aside, err := r.read(ctx)
	if err != nil {
		return err
	}
	if opens(now.format, nil, r.next) { // an earlier run was interrupted behind the change
		if err := now.complete(aside, r.next); err != nil {
			return err
		}
		m, err := manage(now, r.next)
		if err != nil {
			return err
		}
		settings, err := m.BlobCfgBlob(ctx)
		if err != nil {
			return err
		}
		now.opts = blob.PutOptions{RetentionMode: settings.RetentionMode, RetentionPeriod: settings.RetentionPeriod}
		return r.finish(ctx, now)
	}
	if !opens(now.format, nil, r.o.Password) {
		return colorfast.Errorf(colorfast.Denied, "%w", ErrWrongPassword)
	}
	if err := now.complete(aside, r.o.Password); err != nil {
		return err
	}
	then, err := r.prepare(ctx, now)
	if err != nil {
		return err
	}
	if err := r.putAside(ctx, now, then); err != nil {
		return err
	}
	if err := r.ours(ctx, now); err != nil {
		return err
	}
	if err := r.st.DeleteBlob(ctx, configBlob); err != nil {
		return err
	}
	if err := r.ours(ctx, now); err != nil {
		return err
	}
	if err := r.put(ctx, formatBlob, then.format, then.opts); err != nil {
		return err
	}
	return r.finish(ctx, then)
}

// complete sees to it that the settings are those that go with the format: the
// ones in their place, or those put aside, or none if there are none anywhere.
func (k *keyBlobs) complete(aside rekeying, password Secret) error {
	if opens(k.format, k.config, password) && (k.config != nil || len(aside.Settings) == 0) {
		return nil
	}
	if k.config = aside.pick(k.format, password); k.config == nil {
		return colorfast.Errorf(colorfast.Corrupt, "its file %q is damaged", configBlob)
	}
	return nil
}

// read returns the blobs that are encrypted under the password, and what an
// earlier change has put aside.
func (r *rekey) read(ctx context.Context) (*keyBlobs, rekeying, error) {
	var f, c bytesOut
	if err := r.st.GetBlob(ctx, formatBlob, 0, -1, &f); err != nil {
		return nil, rekeying{}, err
	}
	now := &keyBlobs{format: f.b}
	switch err := r.st.GetBlob(ctx, configBlob, 0, -1, &c); {
	case err == nil:
		now.config = c.b
	case !errors.Is(err, blob.ErrBlobNotFound):
		return nil, rekeying{}, err
	}
	aside, err := readRekey(ctx, r.st)
	return now, aside, err
}

// prepare has Kopia change the password in memory, and proves the outcome before
// anything is written.
func (r *rekey) prepare(ctx context.Context, now *keyBlobs) (*keyBlobs, error) {
	then := &keyBlobs{format: now.format, config: now.config}
	m, err := manage(then, r.o.Password)
	if err != nil {
		return nil, err
	}
	before := m.GetMasterKey()
	if err := m.ChangePassword(ctx, r.next.text); err != nil {
		return nil, err
	}
	m, err = manage(then, r.next)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(before, m.GetMasterKey()) || opens(then.format, nil, r.o.Password) {
		return nil, errors.New("what was prepared is not what was meant; nothing was written")
	}
	return then, nil
}

// putAside stores the settings as either password opens them.
func (r *rekey) putAside(ctx context.Context, now, then *keyBlobs) error {
	c := rekeying{Settings: [][]byte{then.config}}
	if now.config != nil {
		c.Settings = append(c.Settings, now.config)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return r.put(ctx, rekeyBlob, b, blob.PutOptions{})
}

// put writes a blob and looks whether it is there, since a storage may report a
// failure of a write that it did.
func (r *rekey) put(ctx context.Context, id blob.ID, b []byte, opts blob.PutOptions) error {
	err := r.st.PutBlob(ctx, id, raw(b), opts)
	var got bytesOut
	if rerr := r.st.GetBlob(ctx, id, 0, -1, &got); rerr != nil {
		return errors.Join(err, rerr)
	}
	if bytes.Equal(got.b, b) {
		return nil
	}
	if err == nil {
		err = colorfast.Errorf(colorfast.Corrupt, "blob %q does not read back as it was written", id)
	}
	return err
}

// finish does what follows the change: the settings, the proof, the copy.
func (r *rekey) finish(ctx context.Context, then *keyBlobs) error {
	if then.config != nil {
		if err := r.put(ctx, configBlob, then.config, then.opts); err != nil {
			return err
		}
	}
	now, aside, err := r.read(ctx)
	if err == nil {
		err = now.complete(aside, r.next)
	}
	if err == nil && (!bytes.Equal(now.format, then.format) || opens(now.format, nil, r.o.Password)) {
		err = errors.New("what was written is not what is there")
	}
	if err != nil {
		return err
	}
	if err := r.put(ctx, formatCopyBlob, then.format, then.opts); err != nil {
		return err
	}
	// Then the change is over, whatever else is wrong with the vault.
	if err := r.st.DeleteBlob(ctx, rekeyBlob); err != nil {
		return err
	}
	return r.prove(ctx)
}

// prove opens the vault as somebody would who comes to it with the new password.
func (r *rekey) prove(ctx context.Context) error {
	o := r.o
	o.Password = r.next
	v, err := Open(ctx, o)
	if err != nil {
		return err
	}
	_, err = v.List(ctx)
	return errors.Join(err, v.Close(ctx))
}
