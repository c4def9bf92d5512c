package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// markerFile is written last into an installation. Its content says what was
// installed, so that changed pins install again.
const markerFile = "colorfast-installed"

// Marker returns what the installation in dir says it is, "" if there is none.
func Marker(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, markerFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return string(b), nil
}

// Install fills a directory beside dir and puts it in place whole, or leaves
// dir as it was. The caller holds the lock of dir.
func Install(ctx context.Context, dir, marker string, fill func(ctx context.Context, dir string) error) error {
	temp := dir + ".partial" // ours, under the lock; left over if we were killed
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := os.Mkdir(temp, 0o755); err != nil {
		return err
	}
	if err := fill(ctx, temp); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, markerFile), []byte(marker), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(temp, dir)
}

// Run runs a program in dir to its end, with env (KEY=VALUE) added to the
// environment, and returns what it said; so does its error.
func Run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	if err != nil {
		return string(b), fmt.Errorf("run %s %s: %w: %s", filepath.Base(name), strings.Join(args[:min(3, len(args))], " "), err, tail(string(b), 600))
	}
	return string(b), nil
}

// tail returns the end of s, at most n bytes, on one line.
func tail(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > n {
		s = "…" + strings.ToValidUTF8(s[len(s)-n:], "")
	}
	return s
}
