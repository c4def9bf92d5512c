package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"

	"github.com/minio/minio-go/v7"
)

// eachS3 runs a test on each server that speaks S3 and has locks.
func eachS3(t *testing.T, test func(t *testing.T, s *servers.S3)) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	for name, start := range map[string]func(testing.TB, servers.Options) *servers.S3{"versitygw": servers.StartS3, "minio": servers.StartMinIO} {
		t.Run(name, func(t *testing.T) { test(t, start(t, servers.Options{})) })
	}
}

// s3Options name a vault in a bucket, as seen by a user of the server.
func s3Options(s *servers.S3, bucket string, u servers.User) Options {
	env := map[string]string{"AWS_ACCESS_KEY_ID": u.AccessKey, "AWS_SECRET_ACCESS_KEY": u.SecretKey, "AWS_SESSION_TOKEN": u.SessionToken}
	return Options{
		URL: "s3://" + bucket + "/a/vault?endpoint=" + s.URL + "&region=" + s.Region, Password: password,
		patience: hasty, Environment: func(name string) string { return env[name] },
	}
}

func root(s *servers.S3) servers.User {
	return servers.User{AccessKey: s.AccessKey, SecretKey: s.SecretKey}
}

// made makes a vault and opens it.
func made(t *testing.T, o Options) *Vault {
	t.Helper()
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return reopen(t, o)
}

// kept is a backup with the files that it must give back.
type kept struct {
	m     *colorfast.Manifest
	files fstest.MapFS
}

// putSome stores backups, each the parent of the next.
func putSome(t *testing.T, v *Vault, seed uint64, n int) []kept {
	t.Helper()
	var all []kept
	for i := range n {
		m, files := contract.Sample(seed + uint64(i))
		if i > 0 {
			m.Parent = all[i-1].m.ID
		}
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		if err := v.Maintain(t.Context()); err != nil {
			t.Errorf("maintain: %v", err)
		}
		all = append(all, kept{m, files})
	}
	return all
}

// nothingLost proves that a vault gives back all backups, byte for byte.
func nothingLost(t *testing.T, v *Vault, all []kept) {
	t.Helper()
	wholeVault(t, v, len(all))
	for _, b := range all {
		contract.Whole(t, v, b.m.ID, b.files)
	}
}

// nextSecond waits until the storage's times are later than now, which are in
// whole seconds, and returns the last moment before that.
func nextSecond() time.Time {
	now := time.Now()
	then := now.Truncate(time.Second).Add(time.Second)
	<-time.After(time.Until(then) + 10*time.Millisecond)
	return then.Add(-time.Nanosecond)
}

func TestLockIsRefusedWhereThereIsNone(t *testing.T) {
	lock := Lock{Compliance, minLock}
	wantKind(t, Create(t.Context(), Options{URL: t.TempDir(), Password: password, Lock: lock}), colorfast.Unsupported, "object lock")
	eachS3(t, func(t *testing.T, s *servers.S3) {
		for name, kind := range map[string]servers.Bucket{"plain": servers.Plain, "versioned": servers.Versioned} {
			s.MakeBucket(t, name, kind)
			o := s3Options(s, name, root(s))
			o.Lock = lock
			wantKind(t, Create(t.Context(), o), colorfast.Unsupported, "object lock")
			if left := names(t, s, name); len(left) > 0 {
				t.Errorf("%s: left %v", name, left)
			}
		}
		s.MakeBucket(t, "lockable", servers.Lockable)
		o := s3Options(s, "lockable", root(s))
		for _, bad := range []Lock{{Compliance, time.Hour}, {"strict", minLock}} {
			o.Lock = bad
			wantKind(t, Create(t.Context(), o), colorfast.Usage, "")
		}
	})
}

// names lists all versions in a bucket.
func names(t *testing.T, s *servers.S3, bucket string) []minio.ObjectInfo {
	t.Helper()
	var all []minio.ObjectInfo
	for o := range s.Client(t).ListObjects(t.Context(), bucket, minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		all = append(all, o)
	}
	return all
}

