package vault

import (
	"context"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"

	"github.com/kopia/kopia/repo/blob"
)

// failures are the names of what failed and is needed, in order.
func failures(x *Examination) []string {
	bad := []string{}
	for _, l := range x.Checks {
		if l.Outcome == colorfast.Failed && !l.Optional {
			bad = append(bad, l.Name)
		}
	}
	return bad
}

func examined(t *testing.T, o Options, want ...string) *Examination {
	t.Helper()
	x, err := Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if bad := failures(x); !slices.Equal(bad, append([]string{}, want...)) || x.Failed() != (len(want) > 0) {
		t.Errorf("failed: %v, want %v; %+v", bad, want, x.Checks)
	}
	for _, l := range x.Checks {
		if l.Detail == "" || l.Outcome == colorfast.Failed && l.Remedy == "" {
			t.Errorf("says too little: %+v", l)
		}
	}
	return x
}

func TestExamineFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{URL: dir, Password: password}
	if x := examined(t, o); outcome(x, "password") != colorfast.Unknown {
		t.Errorf("%+v", x)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	made(t, o)
	examined(t, o)
	examined(t, Options{URL: dir})
	examined(t, Options{URL: dir, Password: NewSecret("wrong")}, "password")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	examined(t, o, "public access")
	examined(t, Options{URL: filepath.Join(dir, "none"), Password: password}, "reach")
	if _, err := Examine(t.Context(), Options{URL: "s3://"}); colorfast.KindOf(err) != colorfast.Usage {
		t.Error(err)
	}
}

func TestExamineFar(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	known := map[string][]string{"gs": {"public access"}} // the emulator lets everybody in
	for _, st := range storages() {
		t.Run(st.name, func(t *testing.T) {
			r := st.start(t)
			o := r.options(r.place(t))
			if strings.HasPrefix(o.URL, "sftp") || strings.HasPrefix(o.URL, "webdav") {
				made(t, o) // there is no folder before
			} else {
				x := examined(t, o, known[st.name]...)
				if outcome(x, "password") != colorfast.Unknown || x.LatencySeconds <= 0 || x.WriteBytesPerSecond <= 0 || x.ReadBytesPerSecond <= 0 {
					t.Errorf("%+v", x)
				}
				made(t, o) // and nothing is in the way
			}
			raw, err := o.openStorage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = raw.Close(context.Background()) }()
			before := allBlobs(t, raw)
			examined(t, o, known[st.name]...)
			if after := allBlobs(t, raw); !slices.Equal(before, after) {
				t.Errorf("there were %v, there are %v", before, after)
			}
			nobody := o
			nobody.Environment = func(name string) string { return strings.Map(func(r rune) rune { return r + 1 }, o.Environment(name)) }
			if st.name != "gs" && st.name != "sftp" { // that has its key in the URL
				if x, err := Examine(t.Context(), nobody); err == nil && !x.Failed() {
					t.Errorf("wrong credentials: %+v", x)
				}
			}
		})
	}
}

// forgetful is a storage with a defect.
type forgetful struct {
	blob.Storage
	defect string
}

func (f *forgetful) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	err := f.Storage.GetBlob(ctx, id, offset, length, out)
	if b, ok := out.(*bytesOut); ok && err == nil && f.defect == "read" && strings.HasPrefix(string(id), string(probeBlob)) {
		b.b[len(b.b)/2] ^= 1
	}
	return err
}

func (f *forgetful) ListBlobs(ctx context.Context, prefix blob.ID, cb func(blob.Metadata) error) error {
	if f.defect == "read-after-write" && prefix != probeBlob {
		return nil
	}
	return f.Storage.ListBlobs(ctx, prefix, cb)
}

func (f *forgetful) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if f.defect == "exclusive write" {
		opts.DoNotRecreate = false
	}
	return f.Storage.PutBlob(ctx, id, data, opts)
}

