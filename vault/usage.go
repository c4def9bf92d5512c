package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"colorfast"
	"colorfast/ledger"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"
)

// shortPercent is how full a pack has to be for Kopia's maintenance to leave it
// alone (shortPackThresholdPercent in repo/maintenance, v0.22.3).
const shortPercent = 60

// Usage reads what the vault holds: all blobs, all pieces of the index, and which of
// them each backup needs. It reads directories and lists, no data. It takes some 45
// bytes of memory for each piece of the vault, which are 90 MiB for a TiB; the index
// that Kopia keeps is not counted. Errors: Denied, Unreachable, Corrupt where the
// index or the list of backups cannot be read. A backup of which something is
// damaged is in Reading.Unread.
func (v *Vault) Usage(ctx context.Context, p colorfast.Progress) (*ledger.Reading, error) {
	if p == nil {
		p = colorfast.Quiet{}
	}
	ctx = v.ctx(ctx)
	list, err := v.List(ctx) // which refreshes the index too
	if err != nil {
		return nil, err
	}
	others, err := v.foreign(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(list) // the oldest first
	r, err := v.readUsage(ctx, append(others, list...), p)
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "read the usage of vault %q", v.opts.URL)
	}
	return r, nil
}

// foreign lists snapshots that a stock kopia has made: they take room like backups.
func (v *Vault) foreign(ctx context.Context) ([]colorfast.Backup, error) {
	all, _, err := v.conn.manifests.snapshots(ctx, v.conn)
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "list backups")
	}
	var out []colorfast.Backup
	for id, e := range all {
		var s stored
		if json.Unmarshal(e.Data, &s) == nil && s.Colorfast == nil {
			out = append(out, colorfast.Backup{
				ID: colorfast.BackupID(id), Tool: "kopia", RestorePoint: e.ModTime,
				Source: colorfast.Source{Host: e.Labels[snapshot.HostnameLabel], Path: e.Labels[snapshot.PathLabel]},
			})
		}
	}
	slices.SortFunc(out, func(a, b colorfast.Backup) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out, nil
}

func (v *Vault) readUsage(ctx context.Context, list []colorfast.Backup, p colorfast.Progress) (*ledger.Reading, error) {
	params, err := v.conn.ContentReader().ContentFormat().GetMutableParameters(ctx)
	if err != nil {
		return nil, err
	}
	c := &counting{conn: v.conn, objects: map[object.ID]int{}, out: &ledger.Reading{
		Ledger: ledger.NewLedger(int64(params.MaxPackSize) * shortPercent / 100),
		Unread: map[colorfast.BackupID]string{},
	}}
	packs, err := c.blobs(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.index(ctx, packs); err != nil {
		return nil, err
	}
	p.Begin("counting", 0)
	for _, b := range list {
		if err := c.backup(ctx, b); err != nil {
			return nil, err
		}
	}
	return c.out, nil
}

// counting is a Usage under way.
type counting struct {
	conn    *connection
	pieces  []pieceKey
	objects map[object.ID]int // that are in the ledger, by number
	out     *ledger.Reading
}

// pieceKey finds the number of a piece. The first 16 bytes of a hash suffice to tell
// pieces apart.
type pieceKey struct {
	hash   [16]byte
	prefix byte
	number uint32
}

func keyOf(id content.ID) pieceKey {
	var k pieceKey
	copy(k.hash[:], id.Hash())
	if p := id.Prefix(); p != "" {
		k.prefix = p[0]
	}
	return k
}

func (k pieceKey) compare(o pieceKey) int {
	if k.prefix != o.prefix {
		return int(k.prefix) - int(o.prefix)
	}
	return bytes.Compare(k.hash[:], o.hash[:])
}

// blobs lists the storage.
func (c *counting) blobs(ctx context.Context) (packs map[blob.ID]int, err error) {
	packs = map[blob.ID]int{}
	kinds := []ledger.Kind{{Name: "data"}, {Name: "metadata"}, {Name: "index"}, {Name: "other"}}
	err = c.conn.BlobReader().ListBlobs(ctx, "", func(b blob.Metadata) error {
		kind := &kinds[3]
		switch b.BlobID[0] {
		case content.PackBlobIDPrefixRegular[0]:
			kind = &kinds[0]
		case content.PackBlobIDPrefixSpecial[0]:
			kind = &kinds[1]
		case 'x', 'n': // of this format of indexes, and of the one before
			kind = &kinds[2]
		}
		if kind == &kinds[0] || kind == &kinds[1] {
			packs[b.BlobID] = c.out.AddPack(b.BlobID[0], b.Length)
		}
		kind.Blobs++
		kind.Bytes += b.Length
		return ctx.Err()
	})
	c.out.Blobs = kinds
	return packs, err
}

// index reads Kopia's index: which pieces there are, and where.
func (c *counting) index(ctx context.Context, packs map[blob.ID]int) error {
	err := c.conn.ContentReader().IterateContents(ctx, content.IterateOptions{Range: index.AllIDs, IncludeDeleted: true}, func(i content.Info) error {
		pack, ok := packs[i.PackBlobID]
		if !ok { // each backup that needs it will say so
			return ctx.Err()
		}
		k := keyOf(i.ContentID)
		// The list of backups, and what Kopia notes of its maintenance, are always needed.
		keep := !i.Deleted && i.ContentID.Prefix() == manifest.ContentPrefix
		k.number = uint32(c.out.AddPiece(pack, int64(i.PackedLength), keep))
		c.pieces = append(c.pieces, k)
		return ctx.Err()
	})
	slices.SortFunc(c.pieces, pieceKey.compare)
	return err
}

func (c *counting) number(id content.ID) (int, error) {
	i, ok := slices.BinarySearchFunc(c.pieces, keyOf(id), pieceKey.compare)
	if !ok {
		return 0, fmt.Errorf("piece %v: %w", id, content.ErrContentNotFound)
	}
	return int(c.pieces[i].number), nil
}

// backup adds a backup and the objects that it needs. If something of it cannot be
// found out because it is damaged, it is left out.
func (c *counting) backup(ctx context.Context, b colorfast.Backup) error {
	need, err := c.needs(ctx, b.ID)
	if err == nil {
		err = c.resolve(ctx, need)
	}
	var st *storageError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && errors.As(err, &st):
		return err
	case err != nil:
		c.out.Unread[b.ID] = err.Error()
		return nil
	}
	source := slices.Index(c.out.Sources, b.Source)
	if source < 0 {
		source = len(c.out.Sources)
		c.out.Sources = append(c.out.Sources, b.Source)
	}
	number := c.out.AddBackup(source)
	c.out.Backups = append(c.out.Backups, b)
	for _, id := range need {
		c.out.Use(number, c.objects[id])
	}
	return nil
}

