package records

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
)

// scratch keeps what is known of ids in temporary files: where their vectors
// are, and in a SQLite database what the queue does to their metadata. So memory
// does not grow with the number of records.
type scratch struct {
	dir     string
	conn    *sqlite.Conn
	stmts   []*sqlite.Stmt
	*places // of vectors

	note, noted, queued, addRow, dropRows, rows *sqlite.Stmt // metadata
}

// newScratch makes an empty one in a folder of its own below parent.
func newScratch(parent string) (_ *scratch, err error) {
	s := &scratch{}
	if s.dir, err = os.MkdirTemp(parent, "records-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.places = newPlaces(s.dir, memoryLimit)
	s.conn, err = sqlite.OpenConn(filepath.Join(s.dir, "patches.sqlite"), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	for _, q := range []string{
		"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA locking_mode=EXCLUSIVE",
		"PRAGMA page_size=8192", "PRAGMA cache_size=-8192", "PRAGMA temp_store=FILE",
		"CREATE TABLE note (id TEXT PRIMARY KEY, state INTEGER, ord INTEGER) WITHOUT ROWID",
		"CREATE TABLE patch (id TEXT, seq INTEGER, PRIMARY KEY (id, seq)) WITHOUT ROWID",
		"BEGIN",
	} {
		stmt, _, err := s.conn.PrepareTransient(q)
		if err == nil {
			_, err = stmt.Step()
			err = errors.Join(err, stmt.Finalize())
		}
		if err != nil {
			return nil, fmt.Errorf("prepare scratch file: %w", err)
		}
	}
	return s, s.prepare()
}

// prepare prepares the statements.
func (s *scratch) prepare() error {
	for _, p := range []struct {
		to  **sqlite.Stmt
		sql string
	}{
		{&s.queued, "SELECT id FROM note WHERE state = 2 ORDER BY ord"},
		{&s.note, "INSERT OR REPLACE INTO note (id, state, ord) VALUES (?1, ?2, ?3)"},
		{&s.noted, "SELECT state, ord FROM note WHERE id = ?1"},
		{&s.addRow, "INSERT OR REPLACE INTO patch (id, seq) VALUES (?1, ?2)"},
		{&s.dropRows, "DELETE FROM patch WHERE id = ?1"},
		{&s.rows, "SELECT seq FROM patch WHERE id = ?1 ORDER BY seq"},
	} {
		stmt, _, err := s.conn.PrepareTransient(p.sql)
		if err != nil {
			return fmt.Errorf("prepare scratch file: %w", err)
		}
		*p.to = stmt
		s.stmts = append(s.stmts, stmt)
	}
	return nil
}

// close removes the file and its folder.
func (s *scratch) close() error {
	var err error
	for _, stmt := range s.stmts {
		err = errors.Join(err, stmt.Finalize())
	}
	if s.conn != nil {
		err = errors.Join(err, s.conn.Close())
	}
	if s.places != nil {
		err = errors.Join(err, s.places.close())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// run runs a statement with an id and integers, and reports whether it gave a
// row. After one that selects the caller resets it.
func run(stmt *sqlite.Stmt, id string, args ...int64) (bool, error) {
	if err := stmt.Reset(); err != nil {
		return false, err
	}
	stmt.BindText(1, id)
	for i, a := range args {
		stmt.BindInt64(i+2, a)
	}
	ok, err := stmt.Step()
	if err != nil {
		return false, fmt.Errorf("use scratch file: %w", err)
	}
	return ok, nil
}

// each hands every id of a statement to fn, until it returns false.
func each(stmt *sqlite.Stmt, fn func(id string) (bool, error)) error {
	defer stmt.Reset()
	for {
		ok, err := stmt.Step()
		if err != nil || !ok {
			return err
		}
		if more, err := fn(stmt.ColumnText(0)); err != nil || !more {
			return err
		}
	}
}

// state is what the queue makes of the metadata of an id.
type state int64

// The states; untouched ids have no row.
const (
	untouched state = -1
	absent    state = 0 // deleted, or never there
	patched   state = 1 // there, with rows of the queue laid over it
	added     state = 2 // made by the queue, whatever was there before
)

// setState notes the state; ord orders those that are added.
func (s *scratch) setState(id string, st state, ord int64) error {
	_, err := run(s.note, id, int64(st), ord)
	return err
}

// getState returns the state of an id.
func (s *scratch) getState(id string) (state, int64, error) {
	ok, err := run(s.noted, id)
	if err != nil || !ok {
		return untouched, 0, err
	}
	st, ord := state(s.noted.ColumnInt64(0)), s.noted.ColumnInt64(1)
	return st, ord, s.noted.Reset()
}

// addPatch notes that a queue row changes the metadata of an id.
func (s *scratch) addPatch(id string, seq int64) error {
	_, err := run(s.addRow, id, seq)
	return err
}

// dropPatches forgets the rows noted for an id.
func (s *scratch) dropPatches(id string) error {
	_, err := run(s.dropRows, id)
	return err
}

// patches hands the rows noted for an id to fn, in order.
func (s *scratch) patches(id string, fn func(seq int64) error) error {
	ok, err := run(s.rows, id)
	defer s.rows.Reset()
	for ; ok && err == nil; ok, err = s.rows.Step() {
		if err := fn(s.rows.ColumnInt64(0)); err != nil {
			return err
		}
	}
	return err
}
