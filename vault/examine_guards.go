package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// What a storage tells of its protections; the second part of Examine.

// skewBound is from where on a difference of the clocks is told as one.
const skewBound = 5 * time.Second

// clock compares this host's clock with the storage's.
func (e *examiner) clock(ctx context.Context) {
	l := Looked{Name: "clock", Outcome: colorfast.Passed}
	ahead, known := time.Duration(0), false
	if far, ok := e.raw.(*patient); ok && far.clock != nil {
		ahead = far.clock()
		known = ahead != 0
	}
	switch {
	case e.p.scheme == "file":
		l.Detail = "this host's own"
	case !known:
		l.Outcome, l.Detail = colorfast.Unknown, "the storage does not tell its time"
	case ahead.Abs() > maxSkew:
		l.Outcome, l.Detail = colorfast.Failed, fmt.Sprintf("this host's is %v %s of the storage's", ahead.Abs().Round(time.Second), behind(ahead))
		l.Remedy = "set this host's clock, by NTP"
	case ahead.Abs() > skewBound:
		l.Detail = fmt.Sprintf("this host's is %v %s of the storage's", ahead.Abs().Round(time.Second), behind(ahead))
		l.Remedy = "set this host's clock, by NTP, before the storage refuses what it signs"
	default:
		l.Detail = fmt.Sprintf("within %v of the storage's", skewBound)
	}
	e.add(l)
}

// versionedOf returns the storage's way to versions, nil if it has none.
func versionedOf(st blob.Storage) (*patient, *bucket, versioned) {
	far, ok := st.(*patient)
	if !ok {
		return nil, nil, nil
	}
	b, ok := far.Storage.(*bucket)
	if !ok {
		return nil, nil, nil
	}
	v, _ := b.objects.(versioned)
	return far, b, v
}

// versions looks whether what is overwritten or deleted is kept, and whether
// something that never changes has been overwritten.
func (e *examiner) versions(ctx context.Context) {
	l := Looked{Name: "versions", Optional: true, Outcome: colorfast.Failed}
	far, b, v := versionedOf(e.raw)
	if v == nil {
		l.Detail = "this storage keeps none: what is overwritten or deleted is gone"
		l.Remedy = "keep a copy in a bucket with versioning"
		e.add(l)
		return
	}
	on := false
	err := far.do(ctx, "ask for the versioning of", func(int) (err error) { on, err = v.versioning(ctx); return err })
	switch {
	case err != nil:
		l.Outcome, l.Detail, l.Remedy = colorfast.Unknown, err.Error(), colorfast.HintOf(err)
	case !on:
		l.Detail, l.Remedy = "off: what is overwritten or deleted is gone", "turn versioning on for the bucket, with a rule that removes old versions after the days you want to look back"
	default:
		l.Outcome, l.Detail = colorfast.Passed, "on: --as-of reads the vault as it was"
	}
	e.add(l)
	if l.Outcome == colorfast.Passed {
		e.history(ctx, far, b, v)
	}
}

// unchanging are the beginnings of blobs that are written once and never again. (The
// copy of the format is written again when the password is changed.)
var unchanging = []string{"p", "q", "x"}

// history looks for blobs that were overwritten with something else.
func (e *examiner) history(ctx context.Context, far *patient, b *bucket, v versioned) {
	var changed []string
	err := far.do(ctx, "list the versions of", func(int) error {
		changed = nil
		seen := map[string]string{}
		return v.versions(ctx, b.prefix, func(o version) error {
			name := o.name[len(b.prefix):]
			if o.marker || !slices.ContainsFunc(unchanging, func(p string) bool { return strings.HasPrefix(name, p) }) {
				return nil
			}
			if was, ok := seen[name]; ok && was != o.sum && !slices.Contains(changed, name) {
				changed = append(changed, name)
			}
			seen[name] = o.sum
			return nil
		})
	})
	l := Looked{Name: "history", Outcome: colorfast.Passed, Detail: "nothing that never changes has been overwritten"}
	switch {
	case err != nil:
		l.Outcome, l.Detail, l.Remedy = colorfast.Unknown, err.Error(), colorfast.HintOf(err)
	case len(changed) > 0:
		l.Outcome = colorfast.Failed
		l.Detail = fmt.Sprintf("%d blobs have been overwritten with something else, such as %q", len(changed), changed[0])
		l.Remedy = "somebody has changed the vault: take the credentials away, and read it as it was with --as-of"
	}
	e.add(l)
}

