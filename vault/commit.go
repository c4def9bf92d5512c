package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"colorfast"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"
)

// checkers is how many objects are looked for at the same time: storages that are
// far away answer late, and take many questions at once.
const checkers = 16

// payload is what the Kopia manifest of a backup holds: all that stock Kopia
// wants of a snapshot, and our summary.
type payload struct {
	snapshot.Manifest
	Colorfast *colorfast.Backup `json:"colorfast,omitempty"`
}

// confirm looks for all that the backup needs, in the storage and not in what
// we remember of it: its own packs, and those of earlier backups that it shares.
// What a collection of garbage has marked meanwhile is brought back.
func (s *session) confirm(ctx context.Context) error {
	if err := s.w.Refresh(ctx); err != nil {
		return err
	}
	stock := newStock(s.w.BlobReader())
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(checkers)
	revived := false
	var mu sync.Mutex
	look := func(id object.ID) {
		g.Go(func() error {
			deleted, err := stock.holds(gctx, s.w, id)
			for _, c := range deleted {
				if err == nil && stillBroken(gctx, s.w, s.known, c) {
					err = fmt.Errorf("piece %v does not read back: %w", c, blob.ErrInvalidRange)
				}
				if err == nil {
					err = s.w.ContentManager().UndeleteContent(gctx, c)
				}
				mu.Lock()
				revived = true
				mu.Unlock()
			}
			return err
		})
	}
	if err := s.objects(look); err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		if isMissing(err) || errors.Is(err, blob.ErrInvalidRange) {
			return colorfast.Errorf(colorfast.Corrupt, "the vault has lost something that this backup shares with earlier ones: %w", err).
				WithHint("try again, for somebody may have deleted these just now; then look into the vault's storage, or use a new vault")
		}
		return err
	}
	if revived {
		return s.w.Flush(ctx)
	}
	return nil
}

// stock knows how long the packs in a storage are; it asks for each once.
type stock struct {
	st blob.Reader

	mu    sync.Mutex
	packs map[blob.ID]func() (int64, error) // length; -1: there is none
}

func newStock(st blob.Reader) *stock {
	return &stock{st: st, packs: map[blob.ID]func() (int64, error){}}
}

// contents is the part of a Kopia repository that finds pieces of objects.
type contents interface {
	VerifyObject(ctx context.Context, id object.ID) ([]content.ID, error)
	ContentInfo(ctx context.Context, id content.ID) (content.Info, error)
}

// holds returns nil if every piece of an object lies in a pack that is there and
// long enough, and those pieces that are marked as deleted. Its errors satisfy
// isMissing or errors.Is blob.ErrInvalidRange if it looked and it is bad.
func (s *stock) holds(ctx context.Context, rep contents, id object.ID) (deleted []content.ID, err error) {
	pieces, err := rep.VerifyObject(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, p := range pieces {
		info, err := rep.ContentInfo(ctx, p)
		if err != nil {
			return nil, err
		}
		n, err := s.length(ctx, info.PackBlobID)
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, fmt.Errorf("pack %q: %w", info.PackBlobID, blob.ErrBlobNotFound)
		}
		if end := int64(info.PackOffset) + int64(info.PackedLength); n < end {
			return nil, fmt.Errorf("pack %q has %d bytes, want %d or more: %w", info.PackBlobID, n, end, blob.ErrInvalidRange)
		}
		if info.Deleted {
			deleted = append(deleted, p)
		}
	}
	return deleted, nil
}

// fill asks the storage for all packs at once, and returns their lengths.
func (s *stock) fill(ctx context.Context) (map[blob.ID]int64, error) {
	all := map[blob.ID]int64{}
	for _, prefix := range content.PackBlobIDPrefixes {
		err := s.st.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
			all[m.BlobID] = m.Length
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range all {
		s.packs[id] = func() (int64, error) { return n, nil }
	}
	return all, nil
}

// length asks for a pack's length; whoever asks at the same time waits for the
// same answer.
func (s *stock) length(ctx context.Context, id blob.ID) (int64, error) {
	s.mu.Lock()
	ask, ok := s.packs[id]
	if !ok {
		ask = sync.OnceValues(func() (int64, error) {
			m, err := s.st.GetMetadata(ctx, id)
			if errors.Is(err, blob.ErrBlobNotFound) {
				return -1, nil
			}
			return m.Length, err
		})
		s.packs[id] = ask
	}
	s.mu.Unlock()
	return ask()
}

// commit writes the one manifest that makes a backup of what run stored.
//
// A storage may report a failure of a write that it did. So after an error it is
// tried again, and then the storage is asked whether the backup is listed: if
// so, it is complete and counts as stored.
func (v *Vault) commit(ctx context.Context, s *session) error {
	s.m.StoredBytes = s.added.Load()
	s.m.ID = ""
	summary := s.m.Backup
	src := snapshot.SourceInfo{Host: summary.Source.Host, UserName: userName, Path: summary.Source.Path}
	labels := map[string]string{
		manifest.TypeLabelKey:  snapshot.ManifestType,
		snapshot.UsernameLabel: src.UserName, snapshot.HostnameLabel: src.Host, snapshot.PathLabel: src.Path,
	}
	id, err := s.w.PutManifest(ctx, labels, &payload{
		Manifest: snapshot.Manifest{
			Source: src, Description: summary.Tool, RootEntry: s.tree.top,
			StartTime: stamp(summary.StartedAt), EndTime: stamp(summary.FinishedAt),
			Stats: snapshot.Stats{
				TotalFileSize: summary.OriginalBytes, TotalFileCount: int32(min(summary.Files, 1<<31-1)),
				TotalDirectoryCount: int32(min(s.tree.top.DirSummary.TotalDirCount, 1<<31-1)),
			},
		},
		Colorfast: &summary,
	})
	if err != nil {
		return err
	}
	for range 3 {
		var said *explained // it was tried for minutes
		if err = s.w.Flush(ctx); err == nil || ctx.Err() != nil || errors.As(err, &said) {
			break
		}
	}
	s.m.ID = colorfast.BackupID(id)
	if err == nil {
		return nil
	}
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	switch listed, lerr := v.listed(ask, id); {
	case lerr != nil:
		return colorfast.Errorf(colorfast.Unreachable, "it may be listed nevertheless: %w", errors.Join(err, lerr))
	case listed:
		v.warn(ctx, "backup stored despite an error", err)
		return nil
	}
	return err
}

// listed asks the storage whether a manifest is there.
func (v *Vault) listed(ctx context.Context, id manifest.ID) (bool, error) {
	if err := v.conn.Refresh(ctx); err != nil {
		return false, err
	}
	all, _, err := v.conn.manifests.snapshots(ctx, v.conn)
	_, ok := all[id]
	return ok, err
}

func stamp(t time.Time) kopiafs.UTCTimestamp {
	if t.IsZero() {
		return 0
	}
	return kopiafs.UTCTimestamp(t.UnixNano())
}
