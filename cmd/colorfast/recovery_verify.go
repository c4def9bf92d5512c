package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"colorfast"
	"colorfast/recovery"
	"colorfast/vault"
)

// proofFlags are what recovery verify is told.
type proofFlags struct {
	fingerprint, file, by, place string
	noRecord                     bool
}

func (a *app) recoveryVerifyCommand() *cobra.Command {
	var f proofFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove that a copy of the password, kept elsewhere, opens the vault",
		Long: `Prove that whoever has the recovery kit and a copy of the password gets in: open
the vault with that copy alone, compare the fingerprint, and read the manifest of the
newest backup. What this host knows of the password is not used.

The copy is typed, or comes on standard input or with --file: the password, or the
text of the kit's QR code, which also names the vault and the fingerprint. That it was
proven, when and by whom is recorded in the vault, so that "colorfast recovery
status" knows it on every host.`,
		Example: `  colorfast recovery verify --place "safe in the Berlin office"
  zbarimg -q --raw kit.png | colorfast recovery verify`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verifyCopy(cmd.Context(), f) },
	}
	c.Flags().StringVar(&f.fingerprint, "fingerprint", "", "the fingerprint on the kit, to `compare`")
	c.Flags().StringVar(&f.file, "file", "", "read the copy from this `file`, such as one on a stick")
	c.Flags().StringVar(&f.by, "by", "", "`who` proves it (default your user name)")
	c.Flags().StringVar(&f.place, "place", "", "`where` the copy is kept, for the recovery kit")
	c.Flags().BoolVar(&f.noRecord, "no-record", false, "do not record it in the vault")
	return c
}

// provenCopy is what was proven, as --json shows it.
type provenCopy struct {
	Vault       string                `json:"vault"`
	Fingerprint colorfast.Fingerprint `json:"fingerprint"`
	Compared    bool                  `json:"fingerprint_compared"`
	How         string                `json:"how"`
	Backup      *colorfast.Backup     `json:"backup"` // the newest, whose manifest was read; null for none
	Recorded    bool                  `json:"recorded"`
}

