// Package pickle decodes the one shape of pickle that Chroma writes: the map of
// ids in a vector segment's index_metadata.pickle. It decodes and never
// executes: the only class that it accepts is Chroma's own, by name, and any
// opcode that no Chroma writes is an error with file and offset.
//
// The map is streamed, never built: memory is a few hundred KiB, and for
// Python-era files 16 bytes more for each string that the pickle memoizes (one
// for each id).
//
// Start reading at Decode; machine.go has the opcodes, reader.go the bytes.
package pickle

import (
	"errors"
	"fmt"
	"io"
)

// MaxIDLength is the longest id that is accepted, in bytes of UTF-8; far above
// what anybody uses, and a bound for what a damaged length can cost.
const MaxIDLength = 64 << 20

// Form says which Chroma wrote a pickle.
type Form int

// The forms. The zero value is no form.
const (
	// Rust is a plain dict, written by serde_pickle with protocol 3 (Chroma
	// 1.0.0 and later: IdMap in local_hnsw.rs).
	Rust Form = iota + 1
	// Python is an instance of PersistentData, written by pickle.dump with its
	// highest protocol (Chroma 0.4.0 to 0.6.3:
	// chromadb/segment/impl/vector/local_persistent_hnsw.py).
	Python
)

// String returns the form in a word.
func (f Form) String() string {
	switch f {
	case Rust:
		return "rust"
	case Python:
		return "python"
	}
	return "unknown"
}

// Info is what the pickle says besides the ids.
type Info struct {
	Form               Form
	Dimensionality     int   // components of a vector; 0 when None, as Rust always writes
	TotalElementsAdded int64 // the last label given, so also the number of elements in the index with the deleted ones
	MaxSeqID           int64 // -1 when None or missing; set by Python 0.4.0 to 0.5.5 only, and kept by later Pythons
	IDs                int64 // entries of id_to_label
	Labels             int64 // entries of label_to_id

	// ReverseMatches tells that label_to_id is the exact inverse of
	// id_to_label. It is decided without keeping either: by the sum modulo 2^64
	// of a 64-bit hash of every pair, seeded at random for every call, and by
	// the number of pairs. Different maps pass with a chance of 2^-64.
	ReverseMatches bool
}

// Decode reads the pickle in r, size bytes long and called name in errors, and
// calls fn for every entry of id_to_label in stored order. fn may be nil. It is
// called before the rest is read, so what it was told counts only if Decode
// returns no error.
//
// Errors: a *chroma.CorruptError for bytes that Chroma does not write or does
// not load, whatever fn returns as it is, and errors of r.
//
// BUG(colorfast): an id that is stored twice under different labels goes
// unnoticed here, for that would take a set of all ids. Chroma writes from a
// hash map, which has every key once.
func Decode(r io.ReaderAt, size int64, name string, fn func(id string, label uint64) error) (*Info, error) {
	if fn == nil {
		fn = func(string, uint64) error { return nil }
	}
	m := newMachine(newReader(r, size, name), fn)
	if err := m.run(); err != nil {
		var rd *readError
		if errors.As(err, &rd) {
			return nil, fmt.Errorf("read %q: %w", name, rd.err)
		}
		return nil, err
	}
	return &m.info, nil
}
