// Package diff tells what differs between two backups, record by record, and
// what has changed since the backup before.
//
// Two collections are compared by their indexes: sorted lists of short hashes of
// ids and contents on disk, so that memory does not grow with the number of
// records. Diff makes them from the files of two backups; a backup makes one
// while its records are proven anyway (Writer), keeps it until the next, and asks
// Since for the difference.
//
// Start reading at Diff.Run, and at Writer for the index.
package diff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"colorfast"
)

// Diff compares two backups, of one source or of two. Nothing of a backup is
// read if the manifests say that the collections are equal.
type Diff struct {
	Vault    colorfast.Vault
	Old, New *colorfast.Manifest // changes are told from Old to New; each as Vault.Manifest gives it
	Records  bool                // every record that differs is wanted, by Report.Each; else only their number
	Scratch  string              // existing folder that is private: the backups' data will lie in it unencrypted; the caller removes it
	Progress colorfast.Progress  // told of the one stage "comparing"; nil shows nothing
	Log      *slog.Logger        // nil is silent

	free func(dir string) (int64, error) // tests: in place of freeSpace
}

// Report is what differs. Close it. Backups and collections come without what they
// say themselves of changes since a parent.
type Report struct {
	Old         colorfast.Backup   `json:"old"`
	New         colorfast.Backup   `json:"new"`
	State       State              `json:"state"`             // Equal, Changed, or Unknown if a part of it is
	Changes     *colorfast.Changes `json:"changes,omitempty"` // in all collections; nil: not known in one of them
	Collections []Collection       `json:"collections"`       // in the order of New, then those that only Old has; never nil

	indexes []*Index // of old and new; none if nothing was read
}

// Collection is what differs in one collection.
type Collection struct {
	Old       *colorfast.Collection `json:"old,omitempty"` // nil: only New has it
	New       *colorfast.Collection `json:"new,omitempty"` // nil: only Old has it
	MatchedBy Match                 `json:"matched_by,omitempty"`
	State     State                 `json:"state"`             // of the records
	Changes   *colorfast.Changes    `json:"changes,omitempty"` // nil: not known; of an unknown State, as far as could be read
	Renamed   bool                  `json:"renamed,omitempty"` // tenant, database or name differ
	Settings  []Setting             `json:"settings,omitempty"`
	Note      string                `json:"note,omitempty"` // why the state is unknown, or how equal records have different digests

	read bool // the files of the sides that have it are needed
}

// Name returns "tenant/database/name", in New if that has it.
func (c *Collection) Name() string {
	if c.New != nil {
		return c.New.String()
	}
	return c.Old.String()
}

