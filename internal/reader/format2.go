package reader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	mapMagic    = "colorfast map 2\n"
	defaultPage = 65536
	maxObject   = 67108864
	sumEntry    = 20 // bytes of a part's offset and sum
)

// Layout is the layout of a file in file_list.
type Layout struct {
	PageBytes  int64 `json:"page_bytes"`
	UnitBytes  int64 `json:"unit_bytes"`
	ColumnFrom int64 `json:"column_from"`
	ColumnTo   int64 `json:"column_to"`
}

// cut says how a file is cut: "Pages, parts and streams".
type cut struct {
	size, page int64
	unit       int64 // 0: no columns
	from, to   int64 // column
}

func newCut(f File) (cut, error) {
	l := f.Layout
	c := cut{size: f.Size, page: l.PageBytes, unit: l.UnitBytes, from: l.ColumnFrom, to: l.ColumnTo}
	if l == (Layout{}) {
		c.page = defaultPage
	}
	units := c.unit > 0 && c.page%c.unit == 0 && 0 <= c.from && c.from < c.to && c.to <= c.unit
	none := c.unit == 0 && c.from == 0 && c.to == 0
	if c.size < 0 || c.page <= 0 || c.page > maxObject || !units && !none {
		return c, fmt.Errorf("file %q: size %d and layout %+v do not fit", f.Path, f.Size, l)
	}
	return c, nil
}

// pages is the number of pages, and so of parts of a stream.
func (c cut) pages() int64 {
	n := c.size / c.page
	if c.size%c.page > 0 {
		n++
	}
	return n
}

// streams is the number of streams, and so of parts of a page.
func (c cut) streams() int {
	if c.unit > 0 {
		return 2
	}
	return 1
}

// pageLength is the length of page i.
func (c cut) pageLength(i int64) int64 { return min(c.page, c.size-i*c.page) }

// partLength is the length of a part of page i.
func (c cut) partLength(i int64, part int) int64 {
	n := c.pageLength(i)
	if c.unit == 0 {
		return n
	}
	columns := n / c.unit * (c.to - c.from)
	if part == 1 {
		return columns
	}
	return n - columns
}

// join makes a page of its parts.
func (c cut) join(page []byte, parts [][]byte) {
	if c.unit == 0 {
		copy(page, parts[0])
		return
	}
	around, columns := parts[0], parts[1]
	for ; int64(len(page)) >= c.unit; page = page[c.unit:] {
		around = around[copy(page[:c.from], around):]
		columns = columns[copy(page[c.from:c.to], columns):]
		around = around[copy(page[c.to:c.unit], around):]
	}
	copy(page, around)
}

// use is where the parts of a run lie, in their object or in that of the base.
type use struct {
	object int // number in the map; -1: none
	place  int64
}

// run is a run of a stream.
type run struct {
	count      int64
	data, base use
}

// pageMap is a map: "map".
type pageMap struct {
	objects []mapObject
	streams [][]run
}

// mapObject is an object of pages, as the map tells.
type mapObject struct {
	id    string
	bytes int64 // L
	parts int64
	last  int64 // where the last use ended
}

var errMap = errors.New("not a map, or it does not fit the files")

// mapReader takes a map apart. After an error all numbers are 0.
type mapReader struct {
	b   []byte
	err error
}

func (r *mapReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %w", errMap, fmt.Errorf(format, args...))
	}
	r.b = nil
}

// unsigned reads a u of at most this.
func (r *mapReader) unsigned(most int64) int64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 || x > uint64(most) {
		r.fail("number %d is cut off or over %d", x, most)
		return 0
	}
	r.b = r.b[n:]
	return int64(x)
}

// signed reads an s.
func (r *mapReader) signed() int64 {
	x, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("a distance is cut off")
		return 0
	}
	r.b = r.b[n:]
	return x
}

