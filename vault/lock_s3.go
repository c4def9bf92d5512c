package vault

import (
	"context"
	"errors"

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
	mode, until, err := s.core.GetObjectRetention(ctx, s.bucket, name, "")
	var r minio.ErrorResponse
	if errors.As(err, &r) && r.Code == "NoSuchObjectLockConfiguration" {
		return retention{}, nil
	}
	if err != nil || mode == nil || until == nil {
		return retention{}, s3Fault(err)
	}
	for ours, theirs := range s3Modes {
		if theirs == *mode {
			return retention{ours, *until}, nil
		}
	}
	return retention{}, nil
}
