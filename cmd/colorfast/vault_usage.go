package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/ledger"
	"colorfast/vault"
)

func (a *app) vaultUsageCommand() *cobra.Command {
	u := &usageReport{app: a}
	c := &cobra.Command{
		Use:   "usage",
		Short: "Tell what the vault takes, what a deletion would free, and what it costs",
		Long: `Tell how many bytes the vault takes; of each backup and each source how many it
needs (FULL), how many of these no other one needs (ALONE), and by how much the
vault would shrink, after its maintenance, if it were deleted (FREED); what nobody
needs any more; and what all that costs in a month and to restore once.

FREED can be less than ALONE: what nobody needs stays where it lies in a pack that
is mostly needed. Backups in a row share most of what they hold, so deleting some
together frees more than each alone: --without ID tells how much.

Prices are list prices of one region of each cloud, for storage, for reading and for
what leaves the cloud, without requests and taxes. Give your own with --price or
--prices. Nothing is deleted or changed.`,
		Example: `  colorfast vault usage
  colorfast vault usage --without ff575149 --without 31d0a2bb --price 0.006/GB-month,0.01/GB`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			prices, err := u.prices()
			if err != nil {
				return err
			}
			return a.withVault(cmd.Context(), func(v *vault.Vault, url string) error {
				p, done := a.progress()
				r, err := v.Usage(cmd.Context(), p)
				done()
				if err != nil {
					return err
				}
				return u.show(r, ledger.PricesFor(prices, url))
			})
		},
	}
	c.Flags().StringArrayVar(&u.without, "without", nil, "tell what deleting the backup `ID` would do; may be repeated")
	c.Flags().StringVar(&u.price, "price", "", "your own `price`, such as 0.023/GB-month or 0.023/GB-month,0.09/GB")
	c.Flags().StringVar(&u.file, "prices", "", "JSON `file` with a list of prices")
	return c
}

// usageReport is one run of the command.
type usageReport struct {
	*app
	without     []string
	price, file string
}

// prices returns those to count with.
func (u *usageReport) prices() ([]ledger.Price, error) {
	switch {
	case u.price != "" && u.file != "":
		return nil, colorfast.Errorf(colorfast.Usage, "read the prices: --price and --prices are both given").WithHint("give one of them")
	case u.price != "":
		p, err := ledger.ParsePrice(u.price)
		return []ledger.Price{p}, err
	case u.file != "":
		f, err := os.Open(u.file)
		if err != nil {
			return nil, colorfast.Errorf(colorfast.Usage, "read the prices: %w", err)
		}
		defer func() { _ = f.Close() }()
		return ledger.ReadPrices(f)
	}
	return ledger.ListPrices(), nil
}

// usageOf is a backup or a source with what it holds, as --json shows it.
type usageOf struct {
	ID     colorfast.BackupID `json:"id,omitempty"` // "" for a source
	Source colorfast.Source   `json:"source"`
	ledger.Holding
	backup *colorfast.Backup
	count  int
}

// used is what the command found, as --json shows it.
type used struct {
	Kinds   []ledger.Kind `json:"blobs"`
	Totals  ledger.Totals `json:"totals"`
	Backups []usageOf     `json:"backups"`
	Sources []usageOf     `json:"sources"`
	Unread  []unread      `json:"unread"`
	Without ledger.Change `json:"without"`
	Costs   []ledger.Cost `json:"costs"`
}

// unread is a backup whose parts could not be told.
type unread struct {
	ID  colorfast.BackupID `json:"id"`
	Why string             `json:"why"`
}

func (u *usageReport) show(r *ledger.Reading, prices []ledger.Price) error {
	out := used{Kinds: r.Blobs, Totals: r.Totals(), Backups: []usageOf{}, Sources: []usageOf{}, Unread: []unread{}}
	for i, h := range r.OfSources() {
		out.Sources = append(out.Sources, usageOf{Source: r.Sources[i], Holding: h})
	}
	for i, h := range r.OfBackups() {
		b := &r.Backups[i]
		out.Backups = append(out.Backups, usageOf{ID: b.ID, Source: b.Source, Holding: h, backup: b})
		out.Sources[slices.Index(r.Sources, b.Source)].count++
	}
	slices.Reverse(out.Backups) // newest first, as list shows them
	for id, why := range r.Unread {
		out.Unread = append(out.Unread, unread{id, why})
	}
	chosen, err := u.chosen(r)
	if err != nil {
		return err
	}
	out.Without = r.Without(func(b int) bool { return chosen[b] })
	var all, newest int64
	for _, k := range r.Blobs {
		all += k.Bytes
	}
	if len(out.Backups) > 0 {
		newest = out.Backups[0].Full
	}
	out.Costs = ledger.Costs(prices, all, newest, out.Without.Freed)
	if u.json {
		return u.printJSON(out)
	}
	return u.print(&out, all)
}

