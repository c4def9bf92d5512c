package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/vault"
)

func (a *app) vaultCheckCommand() *cobra.Command {
	var policy string
	c := &cobra.Command{
		Use:   "check",
		Short: "Try the vault's storage, and say what is missing and how to mend it",
		Long: `Try the vault's storage by a round trip (write, read, list, overwrite, delete), and
look at what protects it: encryption on the way, clock, versions, object lock,
public access, room, and whether the password opens the vault. There need not be a
vault yet. What is written is removed again; only credentials that may not delete
leave one blob, named colorfast.probe.

Each line is passed, failed or unknown; "advice" is a protection that is not there
and that a vault can do without. Exit code 3 means that something failed.

--policy prints the least that credentials need for this very URL, to paste into the
storage's own tools, and asks nothing over the network: "full" for backups, restores
and maintenance, "append-only" for hosts that may be taken over.`,
		Example: `  colorfast vault check --vault 's3://bucket/chroma?region=eu-central-1'
  colorfast vault check --policy append-only --vault s3://bucket/chroma?region=eu-central-1 > policy.json`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if policy != "" {
				return a.printPolicy(vault.Use(policy))
			}
			x, err := a.examine(cmd.Context())
			if err != nil {
				return err
			}
			return a.showExamination(x)
		},
	}
	c.Flags().StringVar(&policy, "policy", "", "print the least that credentials need for `USE`: full or append-only")
	return c
}

func (a *app) printPolicy(use vault.Use) error {
	url, err := a.url()
	if err != nil {
		return err
	}
	text, err := vault.Policy(url, use)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"vault": url, "use": use, "policy": text})
	}
	_, err = fmt.Fprint(a.stdout, text)
	return err
}

// examine tries the storage, without a password if none is to be had.
func (a *app) examine(ctx context.Context) (*vault.Examination, error) {
	o, _, err := a.vaultOptions()
	if err != nil {
		url, uerr := a.url()
		if uerr != nil {
			return nil, uerr
		}
		a.log().Warn("vault not opened", "vault", url, "err", err)
		o = vault.Options{URL: url, Log: a.log(), Environment: a.getenv}
	}
	return vault.Examine(ctx, o)
}

func (a *app) showExamination(x *vault.Examination) error {
	if a.json {
		if err := a.printJSON(x); err != nil {
			return err
		}
	} else if err := a.tellExamination(x); err != nil {
		return err
	}
	if x.Failed() {
		return errFindings
	}
	return nil
}

func (a *app) tellExamination(x *vault.Examination) error {
	counts := map[string]int{}
	rows := [][]string{}
	for _, l := range x.Checks {
		state := l.Outcome.String()
		if l.Outcome == colorfast.Failed {
			state = "FAILED"
			if l.Optional {
				state = "advice"
			}
		}
		counts[state]++
		rows = append(rows, []string{state, l.Name, l.Detail})
		if l.Remedy != "" {
			rows = append(rows, []string{"", "", "remedy: " + l.Remedy})
		}
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\nvault %s: %d passed, %d failed, %d not there, %d unknown\n", x.Vault, counts["passed"], counts["FAILED"], counts["advice"], counts["unknown"])
	return err
}
