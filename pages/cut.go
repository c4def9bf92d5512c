// Package pages cuts files into pages and says where each page lies: the part
// of increments that is pure thought. It knows neither storages nor Chroma,
// only that a file may consist of pages that are rewritten as wholes, and of
// units with a column that changes apart from the rest (colorfast.Layout).
//
// A page is a stretch of a file. It has one part, or two where there is a
// column: part 0 is what is around the column, part 1 the column. So vectors,
// which never change, stay apart from the links between them, which every
// insert changes. All the parts of one number are a stream. A Map says for every
// part of every stream where its bytes are.
//
// Start reading at Cut; docs/formats/vault.md describes what is written.
package pages

import "colorfast"

// DefaultPage is the length of a page, in bytes, where nothing is known of a file.
const DefaultPage = 64 << 10

// Cut is how one file is cut. The zero value cuts an empty file.
type Cut struct {
	size           int64
	page           int64
	unit, from, to int64 // unit is 0 without a column
	parts          int
}

// NewCut returns how a file of size bytes is cut. A layout that is not valid
// counts as none.
func NewCut(size int64, l *colorfast.Layout) Cut {
	c := Cut{size: size, page: DefaultPage, parts: 1}
	if l == nil || !l.Valid() {
		return c
	}
	c.page = int64(l.PageBytes)
	if l.UnitBytes > 0 {
		c.unit, c.from, c.to, c.parts = int64(l.UnitBytes), int64(l.ColumnFrom), int64(l.ColumnTo), 2
	}
	return c
}

// Parts returns the number of streams.
func (c Cut) Parts() int { return c.parts }

// Pages returns the number of pages.
func (c Cut) Pages() int64 {
	if c.size <= 0 {
		return 0
	}
	return (c.size-1)/c.page + 1
}

// PageBytes returns the length of every page but the last.
func (c Cut) PageBytes() int64 { return c.page }

// Page returns the offset and the length of page i in the file.
func (c Cut) Page(i int64) (offset, length int64) {
	offset = i * c.page
	return offset, min(c.page, c.size-offset)
}

// Alike reports whether pages of the same number and length may hold the same
// in both cuts.
func (c Cut) Alike(o Cut) bool {
	return c.page == o.page && c.unit == o.unit && c.from == o.from && c.to == o.to
}

// PartBytes returns the length of a part of page i. What follows the last whole
// unit belongs to part 0.
func (c Cut) PartBytes(part int, i int64) int64 {
	_, n := c.Page(i)
	if c.unit == 0 {
		return n
	}
	column := n / c.unit * (c.to - c.from)
	if part == 1 {
		return column
	}
	return n - column
}

// Split appends a part of page to dst and returns it. Without a column the part
// is the page itself, and dst is not used.
func (c Cut) Split(page []byte, part int, dst []byte) []byte {
	if c.unit == 0 {
		return page
	}
	whole := int64(len(page)) / c.unit * c.unit
	for at := int64(0); at < whole; at += c.unit {
		if part == 1 {
			dst = append(dst, page[at+c.from:at+c.to]...)
			continue
		}
		dst = append(dst, page[at:at+c.from]...)
		dst = append(dst, page[at+c.to:at+c.unit]...)
	}
	if part == 0 {
		dst = append(dst, page[whole:]...)
	}
	return dst
}

// Join is the inverse of Split: it writes a part into page, whose length must
// fit.
func (c Cut) Join(page []byte, part int, src []byte) {
	if c.unit == 0 {
		copy(page, src)
		return
	}
	whole := int64(len(page)) / c.unit * c.unit
	take := func(dst []byte) { src = src[copy(dst, src):] }
	for at := int64(0); at < whole; at += c.unit {
		if part == 1 {
			take(page[at+c.from : at+c.to])
			continue
		}
		take(page[at : at+c.from])
		take(page[at+c.to : at+c.unit])
	}
	if part == 0 {
		take(page[whole:])
	}
}
