package chromatest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"colorfast/chroma/client"
)

// HTTP is a Chroma server reached by its API.
type HTTP struct {
	Client *client.Client

	mu  sync.Mutex
	ids map[string]string // collection ids by name, as far as known
}

var _ Chroma = (*HTTP)(nil)

// Create implements Writer.
func (h *HTTP) Create(ctx context.Context, s Spec) error {
	n, err := s.request()
	if err != nil {
		return err
	}
	col, err := h.Client.CreateCollection(ctx, n)
	if err != nil {
		return err
	}
	h.remember(s.Name, col.ID)
	return nil
}

// Drop implements Writer.
func (h *HTTP) Drop(ctx context.Context, collection string) error {
	h.remember(collection, "")
	return h.Client.DeleteCollection(ctx, collection)
}

// Write implements Writer.
func (h *HTTP) Write(ctx context.Context, collection string, verb client.Verb, recs []client.Record) error {
	id, err := h.id(ctx, collection)
	if err != nil {
		return err
	}
	return h.Client.Write(ctx, id, verb, recs)
}

// Collections implements Reader.
func (h *HTTP) Collections(ctx context.Context) ([]string, error) {
	list, err := h.Client.Collections(ctx)
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	return names, err
}

// Count implements Reader.
func (h *HTTP) Count(ctx context.Context, collection string) (int64, error) {
	id, err := h.id(ctx, collection)
	if err != nil {
		return 0, err
	}
	return h.Client.Count(ctx, id)
}

// Records implements Reader.
func (h *HTTP) Records(ctx context.Context, collection string) ([]client.Record, error) {
	id, err := h.id(ctx, collection)
	if err != nil {
		return nil, err
	}
	ids, err := h.Client.IDs(ctx, id)
	if err != nil {
		return nil, err
	}
	recs := make([]client.Record, 0, len(ids))
	for page := range slices.Chunk(ids, client.PageSize) {
		got, err := h.page(ctx, id, page)
		if err != nil {
			return nil, err
		}
		recs = append(recs, got...)
	}
	return recs, nil
}

// page reads records. Where the server cannot, as when one has no vector, it
// reads them in ever smaller parts, and the ones at fault without vector.
func (h *HTTP) page(ctx context.Context, id string, ids []string) ([]client.Record, error) {
	recs, err := h.Client.Get(ctx, id, ids)
	switch {
	case client.Status(err) < http.StatusInternalServerError:
		return recs, err
	case len(ids) == 1:
		return h.Client.GetWithoutVectors(ctx, id, ids)
	}
	a, err := h.page(ctx, id, ids[:len(ids)/2])
	if err != nil {
		return nil, err
	}
	b, err := h.page(ctx, id, ids[len(ids)/2:])
	return append(a, b...), err
}

// Query implements Reader.
func (h *HTTP) Query(ctx context.Context, collection string, v []float32, n int) ([]string, error) {
	id, err := h.id(ctx, collection)
	if err != nil {
		return nil, err
	}
	hits, err := h.Client.Query(ctx, id, [][]float32{v}, n)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(hits[0]))
	for i := range hits[0] {
		ids[i] = hits[0][i].ID
	}
	return ids, nil
}

func (h *HTTP) remember(name, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ids == nil {
		h.ids = map[string]string{}
	}
	h.ids[name] = id
}

// id finds the id of a collection.
func (h *HTTP) id(ctx context.Context, name string) (string, error) {
	h.mu.Lock()
	id := h.ids[name]
	h.mu.Unlock()
	if id != "" {
		return id, nil
	}
	col, err := h.Client.Collection(ctx, name)
	if err != nil {
		return "", fmt.Errorf("find collection %q: %w", name, err)
	}
	h.remember(name, col.ID)
	return col.ID, nil
}
