package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/copies"
	"colorfast/vault"
)

// copyURLs returns the vaults that hold copies: those of flags, else those that
// COLORFAST_COPIES names, with commas or spaces between. Who has set that may use
// one of these vaults by itself.
func (a *app) copyURLs(given []string) ([]string, error) {
	flags := len(given) > 0
	if !flags {
		given = a.namedCopies()
	}
	primary, err := a.url()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, g := range given {
		url, err := spelled(g)
		if err != nil {
			return nil, err
		}
		if url == primary && !flags {
			continue
		}
		if url == primary {
			return nil, colorfast.Errorf(colorfast.Usage, "use vault %q as a copy: it is the vault itself", url).
				WithHint("name another vault in --to, --copy-to or --copy-from")
		}
		out = append(out, url)
	}
	return out, nil
}

// copyFromFlag adds the flag that names vaults to fall back to.
func copyFromFlag(c *cobra.Command, from *[]string) {
	c.Flags().StringArrayVar(from, "copy-from", nil, "take what the vault cannot give from this vault with copies, by `URL`; may be given several times (default $COLORFAST_COPIES)")
}

// copyPassword finds the password of a vault that holds copies. It is never that
// of the vault itself: who learns one of them must not have all.
func (a *app) copyPassword(url string) (vault.Secret, error) {
	if g, ok, err := a.copiesPassword(); ok {
		return g.Password, err
	}
	file, err := a.passwordFile(url)
	if err != nil {
		return vault.Secret{}, err
	}
	if missing(file) {
		return vault.Secret{}, colorfast.Errorf(colorfast.Denied, "open vault %q: no password is known for it", url).
			WithHint("set COLORFAST_COPY_PASSWORD_FILE, or make the vault with \"colorfast init --vault %s\"", url)
	}
	g, err := a.readPassword(file, "\"colorfast init --help\"", fmt.Sprintf("in the file %q, which \"colorfast init\" made", file))
	return g.Password, err
}

// copiesPassword reads the password of all vaults with copies; ok is false if the
// environment names none.
func (a *app) copiesPassword() (g given, ok bool, err error) {
	const variable = "COLORFAST_COPY_PASSWORD_FILE"
	file := a.getenv(variable)
	if file == "" {
		return given{}, false, nil
	}
	g, err = a.readPassword(file, variable, fmt.Sprintf("in the file %q, which %s names", file, variable))
	return g, true, err
}

// holdsCopies reports whether the environment names a vault as one with copies, and
// not as the vault itself.
func (a *app) holdsCopies(url string) bool {
	if own, err := spelled(a.getenv("COLORFAST_VAULT")); err == nil && own == url {
		return false
	}
	return slices.ContainsFunc(a.namedCopies(), func(name string) bool {
		copy, err := spelled(name)
		return err == nil && copy == url
	})
}

