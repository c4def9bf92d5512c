package servers

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a running server that speaks S3.
type S3 struct {
	Server
	Region               string
	AccessKey, SecretKey string // of the root user, who may do everything
}

// StartS3 starts versitygw, ready to answer, and ends it with the test. It has
// versions, markers of deletion and object lock.
func StartS3(tb testing.TB, o Options) *S3 {
	tb.Helper()
	file := VersityGW.Require(tb)
	s := newS3(VersityGW.Name)
	versions, users := tb.TempDir(), tb.TempDir()
	s.start(tb, o, func(addr string) *exec.Cmd {
		args := []string{"--port", addr, "--region", s.Region, "--quiet", "--health", "/health", "--iam-dir", users, "--iam-cache-disable"}
		if o.TLS {
			cert, key := certificate(tb)
			s.CAFile = cert
			args = append(args, "--cert", cert, "--key", key)
		}
		cmd := exec.Command(file, append(args, "posix", "--versioning-dir", versions, s.Dir)...)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s.AccessKey, "ROOT_SECRET_ACCESS_KEY="+s.SecretKey)
		return cmd
	}, s.answers("/health", http.StatusOK))
	return s
}

// StartMinIO starts MinIO as StartS3 does versitygw.
func StartMinIO(tb testing.TB, o Options) *S3 {
	tb.Helper()
	file := MinIO.Require(tb)
	s := newS3(MinIO.Name)
	home := tb.TempDir() // where it looks for certificates
	s.start(tb, o, func(addr string) *exec.Cmd {
		if o.TLS {
			cert, key := certificate(tb)
			s.CAFile = cert
			if err := errors.Join(os.Rename(cert, filepath.Join(home, "public.crt")), os.Rename(key, filepath.Join(home, "private.key"))); err != nil {
				tb.Fatal(err)
			}
			s.CAFile = filepath.Join(home, "public.crt")
		}
		cmd := exec.Command(file, "server", "--certs-dir", home, "--address", addr, s.Dir)
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey,
			"MINIO_REGION="+s.Region, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "CI=true")
		return cmd
	}, s.answers("/minio/health/ready", http.StatusOK))
	return s
}

func newS3(name string) *S3 {
	return &S3{Server: Server{Name: name}, Region: "us-east-1", AccessKey: "colorfast" + secret(6), SecretKey: secret(20)}
}

// Client speaks to the server as the root user.
func (s *S3) Client(tb testing.TB) *minio.Client {
	tb.Helper()
	return s.ClientOf(tb, s.AccessKey, s.SecretKey)
}

// ClientOf speaks to the server as the user with these keys.
func (s *S3) ClientOf(tb testing.TB, accessKey, secretKey string) *minio.Client {
	tb.Helper()
	transport, err := s.transport()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(transport.CloseIdleConnections)
	c, err := minio.New(s.Addr, &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Secure: s.CAFile != "", Region: s.Region, Transport: transport, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Bucket is a kind of bucket.
type Bucket int

// The kinds of buckets.
const (
	Plain     Bucket = iota // forgets what is overwritten or deleted
	Versioned               // keeps it as versions
	Lockable                // versioned, and takes locks of objects
)

// MakeBucket makes a bucket.
func (s *S3) MakeBucket(tb testing.TB, name string, kind Bucket) {
	tb.Helper()
	ctx, c := context.WithoutCancel(tb.Context()), s.Client(tb)
	err := c.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.Region, ObjectLocking: kind == Lockable})
	if err == nil && kind == Versioned {
		err = c.EnableVersioning(ctx, name)
	}
	if err != nil {
		tb.Fatalf("make bucket %q: %v", name, err)
	}
}
