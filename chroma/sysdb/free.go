package sysdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	"colorfast/chroma"
)

// lockByte is where SQLite's processes lock; the page that holds it is never
// used for anything (sqlite.org/fileformat2.html, section 1.2).
const lockByte = 1 << 30

// window is how many pages are looked at together; 32 MiB of memory at most, and
// all of a database up to half a TiB with the usual page size.
const window = 1 << 27

// FreeLeaves tells where the leaves of the free list lie in the database r,
// which is size bytes long and which nobody may be writing to: pages that carry
// nothing, and that SQLite neither reads nor writes as long as they are there
// (sqlite.org/fileformat2.html, section 1.5). visit gets stretches of whole
// pages, in bytes and in ascending order.
//
// All of the list is looked at before the first visit. A database with
// pointer-map pages (auto-vacuum) is passed over without a visit. Whether a page
// is in the list and in use too cannot be seen here: ask QuickCheck first.
//
// Errors: those of r and visit, and *chroma.CorruptError, without any visit, for
// a list that is not as SQLite makes it.
func FreeLeaves(ctx context.Context, r io.ReaderAt, size int64, visit func(off, length int64) error) error {
	return freeLeaves(ctx, r, size, window, visit)
}

func freeLeaves(ctx context.Context, r io.ReaderAt, size, window int64, visit func(off, length int64) error) error {
	h, err := readFileHeader(r)
	if err != nil || h.autoVacuum || h.firstTrunk == 0 && h.free == 0 {
		return err
	}
	l := freeList{ctx: ctx, r: r, fileHeader: h, last: min(size/h.pageSize, math.MaxUint32)}
	if h.pages != 0 {
		l.last = min(l.last, h.pages)
	}
	if int64(h.free) >= l.last {
		return l.corrupt(36, "the free list is longer than the file")
	}
	span := min(window, l.last+1)
	l.seen, l.leaf = make([]uint64, (span+63)/64), make([]uint64, (span+63)/64)
	for from := int64(0); from <= l.last; from += span {
		if err := l.mark(from, span); err != nil {
			return err
		}
	}
	for from := int64(0); from <= l.last; from += span {
		if span <= l.last { // else the marks are those of the look before
			if err := l.mark(from, span); err != nil {
				return err
			}
		}
		if err := l.visit(from, visit); err != nil {
			return err
		}
	}
	return nil
}

// freeList is a look at a free list: trunk pages in a chain, each of which lists
// some leaves.
type freeList struct {
	fileHeader
	ctx        context.Context
	r          io.ReaderAt
	last       int64    // number of the last page; the first is 1
	seen, leaf []uint64 // a bit for each page of the window
}

// corrupt makes the error for a list that SQLite does not make.
func (l *freeList) corrupt(offset int64, format string, args ...any) error {
	return &chroma.CorruptError{File: chroma.SQLiteFile, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// mark walks the list and notes which of the span pages at from are in it. It
// ends, whatever the pages say: they may list no more than the header counts.
func (l *freeList) mark(from, span int64) error {
	clear(l.seen)
	clear(l.leaf)
	page := make([]byte, l.usable)
	room := l.usable/4 - 2 // leaves that a trunk can list
	left := int64(l.free)
	note := func(at int64, n uint32, leaf bool) error {
		if left--; left < 0 {
			return l.corrupt(at, "the free list is longer than the header counts")
		}
		if int64(n) < 2 || int64(n) > l.last || int64(n) == lockByte/l.pageSize+1 {
			return l.corrupt(at, "page %d cannot be free", n)
		}
		i := int64(n) - from
		if i < 0 || i >= span {
			return nil
		}
		if l.seen[i/64]&(1<<(i%64)) != 0 {
			return l.corrupt(at, "page %d is twice in the free list", n)
		}
		l.seen[i/64] |= 1 << (i % 64)
		if leaf {
			l.leaf[i/64] |= 1 << (i % 64)
		}
		return nil
	}
	at := int64(32) // where the next trunk is named
	for trunk := l.firstTrunk; trunk != 0; {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if err := note(at, trunk, false); err != nil {
			return err
		}
		at = int64(trunk-1) * l.pageSize
		if _, err := l.r.ReadAt(page, at); errors.Is(err, io.EOF) {
			return l.corrupt(at, "the free list ends in the middle")
		} else if err != nil {
			return err
		}
		leaves := int64(binary.BigEndian.Uint32(page[4:]))
		if leaves > room {
			return l.corrupt(at+4, "a page of the free list lists %d leaves, and has room for %d", leaves, room)
		}
		for i := range leaves {
			if err := note(at+8+4*i, binary.BigEndian.Uint32(page[8+4*i:]), true); err != nil {
				return err
			}
		}
		trunk = binary.BigEndian.Uint32(page)
	}
	if left != 0 {
		return l.corrupt(36, "the free list is shorter than the header counts, by %d", left)
	}
	return nil
}

// visit hands on the leaves that are marked, those side by side as one.
func (l *freeList) visit(from int64, visit func(off, length int64) error) error {
	var start, n int64 // the stretch that is being put together, in pages
	flush := func() error {
		if n == 0 {
			return nil
		}
		off, length := (from+start-1)*l.pageSize, n*l.pageSize
		n = 0
		return visit(off, length)
	}
	for w, word := range l.leaf {
		for word != 0 {
			i := int64(w*64 + bits.TrailingZeros64(word))
			word &= word - 1
			if n == 0 || i != start+n {
				if err := flush(); err != nil {
					return err
				}
				start = i
			}
			n++
		}
	}
	return flush()
}