func (f *forgetful) DeleteBlob(ctx context.Context, id blob.ID) error {
	if f.defect == "delete" {
		return nil
	}
	return f.Storage.DeleteBlob(ctx, id)
}

func TestExamineFindsDefects(t *testing.T) {
	for _, defect := range []string{"read", "read-after-write", "exclusive write", "delete"} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		examined(t, Options{URL: dir, wrap: func(st blob.Storage) blob.Storage { return &forgetful{st, defect} }}, defect)
	}
}

func TestExamineClockAndTransport(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	s := servers.StartS3(t, servers.Options{})
	s.MakeBucket(t, "bucket", servers.Versioned)
	to, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(to)
	p.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		return nil
	}
	o := s3Options(s, "bucket", root(s))
	x := examined(t, o)
	if outcome(x, "versions") != colorfast.Passed || outcome(x, "history") != colorfast.Passed {
		t.Errorf("%+v", x)
	}
	if left := names(t, s, "bucket"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	o.URL = strings.Replace(o.URL, s.Addr, serve(t, p), 1)
	examined(t, o, "clock")
	e := &examiner{x: &Examination{}, p: &place{scheme: "s3", host: "b", params: map[string]string{"endpoint": "http://storage.example.com", paramPlainHTTP: "true"}}}
	e.transport()
	if outcome(e.x, "transport") != colorfast.Failed {
		t.Errorf("%+v", e.x)
	}
}

// TestLocksAreExtended has maintenance extend the locks of all blobs.
func TestLocksAreExtended(t *testing.T) {
	eachS3(t, func(t *testing.T, s *servers.S3) {
		s.MakeBucket(t, "bucket", servers.Lockable)
		o := s3Options(s, "bucket", root(s))
		o.Lock = Lock{Governance, minLock}
		v := made(t, o)
		m, files := contract.Sample(1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		raw, err := o.openStorage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = raw.Close(context.Background()) }()
		before := untils(t, raw)
		nextSecond()
		if err := v.maintain(t.Context(), "full", fullSafety, tempAge); err != nil {
			t.Fatal(err)
		}
		after := untils(t, raw)
		extended(t, before, after)
		// Credentials that may not delete do it too, when half of the time is over.
		policy, err := Policy(o.URL, AppendOnly)
		if err != nil {
			t.Fatal(err)
		}
		host := reopen(t, s3Options(s, "bucket", s.MakeUser(t, "bucket", policy)))
		nextSecond()
		if err := host.extendDue(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(untils(t, raw), after) {
			t.Error("locks were extended long before they are due")
		}
		if err := host.extendDue(t.Context(), minLock); err != nil {
			t.Fatal(err)
		}
		extended(t, after, untils(t, raw))
		if x := examined(t, o); outcome(x, "lock") != colorfast.Passed {
			t.Errorf("%+v", x)
		}
	})
}

// untils returns until when each blob is locked, of those that are.
func untils(t *testing.T, st blob.Storage) map[blob.ID]time.Time {
	t.Helper()
	k, b := lockerOf(st)
	all := map[blob.ID]time.Time{}
	for _, id := range allBlobs(t, st) {
		if r, err := k.locked(t.Context(), b.prefix+string(id)); err != nil {
			t.Fatal(err)
		} else if r.mode != "" {
			all[id] = r.until
		}
	}
	return all
}

// extended demands that all locks which are still there have become longer.
func extended(t *testing.T, before, after map[blob.ID]time.Time) {
	t.Helper()
	n := 0
	for id, was := range before {
		if now, ok := after[id]; ok {
			n++
			if !now.After(was) {
				t.Errorf("%s: locked until %s, still %s", id, was, now)
			}
		}
	}
	if n < 5 || before[formatBlob].IsZero() || before[formatCopyBlob].IsZero() || before[configBlob].IsZero() {
		t.Errorf("only %d locks: %v", n, before)
	}
}
