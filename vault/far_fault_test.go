package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/manifest"
)

// tableColumns of the table of TestStorages, in order.
var tableColumns = []string{"backup", "increment", "restore", "verify", "delete", "resume", "fault"}

// TestStorages does with each real storage what vaults are for, with a bad
// network in between, and prints what was done where.
func TestStorages(t *testing.T) {
	table := map[string]map[string]string{}
	all := append([]storage{{"file", nil}}, storages()...)
	for _, s := range all {
		done := map[string]string{}
		table[s.name] = done
		t.Run(s.name, func(t *testing.T) {
			if s.start == nil {
				storageSteps(t, done, func(t *testing.T) Options { return Options{URL: t.TempDir(), Password: password} }, nil)
				return
			}
			r := s.start(t)
			storageSteps(t, done, func(t *testing.T) Options { return r.options(r.place(t)) }, r)
		})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n| storage | %s |\n|---%s|\n", strings.Join(tableColumns, " | "), strings.Repeat("|---", len(tableColumns)))
	for _, s := range all {
		fmt.Fprintf(&b, "| %s ", s.name)
		for _, c := range tableColumns {
			said := table[s.name][c]
			if said == "" {
				said = "*not run*"
			}
			fmt.Fprintf(&b, "| %s ", said)
		}
		b.WriteString("|\n")
	}
	t.Log(b.String())
}

// storageSteps fills a line of the table. r is nil for a folder.
func storageSteps(t *testing.T, done map[string]string, place func(*testing.T) Options, r *remote) {
	step := func(column string, run func(t *testing.T)) {
		t.Run(column, func(t *testing.T) {
			defer func() {
				switch {
				case t.Failed():
					done[column] = "failed"
				case !t.Skipped():
					done[column] = "passed"
				}
			}()
			run(t)
		})
	}
	o := place(t)
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v := reopen(t, o)
	first, firstFiles := contract.Sample(1)
	next, nextFiles := contract.Sample(1)
	step("backup", func(t *testing.T) {
		if err := v.Put(t.Context(), first, firstFiles, nil); err != nil {
			t.Fatal(err)
		}
	})
	step("increment", func(t *testing.T) {
		next, nextFiles = contract.Next(first, firstFiles, 2)
		if err := v.Put(t.Context(), next, nextFiles, nil); err != nil {
			t.Fatal(err)
		}
		if next.StoredBytes > first.StoredBytes/2 {
			t.Errorf("the increment added %d bytes, the first backup %d", next.StoredBytes, first.StoredBytes)
		}
	})
	step("restore", func(t *testing.T) {
		fresh := reopen(t, o)
		contract.Whole(t, fresh, first.ID, firstFiles)
		contract.Whole(t, fresh, next.ID, nextFiles)
	})
	step("verify", func(t *testing.T) {
		if found, err := v.Check(t.Context(), first, colorfast.Bytes, nil); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
		loseAPack(t, v)
		if found, err := v.Check(t.Context(), first, colorfast.Stored, nil); err != nil || len(found) == 0 {
			t.Fatalf("a pack is gone, and check finds %v, %v", found, err)
		}
	})
	step("delete", func(t *testing.T) { deleteStep(t, place(t)) })
	if r == nil {
		return // faults of a folder are in fault_test.go
	}
	faults := servers.StartToxiproxy(t)
	step("resume", func(t *testing.T) { resumeStep(t, r, faults) })
	step("fault", func(t *testing.T) { faultStep(t, r, faults) })
}

// loseAPack deletes one pack from the storage.
func loseAPack(t *testing.T, v *Vault) {
	t.Helper()
	st := v.conn.BlobReader().(blob.Storage)
	packs, err := blob.ListAllBlobs(t.Context(), st, "p")
	if err != nil || len(packs) == 0 {
		t.Fatalf("%d packs, %v", len(packs), err)
	}
	for _, p := range packs {
		if err := st.DeleteBlob(t.Context(), p.BlobID); err != nil {
			t.Fatal(err)
		}
	}
}

// deleteStep takes a backup's manifest away, and the space comes back.
func deleteStep(t *testing.T, o Options) {
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v := reopen(t, o)
	keep, keepFiles := contract.Sample(1)
	gone, goneFiles := contract.Sample(2)
	if err := errors.Join(v.Put(t.Context(), keep, keepFiles, nil), v.Put(t.Context(), gone, goneFiles, nil)); err != nil {
		t.Fatal(err)
	}
	full := storedBytes(t, v)
	err := repo.WriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		return w.DeleteManifest(ctx, manifest.ID(gone.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	reclaim(t, v)
	if now := storedBytes(t, v); now > full-gone.StoredBytes/2 {
		t.Errorf("%d bytes are stored, %d before the deletion", now, full)
	}
	contract.Whole(t, reopen(t, o), keep.ID, keepFiles)
}

func storedBytes(t *testing.T, v *Vault) (n int64) {
	t.Helper()
	if err := v.conn.BlobReader().ListBlobs(t.Context(), "", func(m blob.Metadata) error {
		n += m.Length
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	longFiles = 16
	longFile  = 3 << 20
)

// longSample is a source of incompressible files that takes several packs. Before
// file number at is read, then is called.
func longSample(at int, then func()) (*colorfast.Manifest, fs.FS) {
	files := fstest.MapFS{}
	m := &colorfast.Manifest{}
	m.Consistency.FrozenAt = time.Now().UTC()
	for i := range uint64(longFiles) {
		b := make([]byte, longFile)
		randomBytes(1000+i, b)
		p := fmt.Sprintf("seg/%02d", i)
		files[p] = &fstest.MapFile{Data: b}
		m.FileList = append(m.FileList, colorfast.File{Path: p, Type: colorfast.Regular, Size: longFile})
	}
	m.Summarize()
	return m, &triggerFS{FS: files, name: fmt.Sprintf("seg/%02d", at), then: then}
}

// triggerFS does something when a file is opened, once.
type triggerFS struct {
	fs.FS
	name string
	then func()
	once sync.Once
}

// Open implements fs.FS.
func (f *triggerFS) Open(name string) (fs.File, error) {
	if name == f.name && f.then != nil {
		f.once.Do(f.then)
	}
	return f.FS.Open(name)
}

// sent counts what reaches a storage.
type sent struct {
	blob.Storage
	bytes atomic.Int64
}

func (s *sent) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	err := s.Storage.PutBlob(ctx, id, data, opts)
	if err == nil {
		s.bytes.Add(int64(data.Length()))
	}
	return err
}

// resumeStep breaks the network in the middle of a backup, for good; a second run
// sends only what has not arrived.
func resumeStep(t *testing.T, r *remote, faults *servers.Faults) {
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	p := faults.Proxy(t, r.addr)
	o := r.through(p.Addr, place)
	o.indexAfter = time.Nanosecond
	var before, after sent
	o.wrap = func(st blob.Storage) blob.Storage { before.Storage = st; return &before }
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m, files := longSample(longFiles-1, func() { p.Enable(t, false) })
	err = v.Put(t.Context(), m, files, nil)
	wantKind(t, err, colorfast.Unreachable, "not sent again")
	if name := strings.SplitN(o.URL, "?", 2)[0]; err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error does not name %s in one line: %v", name, err)
	}
	_ = v.Close(t.Context()) // may not reach the storage
	direct := r.options(place)
	direct.wrap = func(st blob.Storage) blob.Storage { after.Storage = st; return &after }
	v = reopen(t, direct)
	if l, err := v.List(t.Context()); err != nil || len(l) != 0 {
		t.Fatalf("%d listed, %v", len(l), err)
	}
	m, files = longSample(0, nil)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	contract.Whole(t, v, m.ID, files)
	total := int64(longFiles * longFile)
	t.Logf("%d bytes of %d arrived, then %d were sent", before.bytes.Load(), total, after.bytes.Load())
	if before.bytes.Load() < total/4 || after.bytes.Load() > total-before.bytes.Load()+4<<20 {
		t.Errorf("sent again: %d bytes arrived at first, then %d of %d", before.bytes.Load(), after.bytes.Load(), total)
	}
}

// faultStep backs up over a network that is slow, cut, mute and cut short.
func faultStep(t *testing.T, r *remote, faults *servers.Faults) {
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	judge := reopen(t, r.options(place))
	listed := 0
	for _, f := range []struct {
		name  string
		toxic servers.Toxic
		lasts time.Duration // 0: always
		fails bool
	}{
		{"slow", servers.Toxic{Type: "latency", Attributes: map[string]any{"latency": 60, "jitter": 30}}, 0, false},
		{"narrow", servers.Toxic{Type: "bandwidth", Upstream: true, Attributes: map[string]any{"rate": 3000}}, 0, false},
		{"cut for a moment", servers.Toxic{Type: "reset_peer", Attributes: map[string]any{"timeout": 0}}, 150 * time.Millisecond, false},
		{"cut short", servers.Toxic{Type: "limit_data", Upstream: true, Attributes: map[string]any{"bytes": 300_000}}, 300 * time.Millisecond, false},
		{"mute for a moment", servers.Toxic{Type: "timeout", Attributes: map[string]any{"timeout": 0}}, 500 * time.Millisecond, false},
		{"mute", servers.Toxic{Type: "timeout", Attributes: map[string]any{"timeout": 0}}, 0, true},
	} {
		p := faults.Proxy(t, r.addr)
		v, err := Open(t.Context(), r.through(p.Addr, place))
		if err != nil {
			t.Fatalf("%s: open: %v", f.name, err)
		}
		m, files := contract.Sample(uint64(10 + listed))
		then := func() {
			remove := p.Add(t, f.toxic)
			if f.lasts > 0 {
				time.AfterFunc(f.lasts, remove)
			}
		}
		begin := time.Now()
		err = v.Put(t.Context(), m, &triggerFS{FS: files, name: "seg/data_level0.bin", then: then}, nil)
		switch {
		case f.fails:
			wantKind(t, err, colorfast.Unreachable, "network")
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("%s: gave up after %v", f.name, took)
			}
		case err != nil:
			t.Errorf("%s: %v", f.name, err)
		default:
			listed++
			contract.Whole(t, judge, m.ID, files)
		}
		t.Logf("%s: %v, %v", f.name, time.Since(begin).Round(time.Millisecond), err)
		_ = v.Close(t.Context()) // may not reach the storage
		if l, err := judge.List(t.Context()); err != nil || len(l) != listed {
			t.Fatalf("%s: %d listed, want %d, %v", f.name, len(l), listed, err)
		}
	}
}

// front is a proxy that answers for a real server as it likes.
type front struct {
	*httptest.Server
	mu     sync.Mutex
	before func(w http.ResponseWriter, r *http.Request) (done bool)
	after  func(resp *http.Response) error
	asked  int
}

func newFront(t *testing.T, to string) *front {
	t.Helper()
	u, err := url.Parse("http://" + to)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	p := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // it breaks things on purpose
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host // is signed
		},
		ModifyResponse: func(r *http.Response) error {
			f.mu.Lock()
			after := f.after
			f.mu.Unlock()
			if after == nil {
				return nil
			}
			return after(r)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		before := f.before
		f.asked++
		f.mu.Unlock()
		if before == nil || !before(w, r) {
			p.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *front) set(before func(http.ResponseWriter, *http.Request) bool, after func(*http.Response) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after, f.asked = before, after, 0
}

func (f *front) addr() string { return strings.TrimPrefix(f.URL, "http://") }

// s3Answer answers as S3 does when it refuses.
func s3Answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no</Message></Error>", code)
}

// TestS3Answers is about what a real S3 says only in bad hours.
func TestS3Answers(t *testing.T) {
	r := s3Remote(t, servers.StartS3(t, servers.Options{}))
	f := newFront(t, r.addr)
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	o := r.through(f.addr(), place)
	judge, listed := reopen(t, r.options(place)), 0
	try := func(name string, check func(err error)) {
		t.Run(name, func(t *testing.T) {
			m, files := contract.Sample(uint64(20 + listed))
			v, err := Open(t.Context(), o)
			if err == nil {
				err = v.Put(t.Context(), m, files, nil)
				_ = v.Close(t.Context())
			}
			asked := f.asked
			f.set(nil, nil)
			t.Logf("%d requests; %v; hint: %s", asked, err, colorfast.HintOf(err))
			if check == nil && err != nil {
				t.Error(err)
			}
			if check != nil {
				check(err)
				if err == nil || !strings.Contains(err.Error(), "s3://"+place) || strings.Contains(err.Error()+colorfast.HintOf(err), r.env["AWS_SECRET_ACCESS_KEY"]) {
					t.Errorf("it does not name the storage, or shows a secret: %v", err)
				}
				if asked > 100 {
					t.Errorf("it asked %d times", asked)
				}
			}
			if err == nil {
				listed++
				contract.Whole(t, judge, m.ID, files)
			}
			if l, err := judge.List(t.Context()); err != nil || len(l) != listed {
				t.Fatalf("%d listed, want %d, %v", len(l), listed, err)
			}
		})
	}
	kind := func(k colorfast.Kind, hint string) func(error) { return func(err error) { wantKind(t, err, k, hint) } }
	every := func(n int, w func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		var c atomic.Int64
		return func(rw http.ResponseWriter, _ *http.Request) bool {
			if c.Add(1)%int64(n) != 0 {
				return false
			}
			w(rw)
			return true
		}
	}
	f.set(every(4, func(w http.ResponseWriter) { s3Answer(w, 503, "SlowDown") }), nil)
	try("throttled now and then", nil)
	f.set(every(3, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "0")
		s3Answer(w, 429, "TooManyRequests")
	}), nil)
	try("too many requests", nil)
	f.set(every(1, func(w http.ResponseWriter) { s3Answer(w, 503, "SlowDown") }), nil)
	try("throttled for good", kind(colorfast.Unreachable, "run it again"))
	f.set(every(1, func(w http.ResponseWriter) { s3Answer(w, 403, "AccessDenied") }), nil)
	try("denied", kind(colorfast.Denied, "docs/storages.md"))
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		s3Answer(w, 403, "AccessDenied")
		return true
	}, nil)
	try("may not write", kind(colorfast.Denied, "docs/storages.md"))
	f.set(every(1, func(w http.ResponseWriter) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		s3Answer(w, 403, "RequestTimeTooSkewed")
	}), nil)
	try("wrong clock", kind(colorfast.Denied, "clock"))
	f.set(every(1, func(w http.ResponseWriter) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		s3Answer(w, 403, "SignatureDoesNotMatch")
	}), nil)
	try("wrong clock, unsaid", kind(colorfast.Denied, "ahead of the storage's"))
	f.set(every(1, func(w http.ResponseWriter) { s3Answer(w, 404, "NoSuchBucket") }), nil)
	try("no bucket", kind(colorfast.NotFound, "make the bucket"))
	f.set(every(1, func(w http.ResponseWriter) { s3Answer(w, 400, "AuthorizationHeaderMalformed") }), nil)
	try("another region", kind(colorfast.Usage, "region"))
	f.set(nil, everyThird(func(r *http.Response) error {
		if r.Request.Method != http.MethodGet || r.ContentLength < 2 {
			return nil
		}
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), brokenReader{}))
		return nil
	}))
	try("half an answer", nil)
	f.set(nil, everyThird(func(r *http.Response) error { return errors.New("lost") }))
	try("done, and the answer lost", nil)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// everyThird applies change to every third response.
