package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Record is one record of a collection.
type Record struct {
	ID       string    `json:"id"`
	Vector   []float32 `json:"vector"`   // nil: none read, or leave as it is in an update
	Document *string   `json:"document"` // nil: none, or leave as it is in an update
	URI      *string   `json:"uri"`      // as Document
	Metadata Metadata  `json:"metadata"` // nil: none, or leave as it is in an update
}

// Verb is a way to write records.
type Verb string

// The verbs, as Chroma means them.
const (
	Add    Verb = "add"    // ids that exist are silently left alone
	Update Verb = "update" // ids that do not exist are silently left out
	Upsert Verb = "upsert" // updates ids that exist, adds the others
	Delete Verb = "delete" // only the IDs of the records count
)

// PageSize is how many records All asks for at a time. One page's SQL stays
// far below SQLite's 32,766 variables, and its JSON below Chroma's 40 MiB.
const PageSize = 500

// Columns are records as Chroma's API wants them: one list for each field, a
// list that no record fills left out. A list left out, unlike a list of nulls,
// means "leave as it is" to every version.
type Columns struct {
	IDs        []string   `json:"ids,omitempty"`
	Embeddings []Vector   `json:"embeddings,omitempty"`
	Documents  []*string  `json:"documents,omitempty"`
	URIs       []*string  `json:"uris,omitempty"`
	Metadatas  []Metadata `json:"metadatas,omitempty"`
}

// ColumnsOf turns records into columns; for Delete only the ids.
func ColumnsOf(verb Verb, recs []Record) Columns {
	n := len(recs)
	c := Columns{IDs: make([]string, n)}
	for i := range recs {
		r := &recs[i]
		c.IDs[i] = r.ID
		if verb == Delete {
			continue
		}
		if r.Vector != nil {
			c.Embeddings = grow(c.Embeddings, n)
			c.Embeddings[i] = r.Vector
		}
		if r.Document != nil {
			c.Documents = grow(c.Documents, n)
			c.Documents[i] = r.Document
		}
		if r.URI != nil {
			c.URIs = grow(c.URIs, n)
			c.URIs[i] = r.URI
		}
		if r.Metadata != nil {
			c.Metadatas = grow(c.Metadatas, n)
			c.Metadatas[i] = r.Metadata
		}
	}
	return c
}

func grow[T any](s []T, n int) []T {
	if s == nil {
		return make([]T, n)
	}
	return s
}

// Write writes records to the collection with this ID, in one request. When it
// returns without an error the server has acknowledged all of them; after an
// error it may have written them or not. In an update or upsert, metadata keys
// are merged into those that exist, and a nil value deletes its key.
func (c *Client) Write(ctx context.Context, collection string, verb Verb, recs []Record) error {
	switch verb {
	case Add, Update, Upsert, Delete:
	default:
		return fmt.Errorf("write with unknown verb %q", verb)
	}
	return c.do(ctx, http.MethodPost, c.collections(collection, string(verb)), ColumnsOf(verb, recs), nil)
}

// Count returns the number of records.
func (c *Client) Count(ctx context.Context, collection string) (int64, error) {
	var n int64
	err := c.do(ctx, http.MethodGet, c.collections(collection, "count"), nil, &n)
	return n, err
}

type getRequest struct {
	IDs     []string `json:"ids,omitempty"`
	Include []string `json:"include"`
}

type getResponse struct {
	IDs        []string    `json:"ids"`
	Embeddings [][]float32 `json:"embeddings"`
	Documents  []*string   `json:"documents"`
	URIs       []*string   `json:"uris"`
	Metadatas  []Metadata  `json:"metadatas"`
}

// IDs returns the ids of all records, in the server's order, from one request.
func (c *Client) IDs(ctx context.Context, collection string) ([]string, error) {
	var resp getResponse
	err := c.do(ctx, http.MethodPost, c.collections(collection, "get"), getRequest{Include: []string{}}, &resp)
	return resp.IDs, err
}

