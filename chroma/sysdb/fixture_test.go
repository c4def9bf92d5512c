package sysdb_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma/sysdb"
	"colorfast/internal/chromatest"
)

// database returns the chroma.sqlite3 of a fixture.
func database(t testing.TB, version string) []byte {
	t.Helper()
	dir, _ := chromatest.Fixture(t, version)
	b, err := os.ReadFile(filepath.Join(dir, "chroma.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write writes a database to a folder of its own.
func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chroma.sqlite3")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// alter runs SQL on a copy of the newest fixture and opens the result.
func alter(t testing.TB, sql string) (*sysdb.DB, error) {
	t.Helper()
	path := write(t, database(t, "1.5.9"))
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteScript(conn, sql, nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sysdb.Open(path)
	if err == nil {
		t.Cleanup(func() { db.Close() })
	}
	return db, err
}

// everything calls every method and reads every row.
func everything(t testing.TB, path string) error {
	db, err := sysdb.Open(path)
	if err != nil {
		return err
	}
	ctx := t.Context()
	_ = db.Generation()
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	_, err = db.QuickCheck(ctx)
	note(err)
	_, err = db.Tenants(ctx)
	note(err)
	_, err = db.Databases(ctx)
	note(err)
	_, err = db.SegmentIDs(ctx)
	note(err)
	_, err = db.QueueState(ctx)
	note(err)
	_, err = db.OrphanArrayRows(ctx)
	note(err)
	_, _, err = db.StaleFullText(ctx)
	note(err)
	list, err := db.Collections(ctx)
	note(err)
	for _, c := range list {
		_, err := db.Count(ctx, c.MetadataSegment)
		note(err)
		note(db.Queue(ctx, c.ID, -1, func(*sysdb.QueueRow) error { return nil }))
		note(db.Embeddings(ctx, c.MetadataSegment, func(*sysdb.Embedding) error { return nil }))
	}
	note(db.Close())
	return errors.Join(errs...)
}

// entries lists a folder.
func entries(t testing.TB, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
