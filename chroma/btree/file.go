// Package btree reads tables and indexes of a SQLite database straight from its
// pages (sqlite.org/fileformat2.html, sections 1.5 to 2). It can do three things,
// all of them several times as fast as SQLite in pure Go: walk an index or a table
// in its order, and look a row up by its rowid.
//
// The file must be quiet, and no byte of it is trusted: whatever cannot be is a
// *chroma.CorruptError.
//
// Start reading at File; cursor.go walks, record.go takes rows apart.
package btree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"colorfast/chroma"
)

const (
	// cachedBytes is how much of a file is held: the pages on the way down to many
	// leaves, and the leaves used last.
	cachedBytes = 8 << 20

	// aheadBytes are read at once where pages are read one behind the other, as
	// they mostly are: a system call for each took a third of a walk.
	aheadBytes = 64 << 10
	// near is how far behind a page an earlier one may lie to say so: pages of
	// other trees lie between.
	near = 4
)

// File is a database. It is for one goroutine.
type File struct {
	r        io.ReaderAt
	name     string // for errors
	pageSize int
	usable   int // bytes of a page that SQLite uses
	pages    uint32
	maxRow   int64

	cache  map[uint32]*page
	order  []uint32 // of the cache, a ring
	oldest int

	ahead [4]stretch // for as many walks at the same time
	used  int        // of ahead, the last one read
}

// stretch is pages that were read at once.
type stretch struct {
	first uint32
	pages uint32
	b     []byte
}

// page is a page of a b-tree.
type page struct {
	number uint32
	b      []byte // usable bytes
	kind   byte
	head   int // offset of the page's header
	cells  int
}

// Kinds of pages.
const (
	interiorIndex = 2
	interiorTable = 5
	leafIndex     = 10
	leafTable     = 13
)

// Open returns the database in r, of size bytes, whose pages have pageSize
// bytes of which usable are used. Rows of more than maxRow bytes are refused.
func Open(r io.ReaderAt, name string, size int64, pageSize, usable int, maxRow int64) *File {
	return &File{
		r: r, name: name, pageSize: pageSize, usable: usable, maxRow: maxRow,
		pages: uint32(min(size/int64(pageSize), 1<<32-2)),
		cache: map[uint32]*page{}, order: make([]uint32, max(2*maxDepth, cachedBytes/pageSize)),
	}
}

func (f *File) corrupt(page uint32, format string, args ...any) error {
	return &chroma.CorruptError{File: f.name, Offset: (int64(page) - 1) * int64(f.pageSize), Reason: fmt.Sprintf(format, args...)}
}

// read reads the bytes that SQLite uses of a page.
func (f *File) read(number uint32, b []byte) error {
	if number < 1 || number > f.pages {
		return f.corrupt(1, "page %d of %d", number, f.pages)
	}
	n, err := f.r.ReadAt(b, (int64(number)-1)*int64(f.pageSize))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return f.corrupt(number, "the file ends in page %d", number)
	}
	return fmt.Errorf("read %q: %w", f.name, err)
}

// readForward is read for a page that may be one of many in a row.
func (f *File) readForward(number uint32, b []byte) error {
	for i := range f.ahead {
		if s := &f.ahead[i]; number-s.first < s.pages { // a number below first is far above
			copy(b, s.b[int(number-s.first)*f.pageSize:])
			return nil
		}
	}
	many := min(uint32(max(1, aheadBytes/f.pageSize)), f.pages-min(number, f.pages)+1)
	if number < 1 || number > f.pages || many < 2 || !f.follows(number) {
		return f.read(number, b)
	}
	f.used = (f.used + 1) % len(f.ahead)
	s := &f.ahead[f.used]
	if s.b == nil {
		s.b = make([]byte, aheadBytes)
	}
	s.first, s.pages = number, 0
	n, err := f.r.ReadAt(s.b[:int(many)*f.pageSize], (int64(number)-1)*int64(f.pageSize))
	if s.pages = uint32(n / f.pageSize); s.pages == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			return f.read(number, b) // which says what is wrong
		}
		return fmt.Errorf("read %q: %w", f.name, err)
	}
	copy(b, s.b)
	return nil
}

