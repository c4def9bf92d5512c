package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"colorfast"

	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
)

// stored is the part of a payload that is read back.
type stored struct {
	RootEntry *snapshot.DirEntry `json:"rootEntry"`
	Colorfast *colorfast.Backup  `json:"colorfast"`
}

// List implements colorfast.Vault. It sees what others have stored until now.
// Snapshots of stock Kopia are passed over; so is a manifest that cannot be
// parsed, with a warning.
func (v *Vault) List(ctx context.Context) ([]colorfast.Backup, error) {
	ctx = v.ctx(ctx)
	if err := v.conn.Refresh(ctx); err != nil {
		return nil, fail(err, colorfast.Corrupt, "list backups")
	}
	found, damage, err := v.conn.manifests.snapshots(ctx, v.conn)
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "list backups")
	}
	if len(damage) > 0 {
		v.warn(ctx, "backups not listed because the vault is damaged", errors.Join(damage...))
	}
	list := []colorfast.Backup{}
	for _, f := range found {
		var s stored
		if err := json.Unmarshal(f.Data, &s); err != nil {
			v.warn(ctx, "manifest not understood", fmt.Errorf("%s: %w", f.ID, err))
			continue
		}
		if s.Colorfast != nil {
			s.Colorfast.ID = colorfast.BackupID(f.ID)
			list = append(list, *s.Colorfast)
		}
	}
	slices.SortStableFunc(list, func(a, b colorfast.Backup) int {
		if c := b.RestorePoint.Compare(a.RestorePoint); c != 0 {
			return c
		}
		if c := b.FinishedAt.Compare(a.FinishedAt); c != 0 {
			return c
		}
		return b.Copied().Compare(a.Copied()) // one that a repair has fetched again before the hurt one
	})
	return list, nil
}

// Manifest implements colorfast.Vault.
func (v *Vault) Manifest(ctx context.Context, id colorfast.BackupID) (*colorfast.Manifest, error) {
	ctx = v.ctx(ctx)
	m, _, err := readManifest(ctx, v.conn, id)
	if err != nil && colorfast.KindOf(err) == colorfast.NotFound { // stored by somebody else since?
		if rerr := v.conn.Refresh(ctx); rerr != nil {
			return nil, fail(rerr, colorfast.Corrupt, "read backup %q", id)
		}
		m, _, err = readManifest(ctx, v.conn, id)
	}
	return m, err
}

// readManifest reads the summary of a backup and its manifest.json.
func readManifest(ctx context.Context, conn *connection, id colorfast.BackupID) (*colorfast.Manifest, *tree, error) {
	summary, t, err := readSummary(ctx, conn, id)
	if err != nil {
		return nil, nil, err
	}
	m, err := readSealed(ctx, t)
	if err != nil {
		return nil, nil, fail(err, colorfast.Corrupt, "read backup %q", id)
	}
	// These were not known yet when manifest.json was stored.
	m.ID, m.StoredBytes = summary.ID, summary.StoredBytes
	return m, t, nil
}

func readSummary(ctx context.Context, conn *connection, id colorfast.BackupID) (*colorfast.Backup, *tree, error) {
	all, damage, err := conn.manifests.snapshots(ctx, conn)
	if err != nil {
		return nil, nil, fail(err, colorfast.Corrupt, "read backup %q", id)
	}
	e, ok := all[manifest.ID(id)]
	if !ok && len(damage) > 0 {
		return nil, nil, colorfast.Errorf(colorfast.Corrupt, "read backup %q: no manifest of it is left: %w", id, errors.Join(damage...))
	}
	if !ok {
		return nil, nil, colorfast.Errorf(colorfast.NotFound, "read backup %q: the vault holds no such backup", id).
			WithHint("see \"colorfast list\"")
	}
	var s stored
	if err := json.Unmarshal(e.Data, &s); err != nil {
		return nil, nil, fail(err, colorfast.Corrupt, "read backup %q", id)
	}
	if s.Colorfast == nil {
		return nil, nil, colorfast.Errorf(colorfast.NotFound, "read backup %q: it was not made by colorfast", id)
	}
	if s.Colorfast.Format > colorfast.Format {
		return nil, nil, colorfast.Errorf(colorfast.Unsupported, "read backup %q: it has format %d, this colorfast knows %d", id, s.Colorfast.Format, colorfast.Format).
			WithHint("update colorfast")
	}
	if s.Colorfast.Format < 1 || s.RootEntry == nil {
		return nil, nil, colorfast.Errorf(colorfast.Corrupt, "read backup %q: its manifest is not whole", id)
	}
	s.Colorfast.ID = id
	return s.Colorfast, newStoredTree(conn, id, s.RootEntry.ObjectID), nil
}

// readSealed reads manifest.json and refuses one that names files outside of
// the backup.
func readSealed(ctx context.Context, t *tree) (*colorfast.Manifest, error) {
	e, err := t.find(ctx, manifestName)
	if err != nil {
		return nil, err
	}
	r, err := t.rep.OpenObject(ctx, e.ObjectID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var m colorfast.Manifest
	d := json.NewDecoder(r)
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	if err := checkList(m.FileList); err != nil {
		return nil, err
	}
	return &m, nil
}
