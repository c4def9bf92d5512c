package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"colorfast/internal/chromatest"
	"colorfast/internal/servers"
)

// TestVaultFarAway walks through the commands with a vault on a real S3 server, and
// on a host with SSH.
func TestVaultFarAway(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) map[string]string{
		"s3": func(t *testing.T) map[string]string {
			s := servers.StartS3(t, servers.Options{})
			s.MakeBucket(t, "colorfast", servers.Plain)
			return map[string]string{
				"COLORFAST_VAULT":   "s3://colorfast/chroma?region=" + s.Region + "&endpoint=" + s.URL,
				"AWS_ACCESS_KEY_ID": s.AccessKey, "AWS_SECRET_ACCESS_KEY": s.SecretKey,
			}
		},
		"sftp": func(t *testing.T) map[string]string {
			s := servers.StartSFTP(t, servers.Options{})
			return map[string]string{
				"COLORFAST_VAULT": fmt.Sprintf("sftp://%s@%s%s/chroma?key_file=%s&known_hosts=%s", s.User, s.Addr, s.Dir, s.KeyFile, s.KnownHostsFile),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := start(t)
			dir, _ := chromatest.Fixture(t, "1.5.9")
			home := t.TempDir()
			env["HOME"] = home
			var out, said bytes.Buffer
			a := &app{stdout: &out, stderr: &said, getenv: func(k string) string { return env[k] }}
			run := func(want int, args ...string) {
				t.Helper()
				out.Reset()
				said.Reset()
				if code := a.run(args); code != want {
					t.Fatalf("%v ends with %d, want %d:\n%s%s", args, code, want, out.String(), said.String())
				}
				for _, secret := range []string{"AWS_SECRET_ACCESS_KEY"} {
					if v := env[secret]; v != "" && strings.Contains(out.String()+said.String(), v) {
						t.Errorf("%v shows %s", args, secret)
					}
				}
			}
			shows := func(text string) {
				t.Helper()
				if !strings.Contains(out.String()+said.String(), text) {
					t.Errorf("it does not say %q:\n%s%s", text, out.String(), said.String())
				}
			}
			run(exitDenied, "list") // no password is known, and there is no vault
			shows("colorfast init")
			run(exitDone, "init")
			shows("vault " + name + "://")
			run(exitUsage, "init")
			shows("there is a vault already")
			run(exitDone, "backup", dir)
			run(exitDone, "backup", dir)
			run(exitDone, "list")
			run(exitDone, "show", "latest")
			run(exitDone, "verify", "latest", "--level", "records")
			to := filepath.Join(home, "restored")
			run(exitDone, "restore", "latest", "--to", to)
			if missing(filepath.Join(to, "chroma.sqlite3")) {
				t.Error("nothing was restored")
			}
			if left, err := os.ReadDir(filepath.Join(home, ".cache", "colorfast", "indexes")); err != nil || len(left) == 0 {
				t.Errorf("no index is cached: %v", err)
			}
		})
	}
}
