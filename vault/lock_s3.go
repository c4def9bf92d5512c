package vault

import (
	"context"
	"errors"
	"time"

	"colorfast"
	"github.com/minio/minio-go/v7"
)

var s3Modes = map[LockMode]minio.RetentionMode{Governance: minio.Governance, Compliance: minio.Compliance}

// takesLocks implements locker.
func (s *s3Objects) takesLocks(ctx context.Context) error {
	on, _, _, _, err := s.core.Client.GetObjectLockConfig(ctx, s.bucket)
	var r minio.ErrorResponse
	if errors.As(err, &r) && r.Code == "ObjectLockConfigurationNotFoundError" || err == nil && on != "Enabled" {
		return colorfast.Errorf(colorfast.Unsupported, "bucket %q was made without object lock", s.bucket).
			WithHint("make a bucket with object lock, as with \"aws s3api create-bucket --object-lock-enabled-for-bucket\", or leave --lock out")
	}
	if errors.As(err, &r) && r.Code == "NotImplemented" {
		return colorfast.Errorf(colorfast.Unsupported, "this storage knows no object lock").
			WithHint("use another storage, or leave --lock out")
	}
	return s3Fault(err)
}

// lock implements locker.
func (s *s3Objects) lock(ctx context.Context, name string, r retention) error {
	mode, until := s3Modes[r.mode], r.until.UTC()
	return s3Fault(s.core.PutObjectRetention(ctx, s.bucket, name, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until}))
}

// locked implements locker.
func (s *s3Objects) locked(ctx context.Context, name string) (retention, error) {
	// Who may not ask for the lock gets no headers of it, as if there were none.
	// The other way to ask says so, but its answer differs from server to server.
	i, err := s.core.StatObject(ctx, s.bucket, name, minio.StatObjectOptions{})
	if err != nil {
		return retention{}, s3Fault(err)
	}
	until, perr := time.Parse(time.RFC3339, i.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	for ours, theirs := range s3Modes {
		if i.Metadata.Get("X-Amz-Object-Lock-Mode") == theirs.String() && perr == nil {
			return retention{ours, until}, nil
		}
	}
	_, _, err = s.core.GetObjectRetention(ctx, s.bucket, name, "")
	if minio.ToErrorResponse(err).Code == "NoSuchObjectLockConfiguration" {
		err = nil
	}
	return retention{}, s3Fault(err)
}
