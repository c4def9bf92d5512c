package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"colorfast"
	"colorfast/vault"
)

// This file is the only place that builds things, and with password.go and
// limits.go the only one that reads the environment.

// url returns the vault's URL, in one spelling however it was written.
func (a *app) url() (string, error) {
	url := a.vaultURL
	if url == "" {
		url = a.getenv("COLORFAST_VAULT")
	}
	if url == "" {
		home, err := a.home("XDG_DATA_HOME", ".local/share")
		if err != nil {
			return "", err
		}
		url = filepath.Join(home, "vault")
	}
	return vault.CleanURL(url)
}

// home returns colorfast's folder below one of the user's base directories
// (freedesktop.org's basedir specification).
func (a *app) home(variable, fallback string) (string, error) {
	if dir := a.getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "colorfast"), nil
	}
	user := a.getenv("HOME")
	if !filepath.IsAbs(user) {
		return "", colorfast.Errorf(colorfast.Usage, "find your %s: HOME is not set", fallback).
			WithHint("set HOME, or %s, or name things with --vault, --staging and COLORFAST_PASSWORD_FILE", variable)
	}
	return filepath.Join(user, fallback, "colorfast"), nil
}

// vaultOptions says which vault to use, with its password.
func (a *app) vaultOptions() (vault.Options, error) {
	url, err := a.url()
	if err != nil {
		return vault.Options{}, err
	}
	password, err := a.password(url)
	if err != nil {
		return vault.Options{}, err
	}
	cache, err := a.home("XDG_CACHE_HOME", ".cache")
	if err != nil {
		cache = ""
	}
	limits, err := a.limits()
	return vault.Options{URL: url, Password: password, CacheDir: cache, Log: a.log(), Limits: limits, Environment: a.getenv}, err
}

// withVault opens the vault for the length of use.
func (a *app) withVault(ctx context.Context, use func(v *vault.Vault, url string) error) error {
	o, err := a.vaultOptions()
	if err != nil {
		return err
	}
	v, err := vault.Open(ctx, o)
	if err != nil {
		return err
	}
	err = use(v, o.URL)
	return errors.Join(err, v.Close(context.WithoutCancel(ctx)))
}

// stagingDir returns the folder for copies on their way.
func (a *app) stagingDir() (string, error) {
	if a.staging != "" {
		return filepath.Abs(a.staging)
	}
	if dir := a.getenv("COLORFAST_STAGING"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := a.home("XDG_CACHE_HOME", ".cache")
	return filepath.Join(home, "staging"), err
}

// scratch makes a private folder below the staging directory; done removes it.
// Folders that killed runs have left there go, for they hold data unencrypted.
func (a *app) scratch() (dir string, done func(), err error) {
	staging, err := a.stagingDir()
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return "", nil, err
	}
	left, err := filepath.Glob(filepath.Join(staging, "look-*"))
	if err != nil {
		return "", nil, err
	}
	for _, l := range left {
		if f := ownLock(l); f != nil {
			a.remove(l)
			_ = f.Close()
		}
	}
	if dir, err = os.MkdirTemp(staging, "look-"); err != nil {
		return "", nil, err
	}
	lock := ownLock(dir)
	if lock == nil || missing(dir) {
		return "", nil, colorfast.Errorf(colorfast.Locked, "make a scratch folder in %q: another run has just removed it", staging).
			WithHint("try again")
	}
	return dir, func() {
		a.remove(dir)
		_ = lock.Close()
	}, nil
}

// ownLock locks a folder for as long as the file it returns is open; nil means
// that a living process has it.
func ownLock(dir string) *os.File {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = f.Close()
		return nil
	}
	return f
}

func (a *app) remove(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		a.log().Warn("scratch folder not removed", "path", dir, "err", err)
	}
}

func (a *app) log() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case a.verbose == 1:
		level = slog.LevelInfo
	case a.verbose > 1:
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// vaultKey names a vault in a file name.
func vaultKey(url string) string {
	if dir := vault.Folder(url); dir != "" {
		url = "file://" + dir // as ever, without escapes
	}
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}

// missing reports whether nothing lies at path.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}
