package sysdb

import (
	"context"
	"errors"
	"fmt"
	"os"

	"colorfast/chroma/btree"
)

// Most of the time of reading records went into SQLite's walk through the scalar
// metadata: a row by row hunt from an index into its table. fieldPages does the
// same straight from the pages. It is used only where the table and its index are
// of the form that every Chroma so far has made; otherwise SQLite does it.

// fieldPages reads metadata rows from the pages of the database.
type fieldPages struct {
	*pagesOf
	index *btree.Index
	table *btree.Table
	at    fieldColumns
	last  int64 // id after which there are none of the segment
	id    int64 // of the row that it stands on
	rowid int64
}

// fieldColumns are the numbers of the columns in the table, -1 for none.
type fieldColumns struct{ id, key, str, num, float, boolean int }

// fieldPages starts before the first row of a segment; nil if the form of the
// table is another one.
func (db *DB) fieldPages(ctx context.Context, s span) (_ fieldRows, err error) {
	const name = "embedding_metadata"
	at, err := db.fieldColumns(ctx, name)
	if err != nil || at == nil {
		return nil, err
	}
	table, index, err := db.roots(ctx, name)
	if err != nil || index == 0 {
		return nil, err
	}
	p := &fieldPages{at: *at, last: s.last}
	if p.pagesOf, err = db.pages(ctx); err != nil {
		return nil, err
	}
	p.index, p.table = p.tree.Index(index), p.tree.Table(table)
	if err := p.index.From(s.first); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// openFile opens the file of the database, with its header and its size.
func (db *DB) openFile() (_ *os.File, h fileHeader, size int64, err error) {
	f, err := os.Open(db.path)
	if err != nil {
		return nil, h, 0, fmt.Errorf("read sysdb %q: %w", db.path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if h, err = readFileHeader(f); err != nil {
		return nil, h, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, h, 0, fmt.Errorf("read sysdb %q: %w", db.path, err)
	}
	return f, h, st.Size(), nil
}

// fieldColumns finds the columns of a metadata table; nil if they are not what is
// known, or text is not in UTF-8.
func (db *DB) fieldColumns(ctx context.Context, table string) (*fieldColumns, error) {
	at := fieldColumns{-1, -1, -1, -1, -1, -1}
	known := map[string]*int{
		"id INTEGER": &at.id, "key TEXT": &at.key, "string_value TEXT": &at.str,
		"int_value INTEGER": &at.num, "float_value REAL": &at.float, "bool_value INTEGER": &at.boolean,
	}
	odd := false
	err := db.query(ctx, `SELECT cid, name || ' ' || type, hidden FROM pragma_table_xinfo(?1)`, []any{table}, func(r *row) error {
		if to := known[r.text(1)]; to != nil && r.int(2) == 0 {
			*to = int(r.int(0))
		} else {
			odd = true
		}
		return r.err
	})
	if err == nil {
		err = db.query(ctx, `PRAGMA encoding`, nil, func(r *row) error {
			odd = odd || r.text(0) != "UTF-8"
			return r.err
		})
	}
	if err != nil || odd || min(at.id, at.key, at.str, at.num, at.float) < 0 {
		return nil, err
	}
	return &at, nil
}

// roots returns the first pages of a table and of its index over id and key, 0 if
// it has none such.
func (db *DB) roots(ctx context.Context, table string) (tableRoot, indexRoot uint32, err error) {
	index := ""
	err = db.query(ctx, `SELECT l.name, group_concat(x.cid || coalesce(x.name, '') || x.desc || x.coll) FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x
		WHERE l.origin = 'pk' AND l.partial = 0 GROUP BY l.name`, []any{table}, func(r *row) error {
		if r.text(1) == "0id0BINARY,1key0BINARY,-10BINARY" {
			index = r.text(0)
		}
		return r.err
	})
	if err != nil || index == "" {
		return 0, 0, err
	}
	err = db.query(ctx, `SELECT name, rootpage FROM sqlite_schema WHERE tbl_name = ?1 AND name IN (?1, ?2)`, []any{table, index}, func(r *row) error {
		if root := uint32(r.int(1)); r.text(0) == index {
			indexRoot = root
		} else {
			tableRoot = root
		}
		return r.err
	})
	return tableRoot, indexRoot, err
}

// next goes to the next row, if it is of the segment or between its rows.
func (p *fieldPages) next() (ok bool, err error) {
	if err := p.step(); err != nil {
		return false, err
	}
	p.id, p.rowid, ok, err = p.index.Next()
	return ok && p.id <= p.last, err
}

func (p *fieldPages) rowID() (int64, error) { return p.id, nil }

// skip goes far ahead at once.
func (p *fieldPages) skip(id int64) error {
	const far = 64 // rows that are walked as fast as an index is searched
	if p.steps == 0 || id-p.id < far {
		return nil
	}
	return p.index.From(id)
}

// field returns the row that it stands on.
func (p *fieldPages) field() (Field, error) {
	v, ok, err := p.table.Row(p.rowid)
	if err != nil {
		return Field{}, err
	}
	if !ok {
		return Field{}, p.db.corrupt("metadata of embedding %d is in the index, not in the table", p.id)
	}
	at := func(i int) btree.Value {
		if i < 0 || i >= len(v) {
			return btree.Value{} // a column that the table got later
		}
		return v[i]
	}
	if id := at(p.at.id); id.Kind != btree.Integer || id.Int != p.id {
		return Field{}, p.db.corrupt("metadata of embedding %d is not what the index says", p.id)
	}
	key := at(p.at.key)
	if key.Kind != btree.Text {
		return Field{}, p.db.corrupt("column key is %v, want TEXT", key.Kind)
	}
	value, err := p.value(at(p.at.str), at(p.at.num), at(p.at.float), at(p.at.boolean))
	return Field{string(key.Bytes), value}, err
}

// value is row.value for the columns of a page.
func (p *fieldPages) value(str, num, float, boolean btree.Value) (Value, error) {
	fail := func(name string, got btree.Kind, want string) (Value, error) {
		return Value{}, p.db.corrupt("column %s is %v, want %s", name, got, want)
	}
	switch str.Kind {
	case btree.Null:
	case btree.Text:
		return Value{Kind: String, Str: string(str.Bytes)}, nil
	default:
		return fail("string_value", str.Kind, "TEXT")
	}
	switch num.Kind {
	case btree.Null:
	case btree.Integer:
		return Value{Kind: Int, Int: num.Int}, nil
	default:
		return fail("int_value", num.Kind, "INTEGER")
	}
	switch float.Kind {
	case btree.Null:
	case btree.Real:
		return Value{Kind: Float, Float: float.Real}, nil
	case btree.Integer: // whole numbers are stored so
		return Value{Kind: Float, Float: float64(float.Int)}, nil
	default:
		return fail("float_value", float.Kind, "REAL")
	}
	switch boolean.Kind {
	case btree.Null:
		return Value{}, nil
	case btree.Integer:
		v := Value{Kind: Bool}
		if boolean.Int != 0 {
			v.Int = 1
		}
		return v, nil
	}
	return fail("bool_value", boolean.Kind, "INTEGER")
}
