package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"colorfast/chroma"
	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// dataset describes a directory that Chroma makes once and that is kept in the
// cache.
type dataset struct {
	name      string
	records   int // each with a document and a long metadata value
	text      int // bytes of that value; SQLite keeps it twice, in a table and in an index
	dimension int
	journals  []string // modes to measure it in
}

var datasets = []dataset{
	{name: "small", records: 1100, text: 32 << 10, dimension: 16, journals: []string{"delete", "wal"}},
	{name: "large", records: 12700, text: 32 << 10, dimension: 16, journals: []string{"delete", "wal"}},
	// The same records as small, but vectors of 1 GB in all: only these differ.
	{name: "vectors", records: 1100, text: 32 << 10, dimension: 8192, journals: []string{"delete"}},
}

// filling is how many records fill the vectors of a dataset beyond those with
// a long text, so that the index has about a gigabyte.
const filling = 30000

const (
	collectionName = "bench"
	documentSize   = 1 << 10
)

// build makes the directory with a real Chroma unless the cache has it, and
// returns where it is.
func (b *bench) build(ctx context.Context, d dataset) (string, error) {
	// The name says all that the content depends on.
	dir := filepath.Join(b.cache, fmt.Sprintf("chroma-%s-%s-%d-%d-%d", b.version, d.name, d.records, d.text, d.dimension))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	say("%s: Chroma makes the directory; it is kept for the next run", d.name)
	making := filepath.Join(b.work, "making")
	if err := os.MkdirAll(making, 0o755); err != nil {
		return "", err
	}
	s, err := chromatest.Launch(ctx, chromatest.Options{Version: b.version, Dir: making})
	if err != nil {
		return "", err
	}
	err = fill(ctx, s, d)
	s.Stop()
	if err != nil {
		return "", err
	}
	return dir, os.Rename(making, dir)
}

// fill writes the dataset's records.
func fill(ctx context.Context, s *chromatest.Server, d dataset) error {
	h, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer h.Client.Close()
	// A sparse graph: vectors are here for their size, and a good index of wide
	// ones would take minutes.
	col, err := h.Client.CreateCollection(ctx, client.NewCollection{
		Name:          collectionName,
		Configuration: json.RawMessage(`{"hnsw":{"space":"l2","ef_construction":8,"max_neighbors":4}}`),
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	write := func(from, to, text int) {
		g.Go(func() error {
			recs := make([]client.Record, 0, to-from)
			for i := from; i < to; i++ {
				recs = append(recs, record(i, text, d.dimension))
			}
			return h.Client.Write(ctx, col.ID, client.Add, recs)
		})
	}
	const batch = 100
	for i := 0; i < d.records; i += batch {
		write(i, min(i+batch, d.records), d.text)
	}
	if d.wide() {
		for i := d.records; i < d.records+filling; i += batch {
			write(i, min(i+batch, d.records+filling), 0)
		}
	}
	return g.Wait()
}

func (d dataset) wide() bool { return d.dimension > 1000 }

// record returns the record of this number. Its values are random, but short as
// decimals, for most of the work of a wide vector is to write it as JSON.
func record(i, text, dimension int) client.Record {
	r := rand.New(rand.NewPCG(1, rand.Uint64()))
	vec := make([]float32, dimension)
	for j := range vec {
		vec[j] = float32(r.IntN(9)) / 8
	}
	rec := client.Record{ID: fmt.Sprintf("r%06d", i), Vector: vec, Metadata: client.Metadata{"n": int64(i)}}
	if text > 0 {
		doc := words(r, documentSize)
		rec.Document = &doc
		rec.Metadata["text"] = words(r, text)
	}
	return rec
}

func words(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "w%d ", r.IntN(5000))
	}
	return b.String()[:n]
}

// source copies a built directory for measuring, in the given journal mode.
func (b *bench) source(ctx context.Context, d dataset, journal string) (string, error) {
	built, err := b.build(ctx, d)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.work, "chroma")
	if err := errors.Join(os.RemoveAll(dir), copyAll(ctx, built, dir)); err != nil {
		return "", err
	}
	return dir, setJournalMode(filepath.Join(dir, chroma.SQLiteFile), journal)
}

// copyAll is what people copy a stopped Chroma with.
func copyAll(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp -a: %w: %s", err, out)
	}
	return nil
}
