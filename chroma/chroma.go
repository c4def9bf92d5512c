// Package chroma is what colorfast knows of Chroma's persist directory: its
// file names, the shape of its bytes, and the error for bytes that are wrong.
// The packages below it read the parts: sysdb the SQLite database, hnsw a
// vector segment, pickle the map of ids in it, records all of it as records;
// client speaks the HTTP API. They never write, and know nothing of backups.
package chroma

import "fmt"

// Names of files in a persist directory (single-node Chroma 0.4.0 and later).
const (
	SQLiteFile  = "chroma.sqlite3"
	JournalFile = SQLiteFile + "-journal"
	WALFile     = SQLiteFile + "-wal"
	SHMFile     = SQLiteFile + "-shm"
)

// Names of the files of a vector segment, in the order in which Chroma rewrites
// them (LocalHnswSegmentWriter persist, then save in hnswlib's hnswalg.h).
const (
	HeaderFile = "header.bin"
	DataFile   = "data_level0.bin"
	LengthFile = "length.bin"
	LinksFile  = "link_lists.bin"
	PickleFile = "index_metadata.pickle"
)

// SegmentFiles returns the names of the five files of a vector segment in the
// order in which Chroma rewrites them.
func SegmentFiles() []string {
	return []string{HeaderFile, DataFile, LengthFile, LinksFile, PickleFile}
}

// CorruptError tells that bytes are not what Chroma writes.
type CorruptError struct {
	File   string // path as given to the reader
	Offset int64  // bytes from the start of the file, -1 where that means nothing
	Reason string // one line
}

// Error names file, offset and reason.
func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s: offset %d: %s", e.File, e.Offset, e.Reason)
}

// IsUUID reports whether s is a UUID as Chroma names segments: 36 lower-case
// hexadecimal digits and dashes.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
