package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// version is one of the states that a name in a bucket has had.
type version struct {
	name   string
	id     string // of the version
	length int64
	from   time.Time // when it came to be
	until  time.Time // when it was deleted or replaced, where the storage says so; else zero
	sum    string    // of its content; equal for equal content
	marker bool      // says that there was nothing under the name from then on
}

// versioned is what objects can do beside where their storage keeps versions.
type versioned interface {
	// versioning reports whether versions are kept of what is written now.
	versioning(ctx context.Context) (bool, error)
	// versions tells of all versions of all objects whose names begin so; those of
	// one name newest first.
	versions(ctx context.Context, prefix string, found func(version) error) error
	readVersion(ctx context.Context, v version, offset, length int64) (body, error)
	removeVersion(ctx context.Context, v version) error
}

// past is a bucket as it was. It is read once, for what has been does not change.
type past struct {
	objects
	then versioned
	at   time.Time
	all  map[string]version
	err  error // for whoever wants to change something
}

// asOf turns a far storage into what it was at a time.
func (s *patient) asOf(ctx context.Context, at time.Time, url string) error {
	b, ok := s.Storage.(*bucket)
	var then versioned
	if ok {
		then, ok = b.objects.(versioned)
	}
	if !ok {
		return noVersions(url, "its storage keeps no versions that colorfast can read")
	}
	on := false
	p := &past{
		objects: b.objects, then: then, at: at,
		err: colorfast.Errorf(colorfast.Usage, "change vault %q: it is open as it was at %s", url, at.Format(time.RFC3339)).WithHint("leave --as-of out"),
	}
	err := s.do(ctx, "list the versions of", func(int) (err error) {
		if on, err = then.versioning(ctx); err != nil {
			return err
		}
		return p.look(ctx, b.prefix)
	})
	if err != nil {
		return fail(err, colorfast.Unreachable, "open vault %q as of %s", url, at.Format(time.RFC3339))
	}
	if !on {
		return noVersions(url, "its bucket keeps no versions")
	}
	s.Storage = &readOnly{bucket: &bucket{objects: p, prefix: b.prefix}}
	return nil
}

func noVersions(url, why string) error {
	return colorfast.Errorf(colorfast.Unsupported, "open vault %q as of a time: %s", url, why).
		WithHint("only buckets with versioning can be read as they were; leave --as-of out")
}

// look notes of every name the version of then.
func (p *past) look(ctx context.Context, prefix string) error {
	p.all = map[string]version{}
	return interrupted(ctx, p.then.versions(ctx, prefix, func(v version) error {
		if v.from.After(p.at) {
			return nil
		}
		if was, ok := p.all[v.name]; !ok || v.from.After(was.from) {
			p.all[v.name] = v
		}
		return nil
	}))
}

// find returns the version of a name that was there.
func (p *past) find(name string) (version, error) {
	v, ok := p.all[name]
	if !ok || v.marker || !v.until.IsZero() && !v.until.After(p.at) {
		return version{}, blob.ErrBlobNotFound
	}
	return v, nil
}

func (v *version) metadata() blob.Metadata {
	return blob.Metadata{BlobID: blob.ID(v.name), Length: v.length, Timestamp: v.from}
}

func (p *past) read(ctx context.Context, name string, offset, length int64) (body, error) {
	v, err := p.find(name)
	if err != nil {
		return nil, err
	}
	return p.then.readVersion(ctx, v, offset, length)
}

func (p *past) stat(_ context.Context, name string) (blob.Metadata, error) {
	v, err := p.find(name)
	return v.metadata(), err
}

func (p *past) list(ctx context.Context, prefix string, found func(blob.Metadata) error) error {
	for name := range p.all {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		v, err := p.find(name)
		if errors.Is(err, blob.ErrBlobNotFound) {
			continue
		}
		if err := errors.Join(found(v.metadata()), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

func (p *past) write(context.Context, string, blob.Bytes, bool) (time.Time, error) {
	return time.Time{}, p.err
}

func (p *past) remove(context.Context, string) error { return p.err }

// readOnly is a storage that Kopia does not try to tidy up.
type readOnly struct{ *bucket }

// IsReadOnly implements blob.Storage.
func (readOnly) IsReadOnly() bool { return true }

// asOfError says of a vault that was not there that it was not there then.
func (o *Options) asOfError(err error) error {
	if o.AsOf.IsZero() || colorfast.KindOf(err) != colorfast.NotFound {
		return err
	}
	return colorfast.Errorf(colorfast.NotFound, "open vault %q as of %s: there was no vault then, or its versions from then are gone", o.URL, o.AsOf.Format(time.RFC3339)).
		WithHint("give --as-of a later time, or leave it out")
}

// checkAsOf returns an error for a time that is none to look back to.
func (o *Options) checkAsOf() error {
	if o.AsOf.IsZero() || !o.AsOf.After(time.Now()) {
		return nil
	}
	return colorfast.Errorf(colorfast.Usage, "open vault %q as of %s: that is in the future", o.URL, o.AsOf.Format(time.RFC3339)).
		WithHint("give a time in the past, such as %q", time.Now().Add(-24*time.Hour).UTC().Format(time.RFC3339))
}
