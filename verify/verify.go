// Package verify reads a quiet copy of a persist directory with colorfast's own
// readers and says, finding by finding, whether it is whole: the deepest look
// that needs no Chroma. It writes nothing into the copy, and must never be
// pointed at a directory that Chroma has open.
//
// Start reading at Directory.Run. The catalogue of findings is in package
// colorfast, and docs/findings.md.
package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
)

// Directory looks at one copy.
type Directory struct {
	Dir      string             // the copy
	Scratch  string             // existing folder for temporary files, gone on return
	FullText bool               // also look into the full-text index, which takes longer than all the rest; it can be made again from the documents
	Progress colorfast.Progress // nil shows nothing
	Log      *slog.Logger       // nil is silent

	// Each is handed every record that is read, with its hash, so that nobody needs
	// to read them a second time; nil means nobody wants to. It is called from
	// several goroutines, also for one collection; of c only what names it and its
	// dimension, space and segment are set. The record is valid
	// only during the call. An error ends Run and is returned wrapped.
	Each func(c *colorfast.Collection, r *records.Record, hash [sha256.Size]byte) error
}

// Report is what was seen.
type Report struct {
	Inventory colorfast.Inventory
	Findings  []colorfast.Finding // by code and object
}

// Outcome returns Failed if records are lost or Chroma may not start.
func (r *Report) Outcome() colorfast.Outcome { return colorfast.OutcomeOf(r.Findings) }

// Run looks at everything. What is wrong with the copy comes as findings; an
// error means that it could not look.
func (d *Directory) Run(ctx context.Context) (*Report, error) {
	if d.Progress == nil {
		d.Progress = colorfast.Quiet{}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	r := &Report{Inventory: colorfast.Inventory{Databases: []colorfast.Database{}, Collections: []colorfast.Collection{}}}
	path := filepath.Join(d.Dir, chroma.SQLiteFile)
	db, err := sysdb.Open(path)
	if corrupt(err) || errors.Is(err, fs.ErrNotExist) {
		r.add(colorfast.SysdbUnreadable, chroma.SQLiteFile, 0, "%v", err)
		r.relative(d.Dir)
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify %q: %w", d.Dir, err)
	}
	defer db.Close()
	// The database as a whole is one reader's work, which others need not wait for.
	whole := &Report{}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		db, err := sysdb.Open(path)
		if err != nil {
			return fmt.Errorf("verify %q: %w", d.Dir, err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return d.look(gctx, whole, db, d.sysdb)
	})
	g.Go(func() error { return d.look(gctx, r, db, d.names, d.collections) })
	if err := g.Wait(); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	r.Inventory.Generation = whole.Inventory.Generation
	r.Findings = append(whole.Findings, r.Findings...)
	r.relative(d.Dir)
	slices.SortStableFunc(r.Findings, func(a, b colorfast.Finding) int {
		if a.Code != b.Code {
			return strings.Compare(string(a.Code), string(b.Code))
		}
		return strings.Compare(a.Object, b.Object)
	})
	return r, nil
}

// look looks at parts of the copy, one after the other; what is corrupt ends the
// look at its part only.
func (d *Directory) look(ctx context.Context, r *Report, db *sysdb.DB, parts ...func(context.Context, *sysdb.DB, *Report) error) error {
	for _, part := range parts {
		err := part(ctx, db, r)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case corrupt(err):
			r.add(colorfast.SysdbCorrupt, chroma.SQLiteFile, 0, "%v", err)
		case err != nil:
			return fmt.Errorf("verify %q: %w", d.Dir, err)
		}
	}
	return nil
}

func (r *Report) add(code colorfast.Code, object string, records int64, detail string, args ...any) {
	r.Findings = append(r.Findings, colorfast.NewFinding(code, object, records, detail, args...))
}

// relative takes the copy's own place out of all findings, which means nothing
// to whoever reads them later.
func (r *Report) relative(dir string) {
	for i := range r.Findings {
		r.Findings[i].Detail = strings.ReplaceAll(r.Findings[i].Detail, dir+string(filepath.Separator), "")
	}
}

func corrupt(err error) bool {
	var c *chroma.CorruptError
	return errors.As(err, &c)
}