// text reads a length and as many bytes.
func (r *mapReader) text() string {
	n := r.unsigned(r.rest())
	if n > r.rest() {
		r.fail("%d bytes are cut off", n)
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// rest is the number of bytes left: no more things than that can follow.
func (r *mapReader) rest() int64 { return int64(len(r.b)) }

// parseMap reads the map of a backup with these regular files.
func parseMap(b []byte, files []cut) (*pageMap, error) {
	b, ok := bytes.CutPrefix(b, []byte(mapMagic))
	if !ok {
		return nil, errMap
	}
	r := &mapReader{b: b}
	m := &pageMap{}
	for range r.unsigned(r.rest()) {
		o := mapObject{id: r.text()}
		o.bytes = r.unsigned(maxObject)
		o.parts = r.unsigned(o.bytes)
		m.objects = append(m.objects, o)
	}
	want := 0
	for _, c := range files {
		want += c.streams()
	}
	if n := r.unsigned(r.rest()); n != int64(want) {
		r.fail("%d streams, the files have %d", n, want)
	}
	for _, c := range files {
		for part := range c.streams() {
			m.streams = append(m.streams, r.stream(m.objects, c, part))
		}
	}
	if len(r.b) > 0 {
		r.fail("%d bytes behind the end", len(r.b))
	}
	return m, r.err
}

// stream reads a stream's runs.
func (r *mapReader) stream(objects []mapObject, c cut, part int) (runs []run) {
	parts, done := c.pages(), int64(0)
	for range r.unsigned(r.rest()) {
		if r.err != nil {
			break
		}
		u := run{count: r.unsigned(parts - done), data: use{object: -1}, base: use{object: -1}}
		if u.count == 0 {
			r.fail("a run of no parts")
			break
		}
		if o := r.unsigned(int64(len(objects))); o > 0 {
			u.data = r.use(objects, int(o-1), c, part, done, u.count)
			if b := r.unsigned(int64(len(objects))); b > 0 {
				u.base = r.use(objects, int(b-1), c, part, done, u.count)
			}
		}
		done += u.count
		runs = append(runs, u)
	}
	if done != parts {
		r.fail("runs of %d parts, the stream has %d", done, parts)
	}
	return runs
}

// use reads a place, where count parts of a stream lie, from part first on.
func (r *mapReader) use(objects []mapObject, number int, c cut, part int, first, count int64) use {
	o := &objects[number]
	distance := r.signed()
	place := o.last + distance // what wraps around is out of bounds, since last never is
	whole := c.partLength(0, part)
	final := c.partLength(first+count-1, part)
	if place < 0 || place > o.bytes || count-1 > 0 && whole > (o.bytes-place)/(count-1) || (count-1)*whole+final > o.bytes-place {
		r.fail("%d parts at %d in object %d, which has %d bytes", count, place, number, o.bytes)
		return use{object: -1}
	}
	o.last = place + count*whole
	return use{object: number, place: place}
}

// openFormat2 follows "Backup", "Pages, parts and streams" and "map" in vault.md.
func openFormat2(v *Vault, b *Backup, f File) (io.Reader, error) {
	_, list, err := v.Manifest(b)
	if err != nil {
		return nil, err
	}
	id, err := v.find(b, "map", "f")
	if err != nil {
		return nil, err
	}
	whole, err := v.readAll(id)
	if err != nil {
		return nil, err
	}
	files, cuts, err := regular(list)
	if err != nil {
		return nil, err
	}
	m, err := parseMap(whole, cuts)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(files, func(g File) bool { return g.Path == f.Path })
	if i < 0 {
		return nil, fmt.Errorf("file_list has no file %q", f.Path)
	}
	return m.open(v, cuts, i), nil
}

// regular returns the regular files, and how they are cut.
func regular(list []File) (files []File, cuts []cut, err error) {
	for _, f := range list {
		if f.Type != "file" {
			continue
		}
		c, err := newCut(f)
		if err != nil {
			return nil, nil, err
		}
		files, cuts = append(files, f), append(cuts, c)
	}
	return files, cuts, nil
}

// open reads regular file i of those that are cut so.
func (m *pageMap) open(v *Vault, cuts []cut, i int) io.Reader {
	first := 0
	for _, c := range cuts[:i] {
		first += c.streams()
	}
	r := &pageReader{cut: cuts[i]}
	for part := range r.cut.streams() {
		r.streams = append(r.streams, &streamReader{
			runs: m.streams[first+part],
			data: source{v: v, m: m, open: -1},
			base: source{v: v, m: m, open: -1},
		})
	}
	return r
}

// pageReader reads a file page by page.
type pageReader struct {
	cut     cut
	streams []*streamReader
	page    int64  // the next one
	rest    []byte // of the page before
}

// Read implements io.Reader.
func (r *pageReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.page == r.cut.pages() {
			return 0, io.EOF
		}
		parts := make([][]byte, len(r.streams))
		for i, s := range r.streams {
			parts[i] = make([]byte, r.cut.partLength(r.page, i))
			if err := s.next(parts[i]); err != nil {
				return 0, err
			}
		}
		r.rest = make([]byte, r.cut.pageLength(r.page))
		r.cut.join(r.rest, parts)
		r.page++
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// streamReader reads a stream part by part.
type streamReader struct {
	runs       []run
	parts      int64 // of the first run, that were read
	at         int64 // bytes of them
	data, base source
}

// next reads the next part, whose length is that of b. b is zeros.
func (s *streamReader) next(b []byte) error {
	u := s.runs[0]
	if u.data.object >= 0 {
		if err := s.data.read(b, u.data, s.at); err != nil {
			return err
		}
	}
	if u.base.object >= 0 {
		base := make([]byte, len(b))
		if err := s.base.read(base, u.base, s.at); err != nil {
			return err
		}
		for i := range b {
			b[i] ^= base[i]
		}
	}
	s.parts++
	s.at += int64(len(b))
	if s.parts == u.count {
		s.runs, s.parts, s.at = s.runs[1:], 0, 0
	}
	return nil
}

// source reads objects of pages and keeps the last one open.
type source struct {
	v      *Vault
	m      *pageMap
	open   int // number of object; -1: none
	object *object
}

// read reads the bytes at a distance from a place.
func (s *source) read(b []byte, u use, distance int64) error {
	if u.object != s.open {
		told := s.m.objects[u.object]
		o, err := s.v.object(told.id)
		if err != nil {
			return err
		}
		if o.size != told.bytes+told.parts*sumEntry {
			return fmt.Errorf("object %q: %d bytes, the map says %d and %d parts", told.id, o.size, told.bytes, told.parts)
		}
		s.open, s.object = u.object, o
	}
	if _, err := s.object.ReadAt(b, u.place+distance); err != nil {
		return fmt.Errorf("object %q: %w", s.m.objects[u.object].id, err)
	}
	return nil
}
