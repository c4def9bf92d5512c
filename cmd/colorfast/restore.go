package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/restore"
	"colorfast/vault"
	"colorfast/verify"
)

type restoreFlags struct {
	source, to, level, basis                              string
	replace, assumeStopped, allowDamaged, dryRun, noBasis bool
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use:   "restore ID|latest --to DIR",
		Short: "Get a backup back, into a new directory or in place",
		Long: `Restore a backup into DIR. It is staged beside DIR, proven, and only then given
its name: DIR holds all of it or nothing.

With --replace DIR may hold data: Chroma must be stopped, and what DIR held is
kept aside under a name that is printed. An interrupted restore leaves DIR as it
was; the same command goes on where a killed one ended.

What is the same in an older copy is taken from there, so that only the rest
moves out of the vault. The older copy is what DIR holds, or what --basis names;
it is read and never changed, and what is made with it is proven as without it.`,
		Example: `  colorfast restore latest --to /srv/chroma-restored
  colorfast restore k7f3 --to /srv/chroma --replace`,
		Args: exactly(1, "one ID, or latest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.to == "" {
				return usage(cmd, fmt.Errorf("restore needs --to DIR"))
			}
			return a.withVault(cmd.Context(), func(v *vault.Vault, url string) error {
				m, err := a.manifest(cmd, v, args[0], f.source)
				if err != nil {
					return err
				}
				return a.restore(cmd.Context(), v, url, m, f)
			})
		},
	}
	c.Flags().StringVar(&f.to, "to", "", "`DIR` to make, or with --replace to replace")
	c.Flags().StringVar(&f.source, "source", "", "with latest: of this `PATH` or HOST:PATH")
	c.Flags().StringVar(&f.level, "level", string(colorfast.Records), "proof before DIR gets its name: records, or bytes to be quicker")
	c.Flags().StringVar(&f.basis, "basis", "", "take what is the same from this `folder` with an older copy, not from DIR")
	c.Flags().BoolVar(&f.noBasis, "no-basis", false, "move every byte out of the vault, whatever DIR holds")
	c.Flags().BoolVar(&f.replace, "replace", false, "DIR may hold data, which is kept aside")
	c.Flags().BoolVar(&f.assumeStopped, "assume-stopped", false, "Chroma is known to be stopped, where that cannot be looked up")
	c.Flags().BoolVar(&f.allowDamaged, "allow-damaged", false, "restore a backup of a damaged source too")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "check everything, say what would be done, and write nothing")
	return c
}

func (a *app) restore(ctx context.Context, v *vault.Vault, url string, m *colorfast.Manifest, f restoreFlags) error {
	p, done := a.progress()
	defer done()
	r := restore.Restore{
		Vault: v, VaultDir: vault.Folder(url), Manifest: m, Target: f.to,
		Basis: f.basis, NoBasis: f.noBasis,
		Replace: f.replace, AssumeStopped: f.assumeStopped, AllowDamaged: f.allowDamaged, DryRun: f.dryRun,
		Progress: p, Log: a.log(),
	}
	switch colorfast.Level(f.level) {
	case colorfast.Bytes:
	case colorfast.Records:
		if !f.dryRun {
			dir, remove, err := a.scratch()
			if err != nil {
				return err
			}
			defer remove()
			r.Verify = verify.Directory{Scratch: dir, Progress: p, Log: a.log()}.Proof()
		}
	default:
		return colorfast.Errorf(colorfast.Usage, "restore with proof %q: there is no such level", f.level).WithHint("levels are bytes and records")
	}
	rep, err := r.Run(ctx)
	done()
	if err != nil {
		if rep != nil && !a.json {
			printFindings(a.stderr, colorfast.Unlisted(rep.Findings, m.FindingList))
		}
		return err
	}
	return a.showRestored(m, rep)
}

func (a *app) showRestored(m *colorfast.Manifest, rep *restore.Report) error {
	if a.json {
		if err := a.printJSON(rep); err != nil {
			return err
		}
	} else {
		if len(rep.Findings) > 0 {
			printFindings(a.stderr, rep.Findings)
		}
		for _, n := range rep.Notes {
			fmt.Fprintf(a.stderr, "note: %s\n", n)
		}
		if rep.KeptAside != "" {
			verb := "is kept"
			if rep.DryRun {
				verb = "would be kept"
			}
			fmt.Fprintf(a.stderr, "what was there %s in %s\n", verb, rep.KeptAside)
		}
		fmt.Fprintln(a.stdout, restored(m, rep))
	}
	if fatal(rep.Findings) {
		return errFindings
	}
	if !rep.DryRun {
		a.next("start Chroma on %s", rep.Target)
	}
	return nil
}

func restored(m *colorfast.Manifest, rep *restore.Report) string {
	if rep.DryRun {
		return fmt.Sprintf("would restore backup %s to %s: %s, %s in %s", m.ID.Short(), rep.Target,
			counted(m.Records, "record"), size(rep.Bytes), counted(int64(rep.Files), "file"))
	}
	proof := "bytes proven"
	switch {
	case m.Damaged():
		proof = "DAMAGED as the source was"
	case rep.Verified == colorfast.Passed:
		proof = "every record proven"
	}
	return fmt.Sprintf("restored backup %s to %s: %s, %s, %s, %s", m.ID.Short(), rep.Target,
		counted(m.Records, "record"), volume(rep), proof, seconds(rep.Seconds))
}

// volume tells the bytes restored, and where fewer moved, how many.
func volume(rep *restore.Report) string {
	all, moved := size(rep.Bytes), size(rep.BytesMoved)
	if moved == all {
		return all
	}
	return fmt.Sprintf("%s (%s out of the vault)", all, moved)
}
