package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"colorfast"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
)

// Names and marks in the stored form of a backup: docs/formats.
const (
	dataName     = "data"
	manifestName = "manifest.json"

	dirStream  = "kopia:directory" // directoryStreamType in snapshot/snapshotfs
	dirPrefix  = "k"               // objectIDPrefixDirectory in snapshot/snapshotfs
	jsonPrefix = "j"               // keeps manifest.json beside the directories, not among the data

	dataCompression = compression.Name("zstd-fastest")
	metaCompression = compression.Name("zstd-fastest")
)

// node is a file of a backup in its directory.
type node struct {
	file  *colorfast.File // nil for a directory that is not listed
	kids  map[string]*node
	entry *snapshot.DirEntry // once stored
}

// newTree checks a list of files, as it came from a caller or from a vault that
// somebody hostile has the key of, and returns them as a tree. A path that
// leaves the tree, is listed twice or lies below a file is an error.
func newTree(files []colorfast.File) (*node, error) {
	root := &node{kids: map[string]*node{}}
	for i := range files {
		f := &files[i]
		if !fs.ValidPath(f.Path) || strings.ContainsRune(f.Path, 0) {
			return nil, fmt.Errorf("file %q: not a path inside the source", f.Path)
		}
		if f.Size < 0 || f.Type != colorfast.Regular && f.Size != 0 {
			return nil, fmt.Errorf("file %q: size %d cannot be", f.Path, f.Size)
		}
		if f.Type != colorfast.Regular && f.Type != colorfast.Directory && f.Type != colorfast.Symlink {
			return nil, fmt.Errorf("file %q: type %q is not known", f.Path, f.Type)
		}
		n := root
		if f.Path != "." {
			n = n.at(strings.Split(f.Path, "/"))
		}
		if n.file != nil {
			return nil, fmt.Errorf("file %q: listed twice", f.Path)
		}
		n.file = f
	}
	return root, root.check(".")
}

func (n *node) at(names []string) *node {
	for _, name := range names {
		kid := n.kids[name]
		if kid == nil {
			kid = &node{kids: map[string]*node{}}
			n.kids[name] = kid
		}
		n = kid
	}
	return n
}

func (n *node) check(p string) error {
	if n.file != nil && n.file.Type != colorfast.Directory && (len(n.kids) > 0 || p == ".") {
		return fmt.Errorf("file %q: not a directory", p)
	}
	for name, kid := range n.kids {
		if err := kid.check(path.Join(p, name)); err != nil {
			return err
		}
	}
	return nil
}

// newEntry describes f as Kopia does, for stock tools; manifest.json is what we
// read ourselves.
func newEntry(name string, f *colorfast.File, id object.ID) *snapshot.DirEntry {
	e := &snapshot.DirEntry{Name: name, ObjectID: id, Type: snapshot.EntryTypeDirectory, Permissions: 0o700}
	if f == nil {
		return e
	}
	switch f.Type {
	case colorfast.Regular:
		e.Type = snapshot.EntryTypeFile
	case colorfast.Symlink:
		e.Type = snapshot.EntryTypeSymlink
	}
	e.Permissions = snapshot.Permissions(f.Mode & 0o777)
	e.FileSize = f.Size
	e.ModTime = stamp(f.ModTime)
	e.UserID, e.GroupID = uint32(max(f.UID, 0)), uint32(max(f.GID, 0))
	return e
}

func stamp(t time.Time) kopiafs.UTCTimestamp {
	if t.IsZero() {
		return 0
	}
	return kopiafs.UTCTimestamp(t.UnixNano())
}

// storeDirs stores the directories of a tree whose files are stored.
func (n *node) storeDirs(ctx context.Context, w repo.RepositoryWriter, name string) error {
	if n.entry != nil {
		return nil
	}
	var entries []*snapshot.DirEntry
	for kidName, kid := range n.kids {
		if err := kid.storeDirs(ctx, w, kidName); err != nil {
			return err
		}
		entries = append(entries, kid.entry)
	}
	e, err := storeDir(ctx, w, name, n.file, entries)
	n.entry = e
	return err
}

// storeDir stores one directory.
func storeDir(ctx context.Context, w repo.RepositoryWriter, name string, f *colorfast.File, entries []*snapshot.DirEntry) (*snapshot.DirEntry, error) {
	slices.SortFunc(entries, func(a, b *snapshot.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	sum := &kopiafs.DirectorySummary{TotalDirCount: 1}
	for _, e := range entries {
		sum.MaxModTime = max(sum.MaxModTime, e.ModTime)
		switch {
		case e.DirSummary != nil:
			sum.TotalDirCount += e.DirSummary.TotalDirCount
			sum.TotalFileCount += e.DirSummary.TotalFileCount
			sum.TotalFileSize += e.DirSummary.TotalFileSize
			sum.TotalSymlinkCount += e.DirSummary.TotalSymlinkCount
			sum.MaxModTime = max(sum.MaxModTime, e.DirSummary.MaxModTime)
		case e.Type == snapshot.EntryTypeSymlink:
			sum.TotalSymlinkCount++
		default:
			sum.TotalFileCount++
			sum.TotalFileSize += e.FileSize
		}
	}
	id, _, err := storeJSON(ctx, w, dirPrefix, name, &snapshot.DirManifest{StreamType: dirStream, Entries: entries, Summary: sum})
	if err != nil {
		return nil, err
	}
	e := newEntry(name, f, id)
	e.DirSummary = sum
	return e, nil
}

// storeJSON stores v as one object and returns its length too.
func storeJSON(ctx context.Context, w repo.RepositoryWriter, prefix, name string, v any) (object.ID, int64, error) {
	ow := w.NewObjectWriter(ctx, object.WriterOptions{
		Description: name, Prefix: content.IDPrefix(prefix), Compressor: metaCompression, MetadataCompressor: metaCompression,
	})
	defer func() { _ = ow.Close() }()
	n := &counter{w: ow}
	if err := json.NewEncoder(n).Encode(v); err != nil {
		return object.EmptyID, 0, err
	}
	id, err := ow.Result()
	return id, n.n, err
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
// "data/chroma.sqlite3".
func (t *tree) find(ctx context.Context, p string) (*snapshot.DirEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries, err := t.dir(ctx, path.Dir(p))
	if err != nil {
		return nil, err
	}
	e := entries[path.Base(p)]
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
