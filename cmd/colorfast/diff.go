package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/diff"
	"colorfast/vault"
)

type diffFlags struct {
	source  string
	records bool
	limit   int
}

func (a *app) diffCommand() *cobra.Command {
	var f diffFlags
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Tell what differs between two backups, record by record",
		Long: `Tell what differs between backup A and backup B, of one source or of two: per
collection the records that were added, updated and deleted on the way from A to
B, what was renamed, and settings that differ. Each of A and B is an ID, its
beginning, or latest.

Collections are matched by their ID, and by tenant, database and name where the
IDs differ, as after an import. What the backups themselves say to be equal is not
read; of the others the database and the vectors are brought into a private folder
below --staging, which needs room for them and is removed again.

A record is updated if its vector, document, uri or metadata differ. In cosine
collections a vector that differs by Chroma's own rounding only is the same.

With --records every record that differs is listed with what happened to it; with
--json all of them, in no order, as the last key of the one document.

The exit code is 0 whether or not the backups differ; see "state" in --json. It is
3 if that is not known of some collection, because one of the backups is damaged
there: what cannot be read is never called equal.`,
		Example: `  colorfast diff k7f3 latest
  colorfast diff k7f3 latest --records --limit 100
  colorfast diff k7f3 latest --records --json | jq .records[].id`,
		Args: exactly(2, "two IDs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.limit < 0 {
				return usage(cmd, fmt.Errorf("--limit %d is less than 0", f.limit))
			}
			return a.withVault(cmd.Context(), func(v *vault.Vault, _ string) error {
				return a.diff(cmd, v, args, f)
			})
		},
	}
	c.Flags().BoolVar(&f.records, "records", false, "list the records that differ")
	c.Flags().IntVar(&f.limit, "limit", 20, "with --records: list the first `N` of a collection, by ID; 0 lists all, in no order")
	c.Flags().StringVar(&f.source, "source", "", "with latest: of this `PATH` or HOST:PATH")
	a.asOfFlag(c)
	return c
}

func (a *app) diff(cmd *cobra.Command, v *vault.Vault, args []string, f diffFlags) error {
	var m [2]*colorfast.Manifest
	for i, id := range args {
		source := ""
		if id == colorfast.Latest {
			source = f.source // the other one may be of another source
		}
		var err error
		if m[i], err = a.manifest(cmd, v, id, source); err != nil {
			return err
		}
	}
	dir, remove, err := a.scratch()
	if err != nil {
		return err
	}
	defer remove()
	p, done := a.progress()
	defer done()
	d := diff.Diff{Vault: v, Old: m[0], New: m[1], Records: f.records, Scratch: dir, Progress: p, Log: a.log()}
	r, err := d.Run(cmd.Context())
	if err != nil {
		return err
	}
	defer r.Close() // only read
	done()
	out := bufio.NewWriter(a.stdout)
	if a.json {
		err = diffJSON(out, r, f.records)
	} else {
		err = showDiff(out, r, f)
	}
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	if err == nil && r.State == diff.Unknown {
		err = errFindings
	}
	return err
}

// diffJSON prints the report as one document, and the records as they come.
func diffJSON(w io.Writer, r *diff.Report, every bool) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return err
	}
	if !every {
		_, err := w.Write(b.Bytes())
		return err
	}
	if _, err := fmt.Fprintf(w, "%s,\n  \"records\": [", strings.TrimSuffix(b.String(), "\n}\n")); err != nil {
		return err
	}
	line := json.NewEncoder(w) // which ends each with a newline
	line.SetEscapeHTML(false)
	before := "\n    "
	for i := range r.Collections {
		c := &r.Collections[i]
		err := r.Each(c, func(d diff.Difference) error {
			if _, err := io.WriteString(w, before); err != nil {
				return err
			}
			before = "    ,"
			return line.Encode(differing{collectionID(c), d.ID, d.Change, d.Parts.Names()})
		})
		if err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "  ]\n}\n")
	return err
}

// differing is a record that differs, as --json shows it.
type differing struct {
	Collection string      `json:"collection"` // ID, in B if that has it
	ID         string      `json:"id"`
	Change     diff.Change `json:"change"`
	Parts      []string    `json:"parts"` // that differ, of an updated one
}

func collectionID(c *diff.Collection) string {
	if c.New != nil {
		return c.New.ID
	}
	return c.Old.ID
}

