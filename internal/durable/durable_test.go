package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"colorfast/internal/durable"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		t.Fatal("second time:", err)
	}
	path := filepath.Join(dir, "f")
	for _, s := range []string{"one", "two"} {
		if err := durable.Write(path, 0o600, text(s)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != s {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	if err := durable.WriteNew(path, 0o600, text("three")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, want fs.ErrExist", err)
	}
	boom := errors.New("boom")
	if err := durable.Write(path, 0o600, func(io.Writer) error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "two" {
		t.Fatalf("a write that failed changed the file to %q", b)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Fatalf("left behind: %v", names)
	}
}

func TestIsTemp(t *testing.T) {
	for name, want := range map[string]bool{
		"kopia.repository.f.tmp.0123456789abcdef": true,
		"kopia.repository.f":                      false,
		"x.tmp.0123":                              false,
		"x.tmp.0123456789abcdeg":                  false,
	} {
		if durable.IsTemp(name) != want {
			t.Errorf("IsTemp(%q) = %v", name, !want)
		}
	}
}
