package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/vault"
)

func (a *app) vaultVerifyCommand() *cobra.Command {
	var level, sample string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Look at all that the vault holds, each piece once",
		Long: `Look at all that the vault holds: what its backups need, each piece once however
many backups share it, and what only a repair would need.

  stored   everything is there, with its length (the default)
  bytes    every piece is also read, decrypted and authenticated

With --sample 5% only so much is read in one run, and another part each day (in
UTC): it is said into how many parts the vault falls, and all is read after as many
runs on different days, unless the days between two runs are always a multiple of
that number. Nothing is remembered for this.

What is wrong is told, and which backups, files and collections it hurts. Exit code
3 means that something is wrong; the next step is "colorfast vault repair".`,
		Example: `  colorfast vault verify
  colorfast vault verify --level bytes --sample 5% --json`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := vault.Verification{Level: colorfast.Level(level)}
			if sample != "" {
				n, err := strconv.Atoi(strings.TrimSuffix(sample, "%"))
				if err != nil {
					return colorfast.Errorf(colorfast.Usage, "read --sample %q: not a percentage", sample).WithHint("write a whole number, as in 5%%")
				}
				if n <= 0 {
					return colorfast.Errorf(colorfast.Usage, "verify a sample of %d%%: at least 1%% and at most 33%% can be", n)
				}
				if level != string(colorfast.Bytes) {
					return colorfast.Errorf(colorfast.Usage, "verify a sample at level %q: only bytes are read by samples", level).WithHint("add --level bytes")
				}
				what.Sample = n
			}
			o, key, err := a.vaultOptions()
			if err != nil {
				return err
			}
			p, done := a.progress()
			defer done()
			what.Progress = p
			rep, err := vault.VerifyVault(cmd.Context(), o, what)
			done()
			if err != nil {
				return blame(err, key)
			}
			a.memorize(o.URL, func(m *vaultMemo) { m.verified(rep.Level, rep.Outcome) })
			return a.showVaultVerified(o.URL, rep)
		},
	}
	c.Flags().StringVar(&level, "level", string(colorfast.Stored), "stored or bytes")
	c.Flags().StringVar(&sample, "sample", "", "read only so many `percent` of the vault today, at most 33%")
	return c
}

func (a *app) showVaultVerified(url string, rep *vault.Verified) error {
	if a.json {
		if err := a.printJSON(rep); err != nil {
			return err
		}
	} else {
		printFindings(a.stderr, rep.Findings)
		printHurt(a.stdout, rep.Hurt)
		part := ""
		if rep.Slices > 1 {
			part = fmt.Sprintf(", part %d of %d", rep.Slice+1, rep.Slices)
		}
		verdict := rep.Outcome.String()
		switch rep.Outcome {
		case colorfast.Failed:
			verdict = fmt.Sprintf("FAILED, %s hurt", counted(int64(len(rep.Hurt)), "backup"))
		case colorfast.Unknown:
			verdict = "UNKNOWN, there are packs and no backup is listed"
		}
		fmt.Fprintf(a.stdout, "vault %s: %s, %s, level %s%s, %s read: %s, %s\n", url, counted(int64(rep.Backups), "backup"),
			counted(int64(rep.Objects), "object"), rep.Level, part, size(rep.Read), verdict, seconds(rep.Seconds))
	}
	if len(rep.Findings) > 0 {
		a.next("colorfast vault repair")
	}
	if rep.Outcome != colorfast.Passed {
		return errFindings
	}
	return nil
}

// printHurt lists backups that have lost something.
func printHurt(w io.Writer, list []vault.Hurt) {
	for _, h := range list {
		what := "nothing of it can be read"
		if !h.Whole {
			what = strings.Join(h.Files, ", ")
			if len(h.Collections) > 0 {
				what += "; collections " + strings.Join(h.Collections, ", ")
			}
		}
		fmt.Fprintf(w, "hurt  backup %s of %s, %s: %s\n", h.Backup.Short(), h.Source, when(h.RestorePoint), what)
	}
}
