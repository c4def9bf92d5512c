package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"colorfast/vault"
)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make a new, encrypted vault",
		Long: `Make a new, encrypted vault.

Its password is taken from COLORFAST_PASSWORD or COLORFAST_PASSWORD_FILE. Without
them one is made up and stored in your configuration home, readable by you only;
copy it to another place, for without it no backup can be read.`,
		Example: `  COLORFAST_VAULT=file:///srv/vault colorfast init
  COLORFAST_PASSWORD_FILE=/etc/colorfast.key colorfast init --vault file:///srv/vault`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := a.createVault(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(made)
			}
			fmt.Fprintf(a.stdout, "vault %s made, encrypted with AES-256-GCM\n", made.Vault)
			a.tellPassword(made)
			a.next("colorfast backup PATH")
			return nil
		},
	}
}

// created is a new vault, as --json shows it.
type created struct {
	Vault        string `json:"vault"`
	PasswordFile string `json:"password_file,omitempty"` // where a made-up password is stored
}

// createVault makes the vault that flags and environment name.
func (a *app) createVault(ctx context.Context) (*created, error) {
	url, err := a.url()
	if err != nil {
		return nil, err
	}
	password, stored, err := a.newPassword(url)
	if err != nil {
		return nil, err
	}
	err = vault.Create(ctx, vault.Options{URL: url, Password: password, Log: a.log(), Environment: a.getenv})
	if err != nil {
		return nil, err
	}
	return &created{Vault: url, PasswordFile: stored}, nil
}

func (a *app) tellPassword(made *created) {
	if made.PasswordFile != "" {
		fmt.Fprintf(a.stderr, "password: made up and stored in %s (only you can read it)\n", made.PasswordFile)
		fmt.Fprintln(a.stderr, "warning: keep a copy of that file in another place; without it nobody can read the backups")
	}
}