// follows reports whether a page shortly before this one was read lately.
func (f *File) follows(number uint32) bool {
	for d := uint32(1); d <= near && d < number; d++ {
		if f.cache[number-d] != nil {
			return true
		}
	}
	return false
}

// page returns a page of a b-tree.
func (f *File) page(number uint32) (*page, error) {
	if p := f.cache[number]; p != nil {
		return p, nil
	}
	old := f.cache[f.order[f.oldest]]
	p := &page{number: number}
	if old != nil {
		delete(f.cache, old.number)
	}
	p.b = make([]byte, f.usable)
	if err := f.readForward(number, p.b); err != nil {
		return nil, err
	}
	if number == 1 {
		p.head = 100
	}
	p.kind = p.b[p.head]
	p.cells = int(binary.BigEndian.Uint16(p.b[p.head+3:]))
	switch p.kind {
	case interiorIndex, interiorTable, leafIndex, leafTable:
	default:
		return nil, f.corrupt(number, "page %d is of kind %d", number, p.kind)
	}
	if p.first()+2*p.cells > f.usable {
		return nil, f.corrupt(number, "page %d has %d cells", number, p.cells)
	}
	f.cache[number] = p
	f.order[f.oldest] = number
	f.oldest = (f.oldest + 1) % len(f.order)
	return p, nil
}

func (p *page) leaf() bool { return p.kind == leafIndex || p.kind == leafTable }

// first returns the offset of the array of cell pointers.
func (p *page) first() int {
	if p.leaf() {
		return p.head + 8
	}
	return p.head + 12
}

// cell returns what begins at cell i and goes on to the end of the page.
func (f *File) cell(p *page, i int) ([]byte, error) {
	at := int(binary.BigEndian.Uint16(p.b[p.first()+2*i:]))
	if at < p.first()+2*p.cells || at > len(p.b)-4 {
		return nil, f.corrupt(p.number, "cell %d of page %d lies at %d", i, p.number, at)
	}
	return p.b[at:], nil
}

// child returns the number of child i; there is one more than there are cells.
func (f *File) child(p *page, i int) (uint32, error) {
	if i == p.cells {
		return binary.BigEndian.Uint32(p.b[p.head+8:]), nil
	}
	c, err := f.cell(p, i)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(c), nil
}

// varint reads one of SQLite's variable-length integers from the start of b;
// size 0 means that b ends in it.
func varint(b []byte) (v int64, size int) {
	var u uint64
	for i := range min(len(b), 8) {
		u = u<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return int64(u), i + 1
		}
	}
	if len(b) < 9 {
		return 0, 0
	}
	return int64(u<<8 | uint64(b[8])), 9
}

// payload returns a payload of n bytes whose first ones are at the start of c,
// and which goes on in overflow pages if it is long. It is valid until room is
// used again.
func (f *File) payload(p *page, c []byte, n int64, room *[]byte) ([]byte, error) {
	if n < 0 || n > f.maxRow {
		return nil, f.corrupt(p.number, "a row of %d bytes", n)
	}
	u := int64(f.usable)
	most, least := u-35, (u-12)*32/255-23
	if p.kind != leafTable {
		most = (u-12)*64/255 - 23
	}
	local := n
	if n > most {
		if local = least + (n-least)%(u-4); local > most {
			local = least
		}
	}
	if local > int64(len(c)) || n > local && local+4 > int64(len(c)) {
		return nil, f.corrupt(p.number, "a cell goes beyond its page")
	}
	if n == local {
		return c[:n], nil
	}
	buf := append((*room)[:0], c[:local]...)
	next := binary.BigEndian.Uint32(c[local:])
	b := make([]byte, f.usable)
	for int64(len(buf)) < n { // each page adds some: a chain in a circle ends too
		if err := f.read(next, b); err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(b)
		buf = append(buf, b[4:4+min(u-4, n-int64(len(buf)))]...)
	}
	*room = buf
	return buf, nil
}