// showDiff prints the report for people.
func showDiff(w io.Writer, r *diff.Report, f diffFlags) error {
	err := table(w, [][]string{
		{"from backup", r.Old.ID.Short(), "of " + r.Old.Source.String(), when(r.Old.RestorePoint)},
		{"to backup", r.New.ID.Short(), "of " + r.New.Source.String(), when(r.New.RestorePoint)},
	})
	if err != nil {
		return err
	}
	rows := [][]string{{"COLLECTION", "ADDED", "UPDATED", "DELETED", "STATE", "NOTE"}}
	for i := range r.Collections {
		c := &r.Collections[i]
		if c.State == diff.Equal && !c.Renamed && len(c.Settings) == 0 {
			continue
		}
		row := []string{c.Name(), "?", "?", "?", c.State.String(), notes(c)}
		if n := c.Changes; n != nil {
			row[1], row[2], row[3] = humanize.Comma(n.Added), humanize.Comma(n.Updated), humanize.Comma(n.Deleted)
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 {
		fmt.Fprintln(w)
		if err := table(w, rows); err != nil {
			return err
		}
	}
	if f.records {
		for i := range r.Collections {
			if err := showDiffering(w, r, &r.Collections[i], f.limit); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(w)
	_, err = fmt.Fprintln(w, differs(r, len(rows)-1))
	return err
}

// notes says what the table's other columns do not.
func notes(c *diff.Collection) string {
	var out []string
	if c.Renamed {
		out = append(out, "was "+c.Old.String())
	}
	if c.MatchedBy == diff.ByName {
		out = append(out, "matched by name, its ID differs")
	}
	for _, s := range c.Settings {
		out = append(out, fmt.Sprintf("%s was %s, is %s", s.Name, s.Old, s.New))
	}
	if c.Note != "" {
		out = append(out, c.Note)
		if c.Changes != nil && c.State == diff.Unknown {
			out = append(out, "counted as far as could be read")
		}
	}
	return strings.Join(out, "; ")
}

// showDiffering lists records of a collection that differ: the first limit by
// their IDs, or all as they come.
func showDiffering(w io.Writer, r *diff.Report, c *diff.Collection, limit int) error {
	var first []diff.Difference
	total := 0
	shorten := func() {
		slices.SortFunc(first, func(a, b diff.Difference) int { return strings.Compare(a.ID, b.ID) })
		first = first[:min(limit, len(first))]
	}
	heading := func() {
		if total == 0 {
			fmt.Fprintf(w, "\n%s\n", c.Name())
		}
	}
	err := r.Each(c, func(d diff.Difference) error {
		heading()
		total++
		if limit == 0 {
			return showDifference(w, d)
		}
		if first = append(first, d); len(first) >= 2*limit+1000 {
			shorten() // so that no more than these are in memory
		}
		return nil
	})
	if err != nil || limit == 0 {
		return err
	}
	shorten()
	for _, d := range first {
		if err := showDifference(w, d); err != nil {
			return err
		}
	}
	if more := total - len(first); more > 0 {
		_, err = fmt.Fprintf(w, "  and %s more; --limit 0 lists all\n", humanize.Comma(int64(more)))
	}
	return err
}

func showDifference(w io.Writer, d diff.Difference) error {
	what := string(d.Change)
	if p := d.Parts.Names(); len(p) > 0 {
		what += " " + strings.Join(p, ", ")
	}
	_, err := fmt.Fprintf(w, "  %-40s  %s\n", what, strconv.Quote(d.ID))
	return err
}

// differs answers in a sentence.
func differs(r *diff.Report, listed int) string {
	all := counted(int64(len(r.Collections)), "collection")
	if r.State == diff.Equal {
		return "equal: " + all + ", " + counted(r.New.Records, "record")
	}
	unknown := 0
	for i := range r.Collections {
		if r.Collections[i].State == diff.Unknown {
			unknown++
		}
	}
	if r.State == diff.Unknown {
		return fmt.Sprintf("UNKNOWN: %d of %s could not be compared, for a backup is damaged; see the notes", unknown, all)
	}
	n := r.Changes
	return fmt.Sprintf("changed: %d of %s; %s added, %s updated, %s deleted", listed, all,
		counted(n.Added, "record"), humanize.Comma(n.Updated), humanize.Comma(n.Deleted))
}
