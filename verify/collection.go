package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

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

// look reads every record, by so many goroutines, and meanwhile the structure of
// the segment.
func (c *collection) look(ctx context.Context, db *sysdb.DB, parts int) error {
	defer c.progress.Advance(c.size())
	c.result = colorfast.Collection{
		ID: c.c.ID, Name: c.c.Name, Tenant: c.c.Tenant, Database: c.c.Database,
		Dimension: c.c.Dimension, Space: c.c.Config.Space, VectorSegment: c.c.VectorSegment,
	}
	var structure structure
	var stats *records.Stats
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.inspect(&structure) })
	g.Go(func() (err error) {
		stats, err = c.read(gctx, db, parts)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	c.result.Records, c.result.Queued = stats.Records, stats.FromQueue
	c.result.MetadataSeq, c.result.VectorSeq, c.result.LastQueueSeq = c.c.MetadataSeq, stats.VectorSeq, c.c.LastQueueSeq
	c.judge(stats)
	c.judgeStructure(&structure, stats)
	return nil
}

// read reads every record and sums the digest.
func (c *collection) read(ctx context.Context, db *sysdb.DB, parts int) (*records.Stats, error) {
	digests := make([]colorfast.Digest, parts)
	fns := make([]func(*records.Record) error, parts)
	for i := range fns {
		fns[i] = func(r *records.Record) error {
			hash := r.Hash()
			digests[i].Add(hash)
			if c.each != nil {
				return c.each(&c.result, r, hash)
			}
			return nil
		}
	}
	stats, err := records.ReadParts(ctx, db, c.c, c.dir, c.scratch, fns)
	if corrupt(err) {
		c.add(colorfast.UnreadableRecord, 0, "%v", err)
	} else if err != nil {
		return nil, err
	}
	if stats == nil {
		stats = &records.Stats{}
	}
	for _, d := range digests {
		c.result.Digest.Add(d)
	}
	return stats, nil
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

// structure is what the files of a vector segment say of each other.
type structure struct {
	state    hnsw.State
	missing  []string // files
	problems []hnsw.Problem
	gone     bool  // there is no directory
	torn     error // why it cannot be read
	ended    error // why the check ended early
}

// inspect checks the files of the vector segment against each other.
func (c *collection) inspect(s *structure) error {
	if c.c.VectorSegment == "" {
		return nil
	}
	seg, err := hnsw.Open(filepath.Join(c.dir, c.c.VectorSegment))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.gone = true
		return nil
	case corrupt(err):
		s.torn = err
		return nil
	case err != nil:
		return err
	}
	defer seg.Close()
	s.state, s.missing = seg.State(), seg.Missing()
	if c.incomplete(s) {
		return nil
	}
	s.problems, err = seg.Check(c.c.Config.Space == "cosine")
	if err != nil && !corrupt(err) {
		return err
	}
	s.ended = err
	return nil
}

// incomplete reports whether files are missing that must be there.
func (c *collection) incomplete(s *structure) bool {
	return s.state == hnsw.Partial || c.c.VectorSeq >= 0 && s.state != hnsw.Saved
}

// judgeStructure turns it into findings, unless the vectors tell them already.
func (c *collection) judgeStructure(s *structure, read *records.Stats) {
	switch {
	case c.c.VectorSegment == "":
		return
	case s.gone:
		if c.c.VectorSeq >= 0 {
			c.add(colorfast.HNSWMissing, 0, "directory %s", c.c.VectorSegment)
		}
		return
	case s.torn != nil:
		c.add(colorfast.HNSWTorn, 0, "%s", s.torn.Error())
		return
	case c.incomplete(s):
		c.add(colorfast.HNSWMissing, 0, "%s of %s", strings.Join(s.missing, ", "), c.c.VectorSegment)
		return
	}
	for _, p := range s.problems {
		code := colorfast.HNSWTorn
		if p.Kind == hnsw.Pickle {
			code = colorfast.HNSWPickle
		}
		c.add(code, 0, "%s", p.String())
	}
	if len(s.problems) == 0 && (s.ended != nil || read.SegmentError != nil) {
		c.add(colorfast.HNSWTorn, 0, "%s", errors.Join(s.ended, read.SegmentError).Error())
	}
	if read.UnreadableSlots > 0 && len(s.problems) == 0 {
		c.add(colorfast.HNSWTorn, read.UnreadableSlots, "%d ids have no live vector in the saved index", read.UnreadableSlots)
	}
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
