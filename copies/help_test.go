package copies_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/fstest"

	"colorfast"
	"colorfast/copies"
	"colorfast/internal/contract"
	"colorfast/internal/fake"
	"colorfast/vault"
)

// kinds are the vaults that all tests here are run with.
var kinds = map[string]func(t *testing.T, dir string) copies.Vault{
	"fake": func(t *testing.T, dir string) copies.Vault {
		v, err := fake.NewVault(dir)
		if err != nil {
			t.Fatal(err)
		}
		return v
	},
	"real": openReal,
}

// options are those of a real vault: each has a password of its own.
func options(dir string) vault.Options {
	return vault.Options{URL: dir, Password: vault.NewSecret("password of " + filepath.Base(dir)), CacheDir: filepath.Join(filepath.Dir(dir), "cache")}
}

func openReal(t *testing.T, dir string) copies.Vault {
	o := options(dir)
	if err := vault.Create(t.Context(), o); err != nil && colorfast.KindOf(err) != colorfast.Usage {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return v
}

// both runs a test with fake and with real vaults.
func both(t *testing.T, test func(t *testing.T, open func(name string) copies.Vault)) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test(t, func(name string) copies.Vault { return open(t, filepath.Join(dir, name)) })
		})
	}
}

// history puts n backups of one source, and returns them with their files.
func history(t *testing.T, v colorfast.Vault, n int) ([]*colorfast.Manifest, []fstest.MapFS) {
	t.Helper()
	var all []*colorfast.Manifest
	var content []fstest.MapFS
	m, files := contract.Sample(1)
	for i := range n {
		if i > 0 {
			m, files = contract.Next(m, files, uint64(i))
		}
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		all, content = append(all, m), append(content, files)
	}
	return all, content
}

func list(t *testing.T, v colorfast.Vault, n int) []colorfast.Backup {
	t.Helper()
	l, err := v.List(t.Context())
	if err != nil || len(l) != n {
		t.Fatalf("%d backups are listed, want %d; %v", len(l), n, err)
	}
	return l
}

func run(t *testing.T, c copies.Copy) *copies.Report {
	t.Helper()
	rep, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}
