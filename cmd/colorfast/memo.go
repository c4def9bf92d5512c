package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"time"

	"colorfast"
	"colorfast/internal/durable"
)

// vaultMemo is what this host remembers of a vault. It lies in the user's cache
// and only informs: losing it makes things unknown, and nothing else.
type vaultMemo struct {
	CopiedAt   *time.Time        `json:"copied_at,omitempty"`  // end of the last run that copied to it
	CopyError  string            `json:"copy_error,omitempty"` // that ended that run
	Refused    int               `json:"refused,omitempty"`    // in that run
	VerifiedAt *time.Time        `json:"verified_at,omitempty"`
	Level      colorfast.Level   `json:"level,omitempty"` // of that verification
	Outcome    colorfast.Outcome `json:"outcome,omitempty"`
}

func (m *vaultMemo) copied(r *copyRun) {
	now := time.Now().UTC()
	m.CopiedAt, m.CopyError, m.Refused = &now, r.Error, len(r.Refused)
}

func (m *vaultMemo) verified(level colorfast.Level, outcome colorfast.Outcome) {
	now := time.Now().UTC()
	m.VerifiedAt, m.Level, m.Outcome = &now, level, outcome
}

func (a *app) memoFile(url string) (string, error) {
	cache, err := a.home("XDG_CACHE_HOME", ".cache")
	return filepath.Join(cache, "vaults", vaultKey(url)+".json"), err
}

// recollect returns what this host remembers of a vault; nothing if it cannot.
func (a *app) recollect(url string) vaultMemo {
	var m vaultMemo
	path, err := a.memoFile(url)
	if err != nil {
		return m
	}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &m) != nil {
		return vaultMemo{}
	}
	return m
}

// memorize changes what this host remembers of a vault.
func (a *app) memorize(url string, change func(*vaultMemo)) {
	m := a.recollect(url)
	change(&m)
	path, err := a.memoFile(url)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = durable.Write(path, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(m) })
	}
	if err != nil {
		a.log().Warn("not remembered", "vault", url, "err", err)
	}
}