// TestAttacker has somebody with all of the account's credentials do the worst to
// a vault with a lock, and then proves that nothing is lost.
func TestAttacker(t *testing.T) {
	eachS3(t, func(t *testing.T, s *servers.S3) {
		for _, mode := range []LockMode{Compliance, Governance} {
			t.Run(string(mode), func(t *testing.T) { attack(t, s, mode) })
		}
	})
}

func attack(t *testing.T, s *servers.S3, mode LockMode) {
	ctx, bucket, c := t.Context(), "locked-"+string(mode), s.Client(t)
	s.MakeBucket(t, bucket, servers.Lockable)
	o := s3Options(s, bucket, root(s))
	o.Lock = Lock{mode, 3 * 24 * time.Hour}
	v := made(t, o)
	if l, err := v.Lock(ctx); err != nil || l != o.Lock {
		t.Fatalf("lock %v, %v", l, err)
	}
	all := putSome(t, v, 1, 3)
	before := nextSecond()

	lifted := 0
	objects := names(t, s, bucket)
	if len(objects) < 10 {
		t.Fatalf("only %d objects", len(objects))
	}
	earlier := time.Now().Add(time.Second).UTC()
	for _, i := range objects {
		if !isLocked(i.Key) {
			continue
		}
		for what, err := range map[string]error{
			"delete a version": c.RemoveObject(ctx, bucket, i.Key, minio.RemoveObjectOptions{VersionID: i.VersionID}),
			"shorten the lock": c.PutObjectRetention(ctx, bucket, i.Key, minio.PutObjectRetentionOptions{Mode: new(s3Modes[mode]), RetainUntilDate: &earlier, VersionID: i.VersionID}),
		} {
			if err == nil {
				lifted++
				t.Errorf("%s of %q: done", what, i.Key)
			}
		}
	}
	if c.SuspendVersioning(ctx, bucket) == nil {
		t.Error("versioning could be suspended")
	}
	if c.RemoveBucket(ctx, bucket) == nil {
		t.Error("the bucket could be removed")
	}
	for i, o := range objects {
		var err error
		switch i % 3 {
		case 0:
			err = c.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{})
		case 1:
			_, err = c.PutObject(ctx, bucket, o.Key, strings.NewReader("garbage"), 7, minio.PutObjectOptions{SendContentMd5: true})
		default: // another blob's bytes, as if an older state were put back
			src := minio.CopySrcOptions{Bucket: bucket, Object: objects[(i+1)%len(objects)].Key, VersionID: objects[(i+1)%len(objects)].VersionID}
			_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: o.Key}, src)
		}
		if err != nil && i%3 != 2 { // a marker has no bytes to copy
			t.Errorf("spoil %q: %v", o.Key, err)
		}
	}
	if _, err := c.PutObject(ctx, bucket, "a/vault/"+formatBlob, strings.NewReader("garbage"), 7, minio.PutObjectOptions{SendContentMd5: true}); err != nil {
		t.Error(err)
	}
	if _, err := Open(ctx, o); err == nil {
		t.Error("a spoilt vault opens")
	} else {
		t.Log("now:", err)
	}
	x, err := Examine(ctx, o)
	if err != nil || !x.Failed() || outcome(x, "history") != colorfast.Failed {
		t.Errorf("check: %+v, %v", x, err)
	}

	o.AsOf = before
	nothingLost(t, reopen(t, o), all)
	if lifted > 0 {
		t.Errorf("%d locks did not hold", lifted)
	}
}

// isLocked reports whether a lock is on what has this name in a bucket.
func isLocked(key string) bool {
	id := strings.TrimPrefix(key, "a/vault/")
	return id == formatBlob || id == formatCopyBlob || id == configBlob || strings.ContainsAny(id[:1], "pqx")
}

func outcome(x *Examination, name string) colorfast.Outcome {
	for _, l := range x.Checks {
		if l.Name == name {
			return l.Outcome
		}
	}
	return "not looked at"
}

