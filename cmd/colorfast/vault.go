package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// vaultCommand holds the commands about a vault as a whole, one file each
// (vault_*.go). What is about one backup has a command of its own.
func (a *app) vaultCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "vault",
		Short: "Look after the vault itself",
		Long:  "Look after the vault itself, beyond single backups.",
	}, []*cobra.Command{
		a.vaultCheckCommand(),
		a.vaultCopyCommand(),
		a.vaultCopiesCommand(),
		a.vaultVerifyCommand(),
		a.vaultRepairCommand(),
		a.vaultPasswordCommand(),
		a.vaultUsageCommand(),
		a.vaultWhereCommand(),
	})
}

// group makes c a command that only holds others.
func group(c *cobra.Command, subs []*cobra.Command) *cobra.Command {
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(cmd, fmt.Errorf("there is no command %q", cmd.Name()+" "+args[0]))
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	for _, sub := range subs {
		sub.Long += "\n\n" + exitHelp
		c.AddCommand(sub)
	}
	return c
}
