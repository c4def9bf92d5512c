package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/servers"

	"github.com/kopia/kopia/repo/blob"
)

// eachStorage runs a test on each real storage.
func eachStorage(t *testing.T, run func(t *testing.T, r *remote)) {
	for _, s := range storages() {
		t.Run(s.name, func(t *testing.T) { run(t, s.start(t)) })
	}
}

// TestCreateFar is about the ways in which making a vault may go wrong.
func TestCreateFar(t *testing.T) {
	eachStorage(t, func(t *testing.T, r *remote) {
		t.Run("at any write", func(t *testing.T) { createDies(t, 4, func() Options { return r.options(r.place(t)) }) })
		t.Run("several at once", func(t *testing.T) { createRace(t, r, nil) })
		t.Run("several at once, where no write is exclusive", func(t *testing.T) {
			createRace(t, r, func(st blob.Storage) blob.Storage { return heedless{st} })
		})
		t.Run("where something is", func(t *testing.T) { createOccupied(t, r) })
		t.Run("exclusively", func(t *testing.T) { exclusive(t, r) })
	})
}

// createRace lets several make a vault at one place at the same time.
func createRace(t *testing.T, r *remote, wrap func(blob.Storage) blob.Storage) {
	for range 3 {
		o := r.options(r.place(t))
		o.wrap = wrap
		var wg sync.WaitGroup
		var made atomic.Int64
		winner := make(chan Secret, 8)
		for i := range 4 {
			wg.Go(func() {
				mine := o
				mine.Password = NewSecret(fmt.Sprintf("password number %d", i))
				switch err := Create(t.Context(), mine); {
				case err == nil:
					made.Add(1)
					winner <- mine.Password
				case colorfast.KindOf(err) != colorfast.Locked && colorfast.KindOf(err) != colorfast.Usage:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if made.Load() > 1 {
			t.Fatalf("%d vaults were made at one place", made.Load())
		}
		if made.Load() == 0 { // all saw each other
			if err := Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			winner <- o.Password
		}
		o.Password = <-winner
		v, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// heedless is a storage that knows no exclusive write, and does not say so.
type heedless struct{ blob.Storage }

func (h heedless) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	opts.DoNotRecreate = false
	return h.Storage.PutBlob(ctx, id, data, opts)
}

// createOccupied makes vaults where something else is.
func createOccupied(t *testing.T, r *remote) {
	o := r.options(r.place(t))
	st := r.storage(t, o)
	if err := st.PutBlob(t.Context(), "p0123", raw("somebody's"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, Create(t.Context(), o), colorfast.Usage, "empty")
	if err := st.DeleteBlob(t.Context(), "p0123"); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	err := Create(t.Context(), o)
	wantKind(t, err, colorfast.Usage, "")
	if err == nil || !strings.Contains(err.Error(), "there is a vault already") {
		t.Error(err)
	}
	o.Password = NewSecret("wrong")
	_, err = Open(t.Context(), o)
	wantKind(t, err, colorfast.Denied, "")
}

// storage opens the storage itself, without a vault.
func (r *remote) storage(t *testing.T, o Options) *patient {
	t.Helper()
	p, err := parseURL(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	st, f, err := o.openFar(t.Context(), p)
	if err == nil && f != nil {
		err = f.files.mkdir(t.Context(), f.root)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return st
}

// exclusive looks whether of several writers of one blob exactly one succeeds, and
// at the edges of reading.
func exclusive(t *testing.T, r *remote) {
	st := r.storage(t, r.options(r.place(t)))
	ctx := t.Context()
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 6 {
		wg.Go(func() {
			err := st.PutBlob(ctx, "x", raw(fmt.Sprintf("writer %d", i)), blob.PutOptions{DoNotRecreate: true})
			switch {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, blob.ErrBlobAlreadyExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done.Load() != 1 {
		t.Errorf("%d of 6 exclusive writes succeeded", done.Load())
	}
	var mod time.Time
	if err := st.PutBlob(ctx, "y", raw("0123456789"), blob.PutOptions{GetModTime: &mod}); err != nil || time.Since(mod).Abs() > time.Minute {
		t.Errorf("put: %v, %v", mod, err)
	}
	if err := st.PutBlob(ctx, "empty", raw{}, blob.PutOptions{}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		id             blob.ID
		offset, length int64
		want           string
		err            error
	}{
		{"y", 0, -1, "0123456789", nil}, {"y", 3, 4, "3456", nil}, {"y", 9, 1, "9", nil}, {"y", 5, 0, "", nil},
		{"y", 8, 3, "", blob.ErrInvalidRange}, {"y", 10, 1, "", blob.ErrInvalidRange}, {"y", 99, 1, "", blob.ErrInvalidRange},
		{"y", -1, 1, "", blob.ErrInvalidRange}, {"empty", 0, -1, "", nil}, {"z", 0, -1, "", blob.ErrBlobNotFound}, {"z", 1, 1, "", blob.ErrBlobNotFound},
	} {
		var out bytesOut
		err := st.GetBlob(ctx, c.id, c.offset, c.length, &out)
		if !errors.Is(err, c.err) || c.err == nil && (err != nil || string(out.b) != c.want) {
			t.Errorf("%s from %d, %d bytes: %q, %v; want %q, %v", c.id, c.offset, c.length, out.b, err, c.want, c.err)
		}
	}
	if m, err := st.GetMetadata(ctx, "y"); err != nil || m.Length != 10 || time.Since(m.Timestamp).Abs() > time.Minute {
		t.Errorf("metadata: %v, %v", m, err)
	}
	if _, err := st.GetMetadata(ctx, "z"); !errors.Is(err, blob.ErrBlobNotFound) {
		t.Errorf("metadata of nothing: %v", err)
	}
	if err := errors.Join(st.DeleteBlob(ctx, "y"), st.DeleteBlob(ctx, "y")); err != nil {
		t.Errorf("delete: %v", err)
	}
	all, err := blob.ListAllBlobs(ctx, st, "")
	if err != nil || len(all) != 2 {
		t.Errorf("listed: %v, %v", all, err)
	}
}

// TestWrongCredentials is about what a real server says to somebody whom it does
// not know, and about places that are not there.
func TestWrongCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		start func(t *testing.T) *remote
		spoil func(r *remote, o *Options)
		kind  colorfast.Kind
		hint  string
	}{
		"s3 secret": {func(t *testing.T) *remote { return s3Remote(t, servers.StartS3(t, servers.Options{})) },
			func(r *remote, _ *Options) { r.env["AWS_SECRET_ACCESS_KEY"] = "wrong" }, colorfast.Denied, "AWS_SECRET_ACCESS_KEY"},
		"s3 bucket": {func(t *testing.T) *remote { return s3Remote(t, servers.StartS3(t, servers.Options{})) },
			func(r *remote, o *Options) { o.URL = r.url(r.addr, "nobodys") }, colorfast.NotFound, "make the bucket"},
		"s3 certificate": {func(t *testing.T) *remote { return s3Remote(t, servers.StartS3(t, servers.Options{TLS: true})) },
			func(_ *remote, o *Options) { o.URL, _, _ = strings.Cut(o.URL, "&ca_file") }, colorfast.Denied, "ca_file"},
		"gs bucket":        {gcsRemote, func(r *remote, o *Options) { o.URL = r.url(r.addr, "nobodys") }, colorfast.NotFound, "make the bucket"},
		"azblob key":       {azureRemote, func(r *remote, _ *Options) { r.env["AZURE_STORAGE_KEY"] = "d3Jvbmc=" }, colorfast.Denied, "AZURE_STORAGE_KEY"},
		"azblob container": {azureRemote, func(r *remote, o *Options) { o.URL = r.url(r.addr, "nobodys") }, colorfast.NotFound, "make the container"},
		"webdav password":  {davRemote, func(r *remote, _ *Options) { r.env["COLORFAST_WEBDAV_PASSWORD"] = "wrong" }, colorfast.Denied, "COLORFAST_WEBDAV_PASSWORD_FILE"},
		"sftp unknown host": {sftpRemote, func(_ *remote, o *Options) { writeHosts(o, "") },
			colorfast.Denied, "ssh-keyscan"},
		"sftp other host": {sftpRemote, func(r *remote, o *Options) {
			writeHosts(o, "["+strings.Replace(r.addr, ":", "]:", 1)+" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKjZpgl4SXa2S3bYQPKxbwRdKUVXIWVGy9EBvhGhFvfF\n")
		}, colorfast.Denied, "the new one into"},
		"sftp user": {sftpRemote, func(_ *remote, o *Options) { o.URL = "sftp://nobody@" + strings.SplitN(o.URL, "@", 2)[1] }, colorfast.Denied, "key"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.start(t)
			o := r.options(r.place(t))
			c.spoil(r, &o)
			begin := time.Now()
			for what, err := range map[string]error{"open": second(Open(t.Context(), o)), "create": Create(t.Context(), o)} {
				wantKind(t, err, c.kind, c.hint)
				t.Logf("%s: %v; hint: %s", what, err, colorfast.HintOf(err))
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v to give up what cannot work", took)
			}
		})
	}
}

// writeHosts changes the file of known hosts that the URL names.
func writeHosts(o *Options, text string) {
	p, err := parseURL(o.URL)
	if err == nil {
		err = os.WriteFile(p.params["known_hosts"], []byte(text), 0o600)
	}
	if err != nil {
		panic(err)
	}
}
