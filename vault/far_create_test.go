package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"
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
		t.Run("at any write", func(t *testing.T) { createDies(t, r) })
		t.Run("several at once", func(t *testing.T) { createRace(t, r) })
		t.Run("where something is", func(t *testing.T) { createOccupied(t, r) })
		t.Run("exclusively", func(t *testing.T) { exclusive(t, r) })
	})
}

// createDies lets a creation die at each of its writes: of its mark, Kopia's
// settings, the copy of the format, the format.
func createDies(t *testing.T, r *remote) {
	for n := range 4 {
		for _, kept := range []bool{false, true} {
			o := r.options(r.place(t))
			broken := o
			broken.wrap = func(st blob.Storage) blob.Storage { return &stopStorage{st, n, kept} }
			if err := Create(t.Context(), broken); err == nil {
				t.Fatalf("write %d: no error", n)
			}
			if n == 3 && kept { // the write that makes it a vault
				wantKind(t, Create(t.Context(), o), colorfast.Usage, "")
			} else {
				_, err := Open(t.Context(), o)
				wantKind(t, err, colorfast.NotFound, "colorfast init")
				err = Create(t.Context(), o)
				if n == 0 && kept { // its mark is there, and nobody knows that it is dead
					wantKind(t, err, colorfast.Locked, "2m0s")
					continue
				}
				if err != nil {
					t.Fatalf("write %d, kept %v: second Create: %v", n, kept, err)
				}
			}
			v := reopen(t, o)
			m, files := contract.Sample(1)
			if err := v.Put(t.Context(), m, files, nil); err != nil {
				t.Fatal(err)
			}
			contract.Whole(t, v, m.ID, files)
		}
	}
}

// createRace lets several make a vault at one place at the same time.
func createRace(t *testing.T, r *remote) {
	for range 3 {
		o := r.options(r.place(t))
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

// TestFoldersAreTheSame opens vaults of sftp and webdav as folders, and the other
// way round; what killed writers left there goes with the next maintenance.
func TestFoldersAreTheSame(t *testing.T) {
	eachStorage(t, func(t *testing.T, r *remote) {
		if r.dir == nil {
			t.Skip("no folders")
		}
		place := r.place(t)
		o := r.options(place)
		if err := Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		v := reopen(t, o)
		m, files := contract.Sample(1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		dir, err := r.dir(place)
		if err != nil {
			t.Fatal(err)
		}
		there := reopen(t, Options{URL: dir})
		contract.Whole(t, there, m.ID, files)
		m, files = contract.Sample(2)
		if err := there.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		contract.Whole(t, v, m.ID, files)
		left := filepath.Join(dir, "p", "abc", "x.f.tmp.0123456789abcdef")
		if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-25 * time.Hour)
		fresh := filepath.Join(dir, "y.f.tmp.0123456789abcdef")
		if err := errors.Join(os.Chtimes(left, old, old), os.WriteFile(fresh, []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := v.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(left); err == nil {
			t.Error("a file that was half written yesterday is still there")
		}
		if _, err := os.Stat(fresh); err != nil {
			t.Error("a file that is being written was removed")
		}
	})
}

// TestCacheOfIndexes looks at what lies in the cache, and who believes it.
func TestCacheOfIndexes(t *testing.T) {
	r := sftpRemote(t)
	place := r.place(t)
	o := r.options(place)
	o.CacheDir = filepath.Join(t.TempDir(), "cache")
	var reads readCounter
	o.wrap = func(st blob.Storage) blob.Storage { reads.Storage = st; return &reads }
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v := reopen(t, o)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	reopen(t, o)
	reads.n.Store(0)
	again := reopen(t, o)
	if n := reads.n.Load(); n != 0 {
		t.Errorf("%d indexes were read again", n)
	}
	contract.Whole(t, again, m.ID, files)
	kept, err := filepath.Glob(filepath.Join(o.CacheDir, "indexes", "*", "x*"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("the cache holds %v, %v", kept, err)
	}
	if fi, err := os.Stat(filepath.Dir(kept[0])); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the cache is open to others: %v, %v", fi.Mode(), err)
	}
	dir, err := r.dir(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kept {
		b, err := os.ReadFile(k)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(k)
		is, err := os.ReadFile(filepath.Join(dir, name[:1], name[1:4], name[4:]+".f"))
		if err != nil || string(b[32:]) != string(is) {
			t.Errorf("%s is not as it is stored: %v", name, err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(k, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	contract.Whole(t, reopen(t, o), m.ID, files) // a damaged cache costs time
	for _, k := range kept {                     // damage in the storage is found, whatever the cache says
		name := filepath.Base(k)
		path := filepath.Join(dir, name[:1], name[1:4], name[4:]+".f")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := reopen(t, o).Check(t.Context(), m, colorfast.Stored, nil); err == nil && len(found) == 0 {
		t.Error("the storage's indexes are damaged, and check says nothing")
	}
}

// readCounter counts reads of indexes.
type readCounter struct {
	blob.Storage
	n atomic.Int64
}

func (c *readCounter) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if isIndex(id) {
		c.n.Add(1)
	}
	return c.Storage.GetBlob(ctx, id, offset, length, out)
}
