package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"colorfast"
	"colorfast/internal/durable"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/sharded"
	"golang.org/x/sys/unix"
)

// diskStorage keeps blobs as files, in the layout of Kopia's own filesystem
// storage so that stock tools read it. Kopia's own never syncs (PutBlobInPath
// in repo/blob/filesystem, v0.22.3): after a power cut a backup that was
// reported as stored could be a set of empty files. This one does.
type diskStorage struct {
	sharded.Storage
	blob.DefaultProviderImplementation
	root     string
	readOnly bool
}

// shards are those which Kopia gives a new filesystem storage.
var shards = []int{1, 3}

func newDisk(root string) *diskStorage {
	return &diskStorage{
		Storage:  sharded.New(diskFiles{}, root, sharded.Options{DirectoryShards: shards}, true),
		root:     root,
		readOnly: unix.Access(root, unix.W_OK) != nil,
	}
}

// openDisk returns the storage in an existing folder.
func openDisk(root string) (*diskStorage, error) {
	fi, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !fi.IsDir():
		return nil, noVault(root)
	case err != nil:
		return nil, fail(&storageError{err}, colorfast.Unreachable, "open vault %q", root)
	}
	b, err := os.ReadFile(filepath.Join(root, sharded.ParametersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newDisk(root), nil // written again with the first blob
	}
	if err != nil {
		return nil, fail(&storageError{err}, colorfast.Unreachable, "open vault %q", root)
	}
	if err := checkShards(root, b); err != nil {
		return nil, err
	}
	return newDisk(root), nil
}

func noVault(url string) error {
	return colorfast.Errorf(colorfast.NotFound, "open vault %q: there is no vault", url).
		WithHint("%s", noVaultHint(url))
}

// noVaultHint is the next step where no vault is found.
func noVaultHint(url string) string {
	if p, err := parseURL(url); err == nil && (p.scheme == "s3" || p.scheme == "gs") {
		return "make one with \"colorfast init\"; but if there was one, somebody has hidden or deleted it: take the credentials away, and look back with \"colorfast list --as-of TIME\""
	}
	return "make one with \"colorfast init\""
}

// IsReadOnly reports whether the folder cannot be written; Kopia then leaves
// out the tidying that it does on reading.
func (d *diskStorage) IsReadOnly() bool { return d.readOnly }

// ConnectionInfo implements blob.Storage; see guard for the one that is used.
func (d *diskStorage) ConnectionInfo() blob.ConnectionInfo { return blob.ConnectionInfo{} }

// DisplayName implements blob.Storage.
func (d *diskStorage) DisplayName() string { return "file://" + d.root }

// sweep implements sweeper.
func (d *diskStorage) sweep(ctx context.Context, before time.Time) error {
	return filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !durable.IsTemp(e.Name()) {
			return errors.Join(ctx.Err(), ignoreVanished(err))
		}
		fi, err := e.Info()
		if err != nil || fi.ModTime().After(before) {
			return ignoreVanished(err)
		}
		return ignoreVanished(os.Remove(path))
	})
}

func ignoreVanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// diskFiles is the part below the sharding.
type diskFiles struct{}

// GetBlobFromPath implements sharded.Impl.
func (diskFiles) GetBlobFromPath(_ context.Context, _, path string, offset, length int64, out blob.OutputBuffer) error {
	out.Reset()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return blob.ErrBlobNotFound
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if length < 0 {
		_, err = io.Copy(out, f)
		return err
	}
	n, err := io.Copy(out, io.NewSectionReader(f, offset, length))
	if err == nil && n != length {
		return fmt.Errorf("%w: %d bytes at %d of %q, want %d", blob.ErrInvalidRange, n, offset, path, length)
	}
	return err
}

// GetMetadataFromPath implements sharded.Impl.
func (diskFiles) GetMetadataFromPath(_ context.Context, _, path string) (blob.Metadata, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return blob.Metadata{}, blob.ErrBlobNotFound
	}
	if err != nil {
		return blob.Metadata{}, err
	}
	return blob.Metadata{Length: fi.Size(), Timestamp: fi.ModTime()}, nil
}

// PutBlobInPath implements sharded.Impl. On return the blob is durable.
func (diskFiles) PutBlobInPath(_ context.Context, dir, path string, data blob.Bytes, opts blob.PutOptions) error {
	if opts.HasRetentionOptions() {
		return fmt.Errorf("%w: retention", blob.ErrUnsupportedPutBlobOption)
	}
	put := durable.Write
	if opts.DoNotRecreate {
		put = durable.WriteNew
	}
	fill := func(w io.Writer) error {
		_, err := data.WriteTo(w)
		return err
	}
	err := put(path, 0o600, fill)
	if errors.Is(err, fs.ErrNotExist) {
		if err = durable.MkdirAll(dir, 0o700); err == nil {
			err = put(path, 0o600, fill)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return blob.ErrBlobAlreadyExists
	}
	if err == nil && !opts.SetModTime.IsZero() {
		err = os.Chtimes(path, opts.SetModTime, opts.SetModTime)
	}
	if err == nil && opts.GetModTime != nil {
		var fi fs.FileInfo
		if fi, err = os.Stat(path); err == nil {
			*opts.GetModTime = fi.ModTime()
		}
	}
	return err
}

// DeleteBlobInPath implements sharded.Impl. A deletion that a power cut undoes
// leaves garbage, which the next maintenance finds.
func (diskFiles) DeleteBlobInPath(_ context.Context, _, path string) error {
	return ignoreVanished(os.Remove(path))
}

// ReadDir implements sharded.Impl.
func (diskFiles) ReadDir(_ context.Context, dir string) ([]os.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	infos := make([]os.FileInfo, 0, len(entries))
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, fi)
	}
	return infos, nil
}
