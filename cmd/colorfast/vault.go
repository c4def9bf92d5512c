package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// vaultCommand holds the commands about a vault as a whole, one file each
// (vault_*.go). What is about one backup has a command of its own.
func (a *app) vaultCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "vault",
		Short: "Look after the vault itself",
		Long:  "Look after the vault itself, beyond single backups.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, fmt.Errorf("there is no command %q", "vault "+args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range []*cobra.Command{
		a.vaultCheckCommand(),
		a.vaultCopyCommand(),
		a.vaultCopiesCommand(),
		a.vaultVerifyCommand(),
		a.vaultRepairCommand(),
		a.vaultWhereCommand(),
		a.vaultUsageCommand(),
	} {
		sub.Long += "\n\n" + exitHelp
		c.AddCommand(sub)
	}
	return c
}
