package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/restore"
	"colorfast/vault"
	"colorfast/verify"
)

func (a *app) verifyCommand() *cobra.Command {
	var source, level string
	c := &cobra.Command{
		Use:   "verify ID|latest",
		Short: "Prove that a backup is whole",
		Long: `Prove that a backup is whole, to one of three depths, each of which includes the
ones before:

  stored   everything the backup needs exists in the vault
  bytes    every file reads back with its recorded hash
  records  the backup is restored into a private folder, every record is read,
           and counts and digests are as they were sealed (the default)

Exit code 3 means that something is wrong, with the backup or with the source
when it was backed up.`,
		Example: `  colorfast verify latest
  colorfast verify k7f3 --level bytes`,
		Args: exactly(1, "one ID, or latest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withVault(cmd.Context(), func(v *vault.Vault, url string) error {
				m, err := a.manifest(cmd, v, args[0], source)
				if err != nil {
					return err
				}
				begun := time.Now()
				found, err := a.proveStored(cmd.Context(), v, url, m, colorfast.Level(level))
				if err != nil {
					return err
				}
				return a.showVerified(m, level, found, time.Since(begun))
			})
		},
	}
	c.Flags().StringVar(&level, "level", string(colorfast.Records), "stored, bytes or records")
	c.Flags().StringVar(&source, "source", "", "with latest: of this `PATH` or HOST:PATH")
	return c
}

// proveStored looks at a backup in the vault and returns what is wrong with it
// beyond what it says itself.
func (a *app) proveStored(ctx context.Context, v *vault.Vault, url string, m *colorfast.Manifest, level colorfast.Level) ([]colorfast.Finding, error) {
	p, done := a.progress()
	defer done()
	switch level {
	case colorfast.Stored, colorfast.Bytes:
		return v.Check(ctx, m, level, p)
	case colorfast.Records:
	default:
		return nil, colorfast.Errorf(colorfast.Usage, "verify at level %q: there is no such level", level).WithHint("levels are stored, bytes and records")
	}
	found, err := v.Check(ctx, m, colorfast.Stored, p)
	if err != nil || fatal(found) {
		return found, err
	}
	dir, remove, err := a.scratch()
	if err != nil {
		return nil, err
	}
	defer remove()
	r := restore.Restore{
		Vault: v, VaultDir: vault.Folder(url), Manifest: m, Target: filepath.Join(dir, "data"),
		AllowDamaged: true, Verify: verify.Directory{Scratch: dir, FullText: true, Progress: p, Log: a.log()}.Proof(), Progress: p, Log: a.log(),
	}
	rep, err := r.Run(ctx)
	var e *colorfast.Error
	if rep == nil && errors.As(err, &e) && e.Kind == colorfast.Corrupt {
		return append(found, colorfast.NewFinding(colorfast.StoredDiffers, string(m.ID), 0, "%v", err)), nil
	}
	if rep == nil {
		return nil, err
	}
	found = append(found, colorfast.Unlisted(rep.Findings, m.FindingList)...)
	if err != nil && !fatal(found) {
		return nil, err // could not look at everything: no verdict
	}
	return found, nil
}

func (a *app) showVerified(m *colorfast.Manifest, level string, found []colorfast.Finding, took time.Duration) error {
	all := append(append([]colorfast.Finding{}, m.FindingList...), found...)
	bad := fatal(all)
	if a.json {
		err := a.printJSON(map[string]any{
			"backup": m.ID, "level": level, "outcome": colorfast.OutcomeOf(all), "findings": all,
			"records": m.Records, "duration_seconds": took.Seconds(),
		})
		if err != nil {
			return err
		}
	} else {
		if len(all) > 0 {
			printFindings(a.stderr, all)
		}
		verdict := "passed"
		switch {
		case fatal(found):
			verdict = "FAILED: this backup must not be relied on"
		case bad:
			verdict = "stored well, but the source was DAMAGED when it was backed up"
		}
		fmt.Fprintf(a.stdout, "backup %s of %s: %s, %s, level %s: %s, %s\n", m.ID.Short(), m.Source.Path,
			counted(m.Records, "record"), size(m.OriginalBytes), level, verdict, seconds(took.Seconds()))
	}
	if bad {
		return errFindings
	}
	return nil
}
