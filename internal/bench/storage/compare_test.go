package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma"
)

func TestCompareFiles(t *testing.T) {
	want := tree(t, map[string][]byte{"a": []byte("1"), "d/b": []byte("2")})
	for name, c := range map[string]struct {
		files map[string][]byte
		says  string // "" for nothing
	}{
		"equal":      {map[string][]byte{"a": []byte("1"), "d/b": []byte("2")}, ""},
		"other byte": {map[string][]byte{"a": []byte("1"), "d/b": []byte("3")}, "d/b differs"},
		"missing":    {map[string][]byte{"a": []byte("1")}, "d/b is in one"},
		"more":       {map[string][]byte{"a": []byte("1"), "d/b": []byte("2"), "c": nil}, "c is in one"},
		"empty":      {nil, "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			err := compare(want, tree(t, c.files))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// database makes a database, the same each time, and returns its bytes and some
// page of its free list's leaves.
func database(t *testing.T) (content []byte, leaf int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), chroma.SQLiteFile)
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteScript(conn, `
		CREATE TABLE gone (a);
		INSERT INTO gone VALUES (zeroblob(6000000)); -- more than a trunk of leaves
		UPDATE gone SET a = CAST(replace(hex(a), '0', 'x') AS BLOB);
		CREATE TABLE kept (a INTEGER PRIMARY KEY, b TEXT);
		INSERT INTO kept VALUES (1, 'one'), (2, 'two');
		DROP TABLE gone;
	`, nil)
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, free, err := freeLeaves(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if listed := int(binary.BigEndian.Uint32(b[36:])); len(free) < 1100 || listed-len(free) < 2 {
		t.Fatalf("%d leaves of %d free pages", len(free), listed)
	}
	for page := range free {
		return b, int(page)
	}
	return nil, 0
}

func TestComparePages(t *testing.T) {
	whole, leaf := database(t)
	const size = 4096
	trunk := int(binary.BigEndian.Uint32(whole[32:]))
	want := tree(t, map[string][]byte{chroma.SQLiteFile: whole})
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		says   string // "" for nothing
	}{
		"a free page of zeros": {func(b []byte) []byte { clear(b[(leaf-1)*size : leaf*size]); return b }, ""},
		"a row":                {func(b []byte) []byte { return bytes.Replace(b, []byte("two"), []byte("TWO"), 1) }, "which is in use"},
		"the header":           {func(b []byte) []byte { b[60]++; return b }, "page 1,"},
		"the list":             {func(b []byte) []byte { b[trunk*size-1]++; return b }, "which is in use"},
		"a page less":          {func(b []byte) []byte { return b[:len(b)-size] }, "differ in size"},
		"a byte more":          {func(b []byte) []byte { return append(b, 0) }, "differ in size"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := c.change(bytes.Clone(whole))
			if bytes.Equal(changed, whole) {
				t.Fatal("nothing was changed")
			}
			err := compare(want, tree(t, map[string][]byte{chroma.SQLiteFile: changed}))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestBadFreeLists(t *testing.T) {
	whole, _ := database(t)
	be := binary.BigEndian
	trunk := (int(be.Uint32(whole[32:])) - 1) * 4096
	for name, change := range map[string]func(b []byte) []byte{
		"no header":        func(b []byte) []byte { return b[:50] },
		"no pages":         func(b []byte) []byte { clear(b[16:18]); return b },
		"a wrong count":    func(b []byte) []byte { b[39]++; return b },
		"too many leaves":  func(b []byte) []byte { be.PutUint32(b[trunk+4:], 5000); return b },
		"a circle":         func(b []byte) []byte { copy(b[trunk:trunk+4], b[32:36]); return b },
		"beyond the end":   func(b []byte) []byte { be.PutUint32(b[32:], 1<<30); return b },
		"an end too early": func(b []byte) []byte { clear(b[trunk : trunk+4]); return b },
	} {
		if _, _, err := freeLeaves(bytes.NewReader(change(bytes.Clone(whole)))); err == nil {
			t.Errorf("%s was not noticed", name)
		}
	}
}
