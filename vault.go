package colorfast

import (
	"context"
	"io"
	"io/fs"
)

// Vault keeps backups. All methods are safe for concurrent use, and several
// processes on several hosts may use one vault at the same time.
type Vault interface {
	// Put stores the files of m.FileList, read from content by their Path, and
	// then m itself. It sets m.ID, m.StoredBytes, m.FinishedAt and every file's
	// SHA256. Where m.Parent names a backup of the vault, what is the same there
	// costs nothing; a file that is marked Same is not even read, and has the
	// parent's SHA256. On return the backup is durable and listed; on error it is
	// not listed, now or later. A file that is Sealed is stored with its SHA256 or
	// not at all; what is Alike need not be read, and then the hash is not computed
	// again. A manifest with an Origin keeps its FinishedAt. Errors: Denied,
	// Unreachable, Corrupt when a file's size or sealed hash is not the listed one,
	// NotFound when the parent has no such file as one marked Same.
	Put(ctx context.Context, m *Manifest, content fs.FS, p Progress) error
	// List returns all backups, newest restore point first.
	List(ctx context.Context) ([]Backup, error)
	// Manifest returns a backup with all that it says of itself. Errors:
	// NotFound, Corrupt, Unsupported for a newer Format.
	Manifest(ctx context.Context, id BackupID) (*Manifest, error)
	// Open reads one regular file of a backup. A reader that reaches io.EOF has
	// delivered the bytes that were stored; it gives Corrupt otherwise. older may
	// be an older copy of the file, or nil: what is the same there is taken from
	// it, and only what differs from the vault's storage. It must not change
	// meanwhile, may have any content and any length, and is not closed.
	Open(ctx context.Context, m *Manifest, path string, older io.ReaderAt) (Content, error)
	// Check looks whether all that the backup needs is there (Stored), and also
	// whether every byte reads back with its recorded hash (Bytes). What is
	// wrong comes as findings; an error means that it could not look.
	Check(ctx context.Context, m *Manifest, level Level, p Progress) ([]Finding, error)
	// Close ends the use of the vault.
	Close(ctx context.Context) error
}

// Replica is what a vault can beyond Vault whose backups are copied to others.
type Replica interface {
	// Fingerprint names the vault, whatever URL leads to it: no other has the same,
	// unless its storage was copied as it is.
	Fingerprint() Fingerprint
	// Files returns the regular files of a backup, to be read at any place: those
	// of fs.File implement io.ReaderAt. Bytes are given out only as they were
	// stored, Corrupt comes in place of others; but whether all of a file is there
	// is not checked, as Vault.Open does. They may be read until ctx ends. Errors:
	// those of Vault.Manifest.
	Files(ctx context.Context, m *Manifest) (fs.FS, error)
	// Alike tells by path which spans of the files of m are the same in the file of
	// the same path of older, as far as that is known without reading content. Both
	// are backups of this vault. Errors: those of Vault.Manifest.
	Alike(ctx context.Context, m, older *Manifest) (map[string][]Span, error)
}

// Content is a stored file that is being read.
type Content interface {
	io.ReadCloser
	// Moved returns how many of the bytes read so far came out of the vault's
	// storage, counted as they are in the file; the others came from the older
	// copy, or are zeros that nobody stored.
	Moved() int64
}

// Level is how deep a check looks; each includes the ones before.
type Level string

// The levels.
const (
	Stored  Level = "stored"  // everything the backup needs exists in the vault
	Bytes   Level = "bytes"   // every file reads back with its recorded hash
	Records Level = "records" // every record can be read, and the digests are as sealed
)

// Progress is told how long work is coming along. Methods may be called from
// several goroutines.
type Progress interface {
	// Begin starts a stage ("storing"); total is in bytes, 0 for not known.
	Begin(stage string, total int64)
	// Advance adds to the bytes done of the current stage.
	Advance(bytes int64)
}

// Quiet is a Progress that shows nothing.
type Quiet struct{}

// Begin does nothing.
func (Quiet) Begin(string, int64) {}

// Advance does nothing.
func (Quiet) Advance(int64) {}
