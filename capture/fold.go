package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/chroma"
)

// fold lets SQLite roll back a hot journal or fold in a write-ahead log, in the
// copy, so that the copy is one quiet file. A database that SQLite cannot open
// stays as it is: proving it tells.
func (s *session) fold(f *freeze) error {
	path := s.staged(chroma.SQLiteFile)
	if !f.needsJournal() {
		// An unlocked look has copied the journal of a transaction that was not
		// committed under the freeze.
		delete(s.copied, chroma.JournalFile)
		if err := os.RemoveAll(s.staged(chroma.JournalFile)); err != nil {
			return fmt.Errorf("fold the journal: %w", err)
		}
	}
	sidecars := []string{s.staged(chroma.JournalFile), s.staged(chroma.WALFile)}
	found := false
	for i, p := range sidecars {
		fi, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("fold the journal: %w", err)
		}
		found = true
		if i == 1 {
			s.evidence.WALBytes = fi.Size()
		}
	}
	if !found {
		return nil
	}
	// The copy changes now: a further attempt must compare it anew.
	delete(s.copied, chroma.SQLiteFile)
	if err := checkpoint(path); err != nil {
		switch sqlite.ErrCode(err).ToPrimary() {
		case sqlite.ResultCorrupt, sqlite.ResultNotADB:
			s.seen = append(s.seen, colorfast.NewFinding(colorfast.SysdbCorrupt, chroma.SQLiteFile, 0, "its journal cannot be folded in: %v", err))
			return nil
		}
		return fmt.Errorf("fold the journal into the copy: %w", err)
	}
	for i, p := range sidecars {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("fold the journal: %w", err)
		}
		delete(s.copied, []string{chroma.JournalFile, chroma.WALFile}[i])
	}
	return os.RemoveAll(s.staged(chroma.SHMFile))
}

func checkpoint(path string) (err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := sqlitex.ExecuteTransient(conn, "SELECT count(*) FROM sqlite_master", nil); err != nil {
		return err
	}
	busy := int64(0)
	err = sqlitex.ExecuteTransient(conn, "PRAGMA wal_checkpoint(TRUNCATE)", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error { busy = stmt.ColumnInt64(0); return nil },
	})
	if err == nil && busy != 0 {
		err = errors.New("the copy is busy")
	}
	return err
}
