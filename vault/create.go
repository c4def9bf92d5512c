package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"colorfast"
	"colorfast/internal/durable"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/sharded"
	"github.com/kopia/kopia/repo/format"
)

// How a new vault stores bytes. TestMeasure compares splitters and hashes on
// 96 MiB of vectors of which 60 runs of 1 to 20 pages are rewritten in place
// (2.4 MiB) and 1 MiB is added: the second backup adds 10.4 MiB with
// FIXED-128K, 17.0 with DYNAMIC-128K-BUZHASH, 49 with FIXED-1M and all of it
// with Kopia's default DYNAMIC-4M-BUZHASH. The hashes differ by less than the
// noise; BLAKE3 is not slower than any.
const (
	hashAlgorithm       = "BLAKE3-256"
	encryptionAlgorithm = "AES256-GCM-HMAC-SHA256"
	// splitter cuts at fixed offsets: databases are changed in place, so no
	// byte ever moves, and the smallest piece wastes least around each change.
	splitter = "FIXED-128K"
)

// Blobs of a vault beside Kopia's packs and indexes.
const (
	formatBlob = format.KopiaRepositoryBlobID
	configBlob = format.KopiaBlobCfgBlobID
	// formatCopyBlob is a second copy of formatBlob. With Kopia's current format
	// nothing else can replace it, and without it no backup can be read.
	formatCopyBlob = "colorfast.format"
)

// Create makes a new, empty vault at o.URL, encrypted under o.Password. A
// folder is made if it does not exist, and is for its owner only. The last
// step of Create is one atomic write: before it, there is no vault for anybody,
// and what a crash left is cleared away by the next Create. Errors: Usage when
// there is a vault already, or anything else; Locked when somebody else is
// creating it just now; Denied; Unreachable; Unsupported for a storage that
// is not known.
func Create(ctx context.Context, o Options) error {
	p, err := parseURL(o.URL)
	if err != nil {
		return err
	}
	if err := o.Lock.check(o.URL); err != nil {
		return err
	}
	if o.Password.IsZero() {
		return colorfast.Errorf(colorfast.Usage, "create vault %q: no password is given", p.short())
	}
	if p.scheme != "file" {
		return createFar(ctx, o, p)
	}
	if !o.Lock.IsZero() {
		return canLock(ctx, newDisk(p.path), o.URL)
	}
	unlock, err := prepareFolder(o.URL, p.path)
	if err != nil {
		return err
	}
	defer unlock()
	return initialize(ctx, o, &creation{Storage: &guard{Storage: o.wrapped(newDisk(p.path))}})
}

// initialize writes what makes a storage a vault.
func initialize(ctx context.Context, o Options, st *creation) error {
	n := &repo.NewRepositoryOptions{
		BlockFormat:  format.ContentFormat{Hash: hashAlgorithm, Encryption: encryptionAlgorithm},
		ObjectFormat: format.ObjectFormat{Splitter: splitter},
	}
	if !o.Lock.IsZero() {
		n.RetentionMode, n.RetentionPeriod = o.Lock.kopia(), o.Lock.Period
	}
	err := repo.Initialize(withLog(ctx, o.Log), st, n, o.Password.text)
	if errors.Is(err, repo.ErrAlreadyInitialized) || errors.Is(err, blob.ErrBlobAlreadyExists) {
		return vaultExists(o.URL)
	}
	if err != nil {
		return fail(err, colorfast.Internal, "create vault %q", o.URL)
	}
	return nil
}

func vaultExists(url string) error {
	return colorfast.Errorf(colorfast.Usage, "create vault %q: there is a vault already", url).
		WithHint("use it, or choose another place")
}

// prepareFolder makes the folder, or checks that it may become a vault, and
// removes what an earlier Create that was killed left in it. Until unlock is
// called no other Create works in it.
func prepareFolder(url, path string) (unlock func(), err error) {
	deny := func(err error) (func(), error) {
		return nil, fail(&storageError{err}, colorfast.Unreachable, "create vault %q", url)
	}
	if err := durable.MkdirAll(path, 0o700); errors.Is(err, syscall.ENOTDIR) {
		return nil, colorfast.Errorf(colorfast.Usage, "create vault %q: a file is in the way", url).WithHint("choose another folder")
	} else if err != nil {
		return deny(err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return deny(err)
	}
	defer func() {
		if err != nil {
			_ = dir.Close()
		}
	}()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, colorfast.Errorf(colorfast.Locked, "create vault %q: somebody else is creating it", url)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return deny(err)
	}
	if slices.Contains(names, formatBlob+sharded.CompleteBlobSuffix) {
		return nil, vaultExists(url)
	}
	var leftovers []string
	for _, n := range names {
		blobName := strings.TrimSuffix(n, sharded.CompleteBlobSuffix)
		switch {
		case n == "lost+found":
		case blobName == configBlob, blobName == formatCopyBlob, durable.IsTemp(n), n == sharded.ParametersFile:
			leftovers = append(leftovers, n)
		default:
			return nil, colorfast.Errorf(colorfast.Usage, "create vault %q: the folder is not empty, and no vault: it holds %q", url, n).
				WithHint("choose an empty folder")
		}
	}
	for _, n := range leftovers {
		if err := os.Remove(filepath.Join(path, n)); err != nil {
			return deny(err)
		}
	}
	if err := dir.Chmod(0o700); err != nil {
		return deny(err)
	}
	return func() { _ = dir.Close() }, nil
}

// creation is the storage during Create: nothing is overwritten, and the copy
// of the format is there before the format itself, which is what makes a vault.
type creation struct {
	blob.Storage
	written map[blob.ID][]byte // what was written, if not nil
}

// PutBlob implements blob.Storage.
func (c *creation) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	opts.DoNotRecreate = true
	ids := []blob.ID{id}
	if id == formatBlob {
		ids = []blob.ID{formatCopyBlob, id}
	}
	for _, id := range ids {
		if c.written != nil {
			var b bytesOut
			if _, err := data.WriteTo(&b); err != nil {
				return err
			}
			c.written[id] = b.b
		}
		if err := c.Storage.PutBlob(ctx, id, data, opts); err != nil {
			return err
		}
	}
	return nil
}
