package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/internal/durable"
	"colorfast/vault"
)

const (
	newPasswordVariable = "COLORFAST_NEW_PASSWORD"
	// newSuffix is behind the name of the file in which a made-up password waits
	// until it is the vault's.
	newSuffix = ".new"
)

func (a *app) vaultPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "password",
		Short: "Change the vault's password",
		Long: `Change the vault's password, while others use the vault or not.

The new one is taken from COLORFAST_NEW_PASSWORD, COLORFAST_NEW_PASSWORD_FILE or
COLORFAST_NEW_PASSWORD_COMMAND. Without them, and if the present one was made up by
"colorfast init", a new one is made up and takes the place of the old one in its
file, once it is proven. Afterwards the old password does not open the vault, which
is tried too. If it is interrupted, the old one or the new one opens the vault;
run it again to finish.

It protects from who learns the old password later. Who had the old password and a
copy of the vault can read that copy, and, with the keys in it, what is stored
later: after a theft make a new vault.`,
		Example: `  colorfast vault password
  COLORFAST_NEW_PASSWORD_FILE=/etc/colorfast.key.new colorfast vault password`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.changePassword(cmd.Context()) },
	}
}

// changedPassword is what changePassword did, as --json shows it.
type changedPassword struct {
	Vault        string `json:"vault"`
	From         string `json:"from"`                    // where the new password is, in words
	PasswordFile string `json:"password_file,omitempty"` // where a made-up one is stored
}

func (a *app) changePassword(ctx context.Context) error {
	o, old, err := a.vaultOptions()
	if err != nil {
		return err
	}
	next, err := a.nextPassword(old)
	if err != nil {
		return err
	}
	if err := vault.ChangePassword(ctx, o, next.Password); err != nil {
		return blame(err, old)
	}
	out := changedPassword{Vault: o.URL, From: next.from}
	if next.madeUp {
		if err := takePlace(next.file, old.file); err != nil {
			return colorfast.Errorf(colorfast.Internal, "the password of vault %q is the one in %q now: %w", o.URL, next.file, err).
				WithHint("rename that file to %q", old.file)
		}
		next.file, out.PasswordFile, out.From = old.file, old.file, old.from
	}
	o.Password = next.Password
	a.recordSet(ctx, o, next)
	if a.json {
		return a.printJSON(out)
	}
	fmt.Fprintf(a.stdout, "password of vault %s changed; the old one opens it no more\n", o.URL)
	if next.madeUp {
		a.tellPassword(&created{PasswordFile: next.file})
	} else {
		fmt.Fprintf(a.stderr, "warning: the old password is still %s; put the new one in its place\n", old.from)
	}
	a.next("copy the new password to where the old one is kept, then \"colorfast recovery verify\"")
	return nil
}

// nextPassword returns the new password.
func (a *app) nextPassword(old given) (given, error) {
	if g, ok, err := a.environment(newPasswordVariable); ok {
		return g, err
	}
	if !old.madeUp {
		return given{}, colorfast.Errorf(colorfast.Usage, "change the password: no new one is given, and the old one, %s, was not made up by colorfast", old.from).
			WithHint("set %s_FILE", newPasswordVariable)
	}
	return a.makeUp(old.file + newSuffix)
}

// takePlace renames a file, durably.
func takePlace(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// recordSet tells the vault that its password was set, so that the time since then
// is known. The password is set all the same if that fails.
func (a *app) recordSet(ctx context.Context, o vault.Options, key given) {
	v, err := vault.Open(ctx, o)
	if err == nil {
		how := "given"
		if key.madeUp {
			how = colorfast.MadeUp
		}
		err = v.RecordKeyEvent(ctx, colorfast.KeyEvent{Kind: colorfast.KeySet, At: time.Now(), Host: hostname(), By: a.userName(), How: how})
		if cerr := v.Close(context.WithoutCancel(ctx)); err == nil {
			err = cerr
		}
	}
	if err != nil {
		a.log().Warn("password set, but its date was not recorded", "vault", o.URL, "err", err)
	}
}
