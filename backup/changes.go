package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"colorfast"
	"colorfast/chroma/records"
	"colorfast/diff"
	"colorfast/internal/durable"
)

// counting counts the records that differ from the newest backup. While the proof
// reads every record it writes an index of them, which stays beside the memory
// for the next run. Whatever fails here leaves the changes not known, and the
// backup as good as it is.
type counting struct {
	b    *Backup
	path string // of the index that the run before has left; "" for no counting

	w    *diff.Writer // nil if there is none under way
	told sync.Once    // that it has failed, in this attempt
}

func (b *Backup) counting(source colorfast.Source) *counting {
	path := b.memoryFile(source)
	if path != "" {
		path = strings.TrimSuffix(path, ".json") + ".index"
	}
	return &counting{b: b, path: path}
}

func (c *counting) next() string { return c.path + ".next" }

// begin begins an index, in place of one of an earlier attempt.
func (c *counting) begin() {
	c.discard()
	if c.path == "" {
		return
	}
	c.told = sync.Once{}
	err := durable.MkdirAll(filepath.Dir(c.path), 0o700)
	if err == nil {
		c.w, err = diff.Create(c.next(), diff.Options{})
	}
	if err != nil {
		c.giveUp(err)
	}
}

// add is for verify.Directory.Each.
func (c *counting) add(in *colorfast.Collection, r *records.Record, hash [sha256.Size]byte) error {
	if c.w == nil {
		return nil
	}
	if err := c.w.Add(in, r, hash); err != nil {
		c.giveUp(err) // a full disk must not cost the backup
	}
	return nil
}

func (c *counting) giveUp(err error) {
	c.told.Do(func() { c.b.Log.Warn("changes are not counted", "index", c.path, "err", err) })
}

// count sets what has changed in m since its parent.
func (c *counting) count(ctx context.Context, m *colorfast.Manifest) {
	if c.w != nil {
		err := c.w.Seal()
		c.w = nil
		if err != nil {
			c.giveUp(err)
		}
	}
	if m.Parent == "" {
		return
	}
	parent, err := c.b.Vault.Manifest(ctx, m.Parent)
	if err != nil {
		c.giveUp(err)
		return
	}
	was, is := c.open(c.path), c.open(c.next())
	if err := diff.Since(parent, m, was, is); err != nil {
		c.giveUp(err)
	}
	for _, ix := range []*diff.Index{was, is} {
		if ix != nil {
			_ = ix.Close() // it was only read
		}
	}
}

// open opens an index; nil if there is none that is good.
func (c *counting) open(path string) *diff.Index {
	if c.path == "" {
		return nil
	}
	ix, err := diff.Open(path)
	if err != nil {
		c.b.Log.Info("no index of records", "path", path, "err", err)
		return nil
	}
	return ix
}

// keep leaves the index to the next run, whose parent m is.
func (c *counting) keep() {
	if c.path == "" {
		return
	}
	if err := os.Rename(c.next(), c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.giveUp(err)
	}
}

// discard removes an index that is not kept.
func (c *counting) discard() {
	if c.w != nil {
		_ = c.w.Discard() // the next one takes its place
		c.w = nil
	}
	if c.path != "" {
		_ = os.Remove(c.next()) // likewise
	}
}
