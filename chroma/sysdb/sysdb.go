// Package sysdb reads chroma.sqlite3, the SQLite database of a single-node
// Chroma, of every generation from 0.4.0 on: what collections there are, their
// records' metadata, and the queue of writes.
//
// It only ever reads, and only quiescent copies: a database is opened as
// immutable, without locks and without looking for a journal. Never open a
// database that Chroma, or anything else, may be writing to.
//
// The file is not trusted. Whatever is in it, memory stays bounded, nothing is
// written, and what cannot be read is a *chroma.CorruptError. Start at Open.
package sysdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"zombiezen.com/go/sqlite"

	"colorfast/chroma"
)

// MaxRow is the most bytes that a row, or all the metadata of one record, may
// have. Chroma's server takes no request of more than 40 MiB (see
// max_payload_size_bytes in its rust/frontend/src/config.rs).
const MaxRow = 256 << 20

// DB is an open chroma.sqlite3. It is for one goroutine, and one method of it
// at a time: a callback must not call methods of the DB that called it.
type DB struct {
	path   string
	conn   *sqlite.Conn
	tables map[string]map[string]bool // table to its columns; only what Chroma knows
	gen    Generation
}

// Open opens the database at path, which nobody may be writing to: see the
// package comment. A leftover journal or WAL beside it is not looked at, so
// fold it in first. Nothing is created or changed, beside the file either.
//
// Errors: one that is fs.ErrNotExist if there is no such file,
// *chroma.CorruptError if it is no database of Chroma's.
func Open(path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open sysdb %q: %w", path, err)
	}
	st, err := os.Stat(abs)
	if err != nil {
		return nil, fmt.Errorf("open sysdb: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, &chroma.CorruptError{File: path, Offset: -1, Reason: "is not a regular file"}
	}
	conn, err := sqlite.OpenConn(uri(abs), sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return nil, fmt.Errorf("open sysdb %q: %w", path, err)
	}
	db := &DB{path: path, conn: conn}
	if err := db.prepare(); err != nil {
		conn.Close()
		return nil, err
	}
	return db, nil
}

// uri returns the SQLite URI of a file that is only read and never changes.
// url.URL escapes what would end the path, such as ? and #, and a percent sign.
func uri(abs string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: "mode=ro&immutable=1"}
	return u.String()
}

// prepare disarms the connection, then reads the schema and the generation.
func (db *DB) prepare() error {
	db.conn.Limit(sqlite.LimitLength, MaxRow)
	db.conn.Limit(sqlite.LimitSQLLength, 1<<20)
	db.conn.Limit(sqlite.LimitColumn, 200)
	db.conn.Limit(sqlite.LimitExprDepth, 100)
	db.conn.Limit(sqlite.LimitCompoundSelect, 20)
	db.conn.Limit(sqlite.LimitVDBEOp, 100_000)
	db.conn.Limit(sqlite.LimitAttached, 0)
	db.conn.Limit(sqlite.LimitTriggerDepth, 1)
	db.conn.Limit(sqlite.LimitWorkerThreads, 0)
	if err := db.conn.SetDefensive(true); err != nil {
		return fmt.Errorf("open sysdb %q: %w", db.path, err)
	}
	// Nothing here asks the full-text index as such, and without its module
	// PRAGMA quick_check passes over it: that took six times as long as the rest.
	if err := db.conn.SetModule("fts5", nil); err != nil {
		return fmt.Errorf("open sysdb %q: %w", db.path, err)
	}
	ctx := context.Background()
	for _, p := range []string{
		"trusted_schema=OFF", // functions and virtual tables in the schema do nothing
		"cell_size_check=ON", // malformed pages are found when read
		"query_only=ON",
		"mmap_size=0",      // a file that shrinks must not kill the process
		"cache_size=-4096", // KiB; several are open at a time, and all are read forwards
		"temp_store=FILE",  // large sorts go to the temporary folder, not to memory
	} {
		if err := db.query(ctx, "PRAGMA "+p, nil, nil); err != nil {
			return err
		}
	}
	if err := db.readSchema(ctx); err != nil {
		return err
	}
	return db.readGeneration(ctx)
}

