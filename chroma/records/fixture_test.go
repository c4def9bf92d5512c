package records_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
	"colorfast/internal/chromatest"
)

// expected is what Chroma says of a fixture; see testdata/make.py.
type expected struct {
	Version     string
	Collections []struct {
		ID, Tenant, Database, Name string
		Count                      int
		Metadata                   map[string]tagged
		Records                    []expectedRecord
	}
}

// expectedRecord is one record; the vector is in hexadecimal.
type expectedRecord struct {
	ID            string
	Vector        *string
	Document, URI *string
	Metadata      map[string]tagged
}

// tagged is a value with its kind.
type tagged struct {
	String *string
	Int    *string
	Float  *string // 16 hexadecimal digits
	Bool   *bool
	Array  []tagged
}

// value returns it as records have it.
func (x tagged) value(t testing.TB) records.Value {
	t.Helper()
	v := records.Value{}
	var err error
	switch {
	case x.String != nil:
		return records.Value{Kind: sysdb.String, Str: *x.String}
	case x.Int != nil:
		v.Kind = sysdb.Int
		_, err = fmt.Sscan(*x.Int, &v.Int)
	case x.Float != nil:
		v.Kind = sysdb.Float
		v.Float, err = bitsOf(*x.Float)
	case x.Bool != nil:
		v.Kind = sysdb.Bool
		if *x.Bool {
			v.Int = 1
		}
	default:
		v.Kind = sysdb.Array
		for _, e := range x.Array {
			v.Array = append(v.Array, e.value(t))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// unpack unpacks a fixture and returns its persist directory and its truth.
func unpack(t testing.TB, version string) (string, *expected) {
	t.Helper()
	dir, answers := chromatest.Fixture(t, version)
	b, err := os.ReadFile(answers)
	if err != nil {
		t.Fatal(err)
	}
	var e expected
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return dir, &e
}

// fingerprint hashes names, times and content below dir.
func fingerprint(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, st.Size(), st.ModTime().UnixNano(), st.Mode())
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// execute runs SQL on the database of a persist directory.
func execute(t testing.TB, dir, sql string) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(dir, "chroma.sqlite3"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteScript(conn, sql, nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// open opens the database of a persist directory and finds a collection of the
// default database; "" means the first one.
func open(t testing.TB, dir, name string) (*sysdb.DB, *sysdb.Collection) {
	t.Helper()
	db, err := sysdb.Open(filepath.Join(dir, "chroma.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	list, err := db.Collections(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if name == "" || c.Name == name && c.Database == sysdb.DefaultDatabase {
			return db, c
		}
	}
	t.Fatalf("no collection %q", name)
	return nil, nil
}

// collect reads all records into memory.
func collect(t testing.TB, db *sysdb.DB, c *sysdb.Collection, dir string) ([]records.Record, *records.Stats) {
	t.Helper()
	var out []records.Record
	scratch := t.TempDir()
	stats, err := records.Read(t.Context(), db, c, dir, scratch, func(r *records.Record) error {
		cp := *r
		cp.Vector = append([]byte(nil), r.Vector...)
		if r.Vector == nil {
			cp.Vector = nil
		}
		cp.Metadata = append([]records.Field(nil), r.Metadata...)
		out = append(out, cp)
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	if left, _ := os.ReadDir(scratch); len(left) > 0 {
		t.Errorf("%s: left %d temporary files", c, len(left))
	}
	return out, stats
}
