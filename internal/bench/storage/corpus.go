package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

const (
	fullSize = 200_000 // records of the first state at scale 1
	seed     = 7
	// edition is raised when the content changes: cached states of another one
	// are not used.
	edition = 1
)

// collections are what a corpus consists of.
var collections = []struct {
	name, space string
	share       float64 // of the records
}{
	{"articles", "l2", 0.5},
	{"tickets", "cosine", 0.25},
	{"products", "l2", 0.15},
	{"notes", "cosine", 0.1},
}

// corpus is a Chroma's directory in the states after each step. They are made
// once and kept.
type corpus struct {
	dir     string
	version string // of Chroma
	records int
	say     func(string, ...any)
}

func newCorpus(cache, version string, records int, say func(string, ...any)) *corpus {
	// The name says all that the content depends on.
	dir := fmt.Sprintf("corpus%d-%s-%dx%d", edition, version, records, dimension)
	return &corpus{dir: filepath.Join(cache, dir), version: version, records: records, say: say}
}

// state returns the directory of the state after a step; a step that changes
// nothing has that of the one before.
func (c *corpus) state(at int) string {
	for at > 0 && steps[at].verb == "" {
		at--
	}
	return filepath.Join(c.dir, fmt.Sprint(at))
}

// make makes those of the first n states that are missing, with a real Chroma.
func (c *corpus) make(ctx context.Context, n int) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	a, p := newAuthor(), newPopulation(c.records)
	for at, s := range steps[:n] {
		chosen := slices.Clone(p.live)
		if at > 0 {
			chosen = p.choose(at)
		}
		state := c.state(at)
		if _, err := os.Stat(state); err == nil {
			continue
		}
		begun := time.Now()
		c.say("corpus: Chroma makes the state %q with %d records; it is kept", s.Name, len(chosen))
		if err := c.makeState(ctx, a, at, chosen); err != nil {
			return fmt.Errorf("make the state %q: %w", s.Name, err)
		}
		c.say("corpus: made in %s: %s", time.Since(begun).Round(time.Second), state)
	}
	return nil
}

// makeState applies a step to the state before it, under a temporary name.
func (c *corpus) makeState(ctx context.Context, a *author, at int, chosen []name) error {
	making := filepath.Join(c.dir, "making")
	if err := os.RemoveAll(making); err != nil {
		return err
	}
	if at == 0 {
		if err := os.Mkdir(making, 0o755); err != nil {
			return err
		}
	} else if err := copyAll(ctx, c.state(at-1), making); err != nil {
		return err
	}
	s, err := chromatest.Launch(ctx, chromatest.Options{Version: c.version, Dir: making})
	if err != nil {
		return err
	}
	err = c.write(ctx, s, a, at, chosen)
	s.Stop()
	if err != nil {
		return err
	}
	return os.Rename(making, c.state(at))
}

// batch is how many records a request has: few, as in an application that goes
// on writing, but for the first state.
func batch(at int) int {
	if at == 0 {
		return 500
	}
	return 50
}

// write writes the chosen records, and waits until Chroma has taken them in.
func (c *corpus) write(ctx context.Context, s *chromatest.Server, a *author, at int, chosen []name) error {
	h, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer h.Client.Close()
	ids := make([]string, len(collections))
	for i, col := range collections {
		made, err := h.Client.CreateCollection(ctx, client.NewCollection{
			Name:          col.name,
			Configuration: json.RawMessage(fmt.Sprintf(`{"hnsw":{"space":%q}}`, col.space)),
			GetOrCreate:   true,
		})
		if err != nil {
			return err
		}
		ids[i] = made.ID
	}
	st := steps[at]
	verb, parts := st.verb, st.parts
	if at == 0 {
		verb, parts = client.Add, whole
	}
	requests := group(chosen, batch(at))
	progress := time.Now()
	g, writing := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i, r := range requests {
		if time.Since(progress) > 20*time.Second {
			progress = time.Now()
			c.say("corpus:   %d of %d requests", i, len(requests))
		}
		if writing.Err() != nil {
			break
		}
		g.Go(func() error {
			recs := make([]client.Record, len(r))
			for j, n := range r {
				recs[j] = parts(a, n, at)
			}
			return h.Client.Write(writing, ids[r[0].collection], verb, recs)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, id := range ids { // the first look replays the log
		if _, err := h.Client.Count(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// group makes requests for one collection each, in a random order.
func group(chosen []name, size int) [][]name {
	of := make([][]name, len(collections))
	for _, n := range chosen {
		of[n.collection] = append(of[n.collection], n)
	}
	var requests [][]name
	for _, names := range of {
		requests = slices.AppendSeq(requests, slices.Chunk(names, size))
	}
	r := rand.New(rand.NewPCG(seed, uint64(len(requests))))
	r.Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	return requests
}

// copyAll copies a directory with its times.
func copyAll(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp -a: %w: %s", err, out)
	}
	return nil
}
