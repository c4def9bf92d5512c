package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
)

// quarantine is what names of blobs begin with that a repair has put aside. Nothing
// reads them any more, and nothing removes them.
const quarantine = "colorfast.quarantine-"

// Repair says how to repair a vault.
type Repair struct {
	Apply    bool               // do it; false only says what would be done, and writes nothing
	Level    colorfast.Level    // of the looks before and after: Stored or Bytes
	Now      time.Time          // names what is put aside; zero means now
	Progress colorfast.Progress // nil shows nothing
}

// Action is one step of a repair.
type Action struct {
	Do     string `json:"do"`     // restore, quarantine, index or forget
	Object string `json:"object"` // the blob
	Detail string `json:"detail"`
}

// Repaired is what a repair did, or would do.
type Repaired struct {
	DryRun  bool      `json:"dry_run"`
	Actions []Action  `json:"actions"` // never nil
	Pieces  int       `json:"recovered_pieces"`
	Before  *Verified `json:"before"`
	After   *Verified `json:"after"` // as it is then; in a dry run as it would be
}

// RepairVault mends what can be mended without the source: the blob that opens the
// vault from its copy, and the copy from it; Kopia's settings for blobs; and the index,
// from the lists that packs hold of themselves. What is damaged is put aside under
// another name, never deleted. A piece that does not read back cannot be mended: it
// is noted as broken, so that no later backup relies on it, and the look after the
// repair tells whom it hurts. Nothing counts as good that was not looked at.
//
// Without Apply all of it is done over the vault in memory, so what is said of the
// state after it is what it will be.
//
// Errors: NotFound, Denied, Unreachable; Locked while somebody maintains the vault.
func RepairVault(ctx context.Context, o Options, r Repair) (*Repaired, error) {
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	if !r.Apply {
		over, inner := &overlay{over: map[blob.ID]overBlob{}}, o.wrap
		o.wrap = func(st blob.Storage) blob.Storage {
			if inner != nil {
				st = inner(st)
			}
			return over.on(st)
		}
	}
	j := &repairing{o: o, r: r, rep: &Repaired{DryRun: !r.Apply, Actions: []Action{}}}
	ctx, _ = newAttempt(ctx, o.Log)
	if err := j.run(ctx); err != nil {
		return nil, fail(err, colorfast.Internal, "repair vault %q", o.URL)
	}
	return j.rep, nil
}

// repairing is one RepairVault under way.
type repairing struct {
	o   Options
	r   Repair
	rep *Repaired
	st  blob.Storage
}

func (j *repairing) did(do string, object blob.ID, detail string, args ...any) {
	j.rep.Actions = append(j.rep.Actions, Action{do, string(object), fmt.Sprintf(detail, args...)})
}

func (j *repairing) look(ctx context.Context) (*Verified, error) {
	return VerifyVault(ctx, j.o, Verification{Level: j.r.Level, Progress: j.r.Progress})
}

func (j *repairing) run(ctx context.Context) (err error) {
	if j.rep.Before, err = j.look(ctx); err != nil {
		return err
	}
	j.o.limiter = newLimiter(j.o.Limits)
	st, err := j.o.openStorage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(context.WithoutCancel(ctx))) }()
	j.st = &guard{Storage: j.o.wrapped(st)}
	l, err := takeLease(ctx, j.st)
	if err != nil {
		return err
	}
	if l == nil {
		return colorfast.Errorf(colorfast.Locked, "somebody maintains it just now").WithHint("try again in a few minutes")
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()
	// Nobody must change the password between a look at what it encrypts and a write.
	k, err := takeLeaseOf(l.ctx, j.st, rekeyLease, rekeyLeaseLife)
	if err != nil {
		return err
	}
	if k == nil {
		return colorfast.Errorf(colorfast.Locked, "its password is being changed").WithHint("try again in five minutes")
	}
	defer func() { err = errors.Join(err, k.release(ctx)) }()
	j.o.rekeying = true
	ctx = k.ctx
	lost, err := j.blobs(ctx)
	if err != nil {
		return err
	}
	if err := j.index(ctx, lost); err != nil {
		return err
	}
	if j.rep.After, err = j.look(ctx); err != nil {
		return err
	}
	return j.forget(ctx)
}

// blobs mends or puts aside what the vault cannot be opened with. lost reports
// whether the index has lost something.
func (j *repairing) blobs(ctx context.Context) (lost bool, err error) {
	f, err := readFormats(ctx, j.st, j.o)
	if err != nil {
		return false, err
	}
	good := f.blob
	switch {
	case !f.opens:
		good = f.copied
		if f.blob != nil {
			if err := j.aside(ctx, formatBlob, f.blob, "it does not open"); err != nil {
				return false, err
			}
		}
		j.did("restore", formatBlob, "from %s", formatCopyBlob)
		err = j.st.PutBlob(ctx, formatBlob, raw(good), blob.PutOptions{})
	case !f.copyToo || string(f.blob) != string(f.copied):
		if f.copied != nil {
			if err := j.aside(ctx, formatCopyBlob, f.copied, "it is not the copy that it should be"); err != nil {
				return false, err
			}
		}
		j.did("restore", formatCopyBlob, "from %s", formatBlob)
		err = j.st.PutBlob(ctx, formatCopyBlob, raw(good), blob.PutOptions{})
	}
	if err != nil {
		return false, err
	}
	if err := j.settings(ctx, good); err != nil {
		return false, err
	}
	bad, err := badIndexes(ctx, j.st, f.key)
	if err != nil {
		return false, err
	}
	for _, id := range sortedKeys(bad) {
		if err := j.move(ctx, id, "a blob of the index that does not open"); err != nil {
			return false, err
		}
	}
	return len(bad) > 0, nil
}

