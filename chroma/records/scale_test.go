package records_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"colorfast/chroma/records"
)

// synthetic makes a persist directory out of the empty collection of the newest
// fixture: n records of dim dimensions, with two metadata fields and a document,
// all in a saved index.
func synthetic(t testing.TB, n, dim int) string {
	t.Helper()
	dir, _ := unpack(t, "1.5.9")
	execute(t, dir, fmt.Sprintf(`
		CREATE TEMP TABLE c AS SELECT id FROM collections WHERE name = 'empty';
		UPDATE collections SET dimension = %d WHERE id = (SELECT id FROM c);
		CREATE TEMP TABLE m AS SELECT id FROM segments WHERE scope = 'METADATA' AND collection = (SELECT id FROM c);
		CREATE TEMP TABLE v AS SELECT id FROM segments WHERE scope = 'VECTOR' AND collection = (SELECT id FROM c);
		REPLACE INTO max_seq_id SELECT id, %d FROM m UNION ALL SELECT id, %d FROM v;
		INSERT INTO embeddings (id, segment_id, embedding_id, seq_id)
			WITH RECURSIVE k(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM k WHERE i + 1 < %d)
			SELECT 1000000 + i, (SELECT id FROM m), printf('%%08x-record', (i * 2654435761) & 0xffffffff), i FROM k;
		DROP INDEX embedding_metadata_int_value; DROP INDEX embedding_metadata_float_value; DROP INDEX embedding_metadata_string_value;
		INSERT INTO embedding_metadata (id, key, string_value) SELECT id, 'chroma:document', 'document of ' || embedding_id FROM embeddings WHERE id >= 1000000;
		INSERT INTO embedding_metadata (id, key, int_value) SELECT id, 'n', id FROM embeddings WHERE id >= 1000000;
		INSERT INTO embedding_metadata (id, key, string_value) SELECT id, 's', 'some text' FROM embeddings WHERE id >= 1000000`, dim, n, n, n))
	_, c := open(t, dir, "empty")
	seg := filepath.Join(dir, c.VectorSegment)
	if err := os.MkdirAll(seg, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range segmentFiles(n, dim) {
		if err := os.WriteFile(filepath.Join(seg, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// segmentFiles makes the five files: no links, vectors k/n.
func segmentFiles(n, dim int) map[string][]byte {
	le := binary.LittleEndian
	const m = 16
	size := 4 + 4*2*m + 4*dim + 8
	h := le.AppendUint32(nil, 1)
	for _, x := range []int{0, n, n, size, size - 8, 4 + 4*2*m} {
		h = le.AppendUint64(h, uint64(x))
	}
	h = le.AppendUint32(h, 0)
	h = le.AppendUint32(h, 0)
	for _, x := range []int{m, 2 * m, m} {
		h = le.AppendUint64(h, uint64(x))
	}
	h = le.AppendUint64(h, math.Float64bits(1/math.Log(m)))
	h = le.AppendUint64(h, 100)
	data := make([]byte, n*size)
	for k := range n {
		e := data[k*size:]
		for d := range dim {
			le.PutUint32(e[4+4*2*m+4*d:], math.Float32bits(float32(k)/float32(n)))
		}
		le.PutUint64(e[size-8:], uint64(k+1))
	}
	var p bytes.Buffer
	text := func(s string) { p.WriteByte('X'); p.Write(le.AppendUint32(nil, uint32(len(s)))); p.WriteString(s) }
	num := func(k int) { p.WriteByte('J'); p.Write(le.AppendUint32(nil, uint32(k))) }
	p.WriteString("\x80\x03}(")
	text("dimensionality")
	p.WriteByte('N')
	text("total_elements_added")
	num(n)
	text("max_seq_id")
	p.WriteByte('N')
	for _, dict := range []string{"id_to_label", "label_to_id"} {
		text(dict)
		p.WriteString("}")
		for k := range n {
			if k%1000 == 0 {
				p.WriteByte('(')
			}
			id := fmt.Sprintf("%08x-record", uint32(k*2654435761))
			if dict == "id_to_label" {
				text(id)
				num(k + 1)
			} else {
				num(k + 1)
				text(id)
			}
			if k%1000 == 999 || k == n-1 {
				p.WriteByte('u')
			}
		}
	}
	text("id_to_seq_id")
	p.WriteString("}u.")
	return map[string][]byte{"header.bin": h, "data_level0.bin": data, "length.bin": make([]byte, 4*n),
		"link_lists.bin": make([]byte, 4*n), "index_metadata.pickle": p.Bytes()}
}

// TestMemoryDoesNotGrowWithRecords compares the highest heap of two sizes. What
// grows is bounded: the table of places up to 32 MiB, then a file; and the
// index, which keeps 4 bytes per element.
func TestMemoryDoesNotGrowWithRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 200,000 records")
	}
	peak := func(n int) uint64 {
		dir := synthetic(t, n, 4)
		runtime.GC()
		db, c := open(t, dir, "empty")
		var top uint64
		k := 0
		stats, err := records.Read(t.Context(), db, c, dir, t.TempDir(), func(r *records.Record) error {
			if k++; k%10000 == 1 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				top = max(top, m.HeapInuse)
			}
			return nil
		})
		if err != nil || stats.Records != int64(n) || stats.Missing.Count != 0 || stats.WrongDimension.Count != 0 || stats.Ghosts.Count != 0 {
			t.Fatalf("%+v, %v", stats, err)
		}
		return top
	}
	small, large := peak(20_000), peak(200_000)
	t.Logf("heap in use: %d KiB with 20,000 records, %d KiB with 200,000", small>>10, large>>10)
	if large > small+40<<20 {
		t.Errorf("heap grows from %d to %d bytes", small, large)
	}
}

func BenchmarkRead(b *testing.B) {
	const n = 100_000
	dir := synthetic(b, n, 384)
	db, c := open(b, dir, "empty")
	scratch := b.TempDir()
	for _, hash := range []bool{false, true} {
		b.Run(fmt.Sprintf("hash=%v", hash), func(b *testing.B) {
			for b.Loop() {
				_, err := records.Read(context.Background(), db, c, dir, scratch, func(r *records.Record) error {
					if hash {
						_ = r.Hash()
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
