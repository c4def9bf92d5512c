package btree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma"
)

const maxRow = 1 << 20

// database is a table t with an index over id and key, as SQLite made it.
type database struct {
	bytes       []byte
	page        int
	table, from uint32
	rows        []row // in the order of the index
}

type row struct {
	id, rowid int64
	key       string
	values    []Value
}

// build fills a database with rows of all kinds, long and short, deletes some and
// updates others.
func build(t testing.TB, seed uint64, page, rows int) *database {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "db")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run := func(sql string, args ...any) {
		t.Helper()
		if err := sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{Args: args}); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(fmt.Sprintf(`PRAGMA page_size=%d`, page))
	run(`CREATE TABLE other (x)`)
	run(`CREATE TABLE t (id INTEGER, key TEXT NOT NULL, s TEXT, i INTEGER, f REAL, b BLOB, PRIMARY KEY (id, key))`)
	run(`BEGIN`)
	for i := range rows {
		id := int64(i / 3)
		if r.IntN(10) == 0 {
			id = r.Int64() - math.MaxInt64/2
		}
		key := fmt.Sprintf("key %d", r.IntN(1000))
		if r.IntN(30) == 0 {
			key = strings.Repeat(key, r.IntN(2000))
		}
		args := []any{id, key, nil, nil, nil, nil}
		switch r.IntN(6) {
		case 0:
			args[2] = strings.Repeat("ü", r.IntN(4*page))
		case 1:
			args[3] = r.Int64() >> r.IntN(63)
		case 2:
			args[4] = float64(r.IntN(100))
		case 3:
			args[4] = r.NormFloat64()
		case 4:
			args[5] = bytes.Repeat([]byte{7}, r.IntN(100))
		}
		run(`INSERT OR REPLACE INTO t VALUES (?, ?, ?, ?, ?, ?)`, args...)
	}
	run(`DELETE FROM t WHERE rowid % 7 = 3`)
	run(`INSERT OR REPLACE INTO t SELECT id, key, 'again', 1, 2.5, x'00' FROM t WHERE rowid % 11 = 5`)
	run(`ALTER TABLE t ADD COLUMN later INTEGER`)
	run(`COMMIT`)
	d := &database{page: page}
	d.read(t, conn)
	err = sqlitex.ExecuteTransient(conn, `SELECT name, rootpage FROM sqlite_schema WHERE tbl_name = 't'`, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		if root := uint32(s.ColumnInt64(1)); s.ColumnText(0) == "t" {
			d.table = root
		} else {
			d.from = root
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if d.bytes, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return d
}

// read lets SQLite read all rows.
func (d *database) read(t testing.TB, conn *sqlite.Conn) {
	t.Helper()
	err := sqlitex.ExecuteTransient(conn, `SELECT rowid, id, key, s, i, f, b FROM t ORDER BY id, key`, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		x := row{rowid: s.ColumnInt64(0), id: s.ColumnInt64(1), key: s.ColumnText(2)}
		for c := 1; c <= 6; c++ {
			switch s.ColumnType(c) {
			case sqlite.TypeNull:
				x.values = append(x.values, Value{})
			case sqlite.TypeInteger:
				x.values = append(x.values, Value{Kind: Integer, Int: s.ColumnInt64(c)})
			case sqlite.TypeFloat:
				x.values = append(x.values, Value{Kind: Real, Real: s.ColumnFloat(c)})
			case sqlite.TypeText:
				x.values = append(x.values, Value{Kind: Text, Bytes: []byte(s.ColumnText(c))})
			default:
				b := make([]byte, s.ColumnLen(c))
				s.ColumnBytes(c, b)
				x.values = append(x.values, Value{Kind: Blob, Bytes: b})
			}
		}
		d.rows = append(d.rows, x)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func (d *database) open() *File {
	return Open(bytes.NewReader(d.bytes), "db", int64(len(d.bytes)), d.page, d.page, maxRow)
}

func same(got, want []Value) bool {
	if len(got) < len(want) {
		return false
	}
	for i, w := range want {
		g := got[i]
		if w.Kind == Real && g.Kind == Integer {
			g = Value{Kind: Real, Real: float64(g.Int)} // whole numbers are stored so
		}
		if g.Kind != w.Kind || g.Int != w.Int || math.Float64bits(g.Real) != math.Float64bits(w.Real) || !bytes.Equal(g.Bytes, w.Bytes) {
			return false
		}
	}
	return true
}

func TestReadsWhatSQLiteWrote(t *testing.T) {
	for _, page := range []int{512, 1024, 4096, 65536} {
		for _, rows := range []int{0, 1, 50, 3000} {
			d := build(t, uint64(page+rows), page, rows)
			f := d.open()
			x, table := f.Index(d.from), f.Table(d.table)
			for _, from := range []int{0, len(d.rows) / 2, max(0, len(d.rows)-1), -1} {
				key, want := int64(math.MinInt64), d.rows
				switch {
				case from > 0:
					key = d.rows[from].id
					for from > 0 && d.rows[from-1].id == key {
						from--
					}
					want = d.rows[from:]
				case from < 0:
					key, want = math.MaxInt64, nil
				}
				if err := x.From(key); err != nil {
					t.Fatal(err)
				}
				for i, w := range want {
					id, rowid, ok, err := x.Next()
					if err != nil || !ok || id != w.id || rowid != w.rowid {
						t.Fatalf("page %d, %d rows, entry %d from %d: %d, %d, %t, %v; want %d, %d", page, rows, i, key, id, rowid, ok, err, w.id, w.rowid)
					}
					v, ok, err := table.Row(rowid)
					if err != nil || !ok || !same(v, w.values) {
						t.Fatalf("page %d, row %d: %v, %t, %v; want %v", page, rowid, v, ok, err, w.values)
					}
				}
				if id, _, ok, err := x.Next(); ok || err != nil {
					t.Fatalf("page %d: %d behind the end, %v", page, id, err)
				}
			}
			scan(t, d, table.Scan())
			for _, rowid := range []int64{-1, 0, 1 << 40, math.MaxInt64, math.MinInt64} {
				if _, ok, err := table.Row(rowid); ok || err != nil {
					t.Errorf("row %d that is not there: %t, %v", rowid, ok, err)
				}
			}
		}
	}
}

// scan walks the whole table, and from the middle and from behind its end.
func scan(t *testing.T, d *database, s *Scan) {
	t.Helper()
	byRow := slices.Clone(d.rows)
	slices.SortFunc(byRow, func(a, b row) int { return cmp.Compare(a.rowid, b.rowid) })
	for _, from := range []int{0, len(byRow) / 2, len(byRow)} {
		rowid := int64(math.MinInt64)
		switch {
		case from == len(byRow):
			rowid = math.MaxInt64
		case from > 0:
			rowid = byRow[from-1].rowid + 1 // between two rows, where one was deleted
		}
		if err := s.From(rowid); err != nil {
			t.Fatal(err)
		}
		for _, w := range byRow[from:] {
			id, v, ok, err := s.Next()
			if err != nil || !ok || id != w.rowid || !same(v, w.values) {
				t.Fatalf("page %d, scan from %d: %d, %v, %t, %v; want %d, %v", d.page, rowid, id, v, ok, err, w.rowid, w.values)
			}
		}
		if id, _, ok, err := s.Next(); ok || err != nil {
			t.Fatalf("page %d: row %d behind the end, %v", d.page, id, err)
		}
	}
}

// TestHostileBytes flips and overwrites bytes everywhere: there is no panic, a
// walk ends, and what is wrong is a *chroma.CorruptError.
func TestHostileBytes(t *testing.T) {
	d := build(t, 1, 512, 400)
	good := d.bytes
	r := rand.New(rand.NewPCG(2, 0))
	wrong := 0
	for range 4000 {
		d.bytes = bytes.Clone(good)
		for range 1 + r.IntN(4) {
			at := r.IntN(len(d.bytes))
			switch r.IntN(3) {
			case 0:
				d.bytes[at] ^= 1 << r.IntN(8)
			case 1:
				d.bytes[at] = byte(r.Uint32())
			default:
				if at+4 <= len(d.bytes) {
					binary.BigEndian.PutUint32(d.bytes[at:], uint32(r.IntN(len(d.bytes)/512+2)))
				}
			}
		}
		if r.IntN(20) == 0 {
			d.bytes = d.bytes[:r.IntN(len(d.bytes))]
		}
		if err := walk(d); err != nil {
			wrong++
			var c *chroma.CorruptError
			if !errors.As(err, &c) {
				t.Fatalf("an error of another kind: %v", err)
			}
		}
	}
	if wrong < 300 {
		t.Errorf("only %d of 4000 damages were noticed", wrong)
	}
}

func walk(d *database) error {
	f := d.open()
	x, table := f.Index(d.from), f.Table(d.table)
	if err := x.From(math.MinInt64); err != nil {
		return err
	}
	for n := 0; ; n++ {
		_, rowid, ok, err := x.Next()
		if err != nil {
			return err
		}
		if !ok {
			return walkTable(d, table.Scan())
		}
		if n > len(d.bytes) {
			return errors.New("a walk without end")
		}
		if _, _, err := table.Row(rowid); err != nil {
			return err
		}
	}
}

func walkTable(d *database, s *Scan) error {
	err := s.From(math.MinInt64)
	for n := 0; err == nil; n++ {
		var ok bool
		if _, _, ok, err = s.Next(); err == nil && !ok {
			return nil
		}
		if n > len(d.bytes) {
			return errors.New("a scan without end")
		}
	}
	return err
}

// TestCircles: pages that lead to each other end in an error.
func TestCircles(t *testing.T) {
	d := build(t, 3, 512, 2000)
	f := d.open()
	root, err := f.page(d.from)
	if err != nil || root.leaf() {
		t.Fatalf("the index has one page: %v", err)
	}
	for i := range root.cells { // all children are the root
		c, err := f.cell(root, i)
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint32(c, d.from)
	}
	copy(d.bytes[(int(d.from)-1)*512:], root.b)
	if err := walk(d); err == nil {
		t.Error("a circle is no error")
	}
	d = build(t, 3, 512, 2000)
	f = d.open()
	if root, err = f.page(d.table); err != nil || root.leaf() {
		t.Fatalf("the table has one page: %v", err)
	}
	binary.BigEndian.PutUint32(root.b[root.head+8:], d.table)
	copy(d.bytes[(int(d.table)-1)*512:], root.b)
	if err := walkTable(d, d.open().Table(d.table).Scan()); err == nil {
		t.Error("a circle in a table is no error")
	}
}
