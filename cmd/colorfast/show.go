package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/copies"
	"colorfast/vault"
)

func (a *app) showCommand() *cobra.Command {
	var source string
	var from []string
	c := &cobra.Command{
		Use:   "show ID|latest",
		Short: "Show what a backup holds and why it is consistent",
		Long: `Show what a backup holds (tenants, databases, collections), the evidence that
it is one consistent cut, its sizes and its findings; and where it was compared
with an earlier backup, which records have changed since then: +added ~updated
-deleted, or ? where that is not known.`,
		Example: `  colorfast show latest
  colorfast show k7f3 --json`,
		Args: exactly(1, "one ID, or latest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCopies(cmd.Context(), from, func(v colorfast.Vault, _ string, taken func() []copies.Taken) error {
				m, err := a.manifest(cmd, v, args[0], source)
				if err != nil {
					return err
				}
				lock, err := lockUnder(cmd.Context(), v)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(shownBackup{m, taken(), lockedOf(lock)})
				}
				a.tellTaken(taken())
				return showManifest(a.stdout, m, lock)
			})
		},
	}
	c.Flags().StringVar(&source, "source", "", "with latest: of this `PATH` or HOST:PATH")
	a.asOfFlag(c)
	copyFromFlag(c, &from)
	return c
}

// lockUnder returns the lock of a vault; none where several vaults are read as one.
func lockUnder(ctx context.Context, v colorfast.Vault) (vault.Lock, error) {
	one, ok := v.(*vault.Vault)
	if !ok {
		return vault.Lock{}, nil
	}
	return one.Lock(ctx)
}

// shownBackup is a backup as --json shows it.
type shownBackup struct {
	*colorfast.Manifest
	Taken []copies.Taken `json:"taken_from,omitempty"`
	Lock  *locked        `json:"lock,omitempty"` // of all that the vault's storage holds
}

func showManifest(w io.Writer, m *colorfast.Manifest, lock vault.Lock) error {
	c := &m.Consistency
	state := "passed"
	if m.Damaged() {
		state = "FAILED: the source was damaged when it was backed up"
	}
	g := m.Inventory.Generation
	rows := [][]string{
		{"backup", string(m.ID)},
		{"source", m.Source.String()},
		{"restore point", when(m.RestorePoint)},
		{"verified", state},
		{"records", fmt.Sprintf("%s in %s, %s", humanize.Comma(m.Records), counted(int64(m.Collections), "collection"), counted(int64(len(m.Inventory.Databases)), "database"))},
		{"written by", fmt.Sprintf("Chroma %s or later (migrations sysdb %d, metadb %d, embeddings_queue %d)", g.Since, g.Sysdb, g.Metadb, g.Queue)},
		{"size", fmt.Sprintf("%s in %s, %s new in the vault", size(m.OriginalBytes), counted(int64(m.Files), "file"), size(m.StoredBytes))},
		{"took", fmt.Sprintf("%s, made by %s", seconds(m.FinishedAt.Sub(m.StartedAt).Seconds()), m.Tool)},
	}
	if !lock.IsZero() {
		rows = append(rows, []string{"lock", lock.String() + " from when it was written; maintenance extends it"})
	}
	if m.Parent != "" {
		what := changed(m.Parent, m.Changes)
		if m.Changes == nil {
			what = "not known of all collections"
		}
		rows = append(rows, []string{"changes", fmt.Sprintf("%s, since backup %s", what, m.Parent)})
	}
	if o := m.Origin; o != nil {
		rows = append(rows, []string{"copy of", fmt.Sprintf("backup %s of vault %s, since %s", o.Backup, o.Vault, when(o.CopiedAt))})
	}
	rows = append(rows, consistency(m)...)
	if c.HotJournal {
		rows = append(rows, []string{"journal", "a crash had left a hot one; rolled back in the copy"})
	}
	if c.WALBytes > 0 {
		rows = append(rows, []string{"write-ahead log", size(c.WALBytes) + ", folded into the copy"})
	}
	for _, n := range c.Notes {
		rows = append(rows, []string{"note", n})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := showCollections(w, m); err != nil {
		return err
	}
	if len(m.Inventory.Dropped) > 0 {
		fmt.Fprintf(w, "\ngone since backup %s:\n", m.Parent.Short())
		for _, d := range m.Inventory.Dropped {
			fmt.Fprintf(w, "  %s/%s/%s, with %s\n", d.Tenant, d.Database, d.Name, counted(d.Records, "record"))
		}
	}
	if len(m.FindingList) > 0 {
		fmt.Fprintln(w, "\nfindings:")
		printFindings(w, m.FindingList)
	}
	return nil
}

// consistency says how the cut was taken.
func consistency(m *colorfast.Manifest) [][]string {
	c := &m.Consistency
	if c.Mode == colorfast.Unchanged {
		return [][]string{
			{"writers waited", "not at all"},
			{"consistency", fmt.Sprintf("no file of the source had changed since backup %s, at %s: nothing was locked, read or copied", m.Parent.Short(), when(c.FrozenAt))},
		}
	}
	return [][]string{
		{"writers waited", fmt.Sprintf("%s, from %s to %s", seconds(c.FreezeSeconds), c.FrozenAt.Local().Format(time.StampMicro), c.ReleasedAt.Local().Format(time.StampMicro))},
		{"consistency", fmt.Sprintf("mode %s, journal mode %s, %s, waited %s for the lock", c.Mode, c.JournalMode, counted(int64(c.Attempts), "attempt"), seconds(c.LockWaitSeconds))},
		{"copied", fmt.Sprintf("%s before the freeze, %s under it", size(c.PrecopyBytes), size(c.SettledBytes))},
	}
}

func showCollections(w io.Writer, m *colorfast.Manifest) error {
	rows := [][]string{{"COLLECTION", "RECORDS", "IN QUEUE", "DIMENSION", "SPACE", "SEQ METADATA/VECTORS/QUEUE", "DIGEST"}}
	if m.Parent != "" {
		rows[0] = append(rows[0], "SINCE "+m.Parent.Short())
	}
	for i := range m.Inventory.Collections {
		c := &m.Inventory.Collections[i]
		row := []string{
			c.String(), humanize.Comma(c.Records), humanize.Comma(c.Queued), itoa(c.Dimension), c.Space,
			fmt.Sprintf("%s/%s/%s", seq(c.MetadataSeq), seq(c.VectorSeq), seq(c.LastQueueSeq)), c.Digest.String()[:12],
		}
		if m.Parent != "" {
			row = append(row, changed(m.Parent, c.Changes))
		}
		rows = append(rows, row)
	}
	return table(w, rows)
}

func seq(n int64) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
