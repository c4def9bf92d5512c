package sysdb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma"
	"colorfast/chroma/sysdb"
	"colorfast/internal/chromatest"
)

// thinned returns the database of a fixture after so many rows of 3 KiB came and
// went, one in eight of them not at once, and the number of its free pages.
func thinned(t testing.TB, version string, rows int, pragma string) ([]byte, int) {
	t.Helper()
	path := write(t, database(t, version))
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = sqlitex.ExecuteScript(conn, fmt.Sprintf(`CREATE TABLE grown(x TEXT);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO grown SELECT printf('%%.3000c', 'x') FROM n;
		DELETE FROM grown WHERE rowid %% 8 > 0; DELETE FROM grown;`, rows), nil)
	if err != nil {
		t.Fatal(err)
	}
	if pragma != "" {
		for _, sql := range []string{pragma, "VACUUM", "CREATE TABLE more AS SELECT * FROM embedding_metadata", "DROP TABLE more"} {
			if err := sqlitex.ExecuteTransient(conn, sql, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	free, err := sqlitex.ResultInt(conn.Prep("PRAGMA freelist_count"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, free
}

// stretches returns what FreeLeaves visits, which must be whole pages in order,
// and none of it if there is an error.
func stretches(t testing.TB, b []byte) ([][2]int64, error) {
	t.Helper()
	var out [][2]int64
	last := int64(0)
	err := sysdb.FreeLeaves(t.Context(), bytes.NewReader(b), int64(len(b)), func(off, length int64) error {
		page, err := sysdb.PageSize(bytes.NewReader(b))
		if err != nil || off%int64(page) != 0 || length%int64(page) != 0 || off <= last || length <= 0 || off+length > int64(len(b)) || off < int64(page) {
			t.Fatalf("a visit to %d bytes at %d, after %d, of %d (page size %d, %v)", length, off, last, len(b), page, err)
		}
		last = off + length
		out = append(out, [2]int64{off, length})
		return nil
	})
	if err != nil && len(out) > 0 {
		t.Fatalf("%d visits in spite of %v", len(out), err)
	}
	return out, err
}

func TestFreeLeaves(t *testing.T) {
	for _, version := range chromatest.Fixtures(t) {
		b, free := thinned(t, version, 3000, "")
		const page = 4096
		found, err := stretches(t, b)
		if err != nil {
			t.Fatal(err)
		}
		leaves := int64(0)
		for _, s := range found {
			leaves += s[1] / page
			clear(b[s[0] : s[0]+s[1]])
		}
		// Each trunk lists 1022 leaves at most.
		if trunks := int64(free) - leaves; free < 2000 || trunks < 2 || trunks > 4 {
			t.Errorf("%s: %d leaves and %d trunks of %d free pages", version, leaves, trunks, free)
		}
		conn, err := sqlite.OpenConn(write(t, b), sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := sqlitex.ResultText(conn.Prep("PRAGMA integrity_check")); err != nil || got != "ok" {
			t.Errorf("%s: with zeros in them: %q, %v", version, got, err)
		}
		// SQLite takes pages from the list again.
		if err := sqlitex.ExecuteScript(conn, "CREATE TABLE again AS SELECT * FROM embedding_metadata", nil); err != nil {
			t.Error(err)
		}
		if got, err := sqlitex.ResultText(conn.Prep("PRAGMA integrity_check")); err != nil || got != "ok" {
			t.Errorf("%s: when they are used again: %q, %v", version, got, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFreeLeavesByWindows(t *testing.T) {
	b, _ := thinned(t, "1.5.9", 200, "")
	pages := func(window int64) (out []int64) {
		err := sysdb.FreeLeavesBy(t.Context(), bytes.NewReader(b), int64(len(b)), window, func(off, length int64) error {
			for ; length > 0; off, length = off+4096, length-4096 {
				out = append(out, off)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := pages(1 << 20)
	for _, window := range []int64{1, 3, 64, 100, int64(len(b)) / 4096, int64(len(b))/4096 + 1} {
		if got := pages(window); !slices.Equal(got, want) || len(want) < 100 {
			t.Errorf("by %d pages: %d leaves, not %d", window, len(got), len(want))
		}
	}
}

func TestFreeLeavesPassesOver(t *testing.T) {
	for _, pragma := range []string{"PRAGMA auto_vacuum=FULL", "PRAGMA auto_vacuum=INCREMENTAL"} {
		b, free := thinned(t, "1.5.9", 10, pragma)
		if binary.BigEndian.Uint32(b[52:]) == 0 || pragma == "PRAGMA auto_vacuum=INCREMENTAL" && free == 0 {
			t.Fatalf("%s: it is not in force, or there is nothing to clear", pragma)
		}
		if found, err := stretches(t, b); err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v", pragma, found, err)
		}
	}
	if found, err := stretches(t, database(t, "0.4.24")[:0]); len(found) > 0 || !isCorrupt(err) {
		t.Errorf("an empty file: %v, %v", found, err)
	}
}

func isCorrupt(err error) bool {
	var c *chroma.CorruptError
	return errors.As(err, &c)
}

func TestDamagedFreeListIsLeftAlone(t *testing.T) {
	whole, free := thinned(t, "1.5.9", 3000, "")
	be := binary.BigEndian
	first := be.Uint32(whole[32:])
	at := func(page uint32) int { return int(page-1) * 4096 }
	trunk := at(first)
	second := be.Uint32(whole[trunk:])
	for name, damage := range map[string]func(b []byte) []byte{
		"a chain that goes in a circle":       func(b []byte) []byte { be.PutUint32(b[trunk:], first); return b },
		"a chain that goes back":              func(b []byte) []byte { be.PutUint32(b[at(second):], first); return b },
		"a chain that ends early":             func(b []byte) []byte { be.PutUint32(b[trunk:], 0); return b },
		"a trunk behind the end":              func(b []byte) []byte { be.PutUint32(b[32:], 1<<31); return b },
		"a trunk that is page 1":              func(b []byte) []byte { be.PutUint32(b[32:], 1); return b },
		"a leaf behind the end":               func(b []byte) []byte { be.PutUint32(b[trunk+8:], uint32(len(b)/4096)+1); return b },
		"a leaf that is page 0":               func(b []byte) []byte { be.PutUint32(b[trunk+8:], 0); return b },
		"a leaf that is page 1":               func(b []byte) []byte { be.PutUint32(b[trunk+8:], 1); return b },
		"a leaf that is the trunk":            func(b []byte) []byte { be.PutUint32(b[trunk+8:], first); return b },
		"a leaf that is a later trunk":        func(b []byte) []byte { be.PutUint32(b[trunk+8:], second); return b },
		"a leaf that is listed twice":         func(b []byte) []byte { copy(b[trunk+8:trunk+12], b[trunk+12:trunk+16]); return b },
		"a trunk with too many leaves":        func(b []byte) []byte { be.PutUint32(b[trunk+4:], 1023); return b },
		"a trunk with far too many leaves":    func(b []byte) []byte { be.PutUint32(b[trunk+4:], 1<<32-1); return b },
		"a trunk with fewer leaves":           func(b []byte) []byte { be.PutUint32(b[trunk+4:], 3); return b },
		"a header that counts more":           func(b []byte) []byte { be.PutUint32(b[36:], uint32(free)+1); return b },
		"a header that counts less":           func(b []byte) []byte { be.PutUint32(b[36:], uint32(free)-1); return b },
		"a header that counts and has none":   func(b []byte) []byte { be.PutUint32(b[32:], 0); return b },
		"a header that counts the impossible": func(b []byte) []byte { be.PutUint32(b[36:], 1<<32-1); return b },
		"a header with fewer pages":           func(b []byte) []byte { be.PutUint32(b[28:], 20); return b },
		"another page size":                   func(b []byte) []byte { be.PutUint16(b[16:], 8192); return b },
		"an impossible page size":             func(b []byte) []byte { be.PutUint16(b[16:], 4095); return b },
		"pages that are all reserved":         func(b []byte) []byte { be.PutUint16(b[16:], 512); b[20] = 33; return b },
		"a file that is cut":                  func(b []byte) []byte { return b[:len(b)/2] },
		"a file that is something else":       func(b []byte) []byte { b[3] ^= 1; return b },
	} {
		found, err := stretches(t, damage(bytes.Clone(whole)))
		if !isCorrupt(err) || len(found) > 0 {
			t.Errorf("%s: %d stretches, %v", name, len(found), err)
		}
	}
}

// TestQuickCheckFindsPagesThatAreNotFree: whoever overwrites free pages relies on
// it, for a list with a page that is in use looks as good as any. That goes for
// every table, also those of the full-text index.
func TestQuickCheckFindsPagesThatAreNotFree(t *testing.T) {
	b, _ := thinned(t, "1.5.9", 50, "")
	conn, err := sqlite.OpenConn(write(t, b), sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	used := map[string]uint32{}
	err = sqlitex.ExecuteTransient(conn, "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 1", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { used[s.ColumnText(0)] = uint32(s.ColumnInt64(1)); return nil },
	})
	if err != nil || len(used) < 20 || used["embedding_fulltext_search_data"] == 0 {
		t.Fatal(used, err)
	}
	leaf := int(binary.BigEndian.Uint32(b[32:])-1)*4096 + 8
	for name, page := range used {
		bad := bytes.Clone(b)
		binary.BigEndian.PutUint32(bad[leaf:], page)
		found, err := stretches(t, bad)
		if err != nil || !slices.ContainsFunc(found, func(s [2]int64) bool {
			return s[0] <= int64(page-1)*4096 && int64(page-1)*4096 < s[0]+s[1]
		}) {
			t.Fatalf("%s: %v, %v: this test plants nothing", name, found, err)
		}
		db, err := sysdb.Open(write(t, bad))
		if err != nil {
			t.Fatal(err)
		}
		if lines, err := db.QuickCheck(t.Context()); err != nil || len(lines) == 0 {
			t.Errorf("page %d of %s is in the free list too, and nobody sees it: %v", page, name, err)
		}
		db.Close()
	}
}

// sparse is a file of pages that are mostly not there.
type sparse map[int64][]byte

func (s sparse) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for at, page := range s {
		if off >= at && off < at+int64(len(page)) {
			copy(b, page[off-at:])
		}
	}
	return len(b), nil
}

// TestLockPageIsNeverFree: the page at 1 GiB, where processes lock, is not used
// for anything, and so is not free either.
func TestLockPageIsNeverFree(t *testing.T) {
	be := binary.BigEndian
	for leaf, ok := range map[uint32]bool{1<<18 + 1: false, 1<<18 + 2: true} {
		header, trunk := make([]byte, 4096), make([]byte, 4096)
		copy(header, "SQLite format 3\x00")
		be.PutUint16(header[16:], 4096)
		header[20] = 96 // reserved, as by encryption extensions
		be.PutUint32(header[32:], 3)
		be.PutUint32(header[36:], 2)
		be.PutUint32(trunk[4:], 1)
		be.PutUint32(trunk[8:], leaf)
		visits := 0
		err := sysdb.FreeLeaves(t.Context(), sparse{0: header, 2 * 4096: trunk}, 2<<30, func(off, length int64) error {
			visits++
			if off != int64(leaf-1)*4096 || length != 4096 {
				t.Errorf("%d bytes at %d", length, off)
			}
			return nil
		})
		if ok != (err == nil) || ok != (visits == 1) {
			t.Errorf("leaf %d: %d visits, %v", leaf, visits, err)
		}
		// The reserved bytes are no room for leaves.
		be.PutUint32(trunk[4:], (4096-96)/4-1)
		if err := sysdb.FreeLeaves(t.Context(), sparse{0: header, 2 * 4096: trunk}, 2<<30, nil); !isCorrupt(err) {
			t.Errorf("more leaves than there is room: %v", err)
		}
	}
}

// TestFreeLeavesOfPrefixesAndFlips: stretches checks what is visited.
func TestFreeLeavesOfPrefixesAndFlips(t *testing.T) {
	b, _ := thinned(t, "1.5.9", 100, "")
	for n := 0; n < len(b); n += 1 + n/50 {
		if _, err := stretches(t, b[:n:n]); !isCorrupt(err) {
			t.Fatalf("cut to %d of %d: %v", n, len(b), err)
		}
	}
	trunk := int(binary.BigEndian.Uint32(b[32:])-1) * 4096
	for _, area := range [][2]int{{0, 100}, {trunk, trunk + 4096}} {
		for i := area[0]; i < area[1]; i++ {
			b[i] ^= 1 << (i % 8)
			if _, err := stretches(t, b); err != nil && !isCorrupt(err) {
				t.Fatalf("byte %d flipped: %v", i, err)
			}
			b[i] ^= 1 << (i % 8)
		}
	}
}

func TestFreeLeavesGivesErrorsOn(t *testing.T) {
	b, _ := thinned(t, "1.5.9", 10, "")
	mine := errors.New("mine")
	if err := sysdb.FreeLeaves(t.Context(), bytes.NewReader(b), int64(len(b)), func(int64, int64) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("of a visit: %v", err)
	}
	if err := sysdb.FreeLeaves(t.Context(), broken{}, int64(len(b)), nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("of reading: %v", err)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

func TestPageSize(t *testing.T) {
	b := database(t, "1.5.9")
	for stored, want := range map[uint16]int{512: 512, 4096: 4096, 32768: 32768, 1: 65536, 0: 0, 256: 0, 1000: 0} {
		binary.BigEndian.PutUint16(b[16:], stored)
		if got, err := sysdb.PageSize(bytes.NewReader(b)); got != want || (err != nil) != (want == 0) {
			t.Errorf("%d: %d, %v", stored, got, err)
		}
	}
}

// small returns a database of SQLite's with free pages, small enough to be bent
// often.
func small(t testing.TB, page int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteScript(conn, fmt.Sprintf(`PRAGMA page_size=%d; CREATE TABLE t(x); CREATE TABLE u(x);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 150) INSERT INTO t SELECT zeroblob(%d) FROM n;
		INSERT INTO u VALUES (1); DELETE FROM t;`, page, page/2), nil)
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzFreeLeaves(f *testing.F) {
	for _, page := range []int{512, 1024} {
		b := small(f, page)
		if found, err := stretches(f, b); err != nil || len(found) == 0 {
			f.Fatal(found, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := stretches(t, b); err != nil && !isCorrupt(err) {
			t.Fatal(err)
		}
	})
}
