package vault

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// versioning implements versioned.
func (s *s3Objects) versioning(ctx context.Context) (bool, error) {
	c, err := s.core.GetBucketVersioning(ctx, s.bucket)
	if minio.ToErrorResponse(err).Code == "NotImplemented" {
		return false, nil
	}
	return c.Enabled(), s3Fault(err)
}

// versions implements versioned.
func (s *s3Objects) versions(ctx context.Context, prefix string, found func(version) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // or the lister would wait for somebody to take what it has
	for o := range s.core.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			return s3Fault(o.Err)
		}
		v := version{name: o.Key, id: o.VersionID, length: o.Size, sum: o.ETag, from: o.LastModified, marker: o.IsDeleteMarker}
		if made, ok := ulidTime(o.VersionID); ok {
			v.from = made
		}
		if err := found(v); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ulidTime returns the time in the ID of a version that is an ULID (26 digits of
// base 32, the first ten a time in milliseconds). versitygw 1.8.0 has such IDs, and
// tells wrong times: of an old version when it became one, and of a marker that of
// what it hides. The IDs of AWS (32 characters) and MinIO (36) are no ULIDs.
func ulidTime(id string) (time.Time, bool) {
	if len(id) != 26 || id[0] > '7' {
		return time.Time{}, false
	}
	var ms int64
	for i := range len(id) {
		digit := strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", id[i])
		if digit < 0 {
			return time.Time{}, false
		}
		if i < 10 {
			ms = ms<<5 | int64(digit)
		}
	}
	return time.UnixMilli(ms), true
}

// readVersion implements versioned.
func (s *s3Objects) readVersion(ctx context.Context, v version, offset, length int64) (body, error) {
	o := minio.GetObjectOptions{VersionID: v.id}
	setS3Range(&o, offset, length)
	r, _, _, err := s.core.GetObject(ctx, s.bucket, v.name, o)
	if err != nil {
		return nil, s3Fault(err)
	}
	return r, nil
}

func setS3Range(o *minio.GetObjectOptions, offset, length int64) {
	if length > 0 {
		o.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	} else if offset > 0 {
		o.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
}

// removeVersion implements versioned.
func (s *s3Objects) removeVersion(ctx context.Context, v version) error {
	return s3Fault(s.core.Client.RemoveObject(ctx, s.bucket, v.name, minio.RemoveObjectOptions{VersionID: v.id}))
}