// needs returns all objects of a backup: those that the tree of Kopia's directories
// names, which are all (see storeTree).
func (c *counting) needs(ctx context.Context, id colorfast.BackupID) ([]object.ID, error) {
	all, damage, err := c.conn.manifests.snapshots(ctx, c.conn)
	if err != nil {
		return nil, err
	}
	var s stored
	e, ok := all[manifest.ID(id)]
	if !ok {
		return nil, errors.Join(append(damage, errors.New("it was deleted just now"))...)
	}
	if err := json.Unmarshal(e.Data, &s); err != nil {
		return nil, err
	}
	if s.RootEntry == nil {
		return nil, errors.New("its manifest names no root")
	}
	t := newStoredTree(c.conn, id, s.RootEntry.ObjectID)
	need := []object.ID{s.RootEntry.ObjectID}
	err = t.walk(ctx, ".", func(_ string, e *snapshot.DirEntry) { need = append(need, e.ObjectID) })
	return need, err
}

// walk calls fn with every entry below a directory, and its path.
func (t *tree) walk(ctx context.Context, dir string, fn func(string, *snapshot.DirEntry)) error {
	t.mu.Lock()
	entries, err := t.dir(ctx, dir)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	for _, e := range entries {
		fn(path.Join(dir, e.Name), e)
		if e.Type != snapshot.EntryTypeDirectory {
			continue
		}
		if err := t.walk(ctx, path.Join(dir, e.Name), fn); err != nil {
			return err
		}
	}
	return nil
}

// resolve adds those objects to the ledger that are not in it yet.
func (c *counting) resolve(ctx context.Context, need []object.ID) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(checkers)
	asked := map[object.ID]bool{}
	for _, id := range need {
		mu.Lock()
		_, known := c.objects[id]
		mu.Unlock()
		if known || asked[id] {
			continue
		}
		asked[id] = true
		g.Go(func() error {
			pieces, err := c.conn.VerifyObject(gctx, id)
			if err != nil {
				return err
			}
			numbers := make([]int, len(pieces))
			for i, p := range pieces {
				if numbers[i], err = c.number(p); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			c.objects[id] = c.out.AddObject(numbers)
			return nil
		})
	}
	return g.Wait()
}
