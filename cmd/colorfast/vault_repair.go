package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/copies"
	"colorfast/vault"
)

func (a *app) vaultRepairCommand() *cobra.Command {
	var yes bool
	var from []string
	var level string
	c := &cobra.Command{
		Use:   "repair",
		Short: "Mend what can be mended in a vault, and tell what cannot",
		Long: `Mend what can be mended in a vault: the blob that opens it, from its copy; the copy
from it; and the index, from what the packs say of themselves. What is damaged is put
aside under another name and never deleted.

Pieces of backups that do not read back cannot be mended. They are noted as broken,
so that backups made from then on store them again and do not rely on them; and it
is told which backups, files and collections they hurt. Such backups stay listed:
what else is in them can still be read, and a restore of what is broken fails.
Where copies are known, restores take it from there (see "colorfast vault copy").
With --copy-from hurt backups are taken again from a vault that holds copies of them,
as backups of their own beside the hurt ones.

Without --yes nothing is written: the whole repair is tried in memory, and what is
shown is what would be done, and what the vault would be like then. Exit code 3 means
that something is wrong afterwards.`,
		Example: `  colorfast vault repair
  colorfast vault repair --level bytes --yes`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if l := colorfast.Level(level); l != colorfast.Stored && l != colorfast.Bytes {
				return colorfast.Errorf(colorfast.Usage, "repair at level %q: there is no such level", level).WithHint("levels are stored and bytes")
			}
			o, key, err := a.vaultOptions()
			if err != nil {
				return err
			}
			urls, err := a.copyURLs(from)
			if err != nil {
				return err
			}
			if len(from) == 0 {
				urls = nil // it must be asked for
			}
			p, done := a.progress()
			defer done()
			rep, err := vault.RepairVault(cmd.Context(), o, vault.Repair{Apply: yes, Level: colorfast.Level(level), Progress: p})
			done()
			if err != nil {
				return blame(err, key)
			}
			if len(urls) == 0 || !yes || len(rep.After.Hurt) == 0 {
				return a.showRepaired(o.URL, rep, nil)
			}
			again, err := a.takeAgain(cmd.Context(), o, rep.After.Hurt, urls)
			if err != nil {
				return err
			}
			rep.After, err = vault.VerifyVault(cmd.Context(), o, vault.Verification{Level: colorfast.Level(level)})
			if err != nil {
				return err
			}
			return a.showRepaired(o.URL, rep, again)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.Flags().StringArrayVar(&from, "copy-from", nil, "with --yes: take hurt backups again from this vault, by `URL`; may be given several times")
	c.Flags().StringVar(&level, "level", string(colorfast.Bytes), "how to look at the vault before and after: stored, or bytes to read all of it")
	return c
}

// takeAgain copies hurt backups from the first vault that holds copies of them.
func (a *app) takeAgain(ctx context.Context, o vault.Options, hurt []vault.Hurt, urls []string) (_ []*copyRun, err error) {
	to, err := vault.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close(context.WithoutCancel(ctx))) }()
	list, err := to.List(ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[colorfast.Identity]bool{}
	for i := range list {
		if slices.ContainsFunc(hurt, func(h vault.Hurt) bool { return h.Backup == list[i].ID }) {
			wanted[list[i].Identity(to.Fingerprint())] = true
		}
	}
	var runs []*copyRun
	for _, url := range urls {
		run := &copyRun{Vault: url}
		run.Report, run.err = a.takeFrom(ctx, to, url, wanted)
		if run.Report == nil {
			run.Report = &copies.Report{Copied: []copies.Copied{}, Refused: []copies.Refused{}}
		}
		if run.err != nil {
			run.Error, run.Kind = run.err.Error(), colorfast.KindOf(run.err).String()
		}
		runs = append(runs, run)
		if ctx.Err() != nil {
			return runs, ctx.Err()
		}
	}
	return runs, nil
}

// takeFrom copies those wanted that one vault has, and strikes out what has arrived.
func (a *app) takeFrom(ctx context.Context, to *vault.Vault, url string, wanted map[colorfast.Identity]bool) (_ *copies.Report, err error) {
	from, err := a.openCopy(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close(context.WithoutCancel(ctx))) }()
	list, err := from.List(ctx)
	if err != nil {
		return nil, err
	}
	ids, names := []colorfast.BackupID{}, map[colorfast.BackupID]colorfast.Identity{}
	for i := range list {
		if id := list[i].Identity(from.Fingerprint()); wanted[id] {
			ids = append(ids, list[i].ID)
			names[list[i].ID] = id
		}
	}
	p, done := a.progress()
	defer done()
	rep, err := (&copies.Copy{From: from, To: to, Backups: ids, Again: true, Level: colorfast.Bytes, Progress: p, Log: a.log()}).Run(ctx)
	if rep != nil {
		for _, c := range rep.Copied {
			if c.Verified == colorfast.Passed {
				delete(wanted, names[c.Backup])
			}
		}
	}
	return rep, err
}

func (a *app) showRepaired(url string, rep *vault.Repaired, again []*copyRun) error {
	if a.json {
		err := a.printJSON(struct {
			*vault.Repaired
			Again []*copyRun `json:"taken_again,omitempty"`
		}{rep, again})
		if err != nil {
			return err
		}
	} else {
		verb := "did"
		if rep.DryRun {
			verb = "would"
		}
		for _, s := range rep.Actions {
			fmt.Fprintf(a.stdout, "%s %-10s  %s: %s\n", verb, s.Do, s.Object, s.Detail)
		}
		if len(rep.Actions) == 0 {
			fmt.Fprintln(a.stdout, "there is nothing to repair")
		}
		for _, r := range again {
			if r.err != nil {
				a.complain(r.err)
			}
			for _, c := range r.Copied {
				fmt.Fprintf(a.stdout, "did copy        backup %s from %s: listed as %s, read back: %s\n", c.Backup.Short(), r.Vault, c.Copy.Short(), c.Verified)
			}
		}
		printFindings(a.stderr, rep.After.Findings)
		printHurt(a.stdout, rep.After.Hurt)
		verdict := rep.After.Outcome.String()
		if rep.After.Outcome != colorfast.Passed {
			verdict += fmt.Sprintf(", %s hurt", counted(int64(len(rep.After.Hurt)), "backup"))
		}
		tense := "is"
		if rep.DryRun && len(rep.Actions) > 0 {
			tense = "would be"
		}
		fmt.Fprintf(a.stdout, "vault %s: before %s, %s; it %s then: %s, level %s: %s\n", url, counted(int64(rep.Before.Backups), "backup"),
			rep.Before.Outcome, tense, counted(int64(rep.After.Backups), "backup"), rep.After.Level, verdict)
	}
	if rep.DryRun && len(rep.Actions) > 0 {
		a.next("colorfast vault repair --yes")
	}
	if rep.After.Outcome != colorfast.Passed || rep.DryRun && rep.Before.Outcome != colorfast.Passed {
		return errFindings
	}
	return nil
}
