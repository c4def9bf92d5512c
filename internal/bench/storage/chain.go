package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

const (
	chainLength  = 200    // backups after the first, at scale 1
	chainRecords = 10_000 // of which each change replaces some
	chainChange  = 20
	chainTries   = 5 // restores of each end
)

// Chain is what many small increments in a row have done.
type Chain struct {
	Backups int `json:"backups"` // after the first
	Records int `json:"records"`
	Changed int `json:"changed"` // records before each backup

	First  ChainEnd `json:"first"`
	Newest ChainEnd `json:"newest"`
	// To restore the newest against the first, by byte of the directory.
	SecondsRatio    float64 `json:"seconds_ratio"`
	CPUSecondsRatio float64 `json:"cpu_seconds_ratio"`

	Median     Cost  `json:"median"`           // of a backup
	Repository int64 `json:"repository_bytes"` // in the end
}

// ChainEnd is the restore of one backup.
type ChainEnd struct {
	Bytes  int64  `json:"bytes"` // of the directory
	Median Cost   `json:"median"`
	Tries  []Cost `json:"tries"`
}

// chain backs up a small Chroma, which serves all the time, after each of many
// changes, and restores both ends. Each change replaces records at random, so
// that the directory stays of one size.
func (s *Suite) chain(ctx context.Context, t Tool) (*Chain, error) {
	c := newCorpus(s.Cache, s.Version, chainRecords, s.Say)
	if err := c.make(ctx, 1); err != nil {
		return nil, err
	}
	home, first := filepath.Join(s.Work, "chain"), filepath.Join(s.Work, "first")
	if err := errors.Join(os.RemoveAll(s.place()), copyAll(ctx, c.state(0), s.place())); err != nil {
		return nil, err
	}
	entrants, err := open(ctx, home, []Tool{t})
	if err != nil {
		return nil, err
	}
	e := entrants[0]
	out := &Chain{Backups: max(2, int(chainLength*s.Scale)), Records: chainRecords, Changed: chainChange}
	if out.Median, err = s.grow(ctx, e, out.Backups, first); err != nil {
		return nil, err
	}
	if out.Repository, err = warm(e.repository.dir()); err != nil {
		return nil, err
	}
	for range chainTries { // in turn, so that what else the machine does meets both
		if err := s.tryEnd(ctx, e.repository, e.first, first, &out.First); err != nil {
			return nil, err
		}
		if err := s.tryEnd(ctx, e.repository, e.newest, s.place(), &out.Newest); err != nil {
			return nil, err
		}
	}
	growth := float64(out.Newest.Bytes) / float64(out.First.Bytes)
	out.SecondsRatio = out.Newest.Median.Seconds / out.First.Median.Seconds / growth
	out.CPUSecondsRatio = out.Newest.Median.CPUSeconds / out.First.Median.CPUSeconds / growth
	return out, errors.Join(os.RemoveAll(home), os.RemoveAll(first))
}

// tryEnd restores a backup once more, and compares it with the directory want.
func (s *Suite) tryEnd(ctx context.Context, r repository, id, want string, end *ChainEnd) (err error) {
	if end.Bytes, err = sizeOf(want); err != nil {
		return err
	}
	unix.Sync()
	cost, err := s.restore(ctx, r, id, want)
	end.Tries = append(end.Tries, cost)
	end.Median = medianCost(end.Tries)
	return err
}

// grow makes a chain of this length, and keeps a copy of what its first backup is of.
func (s *Suite) grow(ctx context.Context, e *entrant, length int, first string) (median Cost, err error) {
	server, err := chromatest.Launch(ctx, chromatest.Options{Version: s.Version, Dir: s.place()})
	if err != nil {
		return Cost{}, err
	}
	defer server.Stop() // which writes nothing
	h, err := server.Connect(ctx)
	if err != nil {
		return Cost{}, err
	}
	defer h.Client.Close()
	a, p := newAuthor(), newPopulation(chainRecords)
	var costs []Cost
	for n := range length + 1 {
		if n > 0 {
			if err := replace(ctx, h, a, p, n); err != nil {
				return Cost{}, err
			}
		}
		cost, err := s.backUp(ctx, e)
		if err != nil {
			return Cost{}, fmt.Errorf("backup %d: %w", n, err)
		}
		if n == 0 {
			if err := copyAll(ctx, s.place(), first); err != nil {
				return Cost{}, err
			}
			continue
		}
		if costs = append(costs, cost); n%20 == 0 {
			s.Say("  chain: %d of %d, %.2f s, %.3f MiB added", n, length, cost.Seconds, mib(cost.Added))
		}
	}
	return medianCost(costs), nil
}

// replace gives some records of one collection a new vector and metadata.
func replace(ctx context.Context, h *chromatest.HTTP, a *author, p *population, n int) error {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	for _, request := range group(p.pick(r, chainChange), chainChange) {
		recs := make([]client.Record, len(request))
		for i, name := range request {
			recs[i] = vectorOnly(a, name, n)
			recs[i].Metadata = metadataOnly(a, name, n).Metadata
		}
		if err := h.Write(ctx, collections[request[0].collection].name, client.Upsert, recs); err != nil {
			return err
		}
	}
	return nil
}

func (c *Chain) table(w io.Writer) {
	fmt.Fprintf(w, "\nChain: %d backups after a first one, %d of %d records replaced before each. A backup: %.2f s, %.2f s CPU, %.0f MiB at the peak, %.3f MiB added; the repository in the end: %.1f MiB.\n",
		c.Backups, c.Changed, c.Records, c.Median.Seconds, c.Median.CPUSeconds, mib(c.Median.PeakRSS), mib(c.Median.Added), mib(c.Repository))
	head(w, "restore", "directory MiB", "wall s", "CPU s", "peak MiB", "wall s of all")
	for _, e := range []struct {
		name string
		ChainEnd
	}{{"first", c.First}, {"newest", c.Newest}} {
		var all []string
		for _, t := range e.Tries {
			all = append(all, fmt.Sprintf("%.2f", t.Seconds))
		}
		m := e.Median
		fmt.Fprintf(w, "| %s\t| %.1f\t| %.2f\t| %.2f\t| %.0f\t| %s\t|\n", e.name, mib(e.Bytes), m.Seconds, m.CPUSeconds, mib(m.PeakRSS), strings.Join(all, ", "))
	}
	fmt.Fprintf(w, "\nNewest to first, by byte: %.2f in wall time, %.2f in CPU time.\n", c.SecondsRatio, c.CPUSecondsRatio)
}
