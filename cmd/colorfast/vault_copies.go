package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/copies"
	"colorfast/vault"
)

func (a *app) vaultCopiesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "copies [URL]...",
		Short: "Show how far the copies are behind",
		Long: `Show for each vault that holds copies (those named, else those of
COLORFAST_COPIES) how far it is behind this one: by how many backups, and by how
much time between their newest restore points.

BEHIND counts from the vaults themselves. LAST RUN and LAST VERIFIED are what this
host remembers, and empty where it does not. The exit code is 4 if a copy cannot be
looked at, is behind, or its last run ended with an error.`,
		Example: `  colorfast vault copies file:///mnt/other/vault
  COLORFAST_COPIES="file:///mnt/b file:///mnt/c" colorfast vault copies --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			urls, err := a.copyURLs(args)
			if err != nil {
				return err
			}
			if len(urls) == 0 {
				return usage(cmd, fmt.Errorf("copies needs URLs, or COLORFAST_COPIES"))
			}
			return a.withVault(cmd.Context(), func(v *vault.Vault, _ string) error {
				var list []copyStatus
				for _, url := range urls {
					s := a.copyStatus(cmd.Context(), v, url)
					if err := cmd.Context().Err(); err != nil {
						return err
					}
					list = append(list, s)
				}
				return a.showCopies(list)
			})
		},
	}
}

// copyStatus is one copy, as --json shows it.
type copyStatus struct {
	Vault string `json:"vault"`
	*copies.Status
	Error    string            `json:"error,omitempty"` // why nothing is known of it
	LastRun  *time.Time        `json:"last_run_at"`     // of this host; null: not known
	RunError string            `json:"last_run_error,omitempty"`
	Verified *time.Time        `json:"last_verified_at"` // by "vault verify" on this host; null: not known
	Level    colorfast.Level   `json:"last_verified_level,omitempty"`
	Outcome  colorfast.Outcome `json:"last_verified_outcome"`
}

func (a *app) copyStatus(ctx context.Context, v *vault.Vault, url string) copyStatus {
	m := a.recollect(url)
	s := copyStatus{Vault: url, LastRun: m.CopiedAt, RunError: m.CopyError, Verified: m.VerifiedAt, Level: m.Level, Outcome: m.Outcome}
	to, err := a.openCopy(ctx, url)
	if err == nil {
		s.Status, err = copies.StatusOf(ctx, v, to)
		if cerr := to.Close(context.WithoutCancel(ctx)); err == nil {
			err = cerr
		}
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func (a *app) showCopies(list []copyStatus) error {
	bad := false
	rows := [][]string{{"VAULT", "BACKUPS", "NEWEST RESTORE POINT", "BEHIND", "LAST RUN", "LAST VERIFIED"}}
	for _, s := range list {
		bad = bad || s.Error != "" || s.RunError != "" || s.Behind > 0
		row := []string{s.Vault, "?", "?", "?", "", ""}
		if s.Status != nil {
			row[1], row[2], row[3] = itoa(s.Backups), "none", "nothing"
			if s.Newest != nil {
				row[2] = when(*s.Newest)
			}
			if s.Behind > 0 {
				row[3] = counted(int64(s.Behind), "backup") + ", " + seconds(s.Seconds)
			}
		}
		if s.LastRun != nil {
			row[4] = when(*s.LastRun)
			if s.RunError != "" {
				row[4] += ", FAILED"
			}
		}
		if s.Verified != nil {
			row[5] = fmt.Sprintf("%s, %s: %s", when(*s.Verified), s.Level, s.Outcome)
		}
		rows = append(rows, row)
	}
	if a.json {
		if err := a.printJSON(map[string]any{"copies": list}); err != nil {
			return err
		}
	} else {
		if err := table(a.stdout, rows); err != nil {
			return err
		}
		for _, s := range list {
			if s.Error != "" {
				fmt.Fprintf(a.stderr, "%s: %s\n", s.Vault, s.Error)
			}
			if s.RunError != "" {
				fmt.Fprintf(a.stderr, "%s: last run: %s\n", s.Vault, s.RunError)
			}
		}
	}
	if bad {
		return errPartly
	}
	return nil
}
