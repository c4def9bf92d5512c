package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/capture"
	"colorfast/vault"
)

func (a *app) protectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "protect PATH",
		Short: "Start from nothing: vault, backup, proof, and what is still missing",
		Long: `Make a vault if there is none (in your data home, unless --vault or
COLORFAST_VAULT names another place), back PATH up, prove the backup record by
record as it came out of the vault, and say what is still missing.`,
		Example: `  colorfast protect ./chroma
  COLORFAST_VAULT=file:///mnt/other-disk/vault colorfast protect /srv/chroma`,
		Args: exactly(1, "one PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.protect(cmd.Context(), args[0]) },
	}
}

// protected is what protect did, as --json shows it.
type protected struct {
	Vault    string              `json:"vault"`
	Created  *created            `json:"created,omitempty"` // nil if the vault was there
	Backup   *colorfast.Manifest `json:"backup"`
	Proof    colorfast.Outcome   `json:"proof"`
	Findings []colorfast.Finding `json:"findings"` // of the proof, beyond those of the backup
	Missing  []string            `json:"missing"`  // what a full protection still needs
}

func (a *app) protect(ctx context.Context, path string) error {
	// First of all the source: a mistyped path must not leave a vault behind.
	if err := capture.CheckSource(path); err != nil {
		return err
	}
	url, err := a.url()
	if err != nil {
		return err
	}
	if err := keepApart(path, url); err != nil {
		return err
	}
	out := protected{Vault: url, Findings: []colorfast.Finding{}}
	if dir := vault.Folder(url); dir != "" && missing(dir) {
		if out.Created, err = a.createVault(ctx); err != nil {
			return err
		}
		if !a.json {
			fmt.Fprintf(a.stdout, "vault %s made, encrypted with AES-256-GCM\n", url)
		}
		a.tellPassword(out.Created)
	}
	return a.withVault(ctx, func(v *vault.Vault, url string) error {
		m, err := a.backUp(ctx, v, url, path, 0)
		if err != nil {
			return err
		}
		out.Backup = m
		if !a.json {
			printFindings(a.stderr, m.FindingList)
			fmt.Fprintln(a.stdout, sentence(m))
		}
		found, err := a.proveStored(ctx, v, url, m, colorfast.Records)
		if err != nil {
			return err
		}
		out.Findings = append(out.Findings, found...)
		out.Proof = colorfast.OutcomeOf(found)
		out.Missing = stillMissing(path, url)
		return a.showProtected(&out)
	})
}

func (a *app) showProtected(out *protected) error {
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		printFindings(a.stderr, out.Findings)
		fmt.Fprintf(a.stdout, "proof: restored into a private folder and read record by record: %s\n", out.Proof)
		fmt.Fprintln(a.stdout, "still missing:")
		for _, m := range out.Missing {
			fmt.Fprintf(a.stdout, "  - %s\n", m)
		}
	}
	if out.Backup.Damaged() || out.Proof != colorfast.Passed {
		return errFindings
	}
	a.next("colorfast restore %s --to DIR", out.Backup.ID.Short())
	return nil
}

// stillMissing says what would still lose data.
func stillMissing(path, url string) []string {
	var list []string
	if sameDevice(path, vault.Folder(url)) {
		list = append(list, "ANOTHER DISK: the vault is on the same file system as the source, so one dead disk takes both; set COLORFAST_VAULT to a folder on another disk")
	}
	return append(list,
		"a schedule: run \"colorfast backup "+path+"\" from cron or a systemd timer, more often than the data you can afford to lose",
		"a copy of the vault's password in another place",
		"a restore rehearsed with a real Chroma: \"colorfast restore latest --to DIR\", then start Chroma on DIR")
}

// sameDevice reports whether two paths lie on one file system.
func sameDevice(a, b string) bool {
	fa, errA := os.Stat(a)
	fb, errB := os.Stat(b)
	if errA != nil || errB != nil {
		return false
	}
	sa, okA := fa.Sys().(*syscall.Stat_t)
	sb, okB := fb.Sys().(*syscall.Stat_t)
	return okA && okB && sa.Dev == sb.Dev
}
