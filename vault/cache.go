package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// mostCached bounds the cache of one vault, in bytes.
const mostCached = 256 << 20

// cached keeps the indexes of a far vault on this host, for each Open reads all of
// them. It keeps them as they are stored, encrypted and authenticated under the
// vault's key, in a folder for its owner only; and nothing else: backups are read
// from where they are kept. Index blobs never change, being named after their
// content. Which there are is always asked of the storage. A Check does without.
//
// Kopia's own cache is not used: it keeps pieces of backups too, so that a check
// would read those, and indexes decrypted.
type cached struct {
	blob.Storage
	dir string
}

// newCached returns st behind the cache in the folder, for the vault with this ID.
func newCached(st blob.Storage, folder string, vaultID []byte) blob.Storage {
	return &cached{Storage: st, dir: filepath.Join(folder, "indexes", hex.EncodeToString(vaultID[:8]))}
}

// isIndex reports whether a blob is an index that is named after its content.
func isIndex(id blob.ID) bool { return strings.HasPrefix(string(id), "x") && len(id) > sha256.Size }

// GetBlob implements blob.Storage.
func (c *cached) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if !isIndex(id) || offset != 0 || length >= 0 {
		return c.Storage.GetBlob(ctx, id, offset, length, out)
	}
	if b, ok := c.load(id); ok {
		out.Reset()
		_, err := out.Write(b)
		return err
	}
	var all bytesOut
	if err := c.Storage.GetBlob(ctx, id, offset, length, &all); err != nil {
		return err
	}
	c.save(id, all.b)
	out.Reset()
	_, err := out.Write(all.b)
	return err
}

// FlushCaches implements blob.Storage.
func (c *cached) FlushCaches(ctx context.Context) error {
	return errors.Join(os.RemoveAll(c.dir), c.Storage.FlushCaches(ctx))
}

func (c *cached) path(id blob.ID) string { return filepath.Join(c.dir, string(id)) }

// load returns what is cached, if it is as it was saved: its SHA-256 is before it.
func (c *cached) load(id blob.ID) ([]byte, bool) {
	if filepath.Base(string(id)) != string(id) {
		return nil, false
	}
	b, err := os.ReadFile(c.path(id))
	if err != nil || len(b) < sha256.Size {
		return nil, false
	}
	sum := sha256.Sum256(b[sha256.Size:])
	if !bytes.Equal(sum[:], b[:sha256.Size]) {
		_ = os.Remove(c.path(id))
		return nil, false
	}
	now := time.Now()
	_ = os.Chtimes(c.path(id), now, now) // the oldest goes first
	return b[sha256.Size:], true
}

// save keeps an index if it can; the next Open is slower without, and no worse.
func (c *cached) save(id blob.ID, b []byte) {
	if filepath.Base(string(id)) != string(id) || len(b) > mostCached/8 || os.MkdirAll(c.dir, 0o700) != nil || !c.makeRoom(int64(len(b))) {
		return
	}
	f, err := os.CreateTemp(c.dir, ".new-")
	if err != nil {
		return
	}
	sum := sha256.Sum256(b)
	_, err = f.Write(append(sum[:], b...))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.path(id))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

// makeRoom removes what was used longest ago, until n bytes more are within the
// bound. It returns false if it cannot tell.
func (c *cached) makeRoom(n int64) bool {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return false
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			files = append(files, fi)
			n += fi.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, fi := range files {
		if n <= mostCached {
			break
		}
		if os.Remove(filepath.Join(c.dir, fi.Name())) == nil {
			n -= fi.Size()
		}
	}
	return n <= mostCached
}