// Setting is a setting of a collection that differs.
type Setting struct {
	Name string `json:"name"` // dimension or space
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Match says what makes two collections one.
type Match string

// The matches.
const (
	ByID   Match = "id"
	ByName Match = "name" // the ids differ, as after an import; tenant, database and name are the same
)

// State says whether something is the same in two backups. Silence is never
// equality: the zero value is Unknown.
type State string

// The states.
const (
	Unknown State = ""        // not everything could be read
	Equal   State = "equal"   // by the manifests, or looked at
	Changed State = "changed" // differs
	Added   State = "added"   // only New has it
	Dropped State = "dropped" // only Old has it
)

// String returns the state as a word.
func (s State) String() string {
	if s == Unknown {
		return "unknown"
	}
	return string(s)
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Run compares. What of a backup is damaged, or does not read back, is Unknown in
// the report; an error means that it could not look. Errors: Usage when Scratch
// lacks room, and what the vault gives but Corrupt.
func (d *Diff) Run(ctx context.Context) (_ *Report, err error) {
	if d.Progress == nil {
		d.Progress = colorfast.Quiet{}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	r := &Report{Old: d.Old.Backup, New: d.New.Backup, Collections: match(d.Old, d.New)}
	r.Old.Changes, r.New.Changes = nil, nil // since other backups
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for i := range r.Collections {
		c := &r.Collections[i]
		judge(c, d.Old, d.New, d.Records)
	}
	if err := d.look(ctx, r); err != nil {
		return nil, fmt.Errorf("compare backups %q and %q: %w", d.Old.ID.Short(), d.New.ID.Short(), err)
	}
	r.summarize(d.Old, d.New)
	return r, nil
}

// look reads what has to be read, and compares it.
func (d *Diff) look(ctx context.Context, r *Report) error {
	sides := []*side{
		{vault: d.Vault, m: d.Old, dir: filepath.Join(d.Scratch, "old"), progress: d.Progress},
		{vault: d.Vault, m: d.New, dir: filepath.Join(d.Scratch, "new"), progress: d.Progress},
	}
	for i := range r.Collections {
		if c := &r.Collections[i]; c.read {
			rounded := c.Old != nil && rounds(c.Old) || c.New != nil && rounds(c.New)
			sides[0].want(c.Old, rounded)
			sides[1].want(c.New, rounded)
		}
	}
	if len(sides[0].wanted)+len(sides[1].wanted) == 0 {
		return nil
	}
	if err := d.checkRoom(sides); err != nil {
		return err
	}
	d.Progress.Begin("comparing", sides[0].work()+sides[1].work())
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range sides {
		g.Go(func() error { return s.read(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range sides {
		ix, err := Open(s.index())
		if err != nil {
			return err
		}
		r.indexes = append(r.indexes, ix)
	}
	for i := range r.Collections {
		if err := r.compare(&r.Collections[i], sides); err != nil {
			return err
		}
	}
	return nil
}

// checkRoom looks whether the scratch folder has room for the work.
func (d *Diff) checkRoom(sides []*side) error {
	free := d.free
	if free == nil {
		free = freeSpace
	}
	have, err := free(d.Scratch)
	if err != nil {
		return fmt.Errorf("see how much room %q has: %w", d.Scratch, err)
	}
	if need := sides[0].room() + sides[1].room(); need > have {
		return colorfast.Errorf(colorfast.Usage, "it needs about %d MiB of room, and %q has %d MiB", need>>20+1, d.Scratch, have>>20).
			WithHint("make room, or name a folder on another disk with --staging")
	}
	return nil
}

// compare fills in what the indexes say of a collection.
func (r *Report) compare(c *Collection, sides []*side) error {
	if !c.read {
		return nil
	}
	for i, x := range []*colorfast.Collection{c.Old, c.New} {
		if x == nil || sides[i].failed[x.ID] == "" {
			continue
		}
		c.State, c.Changes, c.read = Unknown, nil, false
		c.Note = fmt.Sprintf("backup %s: %s", sides[i].m.ID.Short(), sides[i].failed[x.ID])
		return nil
	}
	changes, err := r.each(c, nil)
	if err != nil {
		return err
	}
	c.Changes = &changes
	if c.Note != "" || c.State == Added || c.State == Dropped {
		return nil // in doubt, or known before
	}
	c.State = Changed
	if changes == (colorfast.Changes{}) {
		c.State, c.Note = Equal, "vectors differ by Chroma's own rounding only"
	}
	return nil
}

// Each hands every record of a collection that differs to fn, in no order that
// means something to people. It has records to tell only if Diff.Records was set.
// An error of fn ends it and is returned as it is.
func (r *Report) Each(c *Collection, fn func(Difference) error) error {
	if !c.read {
		return nil
	}
	_, err := r.each(c, fn)
	return err
}

// each compares the two sides of a collection.
func (r *Report) each(c *Collection, fn func(Difference) error) (colorfast.Changes, error) {
	var sections [2]*Section
	for i, x := range []*colorfast.Collection{c.Old, c.New} {
		if x != nil {
			sections[i] = r.indexes[i].Section(x.ID)
		}
	}
	return Compare(sections[0], sections[1], fn)
}

// Close frees what Each needs.
func (r *Report) Close() error {
	var err error
	for _, ix := range r.indexes {
		err = errors.Join(err, ix.Close())
	}
	r.indexes = nil
	return err
}

// summarize sets what follows from the collections.
func (r *Report) summarize(old, new *colorfast.Manifest) {
	r.State, r.Changes = Equal, &colorfast.Changes{}
	for i := range r.Collections {
		c := &r.Collections[i]
		switch {
		case c.State == Unknown:
			r.State = Unknown
		case r.State == Equal && (c.State != Equal || c.Renamed || len(c.Settings) > 0):
			r.State = Changed
		}
		if r.Changes != nil && c.Changes != nil && c.State != Unknown {
			r.Changes.Add(*c.Changes)
		} else {
			r.Changes = nil
		}
	}
	if blind(old) || blind(new) {
		r.State, r.Changes = Unknown, nil // there may be collections that nobody saw
	}
}
