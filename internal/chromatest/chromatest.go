// Package chromatest gives tests real Chromas: it installs pinned versions from
// Python's package index, starts them as servers or embedded in a Python
// program, and ends them with the test. Nothing here is shipped.
//
// Start reading at Start and Embed; both write and read through Chroma.
package chromatest

import (
	"context"
	"encoding/json"
	"fmt"

	"colorfast/chroma/client"
)

// Chroma is a running Chroma, whichever way it is reached. Methods are safe for
// concurrent use. An error of a write leaves open whether it happened.
type Chroma interface {
	Writer
	Reader
}

// Writer changes a Chroma.
type Writer interface {
	// Create creates a collection; one of this name that exists is an error.
	Create(ctx context.Context, s Spec) error
	// Drop deletes a collection with its records.
	Drop(ctx context.Context, collection string) error
	// Write writes records to the named collection in one call of the API.
	Write(ctx context.Context, collection string, verb client.Verb, recs []client.Record) error
}

// Reader looks at a Chroma.
type Reader interface {
	// Collections returns the names of the collections, in no order.
	Collections(ctx context.Context) ([]string, error)
	// Count returns the number of records of the named collection.
	Count(ctx context.Context, collection string) (int64, error)
	// Records returns all records of the named collection; those whose vector
	// Chroma cannot find come without one.
	Records(ctx context.Context, collection string) ([]client.Record, error)
	// Query returns the ids of the n records nearest to v.
	Query(ctx context.Context, collection string, v []float32, n int) ([]string, error)
}

// Spec describes a collection to create.
type Spec struct {
	Name          string
	Space         string // l2, ip or cosine; "" means Chroma's default, l2
	SyncThreshold int    // records between two saves of the index; 0 means Chroma's default, 1000
	BatchSize     int    // records buffered before they go to the index, before 1.0; 0 means 100, and never more than SyncThreshold
	// Modern describes the index in the configuration, which 1.0 and later
	// take, not in the metadata, which all do.
	Modern bool
}

// hnsw returns the index's settings, with prefix before each key.
func (s Spec) hnsw(prefix string) map[string]any {
	m := map[string]any{}
	if s.Space != "" {
		m[prefix+"space"] = s.Space
	}
	if s.SyncThreshold != 0 {
		m[prefix+"sync_threshold"] = int64(s.SyncThreshold)
	}
	batch := s.BatchSize
	if s.SyncThreshold > 0 && (batch > s.SyncThreshold || (batch == 0 && s.SyncThreshold < 100)) {
		batch = s.SyncThreshold // Chroma refuses a batch above the threshold
	}
	if batch != 0 {
		m[prefix+"batch_size"] = int64(batch)
	}
	return m
}

// request returns the spec as a call of the API.
func (s Spec) request() (client.NewCollection, error) {
	n := client.NewCollection{Name: s.Name}
	if !s.Modern {
		if m := s.hnsw("hnsw:"); len(m) > 0 {
			n.Metadata = m
		}
		return n, nil
	}
	h := s.hnsw("")
	delete(h, "batch_size") // 1.x has none
	b, err := json.Marshal(map[string]any{"hnsw": h})
	if err != nil {
		return n, fmt.Errorf("describe collection %q: %w", s.Name, err)
	}
	n.Configuration = b
	return n, nil
}
