package records_test

import (
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
	"colorfast/internal/chromatest"
)

// bitsOf returns the float64 with these bits, in hexadecimal.
func bitsOf(s string) (float64, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	return math.Float64frombits(n), err
}

// TestRecordsAreWhatChromaSays compares every record with Chroma's own get.
func TestRecordsAreWhatChromaSays(t *testing.T) {
	for _, a := range chromatest.Fixtures(t) {
		t.Run(strings.TrimSuffix(filepath.Base(a), ".tar.gz"), func(t *testing.T) {
			dir, want := unpack(t, a)
			before := fingerprint(t, dir)
			db, err := sysdb.Open(filepath.Join(dir, "chroma.sqlite3"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			list, err := db.Collections(t.Context())
			if err != nil || len(list) != len(want.Collections) || len(list) == 0 {
				t.Fatalf("%d collections, want %d: %v", len(list), len(want.Collections), err)
			}
			byID := map[string]*sysdb.Collection{}
			for _, c := range list {
				byID[c.ID] = c
			}
			fromQueue := int64(0)
			for _, w := range want.Collections {
				c := byID[w.ID]
				if c == nil || c.String() != w.Tenant+"/"+w.Database+"/"+w.Name {
					t.Fatalf("collection %s is %v", w.Name, c)
				}
				got, stats := collect(t, db, c, dir)
				inParts(t, db, c, dir, got, stats)
				fromQueue += stats.FromQueue
				compare(t, c, got, w.Records, want.Version)
				compareFields(t, c.String(), c.Metadata, w.Metadata)
				lost := int64(0) // 0.4.24 itself loses an id deleted from the index and added again to its buffer
				for _, r := range w.Records {
					if r.Vector == nil {
						lost++
					}
				}
				if stats.SegmentError != nil || stats.Missing.Count != lost || stats.Ghosts.Count+stats.WrongDimension.Count+stats.UnreadableSlots+stats.BadQueueRows != 0 {
					t.Errorf("%s: %+v", c, stats)
				}
				if n, err := db.Count(t.Context(), c.MetadataSegment); n != int64(w.Count) || err != nil {
					t.Errorf("%s: count %d, want %d: %v", c, n, w.Count, err)
				}
			}
			if fromQueue == 0 {
				t.Error("no record came from the queue")
			}
			if fingerprint(t, dir) != before {
				t.Error("reading changed the persist directory")
			}
		})
	}
}

// inParts reads the collection by several goroutines: together they get the same.
func inParts(t *testing.T, db *sysdb.DB, c *sysdb.Collection, dir string, want []records.Record, stats *records.Stats) {
	t.Helper()
	hashes := make([][]string, 5)
	fns := make([]func(*records.Record) error, len(hashes))
	for i := range fns {
		fns[i] = func(r *records.Record) error {
			h := r.Hash()
			hashes[i] = append(hashes[i], hex.EncodeToString(h[:]))
			return nil
		}
	}
	parts, err := records.ReadParts(t.Context(), db, c, dir, t.TempDir(), fns)
	if err != nil {
		t.Fatal(err)
	}
	var alone []string
	for i := range want {
		h := want[i].Hash()
		alone = append(alone, hex.EncodeToString(h[:]))
	}
	slices.Sort(alone)
	if together := slices.Sorted(slices.Values(slices.Concat(hashes...))); !slices.Equal(together, alone) {
		t.Errorf("%s: %d records in parts are not the %d that were read alone", c, len(together), len(alone))
	}
	if parts.Records != stats.Records || parts.FromQueue != stats.FromQueue || parts.Missing.Count != stats.Missing.Count ||
		parts.Ghosts.Count != stats.Ghosts.Count || parts.Overlaid != stats.Overlaid || parts.VectorRows != stats.VectorRows {
		t.Errorf("%s: in parts %+v, alone %+v", c, parts, stats)
	}
	if some := slices.IndexFunc(hashes[1:], func(h []string) bool { return len(h) > 0 }); len(alone) > 100 && stats.Overlaid == 0 && some < 0 {
		t.Errorf("%s: the first part has all %d records", c, len(alone))
	}
}

// compare compares records in order. Cosine vectors from the index are true to
// rounding only; a Python-era process answers with its buffer's exact ones.
func compare(t *testing.T, c *sysdb.Collection, got []records.Record, want []expectedRecord, version string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", c, len(got), len(want))
		return
	}
	if version == "0.4.24" { // orders by user id, not by embeddings.id
		byID := map[string]expectedRecord{}
		for _, w := range want {
			byID[w.ID] = w
		}
		want = nil
		for _, g := range got {
			want = append(want, byID[g.ID])
		}
	}
	for i, w := range want {
		g := got[i]
		if g.ID != w.ID || !same(g.Document, w.Document) || !same(g.URI, w.URI) {
			t.Errorf("%s: record %d is %q %v %v, want %q %v %v", c, i, g.ID, g.Document, g.URI, w.ID, w.Document, w.URI)
		}
		compareFields(t, c.String()+" "+g.ID, g.Metadata, w.Metadata)
		if w.Vector == nil {
			if g.Vector != nil {
				t.Errorf("%s: %s has a vector, Chroma says it has none", c, g.ID)
			}
			continue
		}
		raw, err := hex.DecodeString(*w.Vector)
		if err != nil {
			t.Fatal(err)
		}
		if !near(g.Vector, raw, c.Config.Space == "cosine") {
			t.Errorf("%s: %s has vector %x, want %x", c, g.ID, g.Vector, raw)
		}
	}
}

// near compares vectors: by bits, or for cosine to 2 units in the last place.
func near(a, b []byte, cosine bool) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i += 4 {
		x, y := float(a[i:]), float(b[i:])
		if x != y && !(cosine && math.Abs(float64(x-y)) <= 3e-7*math.Abs(float64(y))) {
			return false
		}
	}
	return true
}

