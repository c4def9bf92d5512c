package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"colorfast/internal/chromatest"
	"colorfast/internal/servers"
)

// TestVaultSurvivesItsHost lives the whole story by commands: a vault with a lock,
// a host with credentials that may only add, an attacker on it, and a restore from
// before.
func TestVaultSurvivesItsHost(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real server")
	}
	s := servers.StartS3(t, servers.Options{})
	s.MakeBucket(t, "bucket", servers.Lockable)
	source, _ := chromatest.Fixture(t, "1.5.9")
	home := t.TempDir()
	env := map[string]string{
		"HOME": home, "COLORFAST_PASSWORD": "secret", "COLORFAST_VAULT": "s3://bucket/vault?endpoint=" + s.URL + "&region=" + s.Region,
		"AWS_ACCESS_KEY_ID": s.AccessKey, "AWS_SECRET_ACCESS_KEY": s.SecretKey,
	}
	run := func(code int, args ...string) string {
		t.Helper()
		var out, said bytes.Buffer
		a := &app{stdout: &out, stderr: &said, getenv: func(k string) string { return env[k] }}
		if got := a.run(args); got != code {
			t.Fatalf("%v ends with %d, want %d: %s%s", args, got, code, &out, &said)
		}
		return out.String() + said.String()
	}
	tells := func(out, want string) {
		t.Helper()
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	tells(run(exitDone, "init", "--lock", "30d", "--lock-mode", "compliance"), "lock compliance, 30 days")
	u := s.MakeUser(t, "bucket", run(exitDone, "vault", "check", "--policy", "append-only"))
	env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = u.AccessKey, u.SecretKey
	if out := run(exitDone, "backup", source); strings.Contains(out, "WARN") {
		t.Errorf("a backup complains: %s", out)
	}
	run(exitDone, "backup", "--reread", source)
	tells(run(exitDone, "show", "latest"), "compliance, 30 days from when it was written")
	out := run(exitDone, "vault", "check")
	tells(out, "refused: these credentials can add but not delete")
	tells(out, "the first is free on "+time.Now().UTC().Add(30*24*time.Hour).Format(time.DateOnly))

	now := time.Now()
	<-time.After(time.Until(now.Truncate(time.Second).Add(time.Second))) // versions' times are in seconds
	c := s.ClientOf(t, u.AccessKey, u.SecretKey)
	n := 0
	for o := range s.Client(t).ListObjects(t.Context(), "bucket", minio.ListObjectsOptions{Recursive: true}) {
		n++
		if _, err := c.PutObject(t.Context(), "bucket", o.Key, strings.NewReader("garbage"), 7, minio.PutObjectOptions{SendContentMd5: true}); err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Fatalf("only %d objects", n)
	}
	run(exitError, "list")
	tells(run(exitFindings, "vault", "check"), "somebody has changed the vault")

	then := now.Format(time.RFC3339Nano)
	tells(run(exitDone, "list", "--as-of", then), "verified")
	tells(run(exitDone, "verify", "latest", "--as-of", then), "passed")
	target := filepath.Join(t.TempDir(), "restored")
	run(exitDone, "restore", "latest", "--as-of", then, "--to", target)
	sameFiles(t, source, target)
}

// sameFiles demands that two directories have the same files, but for journals,
// which a capture folds into the database.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(a, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(d.Name(), ".sqlite3") {
			return err
		}
		n++
		rel, err := filepath.Rel(a, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(b, rel)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", rel, err)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d files, %v", n, err)
	}
}