// namedCopies returns what COLORFAST_COPIES names.
func (a *app) namedCopies() []string {
	return strings.FieldsFunc(a.getenv("COLORFAST_COPIES"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
}

// withCopy opens a vault that holds copies for the length of use.
func (a *app) withCopy(ctx context.Context, url string, use func(v *vault.Vault, url string) error) error {
	v, err := a.openCopy(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(use(v, url), v.Close(context.WithoutCancel(ctx)))
}

// openCopy opens a vault that holds copies.
func (a *app) openCopy(ctx context.Context, url string) (*vault.Vault, error) {
	password, err := a.copyPassword(url)
	if err != nil {
		return nil, err
	}
	o, err := a.optionsFor(url, password)
	if err != nil {
		return nil, err
	}
	return vault.Open(ctx, o)
}

// copyRun is what copying to one vault did, as --json shows it.
type copyRun struct {
	Vault string `json:"vault"`
	*copies.Report
	Error string `json:"error,omitempty"` // that ended it
	Kind  string `json:"kind,omitempty"`  // of the error

	err error
}

// partly reports whether something that was asked for is not in the copy.
func (r *copyRun) partly() bool {
	return r.err != nil || len(r.Refused) > 0 || r.damaged()
}

// damaged reports whether something was found wrong in the copy after its arrival.
func (r *copyRun) damaged() bool {
	for _, c := range r.Copied {
		if c.Verified != colorfast.Passed {
			return true
		}
	}
	return false
}

// copyTo copies to one vault, and remembers how that went. Only a context that has
// ended is an error: everything else is in the result.
func (a *app) copyTo(ctx context.Context, from *vault.Vault, url string, c copies.Copy) (*copyRun, error) {
	run := &copyRun{Vault: url}
	run.Report, run.err = a.copyLocked(ctx, from, url, c)
	if run.Report == nil {
		run.Report = &copies.Report{Copied: []copies.Copied{}, Refused: []copies.Refused{}}
	}
	if run.err != nil {
		run.Error, run.Kind = run.err.Error(), colorfast.KindOf(run.err).String()
	}
	a.memorize(url, func(m *vaultMemo) { m.copied(run) })
	if ctx.Err() != nil {
		return run, errors.Join(run.err, ctx.Err())
	}
	return run, nil
}

// copyLocked copies while no other run on this host copies to the same vault.
func (a *app) copyLocked(ctx context.Context, from *vault.Vault, url string, c copies.Copy) (_ *copies.Report, err error) {
	cache, err := a.home("XDG_CACHE_HOME", ".cache")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "copying", vaultKey(url))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock := ownLock(dir)
	if lock == nil {
		return nil, colorfast.Errorf(colorfast.Locked, "copy to vault %q: another run on this host is at it", url).
			WithHint("wait for it to end; it copies the same backups")
	}
	defer func() { _ = lock.Close() }()
	to, err := a.openCopy(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close(context.WithoutCancel(ctx))) }()
	p, done := a.progress()
	defer done()
	c.From, c.To, c.Progress, c.Log = from, to, p, a.log()
	rep, err := c.Run(ctx)
	if err == nil && len(rep.Copied) > 0 {
		if merr := to.Maintain(ctx); merr != nil && ctx.Err() == nil {
			a.log().Warn("vault not maintained", "vault", url, "err", merr)
		}
	}
	return rep, err
}

// showCopied tells people how copying to one vault went.
func (a *app) showCopied(w io.Writer, r *copyRun) {
	for _, f := range r.Refused {
		fmt.Fprintf(a.stderr, "refused  backup %s of %s: %s\n", f.Backup.Short(), when(f.RestorePoint), f.Reason)
	}
	for _, c := range r.Copied {
		if len(c.Findings) > 0 {
			fmt.Fprintf(a.stderr, "backup %s, copied as %s:\n", c.Backup.Short(), c.Copy.Short())
			printFindings(a.stderr, c.Findings)
		}
	}
	if r.err != nil {
		a.complain(r.err)
	}
	rest := ""
	if n := len(r.Refused) + r.Left; n > 0 {
		rest = fmt.Sprintf(", %d NOT COPIED", n)
	}
	var all int64
	for _, c := range r.Copied {
		all += c.Bytes
	}
	fmt.Fprintf(w, "copied %s to %s: %d there already%s, %s read of %s, %s stored, %s\n", counted(int64(len(r.Copied)), "backup"),
		r.Vault, r.There, rest, size(r.Read), size(all), size(r.Stored), seconds(r.Seconds))
}

// copyAll copies to all vaults, one after the other.
func (a *app) copyAll(ctx context.Context, from *vault.Vault, urls []string, c copies.Copy) ([]*copyRun, error) {
	var out []*copyRun
	for _, url := range urls {
		run, err := a.copyTo(ctx, from, url, c)
		out = append(out, run)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// verdict returns what the exit code says of copying; nil if all is well.
func verdict(runs []*copyRun) error {
	done := false
	var first error
	for _, r := range runs {
		if r.damaged() {
			return errFindings
		}
		done = done || len(r.Copied) > 0 || !r.partly()
		if r.partly() && first == nil {
			first = errPartly
		}
	}
	if first != nil && !done {
		for _, r := range runs {
			if r.err != nil {
				return &shown{r.err}
			}
		}
	}
	return first
}

// withCopies opens the vault, and those that hold copies of it if any are known.
// What cannot be had from the vault then comes from them.
func (a *app) withCopies(ctx context.Context, given []string, use func(v colorfast.Vault, url string, taken func() []copies.Taken) error) error {
	urls, err := a.copyURLs(given)
	if err != nil {
		return err
	}
	if len(urls) == 0 {
		return a.withVault(ctx, func(v *vault.Vault, url string) error {
			return use(v, url, func() []copies.Taken { return nil })
		})
	}
	url, err := a.url()
	if err != nil {
		return err
	}
	first := copies.Member{Name: url}
	if v, err := a.openFirst(ctx); err != nil {
		first.Err = err
	} else {
		first.Vault = v
	}
	members := []copies.Member{first}
	for _, u := range urls {
		m := copies.Member{Name: u}
		if v, err := a.openCopy(ctx, u); err != nil {
			m.Err = err
			fmt.Fprintf(a.stderr, "colorfast: warning: copy not usable: %v\n", err)
		} else {
			m.Vault = v
		}
		members = append(members, m)
	}
	s := copies.NewSeveral(members...)
	err = use(s, url, s.Taken)
	return errors.Join(err, s.Close(context.WithoutCancel(ctx)))
}

func (a *app) openFirst(ctx context.Context) (*vault.Vault, error) {
	o, key, err := a.vaultOptions()
	if err != nil {
		return nil, err
	}
	v, err := vault.Open(ctx, o)
	if err != nil {
		return nil, blame(err, key)
	}
	return v, nil
}

// tellTaken says what came from a copy.
func (a *app) tellTaken(taken []copies.Taken) {
	if a.json {
		return
	}
	for _, t := range taken {
		what := "the list of backups"
		switch {
		case len(t.Files) > 0:
			what = fmt.Sprintf("%s of backup %s", counted(int64(len(t.Files)), "file"), t.Backup.Short())
		case t.Backup != "":
			what = "what backup " + t.Backup.Short() + " says of itself"
		}
		fmt.Fprintf(a.stderr, "note: %s came from the copy in %s: %s\n", what, t.Vault, t.Reason)
	}
}