// locks looks at the vault's lock, and whether its blobs have it.
func (e *examiner) locks(ctx context.Context) {
	l := Looked{Name: "lock", Optional: true, Outcome: colorfast.Failed}
	k, b := lockerOf(e.raw)
	var lock Lock
	var err error
	if e.vault != nil {
		lock, err = e.vault.Lock(ctx)
	}
	switch {
	case err != nil:
		l.Outcome, l.Detail, l.Remedy = colorfast.Unknown, err.Error(), colorfast.HintOf(err)
	case k == nil:
		l.Detail, l.Remedy = "this storage has none that colorfast can set: whoever has the credentials can delete all", "keep a copy in a bucket with object lock"
	case !lock.IsZero():
		e.lockedBlobs(ctx, k, b, lock)
		return
	default:
		if err = canLock(ctx, e.raw, e.o.URL); err != nil {
			l.Detail, l.Remedy = err.Error(), "make a bucket with object lock, and in it a vault with \"colorfast init --lock 30d\""
			if kindOf(err, colorfast.Internal) != colorfast.Unsupported {
				l.Outcome = colorfast.Unknown
			}
			break
		}
		l.Detail, l.Remedy = "the bucket takes locks, and the vault sets none", "make a vault with \"colorfast init --lock 30d\""
	}
	e.add(l)
}

// lockSamples is of how many blobs the lock is asked for, spread over all.
const lockSamples = 64

// lockedBlobs looks at the locks of a sample of blobs.
func (e *examiner) lockedBlobs(ctx context.Context, k locker, b *bucket, lock Lock) {
	l := Looked{Name: "lock", Outcome: colorfast.Passed}
	var names []blob.ID
	for _, prefix := range append([]string{formatBlob, configBlob, formatCopyBlob}, unchanging...) {
		all, err := blob.ListAllBlobs(ctx, e.st, blob.ID(prefix))
		if err != nil {
			e.add(Looked{Name: "lock", Detail: err.Error()})
			return
		}
		for _, m := range all {
			names = append(names, m.BlobID)
		}
	}
	first := time.Now().Add(100 * 365 * 24 * time.Hour)
	var bare []blob.ID
	step := max(1, len(names)/lockSamples)
	asked := 0
	for i := 0; i < len(names); i += step {
		r, err := k.locked(ctx, b.prefix+string(names[i]))
		if err != nil {
			e.add(Looked{Name: "lock", Detail: fmt.Sprintf("%s; the lock of %q cannot be read: %v", lock, names[i], err), Remedy: colorfast.HintOf(err)})
			return
		}
		asked++
		switch {
		case !r.until.After(time.Now()):
			bare = append(bare, names[i])
		case r.until.Before(first):
			first = r.until
		}
	}
	l.Detail = fmt.Sprintf("%s; of %d blobs, %d were looked at; the first is free on %s", lock, len(names), asked, first.UTC().Format(time.DateOnly))
	switch {
	case len(bare) > 0:
		l.Outcome = colorfast.Failed
		l.Detail = fmt.Sprintf("%s; of %d blobs that were looked at, %d are not locked, such as %q", lock, asked, len(bare), bare[0])
		l.Remedy = "see that a backup runs each day from a host that may delete and lock: maintenance extends the locks"
	case time.Until(first) < 24*time.Hour:
		l.Outcome = colorfast.Failed
		l.Remedy = "the lock was not extended: see that a backup runs each day from a host that may delete and lock"
	}
	e.add(l)
}

// address is where an object is to somebody without credentials.
type addressed interface {
	address(name string) (client *http.Client, url string)
}

// public looks whether somebody without credentials can read what was written.
func (e *examiner) public(ctx context.Context) {
	l := Looked{Name: "public access", Outcome: colorfast.Passed, Detail: "refused without credentials"}
	far, ok := e.raw.(*patient)
	var a addressed
	if ok {
		if b, isBucket := far.Storage.(*bucket); isBucket {
			a, _ = b.objects.(addressed)
		}
	}
	switch {
	case e.p.scheme == "file":
		e.folderMode()
		return
	case a == nil:
		l.Outcome, l.Detail = colorfast.Unknown, "not looked at with this storage"
	default:
		status, err := anonymous(ctx, a, prefixOf(e.p)+string(e.id))
		switch {
		case err != nil:
			l.Outcome, l.Detail = colorfast.Unknown, bare(err).Error()
		case status == http.StatusOK:
			l.Outcome, l.Detail = colorfast.Failed, "anybody can read the vault's blobs, without credentials"
			l.Remedy = "block public access to the bucket; the blobs are encrypted, but nobody needs to have them"
		default:
			l.Detail += fmt.Sprintf(": %d", status)
		}
	}
	e.add(l)
}

// anonymous asks for an object as anybody would.
func anonymous(ctx context.Context, a addressed, name string) (int, error) {
	client, url := a.address(name)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, errors.New("its address cannot be made")
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	return resp.StatusCode, resp.Body.Close()
}
