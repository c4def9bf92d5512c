package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// load is a number of writers that upsert through the API.
type load struct {
	name    string
	writers int
	batch   int           // records in a request
	text    int           // bytes of metadata in a record
	pause   time.Duration // of a writer between two requests
}

var loads = []load{
	{name: "idle"},
	{name: "steady", writers: 2, batch: 5, text: 1 << 10, pause: 100 * time.Millisecond},
	{name: "heavy", writers: 8, batch: 50, text: 4 << 10},
}

// request is one request of a client.
type request struct {
	begun time.Time
	took  time.Duration
	err   error
}

// clients are the writers of a load at work.
type clients struct {
	stop func() // and wait for the requests that are under way

	mu   sync.Mutex
	done []request
}

// begin starts the load's writers.
func (l load) begin(ctx context.Context, s *chromatest.Server, d dataset) (*clients, error) {
	c := &clients{}
	h, err := s.Connect(ctx)
	if err != nil {
		return nil, err
	}
	col, err := h.Client.Collection(ctx, collectionName)
	if err != nil {
		return nil, err
	}
	writing := make(chan struct{})
	var wg sync.WaitGroup
	for w := range l.writers {
		wg.Go(func() {
			for {
				recs := l.records(w, d)
				r := request{begun: time.Now()}
				r.err = h.Client.Write(ctx, col.ID, client.Upsert, recs)
				r.took = time.Since(r.begun)
				c.mu.Lock()
				c.done = append(c.done, r)
				c.mu.Unlock()
				select {
				case <-writing:
					return
				case <-ctx.Done():
					return
				case <-time.After(l.pause):
				}
			}
		})
	}
	c.stop = func() {
		close(writing)
		wg.Wait()
		h.Client.Close()
	}
	return c, nil
}

// records returns a batch for a writer. Writers keep to records of their own, a
// thousand each, so that the directory does not grow for ever.
func (l load) records(writer int, d dataset) []client.Record {
	batch := l.batch
	if d.wide() {
		batch = max(1, batch/5) // each is as large as many of the others
	}
	recs := make([]client.Record, batch)
	from := rand.IntN(1000 / batch)
	for i := range recs {
		recs[i] = record(1_000_000+writer*1000+from*batch+i, l.text, d.dimension)
	}
	return recs
}

// between returns the requests that were under way at some time between the two.
func (c *clients) between(from, to time.Time) []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []request
	for _, r := range c.done {
		if r.begun.Before(to) && r.begun.Add(r.took).After(from) {
			out = append(out, r)
		}
	}
	return out
}

// longest returns the longest of the requests.
func longest(rs []request) time.Duration {
	var out time.Duration
	for _, r := range rs {
		out = max(out, r.took)
	}
	return out
}
