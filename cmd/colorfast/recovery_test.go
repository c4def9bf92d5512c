package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/chromatest"
	"colorfast/recovery"
	"colorfast/vault"
)

// TestBackupWarnsOfTheKey makes a password older than it may be without a proof.
func TestBackupWarnsOfTheKey(t *testing.T) {
	source, _ := chromatest.Fixture(t, "1.5.9")
	dir := t.TempDir()
	env := map[string]string{"HOME": dir, "COLORFAST_VAULT": filepath.Join(dir, "vault"), "COLORFAST_PASSWORD": "hunter2"}
	var stdout, stderr bytes.Buffer
	run := func(args ...string) int {
		stdout.Reset()
		stderr.Reset()
		a := &app{stdout: &stdout, stderr: &stderr, getenv: func(name string) string { return env[name] }}
		return a.run(args)
	}
	record := func(kind colorfast.KeyEventKind, age time.Duration) {
		v, err := vault.Open(t.Context(), vault.Options{URL: env["COLORFAST_VAULT"], Password: vault.NewSecret("hunter2")})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.RecordKeyEvent(t.Context(), colorfast.KeyEvent{Kind: kind, At: time.Now().Add(-age), By: "ada"}); err != nil {
			t.Fatal(err)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	warned := func(want int) {
		t.Helper()
		if code := run("backup", "-q", source); code != exitDone {
			t.Fatalf("backup ended with %d: %s", code, stderr.String())
		}
		if got := strings.Count(stderr.String(), "no copy of the vault's password was ever shown to open it, since "); got != want {
			t.Errorf("warned %d times, want %d: %s", got, want, stderr.String())
		}
	}
	if code := run("init"); code != exitDone {
		t.Fatal(stderr.String())
	}
	warned(0)
	record(colorfast.KeySet, recovery.Grace+time.Hour)
	warned(1)
	record(colorfast.KeyVerified, time.Minute)
	warned(0)
}
