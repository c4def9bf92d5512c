package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/vault"
)

func (a *app) vaultRepairCommand() *cobra.Command {
	var yes bool
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
			o, err := a.vaultOptions()
			if err != nil {
				return err
			}
			p, done := a.progress()
			defer done()
			rep, err := vault.RepairVault(cmd.Context(), o, vault.Repair{Apply: yes, Level: colorfast.Level(level), Progress: p})
			done()
			if err != nil {
				return err
			}
			return a.showRepaired(o.URL, rep)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.Flags().StringVar(&level, "level", string(colorfast.Bytes), "how to look at the vault before and after: stored, or bytes to read all of it")
	return c
}

func (a *app) showRepaired(url string, rep *vault.Repaired) error {
	if a.json {
		if err := a.printJSON(rep); err != nil {
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