// TestAppendOnly makes backups under the policy that Policy prints, and then does
// with these credentials what it can to spoil them.
func TestAppendOnly(t *testing.T) {
	eachS3(t, func(t *testing.T, s *servers.S3) {
		ctx := t.Context()
		s.MakeBucket(t, "bucket", servers.Lockable)
		o := s3Options(s, "bucket", root(s))
		o.Lock = Lock{Compliance, minLock}
		all := putSome(t, made(t, o), 1, 1)
		policy, err := Policy(o.URL, AppendOnly)
		if err != nil {
			t.Fatal(err)
		}
		u := s.MakeUser(t, "bucket", policy)
		host := s3Options(s, "bucket", u)
		v := reopen(t, host)
		m, files := contract.Sample(7)
		m.Parent = all[0].m.ID
		if err := v.Put(ctx, m, files, nil); err != nil {
			t.Fatal(err)
		}
		if err := v.maintain(ctx, "full", fullSafety, 0); err != nil {
			t.Errorf("maintain: %v", err)
		}
		all = append(all, kept{m, files})
		nothingLost(t, v, all)
		x, err := Examine(ctx, host)
		if err != nil || x.Failed() || outcome(x, "delete") != colorfast.Passed {
			t.Errorf("check: %+v, %v", x, err)
		}
		before := nextSecond()

		c, err := minio.New(s.Addr, &minio.Options{Creds: credentialsOf(u), Region: s.Region})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range names(t, s, "bucket") {
			if c.RemoveObject(ctx, "bucket", i.Key, minio.RemoveObjectOptions{}) == nil {
				t.Errorf("%q could be marked as deleted", i.Key)
			}
			if c.RemoveObject(ctx, "bucket", i.Key, minio.RemoveObjectOptions{VersionID: i.VersionID}) == nil {
				t.Errorf("a version of %q could be deleted", i.Key)
			}
			_, _ = c.PutObject(ctx, "bucket", i.Key, strings.NewReader("garbage"), 7, minio.PutObjectOptions{SendContentMd5: true}) // which S3's policies cannot refuse
		}
		if c.SuspendVersioning(ctx, "bucket") == nil || c.SetBucketPolicy(ctx, "bucket", "") == nil {
			t.Error("the bucket's settings could be changed")
		}
		host.AsOf = before
		nothingLost(t, reopen(t, host), all)
	})
}

// keeper lets through to a server of S3 what adds, and refuses with 403 what would
// replace or delete.
type keeper struct {
	to *httputil.ReverseProxy
	s  *minio.Client

	mu      sync.Mutex
	refused []string
}

func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	changes := r.Method == http.MethodDelete || r.Method == http.MethodPost
	if r.Method == http.MethodPut && !r.URL.Query().Has("retention") {
		_, err := k.s.StatObject(r.Context(), bucket, name, minio.StatObjectOptions{})
		changes = err == nil
	}
	if !changes {
		k.to.ServeHTTP(w, r)
		return
	}
	k.mu.Lock()
	k.refused = append(k.refused, r.Method+" "+name)
	k.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
}

// TestNeitherDeleteNorReplace backs up where not even overwriting is allowed.
func TestNeitherDeleteNorReplace(t *testing.T) {
	eachS3(t, func(t *testing.T, s *servers.S3) {
		s.MakeBucket(t, "bucket", servers.Plain)
		o := s3Options(s, "bucket", root(s))
		all := putSome(t, made(t, o), 1, 1)
		to, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		k := &keeper{to: httputil.NewSingleHostReverseProxy(to), s: s.Client(t)}
		addr := serve(t, k)
		o.URL = strings.Replace(o.URL, s.URL, "http://"+addr, 1)
		v := reopen(t, o)
		for i := range 5 {
			m, files := contract.Sample(uint64(10 + i))
			m.Parent = all[len(all)-1].m.ID
			if err := v.Put(t.Context(), m, files, nil); err != nil {
				t.Fatal(err)
			}
			if err := v.Maintain(t.Context()); err != nil {
				t.Errorf("maintain: %v", err)
			}
			all = append(all, kept{m, files})
		}
		nothingLost(t, reopen(t, o), all)
		for _, r := range k.refused {
			if name := r[strings.LastIndex(r, "/")+1:]; !strings.HasPrefix(r, "DELETE ") || !isMark(blobID(name)) && name != string(nothing) {
				t.Errorf("a backup wants more than to add: %s", r)
			}
		}
		if len(k.refused) == 0 {
			t.Error("nothing was refused: the test looks in the wrong place")
		}
	})
}