// sysdb looks at the database as a whole.
func (d *Directory) sysdb(ctx context.Context, db *sysdb.DB, r *Report) error {
	g := db.Generation()
	r.Inventory.Generation = colorfast.Generation{Sysdb: g.Sysdb, Metadb: g.Metadb, Queue: g.Queue, Since: g.Since, Newer: g.Newer}
	if g.Newer {
		r.add(colorfast.SysdbNewer, chroma.SQLiteFile, 0, "migrations sysdb %d, metadb %d, queue %d", g.Sysdb, g.Metadb, g.Queue)
	}
	lines, err := db.QuickCheck(ctx)
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		r.add(colorfast.SysdbCorrupt, chroma.SQLiteFile, 0, "%s (%d lines)", lines[0], len(lines))
	}
	q, err := db.QueueState(ctx)
	if err != nil {
		return err
	}
	if q.Restarts() {
		r.add(colorfast.QueueRestarts, chroma.SQLiteFile, 0, "the queue ends at %d, while a segment has seen %d", q.LastSeq, q.MaxSeq)
	}
	n, err := db.OrphanArrayRows(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		r.add(colorfast.SysdbOrphanArray, chroma.SQLiteFile, 0, "%d rows", n)
	}
	// Entries without a document are no finding: Chroma 0.4 leaves them when it
	// deletes records, and a search never returns them.
	missing, _, err := db.StaleFullText(ctx)
	if err != nil {
		return err
	}
	if missing > 0 {
		r.add(colorfast.SysdbStaleFTS, chroma.SQLiteFile, 0, "%d documents are not in the full-text index", missing)
	}
	if !d.FullText {
		return nil
	}
	if lines, err = db.FullTextCheck(ctx); err != nil {
		return err
	}
	if len(lines) > 0 {
		r.add(colorfast.SysdbStaleFTS, chroma.SQLiteFile, 0, "%s (%d lines)", lines[0], len(lines))
	}
	return nil
}

// names lists tenants and databases, and segment directories that nobody owns.
func (d *Directory) names(ctx context.Context, db *sysdb.DB, r *Report) error {
	var err error
	if r.Inventory.Tenants, err = db.Tenants(ctx); err != nil {
		return err
	}
	dbs, err := db.Databases(ctx)
	if err != nil {
		return err
	}
	for _, x := range dbs {
		r.Inventory.Databases = append(r.Inventory.Databases, colorfast.Database{ID: x.ID, Name: x.Name, Tenant: x.Tenant})
	}
	ids, err := db.SegmentIDs(ctx)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && chroma.IsUUID(e.Name()) && !ids[e.Name()] {
			r.add(colorfast.HNSWOrphan, e.Name(), 0, "no collection has this segment")
		}
	}
	return nil
}

// large is from how many bytes of its vector segment on a collection is looked at
// by all processors, and no other one meanwhile.
const large = 32 << 20

// collections looks at every record of every collection: the large ones one by
// one, of the others several at a time.
func (d *Directory) collections(ctx context.Context, db *sysdb.DB, r *Report) error {
	list, err := db.Collections(ctx)
	if err != nil {
		return err
	}
	results := make([]*collection, len(list))
	var total int64
	var small []*collection
	processors := max(2, min(4, runtime.GOMAXPROCS(0))) // each takes up to 20 MiB
	for i, c := range list {
		results[i] = &collection{dir: d.Dir, scratch: d.Scratch, c: c, progress: d.Progress, each: d.Each}
		total += results[i].size()
	}
	d.Progress.Begin("verifying", total)
	for _, c := range results {
		if c.size() < large {
			small = append(small, c)
		} else if err := c.look(ctx, db, processors); err != nil {
			return fmt.Errorf("collection %q: %w", c.c.String(), err)
		}
	}
	if err := d.several(ctx, db.Path(), small, processors); err != nil {
		return err
	}
	for _, c := range results {
		r.Inventory.Collections = append(r.Inventory.Collections, c.result)
		r.Findings = append(r.Findings, c.findings...)
	}
	return nil
}

// several looks at collections, so many at a time.
func (d *Directory) several(ctx context.Context, path string, list []*collection, workers int) error {
	work := make(chan *collection)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		for _, c := range list {
			select {
			case work <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(workers, len(list)) {
		g.Go(func() error { return worker(ctx, path, work) })
	}
	return g.Wait()
}

// worker looks at collections with a database handle of its own, for a handle is
// for one goroutine.
func worker(ctx context.Context, path string, work <-chan *collection) (err error) {
	db, err := sysdb.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for c := range work {
		if err := c.look(ctx, db, 1); err != nil {
			return fmt.Errorf("collection %q: %w", c.c.String(), err)
		}
	}
	return nil
}