// float reads one component.
func float(b []byte) float32 {
	return math.Float32frombits(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
}

// same compares optional strings.
func same(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// compareFields compares metadata.
func compareFields(t *testing.T, what string, got []records.Field, want map[string]tagged) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: metadata %v, want %d keys", what, got, len(want))
		return
	}
	for i, f := range got {
		if i > 0 && got[i-1].Key >= f.Key {
			t.Errorf("%s: keys are not sorted: %v", what, got)
		}
		w, ok := want[f.Key]
		if !ok || !f.Value.Equal(w.value(t)) {
			t.Errorf("%s: %q is %v %v, want %v", what, f.Key, f.Value.Kind, f.Value, w.value(t))
		}
	}
}

// TestLossIsCounted plants losses in the newest fixture.
func TestLossIsCounted(t *testing.T) {
	const meta = `(SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection JOIN databases d ON d.id = c.database_id
		WHERE s.scope = 'METADATA' AND c.name = 'all-l2' AND d.name = 'default_database')`
	whole := func(s *records.Stats) bool { return s.Records == 30 && s.Missing.Count == 0 }
	for _, c := range []struct {
		name, sql, remove string
		good              func(*records.Stats) bool
	}{
		{"nothing", ``, "", whole},
		{"a ghost", `DELETE FROM embeddings WHERE embedding_id = 'id-0' AND segment_id = ` + meta, "",
			func(s *records.Stats) bool { return s.Ghosts.Count == 1 && s.Ghosts.Sample[0] == "id-0" }},
		{"a missing vector", `INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (777777, ` + meta + `, 'new', 1)`, "",
			func(s *records.Stats) bool { return s.Missing.Count == 1 && s.Missing.Sample[0] == "new" }},
		{"a wrong dimension", queued(1, "tail-6", "0000803f", ""), "",
			func(s *records.Stats) bool {
				return s.WrongDimension.Count == 1 && s.WrongDimension.Sample[0] == "tail-6"
			}},
		{"a directory", ``, ".", func(s *records.Stats) bool {
			return s.Records == 30 && s.Missing.Count > 20 && s.SegmentError != nil && s.Segment == "absent"
		}},
		{"a pickle", ``, "index_metadata.pickle", func(s *records.Stats) bool {
			return s.Missing.Count > 20 && s.SegmentError != nil && s.Segment == "young"
		}},
		{"a file", ``, "data_level0.bin", func(s *records.Stats) bool {
			return s.Missing.Count > 20 && s.SegmentError != nil && s.Segment == "partial"
		}},
		{"an odd segment name", `UPDATE segments SET id = '../' || id WHERE scope = 'VECTOR'`, "",
			func(s *records.Stats) bool { return s.Missing.Count > 20 && s.SegmentError != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _ := unpack(t, "1.5.9")
			execute(t, dir, c.sql)
			db, col := open(t, dir, "all-l2")
			if c.remove != "" {
				if err := os.RemoveAll(filepath.Join(dir, col.VectorSegment, c.remove)); err != nil {
					t.Fatal(err)
				}
			}
			if _, stats := collect(t, db, col, dir); !c.good(stats) {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// TestDamagedSegmentsDoNotPanic cuts and flips the files of a segment.
func TestDamagedSegmentsDoNotPanic(t *testing.T) {
	dir, _ := unpack(t, "0.6.3")
	db, c := open(t, dir, "all-cosine")
	for _, name := range []string{"header.bin", "data_level0.bin", "length.bin", "index_metadata.pickle"} {
		path := filepath.Join(dir, c.VectorSegment, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(good)/40)
		for i := 0; i < len(good) && i < 4000; i += step {
			bad := append([]byte(nil), good...)
			bad[i] ^= 0xff
			for _, b := range [][]byte{bad, good[:i]} {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				if got, stats := collect(t, db, c, dir); len(got) != 30 || stats.Records != 30 {
					t.Errorf("%s at %d: %d records", name, i, len(got))
				}
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
