package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"colorfast"
	"colorfast/chroma/hnsw"
	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
)

// collection is the look at one collection.
type collection struct {
	dir, scratch string
	c            *sysdb.Collection
	progress     colorfast.Progress
	each         func(*colorfast.Collection, *records.Record, [sha256.Size]byte) error // nil for none

	result   colorfast.Collection
	findings []colorfast.Finding
}

// size returns the bytes of the collection's vector segment.
func (c *collection) size() int64 {
	var n int64
	entries, err := os.ReadDir(filepath.Join(c.dir, c.c.VectorSegment))
	if err != nil || c.c.VectorSegment == "" {
		return 0
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
	}
	return n
}

func (c *collection) add(code colorfast.Code, n int64, detail string, args ...any) {
	c.findings = append(c.findings, colorfast.NewFinding(code, c.c.String(), n, detail, args...))
}

// look reads every record, and then the structure of the segment.
func (c *collection) look(ctx context.Context, db *sysdb.DB) error {
	defer c.progress.Advance(c.size())
	c.result = colorfast.Collection{
		ID: c.c.ID, Name: c.c.Name, Tenant: c.c.Tenant, Database: c.c.Database,
		Dimension: c.c.Dimension, Space: c.c.Config.Space, VectorSegment: c.c.VectorSegment,
	}
	var digest colorfast.Digest
	stats, err := records.Read(ctx, db, c.c, c.dir, c.scratch, func(r *records.Record) error {
		hash := r.Hash()
		digest.Add(hash)
		if c.each != nil {
			if err := c.each(&c.result, r, hash); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if corrupt(err) {
		c.add(colorfast.UnreadableRecord, 0, "%v", err)
	} else if err != nil {
		return err
	}
	if stats == nil {
		stats = &records.Stats{}
	}
	c.result.Records, c.result.Queued, c.result.Digest = stats.Records, stats.FromQueue, digest
	c.result.MetadataSeq, c.result.VectorSeq, c.result.LastQueueSeq = c.c.MetadataSeq, stats.VectorSeq, c.c.LastQueueSeq
	c.judge(stats)
	return c.structure(stats)
}

// judge turns what was met while reading the records into findings.
func (c *collection) judge(s *records.Stats) {
	if s.Missing.Count > 0 {
		c.add(colorfast.MissingVectors, s.Missing.Count, "%d of %d records, such as %s", s.Missing.Count, s.Records, quoted(s.Missing.Sample))
	}
	if s.Ghosts.Count > 0 {
		c.add(colorfast.GhostVectors, 0, "%d vectors, such as %s", s.Ghosts.Count, quoted(s.Ghosts.Sample))
	}
	if s.WrongDimension.Count > 0 {
		c.add(colorfast.WrongDimension, s.WrongDimension.Count, "%d vectors, such as %s", s.WrongDimension.Count, quoted(s.WrongDimension.Sample))
	}
	if s.Ambiguous.Count > 0 {
		c.add(colorfast.AmbiguousUpdate, 0, "%d ids, such as %s", s.Ambiguous.Count, quoted(s.Ambiguous.Sample))
	}
	if s.BadQueueRows > 0 {
		c.add(colorfast.QueueUnreadable, s.BadQueueRows, "%d rows", s.BadQueueRows)
	}
}

// structure checks the files of the vector segment against each other.
func (c *collection) structure(s *records.Stats) error {
	if c.c.VectorSegment == "" {
		return nil
	}
	seg, err := hnsw.Open(filepath.Join(c.dir, c.c.VectorSegment))
	saved := c.c.VectorSeq >= 0
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if saved {
			c.add(colorfast.HNSWMissing, 0, "directory %s", c.c.VectorSegment)
		}
		return nil
	case corrupt(err):
		c.add(colorfast.HNSWTorn, 0, "%s", err.Error())
		return nil
	case err != nil:
		return err
	}
	defer seg.Close()
	if st := seg.State(); st == hnsw.Partial || (saved && st != hnsw.Saved) {
		c.add(colorfast.HNSWMissing, 0, "%s of %s", strings.Join(seg.Missing(), ", "), c.c.VectorSegment)
		return nil
	}
	problems, err := seg.Check(c.c.Config.Space == "cosine")
	if err != nil && !corrupt(err) {
		return err
	}
	for _, p := range problems {
		code := colorfast.HNSWTorn
		if p.Kind == hnsw.Pickle {
			code = colorfast.HNSWPickle
		}
		c.add(code, 0, "%s", p.String())
	}
	if len(problems) == 0 && (err != nil || s.SegmentError != nil) {
		c.add(colorfast.HNSWTorn, 0, "%s", errors.Join(err, s.SegmentError).Error())
	}
	if s.UnreadableSlots > 0 && len(problems) == 0 {
		c.add(colorfast.HNSWTorn, s.UnreadableSlots, "%d ids have no live vector in the saved index", s.UnreadableSlots)
	}
	return nil
}

func quoted(ids []string) string {
	const most = 3
	var b strings.Builder
	for i, id := range ids[:min(len(ids), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		if len(id) > 80 {
			id = id[:80] + "…"
		}
		b.WriteString("\"" + strings.ToValidUTF8(id, "?") + "\"")
	}
	return b.String()
}