// chosen returns the numbers of the backups that --without names.
func (u *usageReport) chosen(r *ledger.Reading) (map[int]bool, error) {
	out := map[int]bool{}
	newest := slices.Clone(r.Backups)
	slices.Reverse(newest)
	for _, id := range u.without {
		b, err := colorfast.ResolveBackup(newest, id, "")
		if err != nil {
			return nil, err
		}
		out[slices.IndexFunc(r.Backups, func(x colorfast.Backup) bool { return x.ID == b.ID })] = true
	}
	return out, nil
}

func (u *usageReport) print(out *used, all int64) error {
	rows := [][]string{{"KIND", "BLOBS", "SIZE"}}
	for _, k := range out.Kinds {
		rows = append(rows, []string{k.Name, humanize.Comma(k.Blobs), size(k.Bytes)})
	}
	if err := table(u.stdout, append(rows, []string{"all", "", size(all)})); err != nil {
		return err
	}
	fmt.Fprintln(u.stdout)
	t := &out.Totals
	if err := table(u.stdout, [][]string{
		{"OF DATA AND METADATA", "SIZE"},
		{"needed", size(t.Needed)},
		{"given back by maintenance, when it may", size(t.Reclaimable)},
		{"not needed, in packs that are; and packing", size(t.Held)},
	}); err != nil {
		return err
	}
	fmt.Fprintln(u.stdout)
	rows = [][]string{{"BACKUP", "SOURCE", "RESTORE POINT", "FULL", "SHARED", "ALONE", "FREED"}}
	for _, b := range out.Backups {
		rows = append(rows, []string{b.ID.Short(), b.Source.String(), when(b.backup.RestorePoint), size(b.Full), size(b.Shared), size(b.Alone), size(b.Freed)})
	}
	if err := table(u.stdout, rows); err != nil {
		return err
	}
	fmt.Fprintln(u.stdout)
	rows = [][]string{{"SOURCE", "BACKUPS", "FULL", "SHARED", "ALONE", "FREED"}}
	for _, s := range out.Sources {
		rows = append(rows, []string{s.Source.String(), itoa(s.count), size(s.Full), size(s.Shared), size(s.Alone), size(s.Freed)})
	}
	if err := table(u.stdout, rows); err != nil {
		return err
	}
	for _, x := range out.Unread {
		fmt.Fprintf(u.stderr, "warning: backup %s is not counted, and what it holds counts as not needed: %s\n", x.ID.Short(), x.Why)
	}
	if w := out.Without; len(u.without) > 0 {
		fmt.Fprintf(u.stdout, "\nwithout %s: %s only theirs, the vault shrinks by %s\n", counted(int64(w.Backups), "backup"), size(w.Unique), size(w.Freed))
	}
	return u.printCosts(out)
}

func (u *usageReport) printCosts(out *used) error {
	fmt.Fprintln(u.stdout)
	rows := [][]string{{"CLASS", "A MONTH", "ONE RESTORE", "PRICES OF"}}
	if len(u.without) > 0 {
		rows[0] = append(rows[0], "CHANGE A MONTH")
	}
	for _, c := range out.Costs {
		as := c.AsOf
		if as == "" {
			as = "yours"
		}
		if c.Remark != "" {
			as += ", " + c.Remark
		}
		row := []string{c.Class, ledger.Money(c.Month, c.Currency), ledger.Money(c.Restore, c.Currency), as}
		if len(u.without) > 0 {
			row = append(row, ledger.Money(c.Change, c.Currency))
		}
		rows = append(rows, row)
	}
	return table(u.stdout, rows)
}
