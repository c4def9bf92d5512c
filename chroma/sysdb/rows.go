package sysdb

import (
	"context"
	"errors"
	"fmt"

	"colorfast/chroma/btree"
)

// recordRows are rows of embeddings in the order of ids, some of other segments.
type recordRows interface {
	next() (bool, error)
	// record returns the row; mine is false if it is of another segment, and then
	// there is no text.
	record() (id int64, text string, mine bool, err error)
	close()
}

// sqlRecords are those that a statement gives.
type sqlRecords struct{ *cursor }

func (s sqlRecords) record() (id int64, text string, mine bool, err error) {
	if id, mine = s.int(0), s.int(2) != 0; mine {
		text = s.text(1)
	}
	return id, text, mine, s.err
}

// records starts a walk over the rows of a segment between two ids, with few of
// other segments between them.
func (db *DB) records(ctx context.Context, segment string, s span) (recordRows, error) {
	if pages, err := db.recordPages(ctx, segment, s); pages != nil || err != nil {
		return pages, err
	}
	c, err := db.cursor(ctx, `SELECT id, embedding_id, segment_id = ?3 FROM embeddings NOT INDEXED WHERE id BETWEEN ?1 AND ?2 ORDER BY id`, s.first, s.last, segment)
	if err != nil {
		return nil, err
	}
	return sqlRecords{c}, nil
}

// recordPages reads rows of embeddings from the pages of the database.
type recordPages struct {
	*pagesOf
	scan    *btree.Scan
	segment string
	at      recordColumns
	last    int64
	id      int64
	row     []btree.Value
}

// recordColumns are the numbers of the columns in the table.
type recordColumns struct{ segment, embedding int }

// recordPages starts before the first row of a span; nil if the form of the table
// is not the one that is known, and SQLite has to read it.
func (db *DB) recordPages(ctx context.Context, segment string, s span) (_ recordRows, err error) {
	at, root, err := db.recordTable(ctx)
	if err != nil || root == 0 {
		return nil, err
	}
	p := &recordPages{segment: segment, at: at, last: s.last}
	if p.pagesOf, err = db.pages(ctx); err != nil {
		return nil, err
	}
	p.scan = p.tree.Table(root).Scan()
	if err := p.scan.From(s.first); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// recordTable finds the table of records: its first page, 0 if it is not of the
// form that is known.
func (db *DB) recordTable(ctx context.Context) (at recordColumns, root uint32, err error) {
	at = recordColumns{-1, -1}
	odd, isRowID := false, false
	err = db.query(ctx, `SELECT cid, name || ' ' || type, pk, hidden FROM pragma_table_xinfo('embeddings')`, nil, func(r *row) error {
		odd = odd || r.int(3) != 0
		switch r.text(1) {
		case "id INTEGER":
			isRowID = r.int(2) == 1
		case "segment_id TEXT":
			at.segment = int(r.int(0))
		case "embedding_id TEXT":
			at.embedding = int(r.int(0))
		}
		return r.err
	})
	if err == nil {
		err = db.query(ctx, `PRAGMA encoding`, nil, func(r *row) error {
			odd = odd || r.text(0) != "UTF-8"
			return r.err
		})
	}
	if err == nil {
		// A primary key with an index of its own is not the rowid.
		err = db.query(ctx, `SELECT origin FROM pragma_index_list('embeddings')`, nil, func(r *row) error {
			odd = odd || r.text(0) == "pk"
			return r.err
		})
	}
	if err != nil || odd || !isRowID || min(at.segment, at.embedding) < 0 {
		return at, 0, err
	}
	err = db.query(ctx, `SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = 'embeddings'`, nil, func(r *row) error {
		root = uint32(r.int(0))
		return r.err
	})
	return at, root, err
}

func (p *recordPages) next() (ok bool, err error) {
	if err := p.step(); err != nil {
		return false, err
	}
	p.id, p.row, ok, err = p.scan.Next()
	return ok && p.id <= p.last, err
}

func (p *recordPages) record() (id int64, text string, mine bool, err error) {
	column := func(i int, name string) []byte {
		if i >= len(p.row) || p.row[i].Kind != btree.Text {
			err = errors.Join(err, p.db.corrupt("column %s of embedding %d is no TEXT", name, p.id))
			return nil
		}
		return p.row[i].Bytes
	}
	if mine = string(column(p.at.segment, "segment_id")) == p.segment; mine {
		text = string(column(p.at.embedding, "embedding_id"))
	}
	return p.id, text, mine, err
}

// pagesOf is a database whose pages are read without SQLite.
type pagesOf struct {
	ctx   context.Context
	db    *DB
	tree  *btree.File
	done  func()
	steps int
}

// pages opens the file once more. The caller calls close.
func (db *DB) pages(ctx context.Context) (_ *pagesOf, err error) {
	f, h, size, err := db.openFile()
	if err != nil {
		return nil, err
	}
	return &pagesOf{
		ctx: ctx, db: db, done: func() { _ = f.Close() }, // it was only read
		tree: btree.Open(f, db.path, size, int(h.pageSize), int(h.usable), MaxRow),
	}, nil
}

func (p *pagesOf) close() { p.done() }

// step ends a walk with its context.
func (p *pagesOf) step() error {
	if p.steps++; p.steps%1024 == 0 && p.ctx.Err() != nil {
		return fmt.Errorf("read sysdb %q: %w", p.db.path, p.ctx.Err())
	}
	return nil
}
