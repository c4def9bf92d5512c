package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/apart"
	"colorfast/vault"
)

func (a *app) vaultWhereCommand() *cobra.Command {
	w := &where{app: a}
	c := &cobra.Command{
		Use:   "where [SOURCE]",
		Short: "Tell whether a source and its vaults would die together",
		Long: `Tell by file system, disk, host, cloud zone and region whether a source and
its vaults would die together, what would destroy both, and which numbers of
3-2-1-1-0 are met: 3 copies on 2 storages, 1 off-site, 1 immutable or offline, and
0 errors when the newest was read back.

SOURCE is a persist directory. Without it all sources of this host are looked at
that the vault has backups of. Vaults that COLORFAST_COPIES names are looked at too,
and those that --also names.

What cannot be found out is said to be unknown. The kernel is asked, and the names
of hosts are looked up. Only where the firmware says that this host is in AWS,
Google Cloud or Azure, and a vault is not on it, that cloud's metadata service is
asked for the zone. Distances, from the worst: same-file-system, same-disk, same-host,
same-zone, same-region, apart; unknown.`,
		Example: `  colorfast vault where /srv/chroma
  colorfast vault where --also s3://acme-backups/chroma?region=eu-west-1 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, fmt.Errorf("where takes at most one SOURCE, got %d arguments", len(args)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				w.path = args[0]
			}
			return w.run(cmd.Context())
		},
	}
	c.Flags().StringArrayVar(&w.also, "also", nil, "`URL` of a further vault; may be repeated")
	c.Flags().BoolVar(&w.verify, "verify", false, "read the newest backup of each source back from each vault, record by record")
	return c
}

// where is one run of the command.
type where struct {
	*app
	path   string // of the source; "" for all
	also   []string
	verify bool
}

// located is a source with its vaults, as --json shows it.
type located struct {
	Source   colorfast.Source    `json:"source"`
	Place    apart.Place         `json:"place"`
	Vaults   []locatedVault      `json:"vaults"`
	Rule     []apart.Digit       `json:"rule"`
	Findings []colorfast.Finding `json:"findings"`
}

// locatedVault is a vault as far as one source is concerned.
type locatedVault struct {
	Place apart.Place `json:"place"`
	apart.Verdict
	Holds     apart.Answer `json:"holds"`     // a backup of the source that is not damaged
	Backups   int          `json:"backups"`   // of the source, that are not damaged
	Newest    *time.Time   `json:"newest"`    // restore point; nil for none
	Immutable apart.Answer `json:"immutable"` // what it holds cannot be deleted for some time
	Verified  apart.Answer `json:"verified"`  // the newest was read back
	Trouble   string       `json:"trouble,omitempty"`
}

// opened is a vault that was looked into.
type opened struct {
	url     string
	list    []colorfast.Backup
	trouble error // why it could not be
	none    bool  // there is no vault
	locked  bool  // it locks what it stores
	proven  map[colorfast.Source]apart.Answer
}

func (w *where) run(ctx context.Context) error {
	var vaults []*opened
	for _, given := range slices.Concat([]string{w.vaultURL}, w.namedCopies(), w.also) {
		o, err := w.look(ctx, given)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(vaults, func(x *opened) bool { return x.url == o.url }) {
			vaults = append(vaults, o)
		}
	}
	sources, err := w.sources(vaults)
	if err != nil {
		return err
	}
	out := []located{}
	for _, s := range sources {
		out = append(out, locate(ctx, s, vaults))
	}
	if w.json {
		return w.printJSON(map[string]any{"sources": out})
	}
	for i := range out {
		if i > 0 {
			fmt.Fprintln(w.stdout)
		}
		if err := w.show(&out[i]); err != nil {
			return err
		}
	}
	return nil
}

// look opens a vault and lists what it holds. That it cannot be opened is told, and
// does not keep from telling where it lies.
func (w *where) look(ctx context.Context, given string) (*opened, error) {
	one := *w.app
	one.vaultURL = given
	url, err := one.url()
	if err != nil {
		return nil, err
	}
	o := &opened{url: url, proven: map[colorfast.Source]apart.Answer{}}
	look := func(v *vault.Vault, url string) error {
		lock, err := v.Lock(ctx)
		if err != nil {
			return err
		}
		o.locked = !lock.IsZero()
		if o.list, err = v.List(ctx); err != nil || !w.verify {
			return err
		}
		return w.prove(ctx, v, url, o)
	}
	if w.holdsCopies(url) {
		o.trouble = w.withCopy(ctx, url, look)
	} else {
		o.trouble = one.withVault(ctx, look)
	}
	o.none = colorfast.KindOf(o.trouble) == colorfast.NotFound
	if o.trouble != nil && ctx.Err() != nil {
		return nil, o.trouble
	}
	return o, nil
}

// prove reads the newest backup of each source back.
func (w *where) prove(ctx context.Context, v *vault.Vault, url string, o *opened) error {
	for i := range o.list { // newest first
		b := &o.list[i]
		if _, done := o.proven[b.Source]; done || !w.meant(b.Source) {
			continue
		}
		m, err := v.Manifest(ctx, b.ID)
		if err != nil {
			return err
		}
		found, err := w.proveStored(ctx, v, url, m, colorfast.Records)
		if err != nil {
			return err
		}
		o.proven[b.Source] = apart.Yes
		if fatal(found) {
			printFindings(w.stderr, found)
			o.proven[b.Source] = apart.No
		}
	}
	return nil
}

// meant reports whether a source in a vault is the one that was asked for.
func (w *where) meant(s colorfast.Source) bool {
	if w.path == "" {
		return true
	}
	path, err := filepath.Abs(w.path)
	return err == nil && s.Path == resolve(path)
}

// sources returns the one that was asked for, else all that the vaults know.
func (w *where) sources(vaults []*opened) ([]colorfast.Source, error) {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	if w.path != "" {
		path, err := filepath.Abs(w.path)
		if err != nil {
			return nil, err
		}
		if missing(path) {
			return nil, colorfast.Errorf(colorfast.NotFound, "look at source %q: there is no such directory", w.path)
		}
		return []colorfast.Source{{Host: host, Path: resolve(path)}}, nil
	}
	var all []colorfast.Source
	var troubles []error
	for _, o := range vaults {
		troubles = append(troubles, o.trouble)
		for _, b := range o.list {
			if !slices.Contains(all, b.Source) {
				all = append(all, b.Source)
			}
		}
	}
	if len(all) == 0 {
		if err := errors.Join(troubles...); err != nil {
			return nil, err
		}
		return nil, colorfast.Errorf(colorfast.Usage, "look at sources: the vault has no backup of any").
			WithHint("name one: colorfast vault where SOURCE")
	}
	slices.SortFunc(all, func(x, y colorfast.Source) int { return strings.Compare(x.String(), y.String()) })
	return all, nil
}

// locate gathers the facts of a source and its vaults, and judges them.
func locate(ctx context.Context, s colorfast.Source, vaults []*opened) located {
	names := []string{s.Path}
	for _, o := range vaults {
		names = append(names, o.url)
	}
	var p apart.Prober
	places := p.Places(ctx, names...)
	source := places[0]
	if host, err := os.Hostname(); err == nil && host != s.Host || missing(s.Path) {
		source = apart.Place{Name: s.String(), Kind: "path", Open: true, Doubts: []string{
			fmt.Sprintf("where %s lies, which is not on this host: run this command there", s),
		}}
	}
	out := located{Source: s, Place: source, Vaults: []locatedVault{}}
	var copies []apart.Copy
	for i, o := range vaults {
		c := locatedVault{Place: places[i+1], Verdict: apart.Between(&source, &places[i+1]), Immutable: immutable(o), Verified: o.proven[s]}
		switch {
		case o.none:
			c.Holds, c.Trouble = apart.No, o.trouble.Error()
		case o.trouble != nil && len(o.list) == 0:
			c.Trouble = o.trouble.Error()
		default:
			c.count(o.list, s)
			if o.trouble != nil {
				c.Trouble = o.trouble.Error()
			}
		}
		out.Vaults = append(out.Vaults, c)
		copies = append(copies, apart.Copy{Place: c.Place, Verdict: c.Verdict, Holds: c.Holds, Immutable: c.Immutable, Verified: c.Verified})
	}
	out.Rule = apart.Rule(&source, copies)
	out.Findings = apart.Findings(&source, copies)
	return out
}

// count looks at the backups of a source, newest first.
func (c *locatedVault) count(list []colorfast.Backup, s colorfast.Source) {
	c.Holds = apart.No
	for _, b := range list {
		if b.Source != s || b.Damaged() {
			continue
		}
		if c.Backups == 0 {
			c.Holds, c.Newest = apart.Yes, &b.RestorePoint
		}
		c.Backups++
	}
}

// immutable tells whether what a vault holds cannot be deleted. Of a folder that is
// known: whoever may write into it may delete. A bucket may lock by itself what the
// vault does not; "vault check" looks.
func immutable(o *opened) apart.Answer {
	switch {
	case o.locked:
		return apart.Yes
	case vault.Folder(o.url) != "":
		return apart.No
	}
	return apart.NotKnown
}

func (w *where) show(l *located) error {
	fmt.Fprintf(w.stdout, "source %s: on %s\n\n", l.Source, lies(&l.Place))
	rows := [][]string{{"VAULT", "DISTANCE", "BACKUPS", "NEWEST", "LIES ON"}}
	for i := range l.Vaults {
		v := &l.Vaults[i]
		newest := "-"
		if v.Newest != nil {
			newest = when(*v.Newest)
		}
		backups := itoa(v.Backups)
		if v.Holds == apart.NotKnown {
			backups = "?"
		}
		rows = append(rows, []string{v.Place.Name, v.Distance.String(), backups, newest, lies(&v.Place)})
	}
	if err := table(w.stdout, rows); err != nil {
		return err
	}
	fmt.Fprintln(w.stdout)
	for i := range l.Vaults {
		v := &l.Vaults[i]
		fmt.Fprintf(w.stdout, "%s: %s\n", v.Place.Name, v.Destroys)
		if v.Trouble != "" {
			fmt.Fprintf(w.stderr, "warning: %s\n", v.Trouble)
		}
		for _, d := range v.Doubts {
			fmt.Fprintf(w.stdout, "  not known: %s\n", d)
		}
	}
	fmt.Fprintln(w.stdout)
	rows = [][]string{{"3-2-1-1-0", "MET", "WHY"}}
	for _, d := range l.Rule {
		rows = append(rows, []string{d.Rule, d.Met.String(), d.Reason})
	}
	if err := table(w.stdout, rows); err != nil {
		return err
	}
	if len(l.Findings) > 0 {
		fmt.Fprintln(w.stdout, "\nfindings:")
		printFindings(w.stdout, l.Findings)
	}
	return nil
}
