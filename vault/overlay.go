package vault

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// overlay is a storage that keeps to itself what is written and deleted: so that a
// repair can be tried as a whole, and said to do what it will do.
type overlay struct {
	blob.Storage

	mu   sync.Mutex
	over map[blob.ID]overBlob
}

// overBlob is a blob that was written or, if data is nil, deleted.
type overBlob struct {
	data []byte
	at   time.Time
}

// on returns the overlay over a storage; it is the same over every connection.
func (o *overlay) on(st blob.Storage) blob.Storage { return &overlaid{Storage: st, overlay: o} }

// overlaid is a storage under an overlay.
type overlaid struct {
	blob.Storage
	*overlay
}

func (s *overlaid) find(id blob.ID) (overBlob, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.over[id]
	return b, ok
}

// GetBlob implements blob.Storage.
func (s *overlaid) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	b, ok := s.find(id)
	if !ok {
		return s.Storage.GetBlob(ctx, id, offset, length, out)
	}
	out.Reset()
	if b.data == nil {
		return blob.ErrBlobNotFound
	}
	part := b.data
	if length >= 0 {
		if offset < 0 || offset+length > int64(len(part)) {
			return fmt.Errorf("%w: %d bytes at %d of %q", blob.ErrInvalidRange, length, offset, id)
		}
		part = part[offset : offset+length]
	}
	_, err := out.Write(part)
	return err
}

// GetMetadata implements blob.Storage.
func (s *overlaid) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	b, ok := s.find(id)
	switch {
	case !ok:
		return s.Storage.GetMetadata(ctx, id)
	case b.data == nil:
		return blob.Metadata{}, blob.ErrBlobNotFound
	}
	return blob.Metadata{BlobID: id, Length: int64(len(b.data)), Timestamp: b.at}, nil
}

// ListBlobs implements blob.Storage.
func (s *overlaid) ListBlobs(ctx context.Context, prefix blob.ID, fn func(blob.Metadata) error) error {
	err := s.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		if _, ok := s.find(m.BlobID); ok {
			return nil
		}
		return fn(m)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	var mine []blob.Metadata
	for id, b := range s.over {
		if b.data != nil && strings.HasPrefix(string(id), string(prefix)) {
			mine = append(mine, blob.Metadata{BlobID: id, Length: int64(len(b.data)), Timestamp: b.at})
		}
	}
	s.mu.Unlock()
	for _, m := range mine {
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// PutBlob implements blob.Storage.
func (s *overlaid) PutBlob(_ context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	r := data.Reader()
	b, err := io.ReadAll(r)
	_ = r.Close() // of bytes in memory
	if err != nil {
		return err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over[id] = overBlob{append([]byte{}, b...), now}
	if opts.GetModTime != nil {
		*opts.GetModTime = now
	}
	return nil
}

// DeleteBlob implements blob.Storage.
func (s *overlaid) DeleteBlob(_ context.Context, id blob.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over[id] = overBlob{}
	return nil
}

// IsReadOnly implements blob.Storage: it can be written however the storage is.
func (s *overlaid) IsReadOnly() bool { return false }
