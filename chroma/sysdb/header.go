package sysdb

import (
	"encoding/binary"
	"errors"
	"io"

	"colorfast/chroma"
)

// headerSize is the size of the header at the start of a SQLite database.
const headerSize = 100

// fileHeader is what of a database's header tells where its pages lie; big-endian
// (sqlite.org/fileformat2.html, section 1.3).
type fileHeader struct {
	pageSize   int64  // offset 16
	usable     int64  // pageSize less the reserved bytes at the end of every page, offset 20
	pages      int64  // offset 28; 0 if the field is not to be believed
	firstTrunk uint32 // offset 32: first page of the free list, 0 for none
	free       uint32 // offset 36: pages in the free list
	autoVacuum bool   // offset 52: there are pointer-map pages
}

// readFileHeader reads the header of the database r. An error that is a
// *chroma.CorruptError means that it is none, or an empty one.
func readFileHeader(r io.ReaderAt) (fileHeader, error) {
	var b [headerSize]byte
	if n, err := r.ReadAt(b[:], 0); n < headerSize {
		if errors.Is(err, io.EOF) {
			return fileHeader{}, &chroma.CorruptError{File: chroma.SQLiteFile, Offset: int64(n), Reason: "it ends in its header"}
		}
		return fileHeader{}, err
	}
	be := binary.BigEndian
	h := fileHeader{
		pageSize:   int64(be.Uint16(b[16:])),
		firstTrunk: be.Uint32(b[32:]),
		free:       be.Uint32(b[36:]),
		autoVacuum: be.Uint32(b[52:]) != 0,
	}
	if h.pageSize == 1 {
		h.pageSize = 65536
	}
	// The number of pages counts only if the change counter says that its writer
	// knew of the field.
	if be.Uint32(b[24:]) == be.Uint32(b[92:]) {
		h.pages = int64(be.Uint32(b[28:]))
	}
	h.usable = h.pageSize - int64(b[20])
	switch {
	case string(b[:16]) != "SQLite format 3\x00":
		return fileHeader{}, &chroma.CorruptError{File: chroma.SQLiteFile, Offset: 0, Reason: "it does not begin as SQLite's files do"}
	case h.pageSize < 512 || h.pageSize&(h.pageSize-1) != 0:
		return fileHeader{}, &chroma.CorruptError{File: chroma.SQLiteFile, Offset: 16, Reason: "its page size is impossible"}
	case h.usable < 480:
		return fileHeader{}, &chroma.CorruptError{File: chroma.SQLiteFile, Offset: 20, Reason: "its pages have no room"}
	}
	return h, nil
}

// PageSize returns the size of the pages of the database r, in bytes: a power of
// two from 512 to 65536. Errors: those of r, and *chroma.CorruptError for what
// is no database, or an empty one.
func PageSize(r io.ReaderAt) (int, error) {
	h, err := readFileHeader(r)
	return int(h.pageSize), err
}