// Path returns the path that the database was opened with.
func (db *DB) Path() string { return db.path }

// Close closes the database.
func (db *DB) Close() error {
	if err := db.conn.Close(); err != nil {
		return fmt.Errorf("close sysdb %q: %w", db.path, err)
	}
	return nil
}

// readSchema notes the tables that Chroma makes and their columns. What bears
// the name of such a table must be one: a view or virtual table could answer
// with anything.
func (db *DB) readSchema(ctx context.Context) error {
	db.tables = map[string]map[string]bool{}
	var names []string
	err := db.query(ctx, `SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table','view') LIMIT 10000`, nil,
		func(r *row) error {
			kind, name := r.text(0), r.text(1)
			if !known[name] {
				return r.err
			}
			def := strings.ToUpper(strings.TrimSpace(r.optional(2)))
			if kind != "table" || strings.HasPrefix(def, "CREATE VIRTUAL") {
				return db.corrupt("%s is not an ordinary table", name)
			}
			names = append(names, name)
			return r.err
		})
	if err != nil {
		return err
	}
	for _, name := range names {
		cols := map[string]bool{}
		err := db.query(ctx, `SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0`,
			[]any{name}, func(r *row) error {
				cols[r.text(0)] = true
				return r.err
			})
		if err != nil {
			return err
		}
		db.tables[name] = cols
	}
	for _, need := range required {
		table, columns, _ := strings.Cut(need, " ")
		for c := range strings.FieldsSeq(columns) {
			if !db.has(table, c) {
				return db.corrupt("no column %s.%s: not a database of Chroma's", table, c)
			}
		}
	}
	return nil
}

// known are the tables that are read; see the migrations in Chroma's
// chromadb/migrations and rust/sqlite.
var known = map[string]bool{
	"migrations": true, "tenants": true, "databases": true, "collections": true, "collection_metadata": true,
	"segments": true, "segment_metadata": true, "max_seq_id": true, "embeddings": true,
	"embedding_metadata": true, "embedding_metadata_array": true, "embeddings_queue": true,
	"embeddings_queue_config": true, "embedding_fulltext_search_docsize": true, "embedding_fulltext_content": true,
}

// required are the columns that every generation since 0.4.0 has.
var required = []string{
	"migrations dir version",
	"collections id name dimension",
	"collection_metadata collection_id key str_value int_value float_value",
	"segments id type scope collection",
	"segment_metadata segment_id key str_value int_value float_value",
	"max_seq_id segment_id seq_id",
	"embeddings id segment_id embedding_id seq_id",
	"embedding_metadata id key string_value int_value float_value",
	"embeddings_queue seq_id operation topic id vector encoding metadata",
}

// has reports whether the database has this column.
func (db *DB) has(table, column string) bool { return db.tables[table][column] }

// column returns the column, or NULL where this generation does not have it.
func (db *DB) column(table, alias, column string) string {
	if db.has(table, column) {
		return alias + "." + column
	}
	return "NULL"
}

// corrupt makes the error for content that Chroma does not write.
func (db *DB) corrupt(format string, args ...any) error {
	return &chroma.CorruptError{File: db.path, Offset: -1, Reason: fmt.Sprintf(format, args...)}
}

// wrap makes an error of SQLite's ours.
func (db *DB) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("read sysdb %q: %w", db.path, ctx.Err())
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultError, sqlite.ResultTooBig, sqlite.ResultMismatch,
		sqlite.ResultFormat, sqlite.ResultSchema, sqlite.ResultConstraint, sqlite.ResultAuth, sqlite.ResultReadOnly:
		return &chroma.CorruptError{File: db.path, Offset: -1, Reason: err.Error()}
	}
	return fmt.Errorf("read sysdb %q: %w", db.path, err)
}

// errStop ends a query early without being an error.
var errStop = errors.New("stop")

