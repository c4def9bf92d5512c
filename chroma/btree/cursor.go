package btree

import "sort"

// maxDepth is more than the levels of any b-tree that a file can hold.
const maxDepth = 40

// Index walks an index, whose first column is an integer and whose last one is
// the rowid, in its order.
type Index struct {
	f      *File
	root   uint32
	path   []step
	visits uint32 // pages since the last From: a walk comes to each once
	room   []byte
	values []Value
}

// step is a page on the way from the root. Its places are the cells of a leaf; of
// an interior page, by turns, its children and its cells.
type step struct {
	p  *page
	at int
}

// Index returns the index whose root is this page.
func (f *File) Index(root uint32) *Index { return &Index{f: f, root: root} }

func (x *Index) push(number uint32, at int) error {
	p, err := x.f.page(number)
	if err != nil {
		return err
	}
	x.visits++
	if p.kind != leafIndex && p.kind != interiorIndex || len(x.path) == maxDepth || x.visits > x.f.pages {
		return x.f.corrupt(number, "page %d does not belong where it stands in an index", number)
	}
	x.path = append(x.path, step{p, at})
	return nil
}

// From goes before the first entry whose first column is at least key.
func (x *Index) From(key int64) error {
	x.path, x.visits = x.path[:0], 0
	for next := x.root; ; {
		if err := x.push(next, 0); err != nil {
			return err
		}
		top := &x.path[len(x.path)-1]
		var err error
		k := sort.Search(top.p.cells, func(i int) bool {
			var v []Value
			if err == nil {
				v, err = x.entry(top.p, i)
			}
			return err != nil || v[0].Int >= key
		})
		if err != nil {
			return err
		}
		if top.p.leaf() {
			top.at = k
			return nil
		}
		top.at = 2*k + 1
		if next, err = x.f.child(top.p, k); err != nil {
			return err
		}
	}
}

// Next returns the first column and the rowid of the next entry; ok is false at
// the end.
func (x *Index) Next() (key, rowid int64, ok bool, err error) {
	for len(x.path) > 0 {
		top := &x.path[len(x.path)-1]
		at := top.at
		top.at++
		switch {
		case top.p.leaf() && at < top.p.cells:
		case !top.p.leaf() && at <= 2*top.p.cells && at%2 == 0:
			child, err := x.f.child(top.p, at/2)
			if err == nil {
				err = x.push(child, 0)
			}
			if err != nil {
				return 0, 0, false, err
			}
			continue
		case !top.p.leaf() && at < 2*top.p.cells:
			at /= 2
		default:
			x.path = x.path[:len(x.path)-1]
			continue
		}
		v, err := x.entry(top.p, at)
		if err != nil {
			return 0, 0, false, err
		}
		return v[0].Int, v[len(v)-1].Int, true, nil
	}
	return 0, 0, false, nil
}

// entry returns the columns of cell i.
func (x *Index) entry(p *page, i int) ([]Value, error) {
	c, err := x.f.cell(p, i)
	if err != nil {
		return nil, err
	}
	if !p.leaf() {
		c = c[4:]
	}
	n, size := varint(c)
	if size == 0 {
		return nil, x.f.corrupt(p.number, "cell %d of page %d ends early", i, p.number)
	}
	b, err := x.f.payload(p, c[size:], n, &x.room)
	if err != nil {
		return nil, err
	}
	v := columns(b, x.values[:0])
	if len(v) < 2 || v[0].Kind != Integer || v[len(v)-1].Kind != Integer {
		return nil, x.f.corrupt(p.number, "cell %d of page %d is no entry of this index", i, p.number)
	}
	x.values = v
	return v, nil
}

// Table looks rows up.
type Table struct {
	f      *File
	root   uint32
	leaf   *page // the one of the last row
	room   []byte
	values []Value
}

// Table returns the table whose root is this page.
func (f *File) Table(root uint32) *Table { return &Table{f: f, root: root} }

