package main

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledChangesOfThePassword kills the program in the middle of "vault
// password", with a made-up password. After each kill a file of a password opens
// the vault, and the command, run again, finishes what was begun.
func TestKilledChangesOfThePassword(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "colorfast") // the name makes the test binary one
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	home, store := filepath.Join(dir, "home"), filepath.Join(dir, "vault")
	command := func(passwordFile string, args ...string) *exec.Cmd {
		c := exec.Command(program, args...)
		c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "COLORFAST_VAULT=" + store, "COLORFAST_PASSWORD_FILE=" + passwordFile}
		return c
	}
	run := func(passwordFile string, args ...string) error {
		out, err := command(passwordFile, args...).CombinedOutput()
		if err != nil {
			err = errors.Join(err, errors.New(string(out)))
		}
		return err
	}
	if err := run("", "init"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(home, ".config/colorfast/passwords/*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	file := files[0]
	begun := 0
	for range 5 {
		c := command("", "vault", "password")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(300+rand.IntN(2500))*time.Millisecond, func() { _ = c.Process.Kill() })
		killed := c.Wait() != nil
		kill.Stop()

		opened := 0
		for _, f := range []string{file, file + newSuffix} {
			if !missing(f) && run(f, "list") == nil {
				opened++
			}
		}
		if opened != 1 {
			t.Fatalf("%d passwords open the vault", opened)
		}
		if killed && !missing(file+newSuffix) {
			begun++
			forget(t, store)
			if err := run("", "vault", "password"); err != nil {
				t.Fatal("again:", err)
			}
		}
		if err := run("", "list"); err != nil {
			t.Fatal("afterwards:", err)
		}
		if !missing(file + newSuffix) {
			t.Error("the file of the new password is still there")
		}
	}
	t.Logf("%d changes were killed in the middle", begun)
	if begun == 0 {
		t.Error("no change was killed in the middle")
	}
	if err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), "rekey") {
			t.Errorf("left in the vault: %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || len(bytes.TrimSpace(b)) < 40 {
		t.Errorf("the password has %d bytes, %v", len(b), err)
	}
}

// forget makes what a killed change holds older than it may be.
func forget(t *testing.T, store string) {
	t.Helper()
	err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		flat := strings.ReplaceAll(strings.TrimPrefix(path, store), "/", "")
		if err != nil || d.IsDir() || !strings.HasPrefix(flat, "colorfast.rekey-") {
			return err
		}
		past := time.Now().Add(-time.Hour)
		return os.Chtimes(path, past, past)
	})
	if err != nil {
		t.Fatal(err)
	}
}
