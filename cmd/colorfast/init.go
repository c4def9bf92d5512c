package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/vault"
)

func (a *app) initCommand() *cobra.Command {
	var period, mode string
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a new, encrypted vault",
		Long: `Make a new, encrypted vault.

Its password is taken from where the environment says: COLORFAST_PASSWORD, or what
_FILE, _COMMAND or _KEYRING behind that name, or a systemd credential. Without any
one is made up and stored in your configuration home, readable by you only; copy it
to another place, for without it no backup can be read.

With --lock nothing that is written to the vault can be deleted or changed for so
long, by whoever has the credentials; maintenance extends the lock of what is there.
The storage must be an S3 bucket that was made with object lock, or a container of
Azure's with version-level immutability. A governance lock
can be lifted with a permission of its own (s3:BypassGovernanceRetention), a
compliance lock by nobody, and until it ends its space is paid for.`,
		Example: `  COLORFAST_VAULT=file:///srv/vault colorfast init
  COLORFAST_PASSWORD_FILE=/etc/colorfast.key colorfast init --vault file:///srv/vault
  colorfast init --vault 's3://bucket/chroma?region=eu-central-1' --lock 30d --lock-mode compliance`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if period == "" && cmd.Flags().Changed("lock-mode") {
				return colorfast.Errorf(colorfast.Usage, "make a vault with --lock-mode %s: for how long is not said", mode).WithHint("add --lock, such as --lock 30d")
			}
			lock, err := parseLock(period, mode)
			if err != nil {
				return usage(cmd, err)
			}
			made, err := a.createVault(cmd.Context(), lock)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(made)
			}
			fmt.Fprintf(a.stdout, "vault %s made, encrypted with AES-256-GCM\n", made.Vault)
			if made.Lock != nil {
				fmt.Fprintf(a.stdout, "lock %s: nothing in it can be deleted or changed for so long\n", lock)
			}
			a.tellPassword(made)
			a.tellWhere(cmd.Context(), made.Vault)
			a.next("colorfast backup PATH")
			return nil
		},
	}
	c.Flags().StringVar(&period, "lock", "", "have the storage lock what is written for so many `days`, such as 30d")
	c.Flags().StringVar(&mode, "lock-mode", string(vault.Governance), "who may lift the lock: governance (a permission of its own) or compliance (nobody)")
	return c
}

// created is a new vault, as --json shows it.
type created struct {
	Vault        string  `json:"vault"`
	PasswordFile string  `json:"password_file,omitempty"` // where a made-up password is stored
	Lock         *locked `json:"lock,omitempty"`
}

// createVault makes the vault that flags and environment name.
func (a *app) createVault(ctx context.Context, lock vault.Lock) (*created, error) {
	url, err := a.url()
	if err != nil {
		return nil, err
	}
	key, err := a.newPassword(url)
	if err != nil {
		return nil, err
	}
	o := vault.Options{URL: url, Password: key.Password, Log: a.log(), Lock: lock, Environment: a.getenv}
	if err = vault.Create(ctx, o); err != nil {
		return nil, err
	}
	a.recordSet(ctx, o, key)
	out := &created{Vault: url, Lock: lockedOf(lock)}
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