func TestAsOf(t *testing.T) {
	for _, st := range []string{"versitygw", "minio", "gs"} {
		t.Run(st, func(t *testing.T) {
			if testing.Short() {
				t.Skip("starts real servers")
			}
			o, spoil := versionedVault(t, st)
			early := nextSecond()
			v := made(t, o)
			all := putSome(t, v, 1, 2)
			before := nextSecond()
			spoil(t)
			if st != "versitygw" { // 1.8.0 takes a marker for an object where it must only make a new one
				later := putSome(t, made(t, o), 50, 1)
				nothingLost(t, reopen(t, o), later)
			}
			o.AsOf = before
			past := reopen(t, o)
			nothingLost(t, past, all)
			m, files := contract.Sample(9)
			if err := past.Put(t.Context(), m, files, nil); err == nil {
				t.Error("a vault as it was takes backups")
			}
			o.AsOf = early
			_, err := Open(t.Context(), o)
			wantKind(t, err, colorfast.NotFound, "--as-of")
			o.AsOf = time.Now().Add(time.Hour)
			_, err = Open(t.Context(), o)
			wantKind(t, err, colorfast.Usage, "past")
		})
	}
	o := Options{URL: t.TempDir(), Password: password, AsOf: time.Now()}
	_, err := Open(t.Context(), o)
	wantKind(t, err, colorfast.Unsupported, "--as-of")
	eachS3(t, func(t *testing.T, s *servers.S3) {
		s.MakeBucket(t, "plain", servers.Plain)
		o := s3Options(s, "plain", root(s))
		made(t, o)
		o.AsOf = time.Now()
		_, err := Open(t.Context(), o)
		wantKind(t, err, colorfast.Unsupported, "versioning")
	})
}

// versionedVault returns where a vault may be made whose storage keeps versions,
// and what deletes all that is there.
func versionedVault(t *testing.T, name string) (Options, func(*testing.T)) {
	t.Helper()
	if name == "gs" {
		s := servers.StartGCS(t)
		s.MakeBucket(t, "versioned", servers.Versioned)
		o := Options{URL: "gs://versioned/a/vault?endpoint=" + s.URL, Password: password, patience: hasty, Environment: func(name string) string {
			return map[string]string{"STORAGE_EMULATOR_HOST": s.Addr}[name]
		}}
		return o, func(t *testing.T) { deleteAll(t, o) }
	}
	s := map[string]func(testing.TB, servers.Options) *servers.S3{"versitygw": servers.StartS3, "minio": servers.StartMinIO}[name](t, servers.Options{})
	s.MakeBucket(t, "versioned", servers.Versioned)
	o := s3Options(s, "versioned", root(s))
	return o, func(t *testing.T) { deleteAll(t, o) }
}

func deleteAll(t *testing.T, o Options) {
	t.Helper()
	st, err := o.openStorage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close(context.Background()) }()
	n := 0
	for _, b := range allBlobs(t, st) {
		n++
		if err := st.DeleteBlob(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if n < 8 {
		t.Fatalf("only %d blobs", n)
	}
}

func TestPolicies(t *testing.T) {
	for _, url := range []string{"s3://b/p?region=eu-west-1", "gs://b/p", "azblob://con/p?account=a", "sftp://u@h/srv/v"} {
		full, err := Policy(url, Full)
		only, oerr := Policy(url, AppendOnly)
		if err := errors.Join(err, oerr); err != nil || full == only || strings.Contains(strings.ToLower(only), "\"s3:delete") {
			t.Errorf("%s: %v\n%s\n%s", url, err, full, only)
		}
	}
	p, err := Policy("s3://b/p?region=eu-west-1", AppendOnly)
	if err != nil || !json.Valid([]byte(p)) || !bytes.Contains([]byte(p), []byte("arn:aws:s3:::b/p/*")) {
		t.Errorf("%s, %v", p, err)
	}
	_, err = Policy("file:///srv/v", AppendOnly)
	wantKind(t, err, colorfast.Unsupported, "object lock")
	_, err = Policy("s3://b/p?region=eu-west-1", "none")
	wantKind(t, err, colorfast.Usage, "append-only")
}
