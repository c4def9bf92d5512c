package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/verify"
)

// fixture unpacks a fixture and returns its persist directory.
func fixture(t testing.TB, version string) string {
	t.Helper()
	dir, _ := chromatest.Fixture(t, version)
	return dir
}

// copyOf copies a persist directory.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// look verifies dir and fails if it could not.
func look(t testing.TB, dir, scratch string) *verify.Report {
	t.Helper()
	v := verify.Directory{Dir: dir, Scratch: scratch}
	r, err := v.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sealed returns the manifest that a backup of what r saw has.
func sealed(r *verify.Report) *colorfast.Manifest {
	m := &colorfast.Manifest{Inventory: r.Inventory, FindingList: r.Findings}
	m.Summarize()
	return m
}

// collection returns what the report says of a collection of the default
// database.
func collection(t testing.TB, r *verify.Report, name string) *colorfast.Collection {
	t.Helper()
	i := slices.IndexFunc(r.Inventory.Collections, func(c colorfast.Collection) bool {
		return c.Name == name && c.Database == "default_database"
	})
	if i < 0 {
		t.Fatalf("no collection %s", name)
	}
	return &r.Inventory.Collections[i]
}

// execute runs SQL in the database of a persist directory; it fails if the last
// statement changes nothing, for then nothing was planted.
func execute(t testing.TB, dir, sql string) {
	t.Helper()
	db, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := sqlitex.ExecuteScript(db, sql, nil); err != nil {
		t.Fatal(err)
	}
	if db.Changes() == 0 {
		t.Fatalf("changed nothing: %s", sql)
	}
}

// number returns the result of a query.
func number(t testing.TB, dir, sql string) int64 {
	t.Helper()
	db, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n, err := sqlitex.ResultInt64(db.Prep(sql))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// edit changes a file of a persist directory.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was := string(b)
	b = change(b)
	if string(b) == was {
		t.Fatalf("%s was not changed", path)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// brief writes findings in a line.
func brief(list []colorfast.Finding) string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "[%s %s %s %d: %s] ", f.Severity, f.Code, f.Object, f.Records, f.Detail)
	}
	return b.String()
}
