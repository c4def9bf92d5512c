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

Its password is taken from where the environment says: COLORFAST_PASSWORD, or what
_FILE, _COMMAND or _KEYRING behind that name, or a systemd credential. Without any
one is made up and stored in your configuration home, readable by you only; copy it
to another place, for without it no backup can be read.`,
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
			a.tellWhere(cmd.Context(), made.Vault)
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
	key, err := a.newPassword(url)
	if err != nil {
		return nil, err
	}
	o := vault.Options{URL: url, Password: key.Password, Log: a.log()}
	if err = vault.Create(ctx, o); err != nil {
		return nil, err
	}
	a.recordSet(ctx, o, key)
	out := &created{Vault: url}
	if key.madeUp {
		out.PasswordFile = key.file
	}
	return out, nil
}

func (a *app) tellPassword(made *created) {
	if made.PasswordFile != "" {
		fmt.Fprintf(a.stderr, "password: made up and stored in %s (only you can read it)\n", made.PasswordFile)
		fmt.Fprintln(a.stderr, "warning: keep a copy of that file in another place; without it nobody can read the backups")
	}
}
