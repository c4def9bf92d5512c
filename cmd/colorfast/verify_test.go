package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"colorfast"
	"colorfast/internal/chromatest"
	"colorfast/vault"
)

// TestVerifyThatCannotLook shows that a proof which ends early is no proof:
// neither a pass nor a finding, but an error.
func TestVerifyThatCannotLook(t *testing.T) {
	dir, _ := chromatest.Fixture(t, "1.5.9")
	home := t.TempDir()
	env := map[string]string{"HOME": home, "COLORFAST_VAULT": "file://" + filepath.Join(home, "vault"), "COLORFAST_PASSWORD": "secret"}
	a := &app{stdout: io.Discard, stderr: os.Stderr, getenv: func(k string) string { return env[k] }}
	for _, args := range [][]string{{"init"}, {"backup", dir}, {"verify", "latest"}} {
		if code := a.run(args); code != exitDone {
			t.Fatalf("%v ends with %d", args, code)
		}
	}
	err := a.withVault(t.Context(), func(v *vault.Vault, url string) error {
		list, err := v.List(t.Context())
		if err != nil {
			return err
		}
		m, err := v.Manifest(t.Context(), list[0].ID)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if found, err := a.proveStored(ctx, v, url, m, colorfast.Records); err == nil {
			t.Errorf("no error, findings %v", found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
