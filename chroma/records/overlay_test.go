package records_test

import (
	"fmt"
	"strings"
	"testing"

	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
)

// queued is SQL that adds a row to the queue of all-l2.
func queued(op sysdb.Operation, id, vector, metadata string) string {
	v, m := "NULL", "NULL"
	if vector != "" {
		v = "x'" + vector + "'"
	}
	if metadata != "" {
		m = "'" + metadata + "'"
	}
	return fmt.Sprintf(`INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata)
		SELECT %d, 'persistent://default/default/' || c.id, '%s', %s, 'FLOAT32', %s FROM collections c
		JOIN databases d ON d.id = c.database_id WHERE c.name = 'all-l2' AND d.name = 'default_database';`, op, id, v, m)
}

const (
	vectorA = "0000803f0000803f0000803f0000803f"
	vectorB = "00000040000000400000004000000040"
)

// TestQueueOverlay appends writes that neither segment has seen.
func TestQueueOverlay(t *testing.T) {
	for _, c := range []struct {
		name, sql, id string
		want          string // document, metadata, vector from the queue; "" for no such record
		records       int64
	}{
		{"add", queued(sysdb.Add, "n", vectorA, `{"chroma:document":"d","i":1,"f":1.0,"b":true,"a":["x","y"],"e":[],"z":null}`), "n",
			`d [{a [x y]} {b true} {f 1} {i 1}] 0000803f`, 31},
		{"add of a known id", queued(sysdb.Add, "tail-0", vectorA, `{"i":1}`), "tail-0", `tail [{t 0}] `, 30},
		{"add without metadata", queued(sysdb.Add, "n", vectorA, ""), "n", `<nil> [] 0000803f`, 31},
		{"update", queued(sysdb.Update, "tail-0", "", `{"chroma:document":null,"t":null,"u":9223372036854775808}`), "tail-0",
			`<nil> [{u 9.223372036854776e+18}] `, 30},
		{"update of a missing id", queued(sysdb.Update, "n", vectorA, `{"i":1}`), "n", "", 30},
		{"upsert", queued(sysdb.Upsert, "tail-0", vectorB, `{"v":2}`), "tail-0", `tail [{t 0} {v 2}] 00000040`, 30},
		{"delete", queued(sysdb.Delete, "tail-0", "", ""), "tail-0", "", 29},
		{"delete and add", queued(sysdb.Delete, "tail-0", "", "") + queued(sysdb.Add, "tail-0", vectorA, `{"w":3}`), "tail-0",
			`<nil> [{w 3}] 0000803f`, 30},
		{"add, update, delete, upsert", queued(sysdb.Add, "n", vectorA, `{"a":1}`) + queued(sysdb.Update, "n", "", `{"b":1}`) +
			queued(sysdb.Delete, "n", "", "") + queued(sysdb.Upsert, "n", vectorB, `{"c":1}`) + queued(sysdb.Update, "n", "", `{"d":"x"}`), "n",
			`<nil> [{c 1} {d x}] 00000040`, 31},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _ := unpack(t, "1.5.9")
			execute(t, dir, c.sql)
			db, col := open(t, dir, "all-l2")
			list, stats := collect(t, db, col, dir)
			got := ""
			for _, r := range list {
				if r.ID == c.id {
					got = show(r)
				}
			}
			if got == "" != (c.want == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if stats.Records != c.records || stats.Missing.Count != 0 || stats.Ghosts.Count != 0 || stats.BadQueueRows != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// show writes a record in a line.
func show(r records.Record) string {
	doc := "<nil>"
	if r.Document != nil {
		doc = *r.Document
	}
	return fmt.Sprintf("%s %v %x", doc, r.Metadata, r.Vector)
}

func TestAmbiguousUpdates(t *testing.T) {
	up, add, del := queued(sysdb.Update, "tail-0", vectorA, ""), queued(sysdb.Add, "tail-0", vectorB, ""), queued(sysdb.Delete, "tail-0", "", "")
	for sql, want := range map[string]int64{up + add: 1, add + up: 0, up + del + add: 0, del + add + up: 0, up + add + up + add: 1} {
		dir, _ := unpack(t, "1.5.9")
		execute(t, dir, sql)
		db, c := open(t, dir, "all-l2")
		if _, stats := collect(t, db, c, dir); stats.Ambiguous.Count != want {
			t.Errorf("%q: %+v, want %d", sql, stats.Ambiguous, want)
		}
	}
}

func TestBadQueueRowsAreCounted(t *testing.T) {
	dir, _ := unpack(t, "1.5.9")
	execute(t, dir, queued(sysdb.Upsert, "tail-0", vectorA, `{"x":{"nested":1}}`)+queued(9, "tail-1", "", ""))
	db, c := open(t, dir, "all-l2")
	if _, stats := collect(t, db, c, dir); stats.BadQueueRows != 3 || stats.Records != 30 {
		t.Errorf("%+v", stats)
	}
}

// TestPickleHoldsTheSequenceNumber: before 0.5.6 there is no max_seq_id row of
// the vector segment; without the pickle's the whole queue is replayed.
func TestPickleHoldsTheSequenceNumber(t *testing.T) {
	dir, _ := unpack(t, "0.4.24")
	db, c := open(t, dir, "all-l2")
	_, stats := collect(t, db, c, dir)
	if c.VectorSeq != -1 || stats.VectorSeq <= 0 || stats.Pickle == nil || stats.Pickle.MaxSeqID != stats.VectorSeq {
		t.Errorf("%d, %+v", c.VectorSeq, stats)
	}
}
