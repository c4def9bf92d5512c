package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"colorfast"
	"colorfast/internal/durable"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/sharded"
)

// A creating blob says: somebody is making a vault here. It is dead when it was
// not renewed for creatingLife, by the storage's clock.
const (
	creatingPrefix = blob.ID("colorfast.creating-")
	creatingLife   = 2 * time.Minute
)

// site is where a vault may be made.
type site interface {
	// prepare makes the folder, if the storage has such, and returns the names of
	// what lies there, or of some of it if that is much.
	prepare(ctx context.Context) ([]string, error)
}

// someNames is how many names tell enough of a place that should be empty.
const someNames = 1000

// prepare implements site. A bucket must be there.
func (b *bucket) prepare(ctx context.Context) (names []string, err error) {
	enough := errors.New("enough")
	err = b.list(ctx, b.prefix, func(m blob.Metadata) error {
		if names = append(names, string(m.BlobID[len(b.prefix):])); len(names) >= someNames {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return names, interrupted(ctx, err)
}

// prepare implements site.
func (f *folders) prepare(ctx context.Context) ([]string, error) {
	if err := f.files.mkdir(ctx, f.root); err != nil {
		return nil, err
	}
	list, err := f.files.ReadDir(ctx, f.root)
	names := make([]string, 0, len(list))
	for _, i := range list {
		names = append(names, i.Name())
	}
	return names, err
}

// createFar makes a vault on a storage without a lock that the kernel keeps. Of
// two who come at the same time at most one goes on: each leaves a mark, and then
// looks for the other's. What makes the place a vault is written last, and only
// if it is not there, as far as the storage can do that; and before Create says
// that there is a vault, all is read back and compared.
func createFar(ctx context.Context, o Options, p *place) (err error) {
	far, _, err := o.openFar(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, far.Close(context.WithoutCancel(ctx))) }()
	if err := vacant(ctx, far, o.URL); err != nil {
		return err
	}
	st := &guard{Storage: o.wrapped(far)}
	l, err := takeLease(ctx, st, creatingPrefix, creatingLife)
	if err != nil {
		return fail(err, colorfast.Unreachable, "create vault %q", o.URL)
	}
	if l == nil {
		return colorfast.Errorf(colorfast.Locked, "create vault %q: somebody else is creating it", o.URL).
			WithHint("if that was a run that was killed, try again in %v", creatingLife)
	}
	defer func() {
		if rerr := l.release(ctx); err == nil && rerr != nil {
			o.warn(ctx, "a mark of the creation is left", rerr)
		}
	}()
	if err := clearSite(l.ctx, far, st, o.URL); err != nil {
		return err
	}
	c := &creation{Storage: st, written: map[blob.ID][]byte{}}
	if err := initialize(l.ctx, o, c); err != nil {
		return err
	}
	if err := c.readBack(ctx); err != nil {
		return fail(err, colorfast.Corrupt, "create vault %q", o.URL)
	}
	return nil
}

// vacant returns an error unless a vault may be made at the place.
func vacant(ctx context.Context, far *patient, url string) error {
	var names []string
	err := far.do(ctx, "look into", func(int) (err error) {
		names, err = far.Storage.(site).prepare(ctx)
		return err
	})
	if err != nil {
		return fail(err, colorfast.Unreachable, "create vault %q", url)
	}
	if slices.ContainsFunc(names, func(n string) bool { return blobOf(n) == formatBlob }) {
		return vaultExists(url)
	}
	for _, n := range names {
		if !isLeftover(n) {
			return colorfast.Errorf(colorfast.Usage, "create vault %q: it is not empty, and no vault: it holds %q", url, n).
				WithHint("choose an empty folder, or another prefix")
		}
	}
	return nil
}

// blobOf returns the blob of a name in a bucket or a folder.
func blobOf(name string) string { return strings.TrimSuffix(name, sharded.CompleteBlobSuffix) }

// isLeftover reports whether a creation that was killed may have left this.
func isLeftover(name string) bool {
	b := blobOf(name)
	if name == string(creatingPrefix[:shards[0]]) {
		return true // the folder of the marks, and of nothing else before there is a vault
	}
	return b == configBlob || b == formatCopyBlob || strings.HasPrefix(b, string(creatingPrefix)) ||
		durable.IsTemp(name) || name == sharded.ParametersFile || name == "lost+found"
}

// clearSite removes what a creation that was killed has left. It looks again,
// under the lease.
func clearSite(ctx context.Context, far *patient, st blob.Storage, url string) error {
	if err := vacant(ctx, far, url); err != nil {
		return err
	}
	for _, id := range []blob.ID{configBlob, formatCopyBlob} {
		if err := st.DeleteBlob(ctx, id); err != nil {
			return fail(err, colorfast.Unreachable, "create vault %q: clear what an earlier try left", url)
		}
	}
	return nil
}

// readBack compares what was written with what the storage gives. If it differs,
// somebody else was at it, and no vault may be left whose parts do not fit.
func (c *creation) readBack(ctx context.Context) error {
	for id, want := range c.written {
		var got bytesOut
		if err := c.GetBlob(ctx, id, 0, -1, &got); err != nil {
			return err
		}
		if bytes.Equal(got.b, want) {
			continue
		}
		err := colorfast.Errorf(colorfast.Locked, "%q reads back differently: somebody else made a vault there at the same time", id).
			WithHint("use another prefix, or clear this one and try again")
		var mine bytesOut
		if gerr := c.GetBlob(ctx, formatBlob, 0, -1, &mine); gerr == nil && bytes.Equal(mine.b, c.written[formatBlob]) {
			return errors.Join(err, c.DeleteBlob(ctx, formatBlob))
		}
		return err
	}
	return nil
}
