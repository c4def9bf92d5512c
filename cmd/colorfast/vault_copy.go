package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/copies"
	"colorfast/vault"
)

func (a *app) vaultCopyCommand() *cobra.Command {
	var to []string
	var source, level string
	var all bool
	c := &cobra.Command{
		Use:   "copy --to URL [ID|latest]...",
		Short: "Copy backups into another vault, under its own key",
		Long: `Copy backups into another vault, encrypted under its own key: those named, or
with --source those of a source, or with --all every one. What is there already
is not copied again, under whatever ID. The oldest goes first; of each only the
pages move that differ from a backup which both vaults have. An interrupted copy
is simply run again: nothing that was stored is sent a second time.

A backup of a damaged source is copied as it is, and marked so in the copy too. One
that cannot be read whole out of this vault is refused and told, and the others go
on. Every backup is looked for in the other vault after its arrival; with --level
bytes it is also read back.

The other vault is made with "colorfast init --vault URL". Its password comes from
the file that init made, or from COLORFAST_COPY_PASSWORD_FILE.`,
		Example: `  colorfast vault copy --to file:///mnt/other/vault --all
  colorfast vault copy --to file:///mnt/other/vault --source /srv/chroma --level bytes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && source == "" && !all {
				return usage(cmd, fmt.Errorf("copy needs IDs, --source or --all"))
			}
			urls, err := a.copyURLs(to)
			if err != nil {
				return err
			}
			if len(urls) == 0 {
				return usage(cmd, fmt.Errorf("copy needs --to URL"))
			}
			if l := colorfast.Level(level); l != colorfast.Stored && l != colorfast.Bytes {
				return colorfast.Errorf(colorfast.Usage, "copy at level %q: there is no such level", level).WithHint("levels are stored and bytes")
			}
			return a.withVault(cmd.Context(), func(v *vault.Vault, _ string) error {
				ids, err := a.resolveAll(cmd, v, args, source)
				if err != nil {
					return err
				}
				runs, err := a.copyAll(cmd.Context(), v, urls, copies.Copy{Backups: ids, Source: source, Level: colorfast.Level(level)})
				if err != nil {
					return err
				}
				if a.json {
					err = a.printJSON(map[string]any{"copies": runs})
				} else {
					for _, r := range runs {
						a.showCopied(a.stdout, r)
					}
				}
				if err != nil {
					return err
				}
				return verdict(runs)
			})
		},
	}
	c.Flags().StringArrayVar(&to, "to", nil, "`URL` of the other vault; may be given several times (default $COLORFAST_COPIES)")
	c.Flags().StringVar(&source, "source", "", "only backups of this `PATH` or HOST:PATH")
	c.Flags().StringVar(&level, "level", string(colorfast.Stored), "how to look at what has arrived: stored or bytes")
	c.Flags().BoolVar(&all, "all", false, "all backups of the vault")
	return c
}

// resolveAll finds the backups that a user named; nil if none are.
func (a *app) resolveAll(cmd *cobra.Command, v colorfast.Vault, args []string, source string) ([]colorfast.BackupID, error) {
	if len(args) == 0 {
		return nil, nil
	}
	list, err := v.List(cmd.Context())
	if err != nil {
		return nil, err
	}
	var ids []colorfast.BackupID
	for _, q := range args {
		b, err := colorfast.ResolveBackup(list, q, source)
		if err != nil {
			return nil, err
		}
		ids = append(ids, b.ID)
	}
	return ids, nil
}
