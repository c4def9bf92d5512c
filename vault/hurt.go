package vault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"colorfast"
	"colorfast/pages"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
)

// allContents are the pieces of all prefixes.
var allContents = index.AllIDs

// Hurt is a backup that has lost something.
type Hurt struct {
	Backup       colorfast.BackupID `json:"backup"`
	Source       colorfast.Source   `json:"source"`
	RestorePoint time.Time          `json:"restore_point"`
	Whole        bool               `json:"whole"`       // nothing of it can be read
	Files        []string           `json:"files"`       // that do not read back; all are whole if there is none and Whole is false
	Collections  []string           `json:"collections"` // with data in these files, as tenant/database/name
}

// hurt says which backups are hurt by what was found, and in which files.
func (l *look) hurt(ctx context.Context) error {
	if err := l.spread(ctx); err != nil {
		return err
	}
	for _, b := range l.backups {
		h := Hurt{Backup: b.summary.ID, Source: b.summary.Source, RestorePoint: b.summary.RestorePoint, Files: []string{}, Collections: []string{}}
		h.Whole = b.lost != nil
		touched := slices.ContainsFunc(b.objects, func(id object.ID) bool { return l.bad[id] != nil })
		if touched && !h.Whole {
			if err := l.files(ctx, b, &h); err != nil {
				return err
			}
		}
		if h.Whole || len(h.Files) > 0 {
			l.rep.Hurt = append(l.rep.Hurt, h)
		}
	}
	return nil
}

// spread finds the objects that have a broken piece, and tells of pieces that no
// backup needs.
func (l *look) spread(ctx context.Context) error {
	if len(l.rep.broken) == 0 {
		return nil
	}
	used, seen := map[content.ID]bool{}, map[object.ID]bool{}
	for _, b := range l.backups {
		for _, id := range b.objects {
			if seen[id] || l.bad[id] != nil {
				continue
			}
			seen[id] = true
			all, err := l.conn.VerifyObject(ctx, id)
			if err != nil {
				var st *storageError
				if ctx.Err() != nil || errors.As(err, &st) {
					return err
				}
				l.bad[id] = err // its list of pieces is broken
				continue
			}
			for _, c := range all {
				if pack, ok := l.rep.broken[c]; ok {
					used[c] = true
					l.bad[id] = errBroken
					l.find(colorfast.StoredDiffers, id.String(), "piece %v in pack %s does not read back", c, pack)
				}
			}
		}
	}
	for c, pack := range l.rep.broken {
		if !used[c] {
			code := colorfast.VaultUnused
			if c.Prefix() != "" { // manifests, directories, lists of pieces: of these something was found before, or nobody needs them
				l.find(code, c.String(), "in pack %s: it does not read back", pack)
				continue
			}
			l.find(code, c.String(), "in pack %s: it does not read back, and no listed backup needs it", pack)
		}
	}
	return nil
}

var errBroken = errors.New("a piece of it does not read back")

// files says which files of a backup need what is bad.
func (l *look) files(ctx context.Context, b *needed, h *Hurt) error {
	m, t, err := readManifest(ctx, l.conn, b.summary.ID)
	if err != nil {
		h.Whole = true
		return ctx.Err()
	}
	if m.Format < 2 {
		err := t.walk(ctx, dataName, func(p string, e *snapshot.DirEntry) {
			if e.Type != snapshot.EntryTypeDirectory && l.bad[e.ObjectID] != nil {
				h.Files = append(h.Files, strings.TrimPrefix(p, dataName+"/"))
			}
		})
		h.Whole = err != nil
		h.Collections = m.Inventory.In(h.Files)
		return ctx.Err()
	}
	mp, err := t.pages(ctx, m.FileList)
	if err != nil {
		h.Whole = true
		return ctx.Err()
	}
	holes, err := l.holes(ctx, mp)
	if err != nil {
		return err
	}
	for p, f := range pagedFiles(m.FileList, mp) {
		if touches(&f, holes) {
			h.Files = append(h.Files, p)
		}
	}
	slices.Sort(h.Files)
	h.Collections = m.Inventory.In(h.Files)
	if slices.ContainsFunc(b.meta, func(id object.ID) bool { return l.bad[id] != nil }) {
		h.Whole = true // it was read just now, and may not be the next time
	}
	return nil
}

// holes returns of every object of a map which stretches of it cannot be had.
func (l *look) holes(ctx context.Context, m *pages.Map) ([][]colorfast.Span, error) {
	out := make([][]colorfast.Span, len(m.Objects))
	p := newPieces(l.conn)
	for i, o := range m.Objects {
		id, err := object.ParseID(o.ID)
		if err != nil {
			return nil, err
		}
		bad := l.bad[id]
		if bad == nil {
			continue
		}
		extents, err := p.of(ctx, o.ID)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			out[i] = []colorfast.Span{{Offset: 0, Length: o.Length}}
			continue
		}
		for _, e := range extents {
			_, broken := l.rep.broken[e.id]
			if !broken {
				info, err := l.conn.ContentInfo(ctx, e.id)
				broken = err != nil || l.packs[info.PackBlobID] < int64(info.PackOffset)+int64(info.PackedLength)
			}
			if broken {
				out[i] = append(out[i], colorfast.Span{Offset: e.start, Length: e.length})
			}
		}
	}
	return out, nil
}

// touches reports whether a file needs something of what cannot be had.
func touches(f *pagedFile, holes [][]colorfast.Span) bool {
	hit := func(object int, offset, n int64) bool {
		return object >= 0 && slices.ContainsFunc(holes[object], func(h colorfast.Span) bool {
			return offset < h.Offset+h.Length && h.Offset < offset+n
		})
	}
	for part, s := range f.streams {
		at := int64(0)
		for _, r := range s.Runs() {
			at += r.Count
			n := (r.Count-1)*s.PartBytes() + f.cut.PartBytes(part, at-1)
			if hit(r.Object, r.Offset, n) || hit(r.Base, r.BaseOffset, n) {
				return true
			}
		}
	}
	return false
}
