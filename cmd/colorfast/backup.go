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
	var b backup.Backup
	c := &cobra.Command{
		Use:   "backup PATH",
		Short: "Back up a persist directory, while Chroma serves or not",
		Long: `Back up the persist directory PATH, the one that holds chroma.sqlite3, while
Chroma serves, or when it is stopped.

The copy is proven record by record before it is stored. A damaged source is
backed up as it is, the backup is marked as damaged, and the exit code is 3.
Nothing is ever written into PATH.

Where the size, times and inode of every file say that nothing has changed since
the newest backup, made by the same user, nothing is read, nobody waits, and the
new backup costs next to nothing. With --reread every byte is read and proven
again, which also finds what a disk has spoiled by itself.`,
		Example: `  colorfast backup /srv/chroma
  id=$(colorfast backup -q /srv/chroma)`,
		Args: exactly(1, "one PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withVault(cmd.Context(), func(v *vault.Vault, url string) error {
				b.Source = args[0]
				m, err := a.backUpAs(cmd.Context(), v, url, b)
				if err != nil {
					return err
				}
				return a.showBackedUp(m, quiet)
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the backup's ID only")
	c.Flags().BoolVar(&b.Reread, "reread", false, "read every byte although nothing seems changed")
	c.Flags().DurationVar(&b.MaxFreeze, "max-freeze", capture.DefaultMaxFreeze, "longest `time` that one attempt may make writers wait")
	return c
}

// backUp makes a backup of path and then lets the vault tidy itself.
func (a *app) backUp(ctx context.Context, v *vault.Vault, url, path string, maxFreeze time.Duration) (*colorfast.Manifest, error) {
	return a.backUpAs(ctx, v, url, backup.Backup{Source: path, MaxFreeze: maxFreeze})
}

// backUpAs is backUp for more options; what b lacks is completed.
func (a *app) backUpAs(ctx context.Context, v *vault.Vault, url string, b backup.Backup) (_ *colorfast.Manifest, err error) {
	if err := keepApart(b.Source, url); err != nil {
		return nil, err
	}
	if b.Staging, err = a.stagingDir(); err != nil {
		return nil, err
	}
	if cache, err := a.home("XDG_CACHE_HOME", ".cache"); err == nil { // else it remembers nothing
		b.Memory, b.VaultKey = filepath.Join(cache, "memory"), vaultKey(url)
	}
	p, done := a.progress()
	defer done()
	b.Vault, b.Progress, b.Log = v, p, a.log()
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
	dir := vault.Folder(url)
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
	if m.Consistency.Mode == colorfast.Unchanged {
		return fmt.Sprintf("backup %s of %s: nothing has changed since backup %s: %s in %s, %s, %s new, %s; nobody waited",
			m.ID.Short(), m.Source.Path, m.Parent.Short(), counted(m.Records, "record"), counted(int64(m.Collections), "collection"),
			size(m.OriginalBytes), size(m.StoredBytes), seconds(took))
	}
	return fmt.Sprintf("backup %s of %s: %s in %s, %s, %s new, %s, %s; writers waited %s",
		m.ID.Short(), m.Source.Path, counted(m.Records, "record"), counted(int64(m.Collections), "collection"),
		size(m.OriginalBytes), size(m.StoredBytes), state, seconds(took), seconds(m.FreezeSeconds))
}
