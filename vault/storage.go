package vault

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kopia/kopia/repo/blob"
)

// openStorage opens the storage of a vault's URL, which must exist. This is
// the only place that knows what is behind a scheme.
func (o *Options) openStorage(ctx context.Context) (blob.Storage, error) {
	p, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if p.scheme == "file" {
		if !o.AsOf.IsZero() {
			return nil, noVersions(o.URL, "a folder keeps no versions")
		}
		return openDisk(p.path)
	}
	st, f, err := o.openFar(ctx, p)
	if err == nil && !o.AsOf.IsZero() {
		if err = st.asOf(ctx, o.AsOf, o.URL); err != nil {
			return nil, errors.Join(err, st.Close(ctx))
		}
	}
	if err != nil || f == nil {
		return st, err
	}
	if err := st.do(ctx, "open", func(int) error { return f.open(ctx, p.short()) }); err != nil {
		return nil, errors.Join(err, st.Close(ctx))
	}
	return st, nil
}

// openFar returns a storage on another host, of which nothing has been read yet.
// folders is the part of it that lies in folders; nil for object storages.
func (o *Options) openFar(ctx context.Context, p *place) (*patient, *folders, error) {
	env, pat := environment(o.Environment), o.patience.orUsual()
	var st *patient
	var f *folders
	var err error
	switch p.scheme {
	case "s3":
		st, err = openS3(p, env, pat)
	case "gs":
		st, err = openGCS(ctx, p, env, pat)
	case "azblob":
		st, err = openAzure(p, env, pat)
	case "sftp":
		st, f, err = openSFTP(p, env, pat)
	default: // parseURL knows no other
		st, f, err = openWebDAV(p, env, pat)
	}
	return st, f, err
}

// storageType is the type of storage that Kopia's configuration file names.
// It stands for a storage that this process has already opened, by a number
// that means nothing elsewhere: so no path, name or key is ever written there.
const storageType = "colorfast"

type handle struct {
	Number string `json:"number"`
}

var (
	// handles holds the opened storages (blob.Storage) by number, until Kopia
	// has taken them.
	handles    sync.Map
	lastHandle atomic.Int64
	// registerHandles tells Kopia of storageType; not from an init function, so
	// that importing this package does nothing.
	registerHandles = sync.OnceFunc(func() {
		blob.AddSupportedStorage(storageType, handle{}, func(_ context.Context, h *handle, _ bool) (blob.Storage, error) {
			st, ok := handles.LoadAndDelete(h.Number)
			if !ok {
				return nil, errors.New("no such storage in this process")
			}
			return st.(*guard), nil
		})
	})
)

// offer makes st available to Kopia once, under the returned description.
func offer(st *guard) blob.ConnectionInfo {
	registerHandles()
	st.number = strconv.FormatInt(lastHandle.Add(1), 10)
	handles.Store(st.number, st)
	return st.ConnectionInfo()
}

// guard wraps every storage that Kopia uses: it ends promptly with its context,
// marks the errors of the storage as such, and counts what is added.
type guard struct {
	blob.Storage
	number string
}

// ConnectionInfo implements blob.Storage.
func (g *guard) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType, Config: &handle{Number: g.number}}
}

// GetBlob implements blob.Storage.
func (g *guard) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return mark(g.Storage.GetBlob(ctx, id, offset, length, out))
}

// GetMetadata implements blob.Storage.
func (g *guard) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	if err := ctx.Err(); err != nil {
		return blob.Metadata{}, err
	}
	m, err := g.Storage.GetMetadata(ctx, id)
	return m, mark(err)
}

// ListBlobs implements blob.Storage.
func (g *guard) ListBlobs(ctx context.Context, prefix blob.ID, cb func(blob.Metadata) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var cbErr error
	err := g.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		cbErr = cb(m)
		return cbErr
	})
	if cbErr != nil {
		return cbErr
	}
	if err = mark(err); err != nil && ctx.Err() == nil {
		giveUp(ctx, err)
	}
	return err
}

// PutBlob implements blob.Storage.
func (g *guard) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := mark(g.Storage.PutBlob(ctx, id, data, opts))
	if n, ok := ctx.Value(addedKey{}).(*atomic.Int64); ok && err == nil && !strings.HasPrefix(string(id), "s") {
		n.Add(int64(data.Length())) // "s" are session marks, which the same session removes
	}
	return err
}

// DeleteBlob implements blob.Storage.
func (g *guard) DeleteBlob(ctx context.Context, id blob.ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return mayStay(id, mark(g.Storage.DeleteBlob(ctx, id)))
}

func mark(err error) error {
	if err == nil || errors.Is(err, blob.ErrBlobNotFound) || errors.Is(err, blob.ErrInvalidRange) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &storageError{err}
}

type addedKey struct{}

// countAdded returns a context under which n grows by the bytes that are added
// to a storage.
func countAdded(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, addedKey{}, n)
}

// bytesOut is a blob.OutputBuffer that holds what was read.
type bytesOut struct{ b []byte }

// Write implements io.Writer.
func (o *bytesOut) Write(p []byte) (int, error) { o.b = append(o.b, p...); return len(p), nil }

// Reset implements blob.OutputBuffer.
func (o *bytesOut) Reset() { o.b = o.b[:0] }

// Length implements blob.OutputBuffer.
func (o *bytesOut) Length() int { return len(o.b) }
