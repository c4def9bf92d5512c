package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"
)

const (
	// Files that are stored at the same time, and pieces of each: each piece
	// may hold one pack of 20 MiB while that is uploaded.
	maxFiles  = 2
	maxPieces = 4

	readSize = 1 << 20 // bytes read at once

	// hugeFile is the size from which pieces of 1 MiB are cut, so that the list
	// of pieces, which Kopia holds in memory, stays below some tens of MiB.
	hugeFile         = 64 << 30
	hugeFileSplitter = "FIXED-1M"

	// indexEvery is after how many new bytes the index of what was stored so far
	// is written out, because Kopia holds it in memory until then.
	indexEvery = 8 << 30
)

// Put implements colorfast.Vault.
func (v *Vault) Put(ctx context.Context, m *colorfast.Manifest, files fs.FS, p colorfast.Progress) error {
	if p == nil {
		p = colorfast.Quiet{}
	}
	ctx = v.ctx(ctx)
	c := *m // m changes only when all is done
	c.FileList = slices.Clone(m.FileList)
	if c.Format == 0 {
		c.Format = colorfast.Format
	}
	root, err := newTree(c.FileList)
	if err != nil {
		return colorfast.Errorf(colorfast.Usage, "store backup: %w", err)
	}
	if err := v.conn.Refresh(ctx); err != nil { // so as to share what others stored
		return fail(err, colorfast.Corrupt, "store backup: read the vault's index")
	}
	_, w, err := v.conn.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "put"})
	if err != nil {
		return fail(err, colorfast.Internal, "store backup")
	}
	s := &session{w: w, p: p, m: &c, root: root}
	err = s.run(countAdded(ctx, &s.added), files)
	if err == nil {
		err = v.commit(ctx, s)
	}
	if cerr := w.Close(context.WithoutCancel(ctx)); cerr != nil && err == nil {
		v.warn(ctx, "writer not closed", cerr) // the backup is stored and listed
	}
	if err != nil {
		return fail(err, colorfast.Internal, "store backup")
	}
	*m = c
	return nil
}

func (v *Vault) warn(ctx context.Context, msg string, err error) {
	if v.opts.Log != nil {
		v.opts.Log.WarnContext(ctx, msg, "vault", v.opts.URL, "err", err)
	}
}

// session is one Put under way.
type session struct {
	w           repo.DirectRepositoryWriter
	p           colorfast.Progress
	m           *colorfast.Manifest
	root        *node
	top, sealed *snapshot.DirEntry // of the root and of manifest.json, once stored
	added       atomic.Int64       // bytes added to the storage

	mu      sync.Mutex // held while the index is written out
	indexed int64      // value of added when that was done last
}

// run stores everything but the manifest that makes it a backup, and returns
// when it is durable and was found in the storage.
func (s *session) run(ctx context.Context, files fs.FS) error {
	s.p.Begin("storing", totalSize(s.m.FileList))
	if err := s.storeFiles(ctx, files); err != nil {
		return err
	}
	if err := s.root.storeDirs(ctx, s.w, dataName); err != nil {
		return err
	}
	s.m.FinishedAt = time.Now().UTC()
	id, size, err := storeJSON(ctx, s.w, jsonPrefix, manifestName, s.m)
	if err != nil {
		return err
	}
	s.sealed = newEntry(manifestName, &colorfast.File{Type: colorfast.Regular, Mode: 0o600, Size: size, ModTime: s.m.FinishedAt}, id)
	s.top, err = storeDir(ctx, s.w, "", &colorfast.File{Type: colorfast.Directory, Mode: 0o700, ModTime: s.m.FinishedAt}, []*snapshot.DirEntry{s.root.entry, s.sealed})
	if err != nil {
		return err
	}
	if err := s.w.Flush(ctx); err != nil {
		return err
	}
	return s.confirm(ctx)
}

func totalSize(files []colorfast.File) int64 {
	var n int64
	for i := range files {
		n += files[i].Size
	}
	return n
}

// storeFiles stores all but the directories, some at the same time.
func (s *session) storeFiles(ctx context.Context, files fs.FS) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(maxFiles, runtime.GOMAXPROCS(0)))
	for i := range s.m.FileList {
		f := &s.m.FileList[i]
		if f.Type == colorfast.Directory || gctx.Err() != nil {
			continue
		}
		n := s.root.at(splitPath(f.Path))
		g.Go(func() error {
			id, err := s.storeFile(gctx, f, files)
			if err != nil {
				return fmt.Errorf("file %q: %w", f.Path, err)
			}
			n.entry = newEntry(path.Base(f.Path), f, id)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// storeFile stores the content of one file or the target of a link. It sets
// the SHA-256 of a file, which is taken of the very bytes that are stored.
func (s *session) storeFile(ctx context.Context, f *colorfast.File, files fs.FS) (object.ID, error) {
	opt := object.WriterOptions{Description: f.Path, Compressor: dataCompression, MetadataCompressor: metaCompression}
	if f.Size > readSize {
		opt.AsyncWrites = min(maxPieces, runtime.GOMAXPROCS(0))
	}
	if f.Size >= hugeFile {
		opt.Splitter = hugeFileSplitter
	}
	w := s.w.NewObjectWriter(ctx, opt)
	defer func() { _ = w.Close() }()
	if f.Type == colorfast.Symlink {
		if _, err := io.WriteString(w, f.Target); err != nil {
			return object.EmptyID, err
		}
		return w.Result()
	}
	src, err := openListed(files, f)
	if err != nil {
		return object.EmptyID, err
	}
	defer func() { _ = src.Close() }()
	h := sha256.New()
	if err := s.copy(ctx, io.MultiWriter(h, w), src, f.Size); err != nil {
		return object.EmptyID, err
	}
	f.SHA256 = hex.EncodeToString(h.Sum(nil))
	return w.Result()
}

func openListed(files fs.FS, f *colorfast.File) (fs.File, error) {
	src, err := files.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, colorfast.Errorf(colorfast.Corrupt, "it is gone: %w", err)
	}
	if err != nil {
		return nil, err
	}
	fi, err := src.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = colorfast.Errorf(colorfast.Corrupt, "it is not a regular file any more")
	}
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// copy copies exactly size bytes; a source that has more or less is Corrupt.
func (s *session) copy(ctx context.Context, dst io.Writer, src io.Reader, size int64) error {
	buf := make([]byte, min(readSize, size+1))
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(buf)
		done += int64(n)
		if done > size {
			return colorfast.Errorf(colorfast.Corrupt, "it has grown: more than the listed %d bytes", size)
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
			s.p.Advance(int64(n))
			if werr := s.index(ctx); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &storageError{err}
		}
	}
	if done < size {
		return colorfast.Errorf(colorfast.Corrupt, "it has shrunk: %d bytes, %d are listed", done, size)
	}
	return nil
}

// index writes the index of what was stored so far, if that is much.
func (s *session) index(ctx context.Context) error {
	if !s.mu.TryLock() {
		return nil // somebody else is at it
	}
	defer s.mu.Unlock()
	if s.added.Load()-s.indexed < indexEvery {
		return nil
	}
	s.indexed = s.added.Load()
	return s.w.ContentManager().Flush(ctx)
}

func splitPath(p string) []string { return strings.Split(p, "/") }

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
