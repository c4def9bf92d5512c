package vault

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// s3Objects keeps blobs in a bucket of S3 or of what speaks like it.
//
// Kopia's own (repo/blob/s3, v0.22.3) is on the same client and is not used: it
// has no write that fails if the blob is there, no encryption by the server, no
// shared-config credentials, and takes a bucket that is gone for one without blobs.
type s3Objects struct {
	core   *minio.Core
	bucket string
	sse    encrypt.ServerSide // nil for the bucket's own setting
	link   *link
}

// openS3 returns the storage of an s3 URL.
func openS3(p *place, env environment, pat patience) (*patient, error) {
	endpoint, region, err := s3Address(p, env)
	if err != nil {
		return nil, err
	}
	l, err := newLink(p, env, pat.stall)
	if err != nil {
		return nil, err
	}
	creds, err := s3Credentials(p, env, l)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupAuto
	switch p.params["path_style"] {
	case "true":
		lookup = minio.BucketLookupPath
	case "false":
		lookup = minio.BucketLookupDNS
	}
	s := &s3Objects{bucket: p.host, link: l}
	switch p.params["sse"] {
	case "s3":
		s.sse = encrypt.NewSSE()
	case "kms":
		if s.sse, err = encrypt.NewSSEKMS(p.params["sse_kms_key"], nil); err != nil {
			return nil, colorfast.Errorf(colorfast.Internal, "open vault %q: %w", p.short(), err)
		}
	}
	s.core, err = minio.NewCore(endpoint.Host, &minio.Options{
		Creds: creds, Secure: endpoint.Scheme == "https", Region: region, BucketLookup: lookup,
		Transport: l.client.Transport, MaxRetries: 1, // patient tries again
	})
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: %w", p.short(), err).WithHint("write it as in %q", forms["s3"].example)
	}
	return &patient{
		Storage: &bucket{objects: s, prefix: prefixOf(p)}, patience: pat, name: p.short(), clock: l.clock, renew: creds.Expire,
		access: "look at the credentials (" + passwordPlaces["s3"] + "), and at what they may do: \"colorfast vault check --policy full\" prints the policy to paste",
	}, nil
}

// prefixOf is what the names of all blobs begin with in a bucket.
func prefixOf(p *place) string {
	if p.path == "" {
		return ""
	}
	return p.path + "/"
}

// s3Address returns the server and the region.
func s3Address(p *place, env environment) (*url.URL, string, error) {
	region := p.params["region"]
	if region == "" {
		region = env.first("AWS_REGION", "AWS_DEFAULT_REGION")
	}
	if p.params[paramEndpoint] != "" {
		if region == "" {
			region = "us-east-1" // what those who have no regions want to be signed for
		}
		u, err := p.endpoint("")
		if err == nil && u.Path != "" {
			err = colorfast.Errorf(colorfast.Usage, "open vault %q: its endpoint has a path", p.short()).
				WithHint("write the server only, as in \"endpoint=https://storage.example.com:9000\"")
		}
		return u, region, err
	}
	if region == "" {
		return nil, "", colorfast.Errorf(colorfast.Usage, "open vault %q: the bucket's region is not known", p.short()).
			WithHint("add \"?region=…\", or set AWS_REGION; for a service that is not AWS add \"?endpoint=…\"")
	}
	suffix := ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		suffix += ".cn"
	}
	return &url.URL{Scheme: "https", Host: "s3." + region + suffix}, region, nil
}

// s3Credentials finds credentials as the tools of AWS do: in the environment, in
// the shared files, from the role of the container or the machine.
func s3Credentials(p *place, env environment, l *link) (*credentials.Credentials, error) {
	profile := p.params["profile"]
	if profile == "" && env.first("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") != "" {
		return checkedCredentials(p, &variables{env: env})
	}
	named := profile != "" || env.get("AWS_PROFILE") != ""
	if profile == "" {
		profile = env.get("AWS_PROFILE")
	}
	if profile == "" {
		profile = "default"
	}
	shared, config := env.get("AWS_SHARED_CREDENTIALS_FILE"), env.get("AWS_CONFIG_FILE")
	if shared == "" {
		shared = env.home(".aws", "credentials")
	}
	if config == "" {
		config = env.home(".aws", "config")
	}
	section := "profile " + profile
	if profile == "default" {
		section = profile
	}
	for _, f := range []*credentials.FileAWSCredentials{{Filename: shared, Profile: profile}, {Filename: config, Profile: section}} {
		if f.Filename == "" {
			continue
		}
		if v, err := f.Retrieve(); err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			return credentials.New(f), nil
		}
	}
	switch {
	case named:
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: profile %q has no keys in %q or %q", p.short(), profile, shared, config).
			WithHint("write aws_access_key_id and aws_secret_access_key, or credential_process, into one of them")
	case env.get("AWS_EC2_METADATA_DISABLED") == "true":
		return nil, noS3Credentials(p, nil)
	}
	return checkedCredentials(p, &credentials.IAM{
		Client:   &http.Client{Transport: l.client.Transport, Timeout: 5 * time.Second},
		Endpoint: env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"), Region: env.first("AWS_REGION", "AWS_DEFAULT_REGION"),
	})
}

// checkedCredentials asks a provider once, so that having none is found out here.
func checkedCredentials(p *place, from credentials.Provider) (*credentials.Credentials, error) {
	c := credentials.New(from)
	v, err := c.GetWithContext(nil)
	var ours *colorfast.Error
	if errors.As(err, &ours) {
		return nil, fail(err, colorfast.Usage, "open vault %q", p.short())
	}
	if err != nil || v.AccessKeyID == "" {
		return nil, noS3Credentials(p, err)
	}
	return c, nil
}

