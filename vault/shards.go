package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/sharded"
)

// folders is a storage of files in folders on another host, in the layout of a
// folder on this one: what sftp or webdav made can be read there as file://.
type folders struct {
	sharded.Storage
	blob.DefaultProviderImplementation
	files remoteFiles
	root  string
}

// remoteFiles is the part below the layout.
type remoteFiles interface {
	sharded.Impl
	mkdir(ctx context.Context, dir string) error
	close() error
}

func newFolders(files remoteFiles, root string) *folders {
	return &folders{
		Storage: sharded.New(files, root, sharded.Options{DirectoryShards: shards, ListParallelism: 4}, true),
		files:   files, root: root,
	}
}

// ListBlobs implements blob.Storage. A folder that is not there holds none.
func (f *folders) ListBlobs(ctx context.Context, prefix blob.ID, cb func(blob.Metadata) error) error {
	return interrupted(ctx, f.Storage.ListBlobs(ctx, prefix, cb))
}

// ConnectionInfo implements blob.Storage; see guard for the one that is used.
func (f *folders) ConnectionInfo() blob.ConnectionInfo { return blob.ConnectionInfo{} }

// DisplayName implements blob.Storage; see patient.
func (f *folders) DisplayName() string { return "" }

// Close implements blob.Storage.
func (f *folders) Close(context.Context) error { return f.files.close() }

// checkShards looks at the file that says how blobs are laid into folders: with
// another layout none would be found.
func checkShards(shown string, b []byte) error {
	var p sharded.Parameters
	err := p.Load(bytes.NewReader(b))
	want := sharded.DefaultParameters(shards)
	if err != nil || !slices.Equal(p.DefaultShards, want.DefaultShards) || p.UnshardedLength != want.UnshardedLength || len(p.Overrides) != 0 {
		good, _ := json.Marshal(want)
		return colorfast.Errorf(colorfast.Corrupt, "open vault %q: its file %s is damaged", shown, sharded.ParametersFile).WithHint("it must hold %s", good)
	}
	return nil
}

// open checks that the folder is there, and is laid out as it must be.
func (f *folders) open(ctx context.Context, shown string) error {
	var b bytesOut
	err := f.files.GetBlobFromPath(ctx, f.root, f.root+"/"+sharded.ParametersFile, 0, -1, &b)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return noVault(shown)
	}
	if err != nil {
		return err
	}
	return checkShards(shown, b.b)
}

// fileInfo is a file on another host.
type fileInfo struct {
	name string
	size int64
	time time.Time
	dir  bool
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) ModTime() time.Time { return i.time }
func (i fileInfo) IsDir() bool        { return i.dir }
func (i fileInfo) Sys() any           { return nil }
func (i fileInfo) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o700
	}
	return 0o600
}