// settings sees to it that Kopia's settings for blobs open beside the format, or are
// gone: a change of the password that was interrupted has kept them; damaged ones
// are put aside, without which Kopia takes what it takes for a vault that has none.
func (j *repairing) settings(ctx context.Context, formatBytes []byte) error {
	kept, err := readRekey(ctx, j.st)
	var st *storageError
	if errors.As(err, &st) || ctx.Err() != nil {
		return err
	}
	var now bytesOut
	if err := j.st.GetBlob(ctx, configBlob, 0, -1, &now); err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
		return err
	}
	if len(now.b) == 0 && len(kept.Settings) > 0 || len(now.b) > 0 && !opens(formatBytes, now.b, j.o.Password) {
		good := kept.pick(formatBytes, j.o.Password)
		if err := j.move(ctx, configBlob, "it does not open; if the vault had object lock and it is not restored, set that anew"); err != nil {
			return err
		}
		if good != nil {
			j.did("restore", configBlob, "from %s", rekeyBlob)
			if err := j.st.PutBlob(ctx, configBlob, raw(good), blob.PutOptions{}); err != nil {
				return err
			}
		}
	}
	if len(kept.Settings) == 0 && err == nil {
		return nil
	}
	// The change that it is of was interrupted, and ends here.
	return j.move(ctx, rekeyBlob, "the vault opens without it")
}

// aside stores the bytes of a blob under a name that nothing reads.
func (j *repairing) aside(ctx context.Context, id blob.ID, b []byte, why string) error {
	name := blob.ID(quarantine + j.r.Now.UTC().Format("20060102T150405Z") + "-" + string(id))
	j.did("quarantine", id, "%s; kept as %s", why, name)
	return j.st.PutBlob(ctx, name, raw(b), blob.PutOptions{})
}

// move puts a blob aside. It is stored there before it goes.
func (j *repairing) move(ctx context.Context, id blob.ID, why string) error {
	var out bytesOut
	if err := j.st.GetBlob(ctx, id, 0, -1, &out); err != nil {
		if errors.Is(err, blob.ErrBlobNotFound) {
			return nil
		}
		return err
	}
	if err := j.aside(ctx, id, out.b, why); err != nil {
		return err
	}
	return j.st.DeleteBlob(ctx, id)
}

// index makes entries of the index again from the packs' own lists: of packs that it
// does not name at all, and if it has lost something, of all pieces that it does not
// name. So a piece that was deleted long ago does not come back for no reason.
func (j *repairing) index(ctx context.Context, lost bool) (err error) {
	conn, err := connect(ctx, j.o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.close(ctx)) }()
	// A pack of which the index knows nothing may be that of a killed run; or a blob of
	// the index is gone, and then other packs may be known in part, from a later backup.
	n, err := unnamed(ctx, conn)
	if err != nil {
		return err
	}
	lost = lost || n > 0
	return repo.DirectWriteSession(ctx, conn, repo.WriteSessionOptions{Purpose: "repair"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		for _, prefix := range content.PackBlobIDPrefixes {
			packs, err := blob.ListAllBlobs(ctx, w.BlobReader(), prefix)
			if err != nil {
				return err
			}
			for _, m := range packs {
				n, err := j.pack(ctx, w, m, lost)
				if err != nil {
					return err
				}
				j.rep.Pieces += n
			}
		}
		return nil
	})
}

// pack returns how many entries of one pack were made again.
func (j *repairing) pack(ctx context.Context, w repo.DirectRepositoryWriter, m blob.Metadata, lost bool) (int, error) {
	entries, err := w.ContentManager().RecoverIndexFromPackBlob(ctx, m.BlobID, m.Length, false)
	if err != nil {
		var st *storageError
		if errors.As(err, &st) || ctx.Err() != nil {
			return 0, err
		}
		return 0, nil // its list is damaged; the look afterwards tells
	}
	missing := 0
	for _, e := range entries {
		switch _, err := w.ContentInfo(ctx, e.ContentID); {
		case errors.Is(err, content.ErrContentNotFound):
			missing++
		case err != nil:
			return 0, err
		}
	}
	if missing == 0 || !lost && missing < len(entries) {
		return 0, nil
	}
	if _, err := w.ContentManager().RecoverIndexFromPackBlob(ctx, m.BlobID, m.Length, true); err != nil {
		return 0, err
	}
	j.did("index", m.BlobID, "%d of its %d pieces were not in the index", missing, len(entries))
	return missing, nil
}
