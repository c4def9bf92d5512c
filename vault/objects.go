package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// objects is a storage that keeps blobs under names, without folders.
type objects interface {
	// read returns bytes of an object, all from offset on if length is negative.
	read(ctx context.Context, name string, offset, length int64) (body, error)
	stat(ctx context.Context, name string) (blob.Metadata, error)
	// write stores an object, and returns when it is durable. With onlyNew an
	// object that is there stays as it is, and the error is
	// blob.ErrBlobAlreadyExists.
	write(ctx context.Context, name string, data blob.Bytes, onlyNew bool) (time.Time, error)
	remove(ctx context.Context, name string) error
	// list tells of all objects whose names begin so; BlobID is the name.
	list(ctx context.Context, prefix string, found func(blob.Metadata) error) error
	close()
}

// body is an object that is being read.
type body interface {
	Read(p []byte) (int, error)
	Close() error
}

// bucket makes a blob.Storage of objects.
type bucket struct {
	blob.DefaultProviderImplementation
	objects
	prefix string // of all names
}

// GetBlob implements blob.Storage.
func (b *bucket) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	out.Reset()
	if offset < 0 {
		return blob.ErrInvalidRange
	}
	if length == 0 { // no service has a range of nothing
		m, err := b.GetMetadata(ctx, id)
		if err == nil && offset > m.Length {
			err = blob.ErrInvalidRange
		}
		return err
	}
	r, err := b.read(ctx, b.prefix+string(id), offset, length)
	if err != nil {
		return interrupted(ctx, err)
	}
	_, err = copyTo(out, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return interrupted(ctx, err)
	}
	return blob.EnsureLengthExactly(out.Length(), length)
}

// GetMetadata implements blob.Storage.
func (b *bucket) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	m, err := b.stat(ctx, b.prefix+string(id))
	m.BlobID = id
	return m, interrupted(ctx, err)
}

// ListBlobs implements blob.Storage.
func (b *bucket) ListBlobs(ctx context.Context, prefix blob.ID, cb func(blob.Metadata) error) error {
	return interrupted(ctx, b.list(ctx, b.prefix+string(prefix), func(m blob.Metadata) error {
		if m.BlobID = m.BlobID[len(b.prefix):]; strings.Contains(string(m.BlobID), "/") {
			return nil // of somebody else, and no pack, whatever it begins with
		}
		return cb(m)
	}))
}

// PutBlob implements blob.Storage.
func (b *bucket) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if opts.HasRetentionOptions() {
		return blob.ErrUnsupportedPutBlobOption
	}
	if !opts.SetModTime.IsZero() {
		return blob.ErrSetTimeUnsupported
	}
	t, err := b.write(ctx, b.prefix+string(id), data, opts.DoNotRecreate)
	if err == nil && opts.GetModTime != nil {
		if t.IsZero() { // not every service says
			var m blob.Metadata
			m, err = b.GetMetadata(ctx, id)
			t = m.Timestamp
		}
		*opts.GetModTime = t
	}
	return interrupted(ctx, err)
}

// DeleteBlob implements blob.Storage.
func (b *bucket) DeleteBlob(ctx context.Context, id blob.ID) error {
	err := b.remove(ctx, b.prefix+string(id))
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil
	}
	return interrupted(ctx, err)
}

// Close implements blob.Storage.
func (b *bucket) Close(context.Context) error {
	b.close()
	return nil
}

// ConnectionInfo implements blob.Storage; see guard for the one that is used.
func (b *bucket) ConnectionInfo() blob.ConnectionInfo { return blob.ConnectionInfo{} }

// DisplayName implements blob.Storage; see patient.
func (b *bucket) DisplayName() string { return "" }

// copyTo copies what is read in portions of a good size.
func copyTo(out blob.OutputBuffer, r body) (n int64, err error) {
	buf := make([]byte, 128<<10)
	for {
		m, rerr := r.Read(buf)
		if m > 0 {
			if _, err := out.Write(buf[:m]); err != nil {
				return n, err
			}
			n += int64(m)
		}
		if rerr != nil {
			if isEOF(rerr) {
				rerr = nil
			}
			return n, rerr
		}
	}
}

// detach copies the bytes of a blob, under the same limit. What sends them may
// still read them for a moment after it gave up (net/http's transport does), and
// Kopia has used its memory for something else by then.
func detach(data blob.Bytes) (blob.Bytes, error) {
	all := bytesOut{b: make([]byte, 0, data.Length())}
	l, ok := data.(*limitedBytes)
	if ok {
		data = l.Bytes
	}
	_, err := data.WriteTo(&all)
	if ok {
		return &limitedBytes{raw(all.b), l.flow}, err
	}
	return raw(all.b), err
}

// whole returns the bytes of a blob that was detached, without waiting for a
// limit: to sum them up is not to send them.
func whole(data blob.Bytes) []byte {
	if l, ok := data.(*limitedBytes); ok {
		data = l.Bytes
	}
	return data.(raw)
}
