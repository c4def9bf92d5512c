package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/apart"
	"colorfast/recovery"
	"colorfast/vault"
)

// recoveryCommand holds the commands for the day on which only the vault is left.
func (a *app) recoveryCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "recovery",
		Short: "Be ready for the day on which only the vault is left",
		Long: `Be ready for the day on which only the vault is left: print what is needed then,
prove that a copy of the password opens the vault, and see whether one was proven.`,
	}, []*cobra.Command{a.recoveryKitCommand(), a.recoveryVerifyCommand(), a.recoveryStatusCommand()})
}

func (a *app) recoveryKitCommand() *cobra.Command {
	var html, withPassword bool
	c := &cobra.Command{
		Use:   "kit",
		Short: "Print the sheet that a person needs to get the data back",
		Long: `Print one sheet for a person who has a bare machine and nothing else: where the
vault is, how to know it by its fingerprint, where copies of the password are said
to be, every step with its command, the newest backups, and a QR code.

The password is not on it. With --with-password it is, in letters and in the code:
for an envelope that is sealed and kept in a safe.`,
		Example: `  colorfast recovery kit > kit.txt
  colorfast recovery kit --html > kit.html`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if html && a.json {
				return usage(cmd, fmt.Errorf("--html and --json exclude each other"))
			}
			return a.withKey(cmd.Context(), func(v *vault.Vault, url string, key given) error {
				k, err := a.kit(cmd.Context(), v, url, key)
				if err != nil {
					return err
				}
				if withPassword {
					k.Password = key.Password.Reveal()
					fmt.Fprintln(a.stderr, "colorfast: warning: THIS KIT CARRIES THE PASSWORD. Whoever reads it can read every backup: print it, seal it, and keep no file of it")
				}
				k.Complete()
				switch {
				case a.json:
					return a.printJSON(k)
				case html:
					return k.HTML(a.stdout)
				}
				return k.Text(a.stdout)
			})
		},
	}
	c.Flags().BoolVar(&html, "html", false, "print a page for a browser, which prints on one sheet")
	c.Flags().BoolVar(&withPassword, "with-password", false, "put the password on the sheet too, for a sealed envelope")
	return c
}

// kit gathers the facts of a kit.
func (a *app) kit(ctx context.Context, v *vault.Vault, url string, key given) (*recovery.Kit, error) {
	k := &recovery.Kit{
		Vault: url, Tool: "colorfast " + colorfast.Version, MadeAt: time.Now().UTC(), MadeOn: hostname(),
		KeySource: key.from, Copies: []recovery.Copy{},
	}
	k.Fingerprint = v.Fingerprint()
	var err error
	if k.Backups, err = v.List(ctx); err != nil {
		return nil, err
	}
	f, err := a.keyFacts(ctx, v, url, key)
	if err != nil {
		return nil, err
	}
	for _, e := range f.Events {
		if e.Kind == colorfast.KeyVerified && e.KeyID == f.KeyID {
			k.Copies = append(k.Copies, recovery.Copy{Place: e.Place, VerifiedAt: e.At, By: e.By})
		}
	}
	return k, nil
}

// keyFacts gathers what is known of the vault's key, as seen from here.
func (a *app) keyFacts(ctx context.Context, v *vault.Vault, url string, key given) (recovery.KeyFacts, error) {
	f := recovery.KeyFacts{Host: hostname(), Source: key.from, MadeUp: key.madeUp, OnHost: key.file != ""}
	if f.OnHost {
		var p apart.Prober
		places := p.Places(ctx, key.file, url)
		distance := apart.Between(&places[0], &places[1]).Distance
		f.VaultDisk = distance == apart.SameFileSystem || distance == apart.SameDisk
	}
	var err error
	if f.KeyID, err = v.KeyID(); err != nil {
		return f, err
	}
	if f.Events, err = v.KeyEvents(ctx); err != nil {
		return f, err
	}
	for _, e := range f.Events {
		if e.KeyID == f.KeyID {
			f.Since = e.At
			return f, nil
		}
	}
	// A vault of before there were events: the password is as old as its oldest backup.
	list, err := v.List(ctx)
	if err == nil && len(list) > 0 {
		f.Since = list[len(list)-1].FinishedAt
	}
	return f, err
}

// warnOfKey says in one line that no copy of the password was ever proven, if that
// is so for long enough. A backup does not fail because of it.
func (a *app) warnOfKey(ctx context.Context, v *vault.Vault, url string, key given) {
	f, err := a.keyFacts(ctx, v, url, key)
	if err != nil {
		a.log().Info("key not looked at", "vault", url, "err", err)
	} else if recovery.Warn(f, time.Now()) {
		fmt.Fprintf(a.stderr, "colorfast: warning: no copy of the vault's password was ever shown to open it, since %s; see \"colorfast recovery status\"\n",
			f.Since.Local().Format(time.DateOnly))
	}
}

func (a *app) recoveryStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "See whether the password could get lost",
		Long: `See whether the vault's password could get lost with this host or a disk, and when
a copy of it was last shown to open the vault. If there is a risk, the exit code is 3.`,
		Example: `  colorfast recovery status
  colorfast recovery status --json`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKey(cmd.Context(), func(v *vault.Vault, url string, key given) error {
				f, err := a.keyFacts(cmd.Context(), v, url, key)
				if err != nil {
					return err
				}
				return a.showKeyStatus(v, url, f)
			})
		},
	}
}

// keyStatus is the state of a vault's key, as --json shows it.
type keyStatus struct {
	Vault       string                `json:"vault"`
	Fingerprint colorfast.Fingerprint `json:"fingerprint"`
	KeySource   string                `json:"key_source"`
	Verified    *colorfast.KeyEvent   `json:"verified"` // the newest proof; null for none
	Findings    []colorfast.Finding   `json:"findings"`
}

func (a *app) showKeyStatus(v *vault.Vault, url string, f recovery.KeyFacts) error {
	s := keyStatus{recovery.SafeURL(url), v.Fingerprint(), f.Source, f.Verified(), recovery.Judge(f, time.Now())}
	var err error
	if a.json {
		err = a.printJSON(s)
	} else {
		rows := [][]string{{"vault", s.Vault}, {"fingerprint", string(s.Fingerprint)}, {"password", s.KeySource}}
		if e := s.Verified; e != nil {
			proof := fmt.Sprintf("%s by %s on %s, %s", when(e.At), e.By, e.Host, e.How)
			if e.Place != "" {
				proof += ", kept: " + e.Place
			}
			rows = append(rows, []string{"copy proven", proof})
		} else {
			rows = append(rows, []string{"copy proven", "never"})
		}
		err = table(a.stdout, rows)
		printFindings(a.stdout, s.Findings)
	}
	if err == nil && len(s.Findings) > 0 {
		err = errFindings
	}
	return err
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return name
}

// userName is who runs the program.
func (a *app) userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	if name := a.getenv("USER"); name != "" {
		return name
	}
	return "unknown"
}