func everyThird(change func(*http.Response) error) func(*http.Response) error {
	var n atomic.Int64
	return func(r *http.Response) error {
		if n.Add(1)%3 != 0 {
			return nil
		}
		return change(r)
	}
}

// TestCredentialsExpire lets them expire in the middle of a backup: where there are
// new ones it goes on, else it ends with one clear error.
func TestCredentialsExpire(t *testing.T) {
	r := s3Remote(t, servers.StartS3(t, servers.Options{}))
	f := newFront(t, r.addr)
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	good := r.env["AWS_ACCESS_KEY_ID"]
	for _, renewed := range []bool{true, false} {
		var over atomic.Bool
		o := r.through(f.addr(), place)
		v, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var refusals atomic.Int64
		f.set(func(w http.ResponseWriter, _ *http.Request) bool {
			if !over.Load() || renewed && refusals.Load() > 0 {
				return false
			}
			refusals.Add(1)
			s3Answer(w, 400, "ExpiredToken")
			return true
		}, nil)
		m, files := contract.Sample(5)
		err = v.Put(t.Context(), m, &triggerFS{FS: files, name: "seg/data_level0.bin", then: func() { over.Store(true) }}, nil)
		f.set(nil, nil)
		if renewed {
			if err != nil || refusals.Load() == 0 {
				t.Fatalf("%d refusals, %v", refusals.Load(), err)
			}
			contract.Whole(t, v, m.ID, files)
		} else {
			wantKind(t, err, colorfast.Denied, "expired")
			if strings.Contains(fmt.Sprint(err), good) {
				t.Errorf("shows the key: %v", err)
			}
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
