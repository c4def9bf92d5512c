package backup

import (
	"context"
	"os"
	"slices"

	"colorfast"
	"colorfast/capture"
)

// newest returns the newest backup of source in the vault; nil for none.
func (b *Backup) newest(ctx context.Context, source colorfast.Source) (*colorfast.Backup, error) {
	list, err := b.Vault.List(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(l colorfast.Backup) bool { return l.Source == source })
	if i < 0 {
		return nil, nil
	}
	return &list[i], nil
}

// unchanged makes a backup of a source that has not changed since parent, the
// newest one: nothing is copied, nobody is locked out, and all that is stored is
// the manifest. It returns nil where the source may have changed, or where that
// cannot be told; then it has to be read. What a look proves, and why it needs no
// lock, is said at capture.Look.
//
// Parent must have passed, for two reasons: if the source is damaged a person is
// waiting for a new look, not for the old one again; and what nobody could look
// at has to be looked at. It must also be of this version of colorfast, which
// may see what an older one did not.
//
// What a look cannot tell is that a disk has lost or changed bytes by itself.
// Reading them does; so Reread.
func (b *Backup) unchanged(ctx context.Context, m *colorfast.Manifest, parent *colorfast.Backup, empty string) (*colorfast.Manifest, error) {
	why := ""
	switch {
	case b.Reread || b.Memory == "" || parent == nil:
		return nil, nil
	case parent.Format != colorfast.Format || parent.Tool != m.Tool:
		why = "another version of colorfast has made the newest backup"
	case parent.Verified != colorfast.Passed:
		why = "the newest backup is " + parent.Verified.String()
	}
	if why == "" {
		since, err := b.recall(m.Source, parent.ID)
		if err != nil {
			why = err.Error()
		} else if look, changed := b.look(m.Source, since); changed != "" {
			why = changed
		} else {
			return b.storeUnchanged(ctx, m, parent, look, empty)
		}
	}
	b.Log.Info("source is read", "source", m.Source.Path, "parent", parent.ID, "reason", why)
	return nil, nil
}

// look looks at the source, and says what has changed since.
func (b *Backup) look(source colorfast.Source, since *capture.Look) (look *capture.Look, changed string) {
	b.Progress.Begin("looking for changes", 0)
	look, err := capture.LookAt(source.Path)
	if err != nil {
		return nil, err.Error() // reading it gives this error again, or none
	}
	return look, look.Changed(since)
}

// storeUnchanged stores parent again, as of the moment when look began.
func (b *Backup) storeUnchanged(ctx context.Context, m *colorfast.Manifest, parent *colorfast.Backup, look *capture.Look, empty string) (*colorfast.Manifest, error) {
	done, err := b.again(ctx, m, parent, look)
	if err == nil {
		err = b.Vault.Put(ctx, done, os.DirFS(empty), b.Progress)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, err
	case unusable(err):
		b.Log.Warn("newest backup cannot be stored again, so the source is read", "source", m.Source.Path, "backup", parent.ID, "err", err)
		return nil, nil
	default:
		return nil, err
	}
	b.Log.Info("source unchanged", "source", m.Source.Path, "parent", parent.ID, "backup", done.ID, "seconds", done.FinishedAt.Sub(done.StartedAt).Seconds())
	b.remember(done, look)
	return done, nil
}

// unusable reports whether err says that something is wrong with the parent, so
// that a backup without it may well succeed.
func unusable(err error) bool {
	switch colorfast.KindOf(err) {
	case colorfast.NotFound, colorfast.Corrupt, colorfast.Unsupported:
		return true
	}
	return false
}

// again returns the manifest of parent as that of m, whose source was looked at
// and has not changed.
func (b *Backup) again(ctx context.Context, m *colorfast.Manifest, parent *colorfast.Backup, look *capture.Look) (*colorfast.Manifest, error) {
	old, err := b.Vault.Manifest(ctx, parent.ID)
	if err != nil {
		return nil, err
	}
	done := *m
	done.Parent = parent.ID
	done.Inventory = old.Inventory
	done.Inventory.Dropped = nil
	for i := range done.Inventory.Collections {
		done.Inventory.Collections[i].Changes = &colorfast.Changes{}
	}
	begun := look.Begun.UTC()
	done.Consistency = colorfast.Consistency{
		Mode:        colorfast.Unchanged,
		JournalMode: old.Consistency.JournalMode,
		// At this moment the source was what is in the parent, and nothing of a
		// later one can be.
		FrozenAt: begun, ReleasedAt: begun,
		Attempts: 1,
		// Both lie in the source as they did.
		HotJournal: old.Consistency.HotJournal, WALBytes: old.Consistency.WALBytes,
		Notes: []string{},
	}
	done.FindingList = append(owners(m.Source.Path), slices.DeleteFunc(old.FindingList, func(f colorfast.Finding) bool {
		return f.Code == colorfast.SourceOwners // of processes, not of files
	})...)
	if done.FindingList == nil {
		done.FindingList = []colorfast.Finding{}
	}
	done.FileList = old.FileList
	for i := range done.FileList {
		done.FileList[i].Same = done.FileList[i].Type == colorfast.Regular
	}
	done.Summarize()
	return &done, nil
}
