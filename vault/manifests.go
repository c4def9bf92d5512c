package vault

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
)

// catalogue reads Kopia's manifests, each of which lies with a few others in
// one piece of content. Kopia's own manager is not used for reading, for three
// reasons: one damaged piece makes it refuse all manifests, so that one flipped
// bit would hide every backup; it merges pieces while it reads, so that a
// reader writes; and it repeats without end while a piece stays missing
// (loadCommittedContentsLocked in repo/manifest, v0.22.3).
type catalogue struct {
	mu     sync.Mutex
	pieces map[content.ID][]manifestEntry // pieces never change
}

// manifestEntry is a manifest as stored: manifestEntry in repo/manifest.
type manifestEntry struct {
	ID      manifest.ID       `json:"id"`
	Labels  map[string]string `json:"labels"`
	ModTime time.Time         `json:"modified"`
	Deleted bool              `json:"deleted,omitempty"`
	Data    json.RawMessage   `json:"data"`
}

// snapshots returns all manifests of type "snapshot"; see ofType.
func (c *catalogue) snapshots(ctx context.Context, rep repo.DirectRepository) (_ map[manifest.ID]manifestEntry, damage []error, err error) {
	return c.ofType(ctx, rep, snapshot.ManifestType)
}

// ofType returns all manifests of a type that the connection's index shows, and
// what cannot be read because it is damaged or missing.
func (c *catalogue) ofType(ctx context.Context, rep repo.DirectRepository, typ string) (_ map[manifest.ID]manifestEntry, damage []error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := map[content.ID][]manifestEntry{}
	err = rep.ContentReader().IterateContents(ctx, content.IterateOptions{Range: index.PrefixRange(manifest.ContentPrefix)}, func(info content.Info) error {
		now[info.ContentID] = nil
		return ctx.Err()
	})
	if err != nil {
		return nil, nil, err
	}
	for id := range now {
		if known, ok := c.pieces[id]; ok {
			now[id] = known
			continue
		}
		entries, err := readPiece(ctx, rep, id)
		var st *storageError
		switch {
		case err == nil:
			now[id] = entries
		case errors.As(err, &st), ctx.Err() != nil:
			return nil, nil, err
		case errors.Is(err, content.ErrContentNotFound): // merged into another one since
			delete(now, id)
		default:
			damage = append(damage, fmt.Errorf("manifests %v: %w", id, err))
			delete(now, id)
		}
	}
	c.pieces = now
	return merge(now, typ), damage, nil
}

// merge returns the entries of a type that hold: of each manifest the latest,
// unless that says that it was removed.
func merge(pieces map[content.ID][]manifestEntry, typ string) map[manifest.ID]manifestEntry {
	all := map[manifest.ID]manifestEntry{}
	for _, entries := range pieces {
		for _, e := range entries {
			old, ok := all[e.ID]
			if !ok || e.ModTime.After(old.ModTime) || e.ModTime.Equal(old.ModTime) && e.Deleted {
				all[e.ID] = e
			}
		}
	}
	for id, e := range all {
		if e.Deleted || e.Labels[manifest.TypeLabelKey] != typ {
			delete(all, id)
		}
	}
	return all
}

func readPiece(ctx context.Context, rep repo.DirectRepository, id content.ID) ([]manifestEntry, error) {
	b, err := rep.ContentReader().GetContent(ctx, id)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var piece struct {
		Entries []manifestEntry `json:"entries"`
	}
	if err := json.NewDecoder(z).Decode(&piece); err != nil {
		return nil, err
	}
	return piece.Entries, z.Close()
}
