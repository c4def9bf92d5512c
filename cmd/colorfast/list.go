package main

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/vault"
)

func (a *app) listCommand() *cobra.Command {
	var source string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the backups in the vault, newest first",
		Long: `List the backups in the vault, newest first. Each can be restored without any
other.

NEW is what a backup added to the vault, in bytes. CHANGES is what it added to the
records of the backup that it was compared with: +added ~updated -deleted; empty
for a first one, and ? where it is not known.`,
		Example: `  colorfast list
  colorfast list --json --source /srv/chroma`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withVault(cmd.Context(), func(v *vault.Vault, _ string) error {
				all, err := v.List(cmd.Context())
				if err != nil {
					return err
				}
				list := []colorfast.Backup{}
				for _, b := range all {
					if b.Source.Matches(source) {
						list = append(list, b)
					}
				}
				return a.showList(list)
			})
		},
	}
	c.Flags().StringVar(&source, "source", "", "only backups of this `PATH` or HOST:PATH")
	a.asOfFlag(c)
	return c
}

func (a *app) showList(list []colorfast.Backup) error {
	if a.json {
		return a.printJSON(map[string]any{"backups": list})
	}
	if len(list) == 0 {
		fmt.Fprintln(a.stdout, "no backups")
		a.next("colorfast backup PATH")
		return nil
	}
	rows := [][]string{{"ID", "SOURCE", "RESTORE POINT", "RECORDS", "SIZE", "NEW", "CHANGES", "STATE"}}
	for i := range list {
		b := &list[i]
		state := "verified"
		if b.Damaged() {
			state = "DAMAGED"
		}
		if b.Findings > 0 {
			state += fmt.Sprintf(", %s", counted(int64(b.Findings), "finding"))
		}
		rows = append(rows, []string{b.ID.Short(), b.Source.String(), when(b.RestorePoint), humanize.Comma(b.Records), size(b.OriginalBytes), size(b.StoredBytes), changed(b.Parent, b.Changes), state})
	}
	return table(a.stdout, rows)
}

// changed returns what has changed since a parent as "+12 ~3 -1", without what is
// 0; "none" if that is all, "?" if it is not known and "" without a parent.
func changed(parent colorfast.BackupID, c *colorfast.Changes) string {
	switch {
	case parent == "":
		return ""
	case c == nil:
		return "?"
	}
	var out []string
	for _, n := range []struct {
		sign  string
		count int64
	}{{"+", c.Added}, {"~", c.Updated}, {"-", c.Deleted}} {
		if n.count != 0 {
			out = append(out, n.sign+humanize.Comma(n.count))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, " ")
}

// manifest opens a backup that a user named.
func (a *app) manifest(cmd *cobra.Command, v colorfast.Vault, id, source string) (*colorfast.Manifest, error) {
	list, err := v.List(cmd.Context())
	if err != nil {
		return nil, err
	}
	b, err := colorfast.ResolveBackup(list, id, source)
	if err != nil {
		return nil, err
	}
	return v.Manifest(cmd.Context(), b.ID)
}