// query runs one statement and hands every row to fn, which may be nil.
func (db *DB) query(ctx context.Context, sql string, args []any, fn func(*row) error) error {
	c, err := db.cursor(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		ok, err := c.next()
		if err != nil || !ok {
			return err
		}
		if fn == nil {
			continue
		}
		if err := fn(&c.row); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
	}
}

// guard makes ctx able to interrupt SQLite until the returned function is
// called.
func (db *DB) guard(ctx context.Context) func() {
	old := db.conn.SetInterrupt(ctx.Done())
	return func() { db.conn.SetInterrupt(old) }
}

// cursor is a running statement.
type cursor struct {
	row
	ctx  context.Context
	stmt *sqlite.Stmt
}

// cursor starts a statement. The caller closes it.
func (db *DB) cursor(ctx context.Context, sql string, args ...any) (*cursor, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read sysdb %q: %w", db.path, err)
	}
	stmt, _, err := db.conn.PrepareTransient(sql)
	if err != nil {
		return nil, db.wrap(ctx, err)
	}
	for i, a := range args {
		switch a := a.(type) {
		case string:
			stmt.BindText(i+1, a)
		case int64:
			stmt.BindInt64(i+1, a)
		case []byte:
			stmt.BindBytes(i+1, a)
		}
	}
	return &cursor{row: row{db: db, stmt: stmt}, ctx: ctx, stmt: stmt}, nil
}

// next steps to the next row, if there is one.
func (c *cursor) next() (bool, error) {
	ok, err := c.stmt.Step()
	if err != nil {
		return false, c.db.wrap(c.ctx, err)
	}
	return ok, nil
}

// close ends the statement. Its error would only repeat that of the last step.
func (c *cursor) close() { _ = c.stmt.Finalize() }

// row reads columns by their type and keeps the first mismatch in err.
type row struct {
	db   *DB
	stmt *sqlite.Stmt
	err  error
}

// fail keeps an error about a column.
func (r *row) fail(col int, want string) {
	if r.err == nil {
		r.err = r.db.corrupt("column %s is %v, want %s", r.stmt.ColumnName(col), r.stmt.ColumnType(col), want)
	}
}

// text returns a column that must be text.
func (r *row) text(col int) string {
	if r.stmt.ColumnType(col) != sqlite.TypeText {
		r.fail(col, "TEXT")
		return ""
	}
	return r.stmt.ColumnText(col)
}

// optional returns a column that must be text or null; "" for null.
func (r *row) optional(col int) string {
	if r.stmt.ColumnType(col) == sqlite.TypeNull {
		return ""
	}
	return r.text(col)
}

// int returns a column that must be an integer.
func (r *row) int(col int) int64 {
	if r.stmt.ColumnType(col) != sqlite.TypeInteger {
		r.fail(col, "INTEGER")
		return 0
	}
	return r.stmt.ColumnInt64(col)
}

// blob appends a column that must be a blob or null to dst.
func (r *row) blob(col int, dst []byte) []byte {
	switch r.stmt.ColumnType(col) {
	case sqlite.TypeNull:
		return dst
	case sqlite.TypeBlob:
		n := r.stmt.ColumnLen(col)
		at := len(dst)
		dst = append(dst, make([]byte, n)...)
		r.stmt.ColumnBytes(col, dst[at:])
		return dst
	}
	r.fail(col, "BLOB")
	return dst
}

// seq returns a sequence number: an INTEGER (Rust era), or a BLOB of 8 or 24
// bytes, big-endian (Python era: encode_seq_id in chromadb/db/base.py). Files
// that were migrated may hold both.
func (r *row) seq(col int) int64 {
	if r.stmt.ColumnType(col) != sqlite.TypeBlob {
		return r.int(col)
	}
	b := r.blob(col, nil)
	if len(b) != 8 && len(b) != 24 {
		r.fail(col, "8 or 24 bytes")
		return 0
	}
	var n uint64
	for i, c := range b {
		if i < len(b)-8 && c != 0 {
			r.fail(col, "below 2^63")
			return 0
		}
		n = n<<8 | uint64(c)
	}
	if n > math.MaxInt64 {
		r.fail(col, "below 2^63")
		return 0
	}
	return int64(n)
}