func (a *app) verifyCopy(ctx context.Context, f proofFlags) error {
	want := colorfast.Fingerprint("")
	if f.fingerprint != "" {
		var err error
		if want, err = colorfast.ParseFingerprint(f.fingerprint); err != nil {
			return err
		}
	}
	code, how, err := a.readCopy(f.file)
	if err != nil {
		return err
	}
	if code.Vault != "" && a.vaultURL == "" && a.getenv("COLORFAST_VAULT") == "" {
		a.vaultURL = code.Vault
	}
	if want == "" {
		want = code.Fingerprint
	}
	url, err := a.url()
	if err != nil {
		return err
	}
	if err := a.notOurs(f.file, url); err != nil {
		return err
	}
	o, err := a.optionsFor(url, vault.NewSecret(code.Password))
	if err != nil {
		return err
	}
	v, err := vault.Open(ctx, o)
	if err != nil {
		return blame(err, given{from: "the copy that was " + how})
	}
	out := provenCopy{Vault: recovery.SafeURL(url), How: how, Compared: want != ""}
	err = a.prove(ctx, v, want, &out)
	if err == nil && !f.noRecord {
		a.recordProof(ctx, v, f, &out)
	}
	if err = errors.Join(err, v.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return a.showProven(&out)
}

// readCopy reads the copy, from a file or else from standard input, without showing
// what is typed. how says which.
func (a *app) readCopy(file string) (code recovery.Code, how string, err error) {
	var text []byte
	switch {
	case file != "":
		how = "file"
		text, err = readSome(func() (io.ReadCloser, error) { return os.Open(file) })
	case term.IsTerminal(int(a.stdin.Fd())):
		how = "typed"
		fmt.Fprint(a.stderr, "password, from the copy that you check: ")
		text, err = term.ReadPassword(int(a.stdin.Fd()))
		fmt.Fprintln(a.stderr)
	default:
		how = "piped"
		text, err = readSome(func() (io.ReadCloser, error) { return io.NopCloser(a.stdin), nil })
	}
	if err != nil {
		return code, "", colorfast.Errorf(colorfast.Usage, "read the copy of the password: %w", err)
	}
	code, scanned, err := recovery.ParseCode(string(text))
	if err == nil && scanned {
		how = "scan"
		if code.Password == "" {
			err = colorfast.Errorf(colorfast.Usage, "read the copy of the password: the code carries the vault's URL and its fingerprint, but no password").
				WithHint("type the password instead, with --vault %s --fingerprint %s", code.Vault, code.Fingerprint)
		}
	}
	return code, how, err
}

// readSome reads what is at most as long as a password or a code can be.
func readSome(open func() (io.ReadCloser, error)) ([]byte, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	const most = 4 * mostPassword
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return text, errors.Join(err, r.Close())
}

// notOurs refuses the file from which this host takes the password: that it opens
// the vault is known, and it is no copy kept elsewhere.
func (a *app) notOurs(file, url string) error {
	look := a.stdin.Stat
	if file != "" {
		look = func() (os.FileInfo, error) { return os.Stat(file) }
	}
	fi, err := look()
	if err != nil {
		return colorfast.Errorf(colorfast.Usage, "read the copy of the password: %w", err)
	}
	made, err := a.passwordFile(url)
	if err != nil {
		made = ""
	}
	for _, own := range []string{made, a.getenv(passwordVariable + "_FILE")} {
		if o, err := os.Stat(own); err == nil && os.SameFile(fi, o) {
			return colorfast.Errorf(colorfast.Usage, "prove a copy of the password: %q is where this host takes it from, no copy", own).
				WithHint("fetch the copy that is kept elsewhere, and type it")
		}
	}
	return nil
}

// prove compares the fingerprint and reads the newest backup's manifest.
func (a *app) prove(ctx context.Context, v *vault.Vault, want colorfast.Fingerprint, out *provenCopy) (err error) {
	out.Fingerprint = v.Fingerprint()
	if want != "" && want != out.Fingerprint {
		return colorfast.Errorf(colorfast.NotFound, "find the vault of the kit: the one at %q has the fingerprint %s, not %s", out.Vault, out.Fingerprint, want).
			WithHint("it is another vault, or the kit is an old one")
	}
	list, err := v.List(ctx)
	if err != nil || len(list) == 0 {
		return err
	}
	m, err := v.Manifest(ctx, list[0].ID)
	if err != nil {
		return err
	}
	out.Backup = &m.Backup
	return nil
}

// recordProof tells the vault. Somebody who may only read it has proven as much.
func (a *app) recordProof(ctx context.Context, v *vault.Vault, f proofFlags, out *provenCopy) {
	e := colorfast.KeyEvent{Kind: colorfast.KeyVerified, At: time.Now(), Host: hostname(), By: f.by, How: out.How, Place: f.place}
	if e.By == "" {
		e.By = a.userName()
	}
	if out.Backup != nil {
		e.Backup = out.Backup.ID
	}
	if err := v.RecordKeyEvent(ctx, e); err != nil {
		fmt.Fprintf(a.stderr, "colorfast: warning: not recorded: %v\n", err)
		return
	}
	out.Recorded = true
}

func (a *app) showProven(out *provenCopy) error {
	if a.json {
		return a.printJSON(out)
	}
	newest := "there is no backup in it yet"
	if b := out.Backup; b != nil {
		newest = fmt.Sprintf("the newest backup, %s of %s, can be read", b.ID.Short(), b.Source)
	}
	recorded := ""
	if out.Recorded {
		recorded = "; recorded in the vault"
	}
	fmt.Fprintf(a.stdout, "the copy opens vault %s, and %s%s\n", out.Vault, newest, recorded)
	if !out.Compared {
		fmt.Fprintf(a.stdout, "fingerprint: %s (compare it with the kit)\n", out.Fingerprint)
	}
	return nil
}
