// Package records reads every record of a Chroma collection from the files of
// a persist directory: ids, vectors, documents, uris and metadata, as Chroma's
// own get would answer after a restart.
//
// A record lies in up to three places: its metadata in chroma.sqlite3, its
// vector in the saved index, and whatever came later in the queue of writes.
// Read lays them over each other with Chroma's own rules. It never writes into
// the persist directory, and what is lost comes as a count and not as an
// error. Memory does not grow with the number of records. Start at Read.
package records

import (
	"context"
	"fmt"

	"colorfast/chroma/pickle"
	"colorfast/chroma/sysdb"
)

// Field and Value are metadata, as in sysdb.
type (
	Field = sysdb.Field
	Value = sysdb.Value
)

// Record is one record of a collection.
type Record struct {
	ID       string
	Vector   []byte  // float32, little-endian; nil when it is nowhere
	Document *string // nil for none
	URI      *string // nil for none
	Metadata []Field // sorted by key; with the keys "chroma:..." that are neither document nor uri, which the API hides
}

// maxSamples is how many ids of each kind of trouble are kept.
const maxSamples = 5

// Trouble counts records that are not as they should be.
type Trouble struct {
	Count  int64
	Sample []string // ids of the first few, at most 5
}

// add counts one more.
func (t *Trouble) add(id string) {
	t.Count++
	if len(t.Sample) < maxSamples {
		t.Sample = append(t.Sample, id)
	}
}

// Stats is what was met on the way.
type Stats struct {
	Records      int64 // yielded
	FromQueue    int64 // of them with a vector that lies only in the queue
	Overlaid     int64 // queue rows that the metadata segment had not seen
	VectorRows   int64 // queue rows that the vector segment had not seen
	BadQueueRows int64 // of all those, rows whose operation or metadata Chroma does not write; their metadata is passed over

	Missing         Trouble // records without a vector
	Ghosts          Trouble // vectors without a record
	WrongDimension  Trouble // vectors that are not as long as the collection's
	Ambiguous       Trouble // in the saved index, and updated before added in the queue: see Read
	UnreadableSlots int64   // ids of the saved index that have no live vector in it

	Segment      string       // state of the segment directory: absent, young, saved or partial; "" without one
	SegmentError error        // why vectors of the saved index could not be read, nil if they could or there are none
	Pickle       *pickle.Info // of the saved index, nil if not read
	VectorSeq    int64        // up to which seq_id the saved index counts, -1 for none
}

// Read hands every record of c to fn: by ascending embeddings.id, then those
// that are only in the queue in its order. dir is the persist directory that db
// lies in, and scratch an existing folder for temporary files, which are gone
// on return. The record is valid only during the call; an error of fn ends Read
// and is returned as it is.
//
// Vectors come from the saved index, those of cosine collections as Chroma
// computes them from the stored direction and length, which is true to rounding
// only. Rows of the queue that the index has not seen, exact, are laid over
// them: Add counts only if the id is absent, Update only if it is present,
// Upsert always, Delete removes. The same rules hold for metadata, where given
// keys replace, null removes and others stay (add_record, update_metadata in
// rust/segment/src/sqlite_metadata.rs; local_hnsw.rs for vectors).
//
// A saved index that cannot be read is no error but Stats.SegmentError: its
// records then come with a nil vector. If a crash left the index ahead of its
// max_seq_id, replaying the queue is harmless but for one case: an id with an
// Update before its Add. Chroma replays it to the wrong vector, and so does
// Read; such ids are Stats.Ambiguous. They may also be harmless: an add of an
// id that exists does nothing.
//
// An error means that the records could not be read: *chroma.CorruptError for
// the database, others for files and ctx.
func Read(ctx context.Context, db *sysdb.DB, c *sysdb.Collection, dir, scratch string, fn func(*Record) error) (*Stats, error) {
	return ReadParts(ctx, db, c, dir, scratch, []func(*Record) error{fn})
}

// ReadParts is Read by as many goroutines as there are functions: each is called
// by one of them, with another part of the records. Where the queue changes
// metadata, the first function gets all.
func ReadParts(ctx context.Context, db *sysdb.DB, c *sysdb.Collection, dir, scratch string, fns []func(*Record) error) (_ *Stats, err error) {
	m, err := newMerger(ctx, db, c, scratch, fns[0])
	if err != nil {
		return nil, fmt.Errorf("read records of %q: %w", c.ID, err)
	}
	defer func() {
		if cerr := m.close(); err == nil && cerr != nil {
			err = cerr
		}
	}()
	for _, step := range []func() error{
		func() error { return m.openSegment(dir) },
		m.overlayVectors,
		m.overlayMetadata,
		func() error { return m.yieldParts(fns) },
		m.yieldQueued,
		m.countGhosts,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &m.stats, nil
}
