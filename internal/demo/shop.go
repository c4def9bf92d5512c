package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

const (
	atLeast   = 20000 // records that are there before the backup begins
	dimension = 64
	batch     = 500 // records a request while filling
	trickle   = 20  // records a request while the backup runs
)

// shop is what the demo keeps in Chroma.
type shop struct {
	shelves []*shelf
}

// shelf is a collection and what was written to it.
type shelf struct {
	database, name, space string
	filled                int
	db                    *chromatest.HTTP

	mu     sync.Mutex // guards what follows
	writes []write
}

// write is an acknowledged request of the time of the backup.
type write struct {
	from            int // number of its first record
	started, acked  time.Time
	acknowledgement error
}

// open connects to the server, and makes databases and collections the first
// time.
func (s *shop) open(ctx context.Context, url string) error {
	c, err := client.Connect(ctx, url, client.Options{})
	if err != nil {
		return err
	}
	first := s.shelves == nil
	if first {
		s.shelves = []*shelf{
			{database: client.DefaultDatabase, name: "articles", space: "l2", filled: 6000},
			{database: client.DefaultDatabase, name: "images", space: "cosine", filled: 6000},
			{database: client.DefaultDatabase, name: "tickets", space: "ip", filled: 4000},
			{database: "archive", name: "articles", space: "l2", filled: 4500},
		}
		if err := c.CreateDatabase(ctx, "archive"); err != nil {
			return err
		}
	}
	for _, sh := range s.shelves {
		server := &chromatest.HTTP{Client: c.In(client.DefaultTenant, sh.database)}
		sh.db = server
		if first {
			if err := server.Create(ctx, chromatest.Spec{Name: sh.name, Space: sh.space, Modern: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// record makes the n-th record of the shelf: the same every time.
func (sh *shelf) record(n int) client.Record {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s/%d", sh.database, sh.name, n)
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	vector := make([]float32, dimension)
	for i := range vector {
		vector[i] = float32(r.NormFloat64())
	}
	doc := fmt.Sprintf("document %d of %s, about topic %d", n, sh.name, r.IntN(100))
	return client.Record{
		ID: fmt.Sprintf("%s-%06d", sh.name, n), Vector: vector, Document: &doc,
		Metadata: client.Metadata{"number": int64(n), "weight": float64(r.IntN(1000)) / 8, "fresh": n%2 == 0, "tag": fmt.Sprintf("t%d", n%7)},
	}
}

func (sh *shelf) records(from, n int) []client.Record {
	recs := make([]client.Record, n)
	for i := range recs {
		recs[i] = sh.record(from + i)
	}
	return recs
}

func (s *shop) fill(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, sh := range s.shelves {
		g.Go(func() error {
			for n := 0; n < sh.filled; n += batch {
				if err := sh.db.Write(ctx, sh.name, client.Add, sh.records(n, min(batch, sh.filled-n))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// keepWriting starts a writer for each shelf; stop ends them, after each has
// written something.
func (s *shop) keepWriting(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var g errgroup.Group
	for _, sh := range s.shelves {
		g.Go(func() error {
			for n := sh.filled; ; n += trickle {
				w := write{from: n, started: time.Now()}
				w.acknowledgement = sh.db.Write(ctx, sh.name, client.Add, sh.records(n, trickle))
				w.acked = time.Now()
				sh.mu.Lock()
				sh.writes = append(sh.writes, w)
				sh.mu.Unlock()
				if w.acknowledgement != nil {
					return nil // judge counts it
				}
				select {
				case <-ended:
					return nil
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	return func() error {
		close(ended)
		err := g.Wait()
		cancel()
		for _, sh := range s.shelves {
			if len(sh.writes) == 0 {
				err = errors.Join(err, fmt.Errorf("the writer of %s wrote nothing", sh.name))
			}
		}
		return err
	}
}

// verdict is what came back.
type verdict struct {
	requests, clientErrors int
	compared, wrong        int // records acknowledged before the freeze
	later, leaked          int // records whose request began after the release
}

// judge compares every record with what was written: what was acknowledged
// before the freeze must be there, what was begun after its end must not, and a
// request in between must be there wholly or not at all.
func (s *shop) judge(ctx context.Context, frozen, released time.Time) (v verdict, err error) {
	for _, sh := range s.shelves {
		list, err := sh.db.Records(ctx, sh.name)
		if err != nil {
			return v, fmt.Errorf("read %s: %w", sh.name, err)
		}
		got := make(map[string]client.Record, len(list))
		for _, r := range list {
			got[r.ID] = r
		}
		good := func(from, n int) (right, there int) {
			for _, want := range sh.records(from, n) {
				r, ok := got[want.ID]
				if ok {
					there++
				}
				if ok && sh.same(r, want) {
					right++
				}
			}
			return right, there
		}
		right, _ := good(0, sh.filled)
		v.compared += sh.filled
		v.wrong += sh.filled - right
		for _, w := range sh.writes {
			v.requests++
			right, there := good(w.from, trickle)
			switch {
			case w.acknowledgement != nil:
				v.clientErrors++
			case w.acked.Before(frozen):
				v.compared += trickle
				v.wrong += trickle - right
			case w.started.After(released):
				v.later += trickle
				v.leaked += there
			case there != 0 && right != trickle:
				v.wrong += trickle - right // half of a request
			}
		}
	}
	return v, nil
}

// same compares records; Chroma keeps cosine vectors to rounding only.
func (sh *shelf) same(got, want client.Record) bool {
	if got.Document == nil || *got.Document != *want.Document || !reflect.DeepEqual(got.Metadata, want.Metadata) || len(got.Vector) != len(want.Vector) {
		return false
	}
	for i, x := range got.Vector {
		off := math.Abs(float64(x - want.Vector[i]))
		if off != 0 && (sh.space != "cosine" || off > 1e-6*math.Max(1, math.Abs(float64(x)))) {
			return false
		}
	}
	return true
}

// stillWorks writes to the restored Chroma and finds what was written.
func (s *shop) stillWorks(ctx context.Context) error {
	sh := s.shelves[0]
	fresh := sh.record(1 << 20)
	if err := sh.db.Write(ctx, sh.name, client.Add, []client.Record{fresh}); err != nil {
		return fmt.Errorf("write to the restored Chroma: %w", err)
	}
	ids, err := sh.db.Query(ctx, sh.name, fresh.Vector, 1)
	if err != nil {
		return fmt.Errorf("query the restored Chroma: %w", err)
	}
	if len(ids) != 1 || ids[0] != fresh.ID {
		return fmt.Errorf("query the restored Chroma: got %v, want %s", ids, fresh.ID)
	}
	return nil
}
