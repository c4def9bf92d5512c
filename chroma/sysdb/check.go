package sysdb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

// maxProblems bounds how many rows of PRAGMA quick_check are kept.
const maxProblems = 100

// QuickCheck runs PRAGMA quick_check and returns what it says, none if all is
// well and at most 100 lines. It reads the whole file. What the tables of the
// full-text index mean is not looked at; see FullTextCheck.
func (db *DB) QuickCheck(ctx context.Context) ([]string, error) {
	return db.check(ctx, `PRAGMA quick_check(100)`)
}

// FullTextCheck compares the full-text index with the documents, word by word,
// and returns what is wrong with it, at most 100 lines. It takes several times as
// long as all other checks together.
func (db *DB) FullTextCheck(ctx context.Context) (_ []string, err error) {
	var name string
	err = db.query(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts5%'`, nil, func(r *row) error {
		name = r.text(0)
		return r.err
	})
	if err != nil || name == "" {
		return nil, err
	}
	with := &DB{path: db.path}
	if with.conn, err = sqlite.OpenConn(uri(db.path), sqlite.OpenReadOnly|sqlite.OpenURI); err != nil {
		return nil, fmt.Errorf("open sysdb %q: %w", db.path, err)
	}
	defer func() { err = errors.Join(err, with.Close()) }()
	return with.check(ctx, `PRAGMA quick_check('`+strings.ReplaceAll(name, "'", "''")+`')`)
}

func (db *DB) check(ctx context.Context, pragma string) ([]string, error) {
	defer db.guard(ctx)()
	var out []string
	err := db.query(ctx, pragma, nil, func(r *row) error {
		if s := r.text(0); s != "ok" {
			out = append(out, s)
		}
		if len(out) >= maxProblems {
			return errStop
		}
		return r.err
	})
	return out, err
}

// OrphanArrayRows counts the rows of embedding_metadata_array that belong to
// no record. Chroma leaves them when a collection is deleted, and shows them
// again on records of a later collection that get the same embeddings.id
// (upstream issue 7594).
func (db *DB) OrphanArrayRows(ctx context.Context) (int64, error) {
	if !db.has("embedding_metadata_array", "id") {
		return 0, nil
	}
	defer db.guard(ctx)()
	var n int64
	err := db.query(ctx, `SELECT count(*) FROM embedding_metadata_array a
		WHERE NOT EXISTS (SELECT 1 FROM embeddings e WHERE e.id = a.id)`, nil, func(r *row) error {
		n = r.int(0)
		return r.err
	})
	return n, err
}

// StaleFullText compares the full-text index with the documents: missing are
// documents that where_document cannot find, extra are entries without a
// document. It reads ids only, never the text. A database that 0.4.0–0.4.5 made
// and a later one migrated has extra ones, as the migration
// metadb/00003-full-text-tokenize indexed every metadata row under its rowid.
// Without any known full-text table the answer is 0, 0.
func (db *DB) StaleFullText(ctx context.Context) (missing, extra int64, err error) {
	indexed := ``
	switch {
	case db.has("embedding_fulltext_search_docsize", "id"):
		indexed = `SELECT id FROM embedding_fulltext_search_docsize ORDER BY id`
	case db.has("embedding_fulltext_content", "c0"):
		// 0.4.0–0.4.5: the first column of the full-text table is the record's id.
		indexed = `SELECT DISTINCT CAST(c0 AS INTEGER) FROM embedding_fulltext_content ORDER BY 1`
	default:
		return 0, 0, nil
	}
	defer db.guard(ctx)()
	have, err := db.cursor(ctx, indexed)
	if err != nil {
		return 0, 0, err
	}
	defer have.close()
	want, err := db.cursor(ctx, `SELECT id FROM embedding_metadata WHERE key = 'chroma:document' ORDER BY id`)
	if err != nil {
		return 0, 0, err
	}
	defer want.close()
	return compareIDs(want, have)
}

// compareIDs merges two cursors of ascending ids and counts those that only
// one of them has.
func compareIDs(want, have *cursor) (onlyWant, onlyHave int64, err error) {
	w, wok, err := want.id()
	if err != nil {
		return 0, 0, err
	}
	h, hok, err := have.id()
	for err == nil && (wok || hok) {
		switch {
		case wok && (!hok || w < h):
			onlyWant++
			w, wok, err = want.id()
		case hok && (!wok || h < w):
			onlyHave++
			h, hok, err = have.id()
		default:
			if w, wok, err = want.id(); err == nil {
				h, hok, err = have.id()
			}
		}
	}
	return onlyWant, onlyHave, err
}

// id returns the first column of the next row.
func (c *cursor) id() (int64, bool, error) {
	ok, err := c.next()
	if err != nil || !ok {
		return 0, false, err
	}
	n := c.int(0)
	return n, true, c.err
}