// Get returns the records with these ids, in the server's order; ids that do
// not exist are left out. The caller keeps len(ids) well below 32,000. One
// record without a vector in the index makes a server refuse all of them with
// status 500.
func (c *Client) Get(ctx context.Context, collection string, ids []string) ([]Record, error) {
	return c.get(ctx, collection, ids, "embeddings", "documents", "uris", "metadatas")
}

// GetWithoutVectors is Get, but reads no vectors, only what SQLite holds.
func (c *Client) GetWithoutVectors(ctx context.Context, collection string, ids []string) ([]Record, error) {
	return c.get(ctx, collection, ids, "documents", "uris", "metadatas")
}

func (c *Client) get(ctx context.Context, collection string, ids []string, include ...string) ([]Record, error) {
	if len(ids) == 0 {
		return nil, nil // to Chroma no ids would mean all
	}
	var resp getResponse
	err := c.do(ctx, http.MethodPost, c.collections(collection, "get"), getRequest{IDs: ids, Include: include}, &resp)
	if err != nil {
		return nil, err
	}
	return resp.records()
}

// All calls f with all records, page by page. Chroma has no snapshots: what
// others write meanwhile may be in or not, but no record that stays is missed.
// An error of f ends it and is returned.
func (c *Client) All(ctx context.Context, collection string, f func(page []Record) error) error {
	ids, err := c.IDs(ctx, collection)
	if err != nil {
		return err
	}
	for len(ids) > 0 {
		n := min(len(ids), PageSize)
		page, err := c.Get(ctx, collection, ids[:n])
		if err != nil {
			return err
		}
		if err := f(page); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// records turns columns into records. Servers leave a column out as null;
// Python-era ones send an empty list where the index has none of the vectors.
func (r *getResponse) records() ([]Record, error) {
	n := len(r.IDs)
	for _, l := range []int{len(r.Embeddings), len(r.Documents), len(r.URIs), len(r.Metadatas)} {
		if l != 0 && l != n {
			return nil, errors.New("get: the columns of the response differ in length")
		}
	}
	recs := make([]Record, n)
	for i := range recs {
		recs[i].ID = r.IDs[i]
		if len(r.Embeddings) > 0 {
			recs[i].Vector = r.Embeddings[i]
		}
		if len(r.Documents) > 0 {
			recs[i].Document = r.Documents[i]
		}
		if len(r.URIs) > 0 {
			recs[i].URI = r.URIs[i]
		}
		if len(r.Metadatas) > 0 && len(r.Metadatas[i]) > 0 { // 1.x says {} for none where there is a URI
			recs[i].Metadata = r.Metadatas[i]
		}
	}
	return recs, nil
}

// Hit is one answer to a query, nearest first.
type Hit struct {
	ID       string
	Distance float32
}

// Query returns the n nearest records for each vector, fewer if the index finds
// fewer.
func (c *Client) Query(ctx context.Context, collection string, vectors [][]float32, n int) ([][]Hit, error) {
	in := struct {
		Embeddings []Vector `json:"query_embeddings"`
		N          int      `json:"n_results"`
		Include    []string `json:"include"`
	}{N: n, Include: []string{"distances"}}
	for _, v := range vectors {
		in.Embeddings = append(in.Embeddings, v)
	}
	var out struct {
		IDs       [][]string  `json:"ids"`
		Distances [][]float32 `json:"distances"`
	}
	if err := c.do(ctx, http.MethodPost, c.collections(collection, "query"), in, &out); err != nil {
		return nil, err
	}
	if len(out.IDs) != len(vectors) || len(out.Distances) != len(vectors) {
		return nil, errors.New("query: the response does not answer every vector")
	}
	hits := make([][]Hit, len(out.IDs))
	for i, ids := range out.IDs {
		if len(out.Distances[i]) != len(ids) {
			return nil, errors.New("query: the columns of the response differ in length")
		}
		// Chroma 0.4 can answer with one more, having merged two indexes.
		for j, id := range ids[:min(n, len(ids))] {
			hits[i] = append(hits[i], Hit{ID: id, Distance: out.Distances[i][j]})
		}
	}
	return hits, nil
}