// Row returns the columns of a row, valid until the next call; ok is false if there
// is no such row.
func (t *Table) Row(rowid int64) (v []Value, ok bool, err error) {
	if t.leaf != nil {
		i, found, err := t.find(t.leaf, rowid)
		if err != nil {
			return nil, false, err
		}
		if found {
			return t.row(t.leaf, i)
		}
	}
	next := t.root
	for range maxDepth {
		p, err := t.f.page(next)
		if err != nil {
			return nil, false, err
		}
		if p.kind != leafTable && p.kind != interiorTable {
			return nil, false, t.f.corrupt(next, "page %d does not belong where it stands in a table", next)
		}
		i, found, err := t.find(p, rowid)
		if err != nil {
			return nil, false, err
		}
		if p.leaf() {
			t.leaf = p
			if !found {
				return nil, false, nil
			}
			return t.row(p, i)
		}
		if next, err = t.f.child(p, i); err != nil {
			return nil, false, err
		}
	}
	return nil, false, t.f.corrupt(t.root, "a table of more than %d levels", maxDepth)
}

// find returns the first cell whose rowid is at least this one.
func (t *Table) find(p *page, rowid int64) (i int, found bool, err error) {
	i = sort.Search(p.cells, func(i int) bool {
		var id int64
		if err == nil {
			id, _, err = t.cell(p, i)
		}
		found = found || err == nil && id == rowid
		return err != nil || id >= rowid
	})
	return i, found && i < p.cells, err
}

// cell returns the rowid of a cell, and what follows it.
func (t *Table) cell(p *page, i int) (rowid int64, rest []byte, err error) {
	c, err := t.f.cell(p, i)
	if err != nil {
		return 0, nil, err
	}
	if !p.leaf() {
		c = c[4:]
	} else if _, n := varint(c); n > 0 {
		c = c[n:]
	}
	id, n := varint(c)
	if n == 0 {
		return 0, nil, t.f.corrupt(p.number, "cell %d of page %d ends early", i, p.number)
	}
	return id, c[n:], nil
}

func (t *Table) row(p *page, i int) (v []Value, ok bool, err error) {
	c, err := t.f.cell(p, i)
	if err != nil {
		return nil, false, err
	}
	n, _ := varint(c)
	_, rest, err := t.cell(p, i)
	if err != nil {
		return nil, false, err
	}
	b, err := t.f.payload(p, rest, n, &t.room)
	if err != nil {
		return nil, false, err
	}
	if v = columns(b, t.values[:0]); v == nil {
		return nil, false, t.f.corrupt(p.number, "cell %d of page %d is no record", i, p.number)
	}
	t.values = v
	return v, true, nil
}

// Scan walks a table in the order of its rowids.
type Scan struct {
	t      *Table
	path   []step
	visits uint32
}

// Scan returns a walk through the table; From begins it.
func (t *Table) Scan() *Scan { return &Scan{t: t} }

func (s *Scan) push(number uint32, at int) error {
	p, err := s.t.f.page(number)
	if err != nil {
		return err
	}
	s.visits++
	if p.kind != leafTable && p.kind != interiorTable || len(s.path) == maxDepth || s.visits > s.t.f.pages {
		return s.t.f.corrupt(number, "page %d does not belong where it stands in a table", number)
	}
	s.path = append(s.path, step{p, at})
	return nil
}

// From goes before the first row whose rowid is at least this one.
func (s *Scan) From(rowid int64) error {
	s.path, s.visits = s.path[:0], 0
	for next := s.t.root; ; {
		if err := s.push(next, 0); err != nil {
			return err
		}
		top := &s.path[len(s.path)-1]
		i, _, err := s.t.find(top.p, rowid)
		if err != nil {
			return err
		}
		if top.at = i; top.p.leaf() {
			return nil
		}
		top.at++
		if next, err = s.t.f.child(top.p, i); err != nil {
			return err
		}
	}
}

// Next returns the next row, whose columns are valid until the next call; ok is
// false at the end.
func (s *Scan) Next() (rowid int64, v []Value, ok bool, err error) {
	for len(s.path) > 0 {
		top := &s.path[len(s.path)-1]
		at := top.at
		top.at++
		switch {
		case top.p.leaf() && at < top.p.cells:
			if rowid, _, err = s.t.cell(top.p, at); err == nil {
				v, ok, err = s.t.row(top.p, at)
			}
			return rowid, v, ok, err
		case !top.p.leaf() && at <= top.p.cells:
			child, err := s.t.f.child(top.p, at)
			if err == nil {
				err = s.push(child, 0)
			}
			if err != nil {
				return 0, nil, false, err
			}
		default:
			s.path = s.path[:len(s.path)-1]
		}
	}
	return 0, nil, false, nil
}
