package vault

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"
)

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

// set changes what happens, and returns how many requests there were before.
func (f *front) set(before func(http.ResponseWriter, *http.Request) bool, after func(*http.Response) error) (asked int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked = f.asked
	f.before, f.after, f.asked = before, after, 0
	return asked
}

func (f *front) addr() string { return strings.TrimPrefix(f.URL, "http://") }

// refuse answers as S3 does when it refuses, by a clock that is ahead.
func refuse(status int, code string, ahead time.Duration) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Retry-After", "0")
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no</Message></Error>", code)
	}
}

// hour is how S3 answers in a bad hour, and what must come of it.
type hour struct {
	name   string
	before func(http.ResponseWriter, *http.Request) bool
	after  func(*http.Response) error
	kind   colorfast.Kind // Internal: it succeeds
	hint   string
}

var hours = []hour{
	{"throttled now and then", every(4, refuse(503, "SlowDown", 0)), nil, 0, ""},
	{"too many requests", every(3, refuse(429, "TooManyRequests", 0)), nil, 0, ""},
	{"throttled for good", every(1, refuse(503, "SlowDown", 0)), nil, colorfast.Unreachable, "run it again"},
	{"denied", every(1, refuse(403, "AccessDenied", 0)), nil, colorfast.Denied, "vault check --policy full"},
	{"may not write", func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			refuse(403, "AccessDenied", 0)(w)
		}
		return r.Method == http.MethodPut
	}, nil, colorfast.Denied, "vault check --policy full"},
	{"wrong clock", every(1, refuse(403, "RequestTimeTooSkewed", time.Hour)), nil, colorfast.Denied, "clock"},
	{"wrong clock, unsaid", every(1, refuse(403, "SignatureDoesNotMatch", -time.Hour)), nil, colorfast.Denied, "ahead of the storage's"},
	{"no bucket", every(1, refuse(404, "NoSuchBucket", 0)), nil, colorfast.NotFound, "make the bucket"},
	{"another region", every(1, refuse(400, "AuthorizationHeaderMalformed", 0)), nil, colorfast.Usage, "region"},
	{"full", every(1, refuse(507, "StorageFull", 0)), nil, colorfast.Unreachable, "make room"},
	{"half an answer", nil, everyThird(func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && r.ContentLength > 1 {
			r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), brokenReader{}))
		}
		return nil
	}), 0, ""},
	{"done, and the answer lost", nil, everyThird(func(*http.Response) error { return errors.New("lost") }), 0, ""},
}

// TestS3Answers is about what a real S3 says only in bad hours.
func TestS3Answers(t *testing.T) {
	r := s3Remote(t, servers.StartS3(t, servers.Options{}))
	f := newFront(t, r.addr)
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	judge, listed := reopen(t, r.options(place)), 0
	for _, h := range hours {
		t.Run(h.name, func(t *testing.T) {
			f.set(h.before, h.after)
			m, files := contract.Sample(uint64(20 + listed))
			v, err := Open(t.Context(), r.through(f.addr(), place))
			if err == nil {
				err = v.Put(t.Context(), m, files, nil)
				_ = v.Close(t.Context()) // may not reach the storage
			}
			t.Logf("%d requests; %v; hint: %s", f.set(nil, nil), err, colorfast.HintOf(err))
			if h.kind == colorfast.Internal {
				if err != nil {
					t.Fatal(err)
				}
				listed++
				contract.Whole(t, judge, m.ID, files)
			} else {
				wantKind(t, err, h.kind, h.hint)
				if err == nil || !strings.Contains(err.Error(), "s3://"+place) || strings.Contains(err.Error()+colorfast.HintOf(err), r.env["AWS_SECRET_ACCESS_KEY"]) {
					t.Errorf("it does not name the storage, or shows a secret: %v", err)
				}
			}
			if l, err := judge.List(t.Context()); err != nil || len(l) != listed {
				t.Fatalf("%d listed, want %d, %v", len(l), listed, err)
			}
		})
	}
}

// every applies answer to every n-th request.
func every(n int64, answer func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	var c atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if c.Add(1)%n != 0 {
			return false
		}
		answer(w)
		return true
	}
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
			refuse(400, "ExpiredToken", 0)(w)
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
