package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/backup"
	"colorfast/capture"
	"colorfast/vault"
)

func (a *app) backupCommand() *cobra.Command {
	var quiet bool
	var maxFreeze time.Duration
	c := &cobra.Command{
		Use:   "backup PATH",
		Short: "Back up a persist directory, while Chroma serves or not",
		Long: `Back up the persist directory PATH, the one that holds chroma.sqlite3, while
Chroma serves, or when it is stopped.

The copy is proven record by record before it is stored. A damaged source is
backed up as it is, the backup is marked as damaged, and the exit code is 3.
Nothing is ever written into PATH.`,
		Example: `  colorfast backup /srv/chroma
  id=$(colorfast backup -q /srv/chroma)`,
		Args: exactly(1, "one PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withVault(cmd.Context(), func(v *vault.Vault, url string) error {
				m, err := a.backUp(cmd.Context(), v, url, args[0], maxFreeze)
				if err != nil {
					return err
				}
				return a.showBackedUp(m, quiet)
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the backup's ID only")
	c.Flags().DurationVar(&maxFreeze, "max-freeze", capture.DefaultMaxFreeze, "longest `time` that one attempt may make writers wait")
	return c
}

// backUp makes a backup of path and then lets the vault tidy itself.
func (a *app) backUp(ctx context.Context, v *vault.Vault, url, path string, maxFreeze time.Duration) (*colorfast.Manifest, error) {
	if err := keepApart(path, url); err != nil {
		return nil, err
	}
	staging, err := a.stagingDir()
	if err != nil {
		return nil, err
	}
	p, done := a.progress()
	defer done()
	b := backup.Backup{Source: path, Vault: v, Staging: staging, MaxFreeze: maxFreeze, Progress: p, Log: a.log()}
	m, err := b.Run(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.Maintain(ctx); err != nil && ctx.Err() == nil {
		// The backup is made and listed; tidying is tried again after the next.
		a.log().Warn("vault not maintained", "vault", url, "err", err)
	}
	return m, nil
}

// keepApart refuses a vault that lies inside the source.
func keepApart(path, url string) error {
	dir := vaultDir(url)
	source, err := filepath.Abs(path)
	if err != nil || dir == "" {
		return err
	}
	if rel, err := filepath.Rel(resolve(source), resolve(dir)); err == nil && filepath.IsLocal(rel) {
		return colorfast.Errorf(colorfast.Usage, "back up %q: the vault %q lies inside it", path, dir).
			WithHint("keep the vault elsewhere, best on another disk; what destroys the source must not destroy its backups")
	}
	return nil
}

// resolve follows symbolic links as far as path exists.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if dir := filepath.Dir(path); dir != path {
		return filepath.Join(resolve(dir), filepath.Base(path))
	}
	return path
}

func (a *app) showBackedUp(m *colorfast.Manifest, quiet bool) error {
	switch {
	case a.json:
		if err := a.printJSON(m); err != nil {
			return err
		}
	case quiet:
		fmt.Fprintln(a.stdout, m.ID)
	default:
		if len(m.FindingList) > 0 {
			printFindings(a.stderr, m.FindingList)
		}
		fmt.Fprintln(a.stdout, sentence(m))
	}
	if m.Damaged() {
		a.next("see \"colorfast list\" for an earlier backup that is whole, and mend the source")
		return errFindings
	}
	a.next("colorfast restore %s --to DIR", m.ID.Short())
	return nil
}

// sentence answers: did it work, what is it called, what did it cost.
func sentence(m *colorfast.Manifest) string {
	state := "verified"
	if m.Damaged() {
		state = "DAMAGED as the source is"
	}
	took := m.FinishedAt.Sub(m.StartedAt).Seconds()
	return fmt.Sprintf("backup %s of %s: %s in %s, %s, %s new, %s, %s; writers waited %s",
		m.ID.Short(), m.Source.Path, counted(m.Records, "record"), counted(int64(m.Collections), "collection"),
		size(m.OriginalBytes), size(m.StoredBytes), state, seconds(took), seconds(m.FreezeSeconds))
}