func noS3Credentials(p *place, cause error) error {
	e := colorfast.Errorf(colorfast.Denied, "open vault %q: no credentials are set, and this host has no role", p.short())
	if cause != nil {
		e = colorfast.Errorf(colorfast.Denied, "open vault %q: no credentials are set, and this host's role gives none: %w", p.short(), bare(cause))
	}
	return e.WithHint("%s", passwordPlaces["s3"])
}

// variables are credentials from the environment.
type variables struct {
	env  environment
	done bool
}

// Retrieve implements credentials.Provider.
func (v *variables) Retrieve() (credentials.Value, error) {
	key := v.env.get("AWS_ACCESS_KEY_ID")
	secret, err := v.env.secret("AWS_SECRET_ACCESS_KEY")
	token, terr := v.env.secret("AWS_SESSION_TOKEN")
	if err = errors.Join(err, terr); err != nil {
		return credentials.Value{}, err
	}
	if key == "" || secret.IsZero() {
		return credentials.Value{}, colorfast.Errorf(colorfast.Usage, "find the storage's credentials: only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set").
			WithHint("set both, or none")
	}
	v.done = true
	return credentials.Value{AccessKeyID: key, SecretAccessKey: secret.text, SessionToken: token.text, SignerType: credentials.SignatureV4}, nil
}

// RetrieveWithCredContext implements credentials.Provider.
func (v *variables) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return v.Retrieve()
}

// IsExpired implements credentials.Provider.
func (v *variables) IsExpired() bool { return !v.done }

func (s *s3Objects) read(ctx context.Context, name string, offset, length int64) (body, error) {
	var o minio.GetObjectOptions
	if length > 0 {
		o.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	} else if offset > 0 {
		o.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	r, _, _, err := s.core.GetObject(ctx, s.bucket, name, o)
	if err != nil {
		return nil, s3Fault(err)
	}
	return r, nil
}

func (s *s3Objects) stat(ctx context.Context, name string) (blob.Metadata, error) {
	i, err := s.core.StatObject(ctx, s.bucket, name, minio.StatObjectOptions{})
	if err != nil {
		return blob.Metadata{}, s3Fault(err)
	}
	return blob.Metadata{Length: i.Size, Timestamp: i.LastModified}, nil
}

// write sends a blob in one request, whose MD5 the server compares with what it
// got.
func (s *s3Objects) write(ctx context.Context, name string, data blob.Bytes, onlyNew bool) (time.Time, error) {
	return s.writeLocked(ctx, name, data, onlyNew, retention{})
}

// writeLocked implements locker.
func (s *s3Objects) writeLocked(ctx context.Context, name string, data blob.Bytes, onlyNew bool, lock retention) (time.Time, error) {
	all := whole(data)
	sum := md5.Sum(all)
	o := minio.PutObjectOptions{ContentType: contentType, ServerSideEncryption: s.sse}
	if onlyNew {
		o.SetMatchETagExcept("*")
	}
	if lock.mode != "" {
		o.Mode, o.RetainUntilDate = s3Modes[lock.mode], lock.until.UTC()
	}
	r := data.Reader()
	defer func() { _ = r.Close() }()
	u, err := s.core.PutObject(ctx, s.bucket, name, r, int64(len(all)), base64.StdEncoding.EncodeToString(sum[:]), "", o)
	if err != nil {
		return time.Time{}, s3Fault(err)
	}
	return u.LastModified, nil
}

// contentType of all blobs: bytes that mean nothing to anybody on the way.
const contentType = "application/octet-stream"

func (s *s3Objects) remove(ctx context.Context, name string) error {
	return s3Fault(s.core.RemoveObject(ctx, s.bucket, name, minio.RemoveObjectOptions{}))
}

func (s *s3Objects) list(ctx context.Context, prefix string, found func(blob.Metadata) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // or the lister would wait for somebody to take what it has
	for o := range s.core.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return s3Fault(o.Err)
		}
		if err := found(blob.Metadata{BlobID: blob.ID(o.Key), Length: o.Size, Timestamp: o.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *s3Objects) close() { s.link.close() }

// s3Fault classes an error of the client.
func s3Fault(err error) error {
	if err == nil {
		return nil
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		if err = bare(err); strings.HasPrefix(err.Error(), "Connection closed by foreign host") { // and then the URL
			err = errors.New("the storage closed the connection")
		}
		return err
	}
	said := fmt.Errorf("the storage answers %q: %s", r.Code, strings.TrimSuffix(r.Message, "."))
	f := &fault{class: byStatus(r.StatusCode), err: said}
	switch r.Code {
	case "NoSuchKey":
		return blob.ErrBlobNotFound
	case "InvalidRange":
		return blob.ErrInvalidRange
	case "PreconditionFailed":
		return blob.ErrBlobAlreadyExists
	case "NoSuchBucket":
		f.class, f.hint = absent, "make the bucket first, or look at the URL"
	case "ExpiredToken", "TokenRefreshRequired", "RequestExpired", "ExpiredTokenException":
		f.class = expired
	case "RequestTimeTooSkewed":
		f.class, f.hint = refused, "set this host's clock (by NTP), and run it again"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		f.class, f.hint = misnamed, "look at \"region\" in the URL: the bucket lies in another one"
	case "BadDigest", "InvalidDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "RequestTimeout", "SlowDown", "Throttling":
		f.class = transient // hurt on the way, or too much at once
	case "QuotaExceeded", "StorageFull", "XMinioStorageFull":
		f.class = noRoom
	}
	switch {
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return blob.ErrInvalidRange
	case r.StatusCode == 0:
		f.class = transient
	}
	return f
}
