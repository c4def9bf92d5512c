// Package storage measures what repeated backups cost: time, processor, memory
// and bytes in the repository. colorfast and other tools, each through its
// command line, back up the same directory of a real Chroma as it changes step
// by step; one long chain of small changes, for colorfast alone; and what a far storage
// behind a slow line makes of it.
//
// Start reading at Suite.Run.
package storage

import (
	"context"
	"path/filepath"
	"strings"
	"time"
)

// Suite says what to measure and where. All fields but Colorfast and Only are
// needed.
type Suite struct {
	Version   string  // of Chroma
	Cache     string  // directory for what is kept between runs
	Work      string  // empty directory of this run, on the file system of Cache
	Rounds    int     // 0 makes corpus and tools, and measures nothing
	Scale     float64 // of the corpus; 1 is 200,000 records
	Colorfast string  // program to measure; "" builds this repository's
	Only      string  // measures only cases whose name contains this; "" measures all
	Say       func(format string, args ...any)
}

// The cases, by which Only chooses.
const (
	stepsCase = "storage steps"
	chainCase = "storage chain"
	farCase   = "storage line"
)

// settle is how long stamps of files need to get older than the clock is
// coarse: tools look twice at a file that has just changed.
const settle = 2200 * time.Millisecond

// Run measures. It returns nil where Only chooses nothing, and beside an error
// what it has found until then.
func (s *Suite) Run(ctx context.Context) (*Report, error) {
	if !s.chosen(stepsCase) && !s.chosen(chainCase) && !s.chosen(farCase) {
		return nil, nil
	}
	r := &Report{Scale: s.Scale}
	var err error
	if r.Tools, err = s.find(ctx, s.chosen(stepsCase)); err != nil {
		return nil, err
	}
	if s.chosen(stepsCase) {
		if err := s.steps(ctx, r); err != nil {
			return r, err
		}
	}
	if s.chosen(chainCase) && s.Rounds > 0 {
		if r.Chain, err = s.chain(ctx, r.Tools[0]); err != nil {
			return r, err
		}
	}
	if s.chosen(farCase) {
		if r.Far, err = s.far(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (s *Suite) chosen(name string) bool { return strings.Contains(name, s.Only) }

// steps measures all tools, round by round.
func (s *Suite) steps(ctx context.Context, r *Report) error {
	c := newCorpus(s.Cache, s.Version, int(fullSize*s.Scale), s.Say)
	if err := c.make(ctx, len(steps)); err != nil {
		return err
	}
	if s.Rounds == 0 {
		return nil
	}
	var err error
	if r.Limits, err = limits(); err != nil {
		return err
	}
	l := newLedger(r.Tools)
	r.Records = c.records
	for n := range s.Rounds {
		s.Say("round %d of %d", n+1, s.Rounds)
		changes, err := s.round(ctx, n, c, r.Tools, l)
		if n == 0 { // later ones begin with what the one before left
			r.Changes = changes
		}
		r.Figures = l.list()
		if err != nil {
			return err
		}
		r.Rounds++
	}
	return nil
}

// place is where the directory is that is backed up. Tools know it by its path.
func (s *Suite) place() string { return filepath.Join(s.Work, "chroma") }
