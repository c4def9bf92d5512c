package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"colorfast"
	"colorfast/pages"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
)

// Names and marks in the stored form of a backup: docs/formats.
const (
	dataName     = "data" // format 1: the files themselves lie below it
	manifestName = "manifest.json"
	mapName      = "map"
	pagesName    = "pages"

	dirStream  = "kopia:directory" // directoryStreamType in snapshot/snapshotfs
	dirPrefix  = "k"               // objectIDPrefixDirectory in snapshot/snapshotfs
	jsonPrefix = "j"               // keeps manifest.json beside the directories, not among the data

	metaCompression = compression.Name("zstd-fastest")
)

// entries are the stored directories and files of a backup, beside the objects of
// its pages.
type entries struct {
	top    *snapshot.DirEntry // the root
	mapped *snapshot.DirEntry // map
	sealed *snapshot.DirEntry // manifest.json
	kept   *snapshot.DirEntry // pages, a directory with one entry for each object
}

// storeTree stores the map, manifest.json and the directories. They name
// everything that the backup needs, so that Kopia's collector of garbage keeps it.
// Entries carry no times, so that what is the same in two backups is stored once.
func (s *session) storeTree(ctx context.Context) error {
	id, size, err := storeObject(ctx, s.w, mapName, s.pages.Encode)
	if err != nil {
		return err
	}
	s.tree.mapped = fileEntry(mapName, id, size)
	id, size, err = storeObject(ctx, s.w, manifestName, func(w io.Writer) error { return json.NewEncoder(w).Encode(s.m) })
	if err != nil {
		return err
	}
	s.tree.sealed = fileEntry(manifestName, id, size)
	kept := make([]*snapshot.DirEntry, len(s.pages.Objects))
	for i, o := range s.pages.Objects {
		if id, err = object.ParseID(o.ID); err != nil {
			return err
		}
		kept[i] = fileEntry(strconv.Itoa(i), id, o.Length+o.Parts*tableEntry)
	}
	if s.tree.kept, err = storeDir(ctx, s.w, pagesName, kept); err != nil {
		return err
	}
	s.tree.top, err = storeDir(ctx, s.w, "", []*snapshot.DirEntry{s.tree.mapped, s.tree.sealed, s.tree.kept})
	return err
}

// objects calls fn with everything that the backup consists of.
func (s *session) objects(fn func(object.ID)) error {
	for _, e := range []*snapshot.DirEntry{s.tree.top, s.tree.mapped, s.tree.sealed, s.tree.kept} {
		fn(e.ObjectID)
	}
	for _, o := range s.pages.Objects {
		id, err := object.ParseID(o.ID)
		if err != nil {
			return err
		}
		fn(id)
	}
	return nil
}

func fileEntry(name string, id object.ID, size int64) *snapshot.DirEntry {
	return &snapshot.DirEntry{Name: name, ObjectID: id, Type: snapshot.EntryTypeFile, Permissions: 0o600, FileSize: size}
}

// storeDir stores one directory.
func storeDir(ctx context.Context, w repo.RepositoryWriter, name string, list []*snapshot.DirEntry) (*snapshot.DirEntry, error) {
	slices.SortFunc(list, func(a, b *snapshot.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	sum := &kopiafs.DirectorySummary{TotalDirCount: 1}
	for _, e := range list {
		if e.DirSummary != nil {
			sum.TotalDirCount += e.DirSummary.TotalDirCount
			sum.TotalFileCount += e.DirSummary.TotalFileCount
			sum.TotalFileSize += e.DirSummary.TotalFileSize
			continue
		}
		sum.TotalFileCount++
		sum.TotalFileSize += e.FileSize
	}
	d := &snapshot.DirManifest{StreamType: dirStream, Entries: list, Summary: sum}
	id, _, err := store(ctx, w, dirPrefix, name, func(w io.Writer) error { return json.NewEncoder(w).Encode(d) })
	if err != nil {
		return nil, err
	}
	return &snapshot.DirEntry{Name: name, ObjectID: id, Type: snapshot.EntryTypeDirectory, Permissions: 0o700, DirSummary: sum}, nil
}

// storeObject stores what fill writes, and returns its length too.
func storeObject(ctx context.Context, w repo.RepositoryWriter, name string, fill func(io.Writer) error) (object.ID, int64, error) {
	return store(ctx, w, jsonPrefix, name, fill)
}

func store(ctx context.Context, w repo.RepositoryWriter, prefix, name string, fill func(io.Writer) error) (object.ID, int64, error) {
	ow := w.NewObjectWriter(ctx, object.WriterOptions{
		Description: name, Prefix: content.IDPrefix(prefix), Compressor: metaCompression, MetadataCompressor: metaCompression,
	})
	defer func() { _ = ow.Close() }()
	n := &counter{w: ow}
	if err := fill(n); err != nil {
		return object.EmptyID, 0, err
	}
	id, err := ow.Result()
	return id, n.n, err
}

// counter counts what is written to w.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// tree finds the objects of one stored backup. It reads a directory when it is
// first asked about something in it.
type tree struct {
	id   colorfast.BackupID
	rep  repo.Repository
	root object.ID

	mu   sync.Mutex
	dirs map[string]map[string]*snapshot.DirEntry // by path
}

func newStoredTree(rep repo.Repository, id colorfast.BackupID, root object.ID) *tree {
	return &tree{id: id, rep: rep, root: root, dirs: map[string]map[string]*snapshot.DirEntry{}}
}

// find returns the entry of a path from the root of the stored tree, such as
// "manifest.json".
func (t *tree) find(ctx context.Context, p string) (*snapshot.DirEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, err := t.dir(ctx, path.Dir(p))
	if err != nil {
		return nil, err
	}
	e := list[path.Base(p)]
	if e == nil {
		return nil, fmt.Errorf("%q: %w", p, object.ErrObjectNotFound)
	}
	return e, nil
}

func (t *tree) dir(ctx context.Context, p string) (map[string]*snapshot.DirEntry, error) {
	if d := t.dirs[p]; d != nil {
		return d, nil
	}
	id := t.root
	if p != "." {
		parent, err := t.dir(ctx, path.Dir(p))
		if err != nil {
			return nil, err
		}
		e := parent[path.Base(p)]
		if e == nil || e.Type != snapshot.EntryTypeDirectory {
			return nil, fmt.Errorf("directory %q: %w", p, object.ErrObjectNotFound)
		}
		id = e.ObjectID
	}
	r, err := t.rep.OpenObject(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read directory %q: %w", p, err)
	}
	defer func() { _ = r.Close() }()
	var m snapshot.DirManifest
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return nil, fmt.Errorf("read directory %q: %w", p, err)
	}
	if m.StreamType != dirStream {
		return nil, fmt.Errorf("read directory %q: it is none", p)
	}
	d := make(map[string]*snapshot.DirEntry, len(m.Entries))
	for _, e := range m.Entries {
		d[e.Name] = e
	}
	t.dirs[p] = d
	return d, nil
}

// pages reads the map of a backup.
func (t *tree) pages(ctx context.Context, files []colorfast.File) (*pages.Map, error) {
	e, err := t.find(ctx, mapName)
	if err != nil {
		return nil, err
	}
	r, err := t.rep.OpenObject(ctx, e.ObjectID)
	if err != nil {
		return nil, fmt.Errorf("read map: %w", err)
	}
	defer func() { _ = r.Close() }()
	return pages.Decode(r, cutsOf(files))
}
