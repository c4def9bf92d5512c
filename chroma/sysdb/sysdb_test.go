package sysdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"colorfast/chroma"
	"colorfast/chroma/sysdb"
	"colorfast/internal/chromatest"
)

func TestEveryGenerationReads(t *testing.T) {
	want := map[string]string{"0.4.24": "0.4.15", "0.5.23": "0.5.6", "0.6.3": "0.5.6", "1.0.15": "1.0.0", "1.5.9": "1.5.0"}
	from := map[string]sysdb.From{"0.4.24": sysdb.FromSegment, "0.5.23": sysdb.FromSegment, "0.6.3": sysdb.FromSegment,
		"1.0.15": sysdb.FromRust, "1.5.9": sysdb.FromSchema}
	for _, f := range chromatest.Fixtures(t) {
		version := strings.TrimSuffix(filepath.Base(f), ".tar.gz")
		t.Run(version, func(t *testing.T) {
			content := database(t, f)
			path := write(t, content)
			if err := everything(t, path); err != nil {
				t.Error(err)
			}
			db, err := sysdb.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if g := db.Generation(); g.Since != want[version] || g.Newer {
				t.Errorf("generation %+v, want since %s", g, want[version])
			}
			if p, err := db.QuickCheck(t.Context()); err != nil || len(p) > 0 {
				t.Errorf("quick_check: %q, %v", p, err)
			}
			if missing, extra, err := db.StaleFullText(t.Context()); missing != 0 || (extra != 0 && version != "0.4.24") || err != nil {
				// 0.4.24 leaves the entries of deleted records.
				t.Errorf("full text: %d missing, %d extra, %v", missing, extra, err)
			}
			list, err := db.Collections(t.Context())
			if err != nil || len(list) != 8 {
				t.Fatalf("%d collections, %v", len(list), err)
			}
			for _, c := range list {
				if space, ok := strings.CutPrefix(c.Name, "all-"); ok && (c.Config.Space != space || c.Config.SyncThreshold != 10 || c.Config.From != from[version]) {
					t.Errorf("%s: config %+v", c, c.Config)
				}
			}
			q, err := db.QueueState(t.Context())
			if err != nil || q.Restarts() || q.Rows == 0 || q.Purges != (version != "0.4.24") {
				t.Errorf("queue %+v, %v", q, err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, content) {
				t.Error("reading changed the file")
			}
			if e := entries(t, filepath.Dir(path)); e != "chroma.sqlite3" {
				t.Errorf("reading left %s", e)
			}
		})
	}
}

func TestOpenEscapesThePath(t *testing.T) {
	content := database(t, chromatest.Fixtures(t)[0])
	for _, name := range []string{"a b", "a?mode=rwc", "a#b", "100%", "%41", "ü&x=y", "//a"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, chroma.SQLiteFile)
		if err := os.WriteFile(path, content, 0o400); err != nil {
			t.Fatal(err)
		}
		if err := everything(t, path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if e := entries(t, dir); e != chroma.SQLiteFile {
			t.Errorf("%q: reading left %s", name, e)
		}
	}
	if _, err := sysdb.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestHostileSchemas(t *testing.T) {
	for name, sql := range map[string]string{
		"missing table":   `DROP TABLE embeddings_queue`,
		"view":            `DROP TABLE segments; CREATE VIEW segments AS SELECT 'a' id, 'b' type, 'VECTOR' scope, 'c' collection`,
		"virtual table":   `DROP TABLE max_seq_id; CREATE VIRTUAL TABLE max_seq_id USING fts5(segment_id, seq_id)`,
		"no migrations":   `DELETE FROM migrations`,
		"missing column":  `ALTER TABLE embeddings RENAME COLUMN embedding_id TO x`,
		"text migration":  `UPDATE migrations SET version = 'x' || version`,
		"text dimension":  `UPDATE collections SET dimension = 'wide'`,
		"null id":         `UPDATE collections SET id = NULL`,
		"blob name":       `UPDATE collections SET name = x'00ff' WHERE rowid = 1`,
		"text queue":      `UPDATE embeddings_queue SET vector = 'abcd'`,
		"odd vector":      `UPDATE embeddings_queue SET vector = x'010203'`,
		"blob operation":  `UPDATE embeddings_queue SET operation = x'01'`,
		"text int":        `UPDATE embedding_metadata SET int_value = 'x' WHERE int_value IS NOT NULL`,
		"huge value":      `UPDATE embedding_metadata SET string_value = zeroblob(100000000) WHERE rowid = (SELECT max(rowid) FROM embedding_metadata)`,
		"seq of 9 bytes":  `UPDATE max_seq_id SET seq_id = x'010203040506070809'`,
		"seq above int64": `UPDATE max_seq_id SET seq_id = x'ff00000000000000'`,
		"two segments":    `INSERT INTO segments SELECT 'x' || id, type, scope, collection FROM segments`,
	} {
		db, err := alter(t, sql)
		if err == nil {
			err = everything(t, db.Path())
		}
		var corrupt *chroma.CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: error %v, want a CorruptError", name, err)
		}
	}
}

func TestSequenceNumbersOfAllForms(t *testing.T) {
	for value, want := range map[string]int64{
		`7`: 7, `x'0000000000000102'`: 258, `x'000000000000000000000000000000000000000000000103'`: 259,
	} {
		db, err := alter(t, `UPDATE max_seq_id SET seq_id = `+value+`; UPDATE embeddings SET seq_id = `+value)
		if err != nil {
			t.Fatal(err)
		}
		list, err := db.Collections(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Name == "all-l2" && (c.VectorSeq != want && c.Database == "default_database" || c.MetadataSeq != want) {
				t.Errorf("%s: %d and %d, want %d", value, c.VectorSeq, c.MetadataSeq, want)
			}
		}
	}
}

func TestEmptiedQueueRestarts(t *testing.T) {
	db, err := alter(t, `DELETE FROM embeddings_queue`)
	if err != nil {
		t.Fatal(err)
	}
	q, err := db.QueueState(t.Context())
	if err != nil || !q.Restarts() || q.Rows != 0 || q.LastSeq != -1 || q.MaxSeq <= 0 {
		t.Errorf("%+v, %v", q, err)
	}
}

func TestChecksCount(t *testing.T) {
	db, err := alter(t, `
		INSERT INTO embedding_metadata_array (id, key, int_value) VALUES (999999, 'k', 1), (999999, 'k', 2);
		DELETE FROM embedding_fulltext_search WHERE rowid = (SELECT min(id) FROM embedding_metadata WHERE key = 'chroma:document');
		INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (888888, 'left'), (888889, 'over')`)
	if err != nil {
		t.Fatal(err)
	}
	before, err := db.OrphanArrayRows(t.Context())
	if err != nil || before < 2 {
		t.Errorf("%d orphan array rows, %v", before, err)
	}
	if missing, extra, err := db.StaleFullText(t.Context()); missing != 1 || extra != 2 || err != nil {
		t.Errorf("full text: %d missing, %d extra, %v", missing, extra, err)
	}
}

func TestSparseSegmentsReadTheSame(t *testing.T) {
	db, err := alter(t, `
		CREATE TABLE wide AS SELECT * FROM embeddings;
		INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) SELECT id + 500000, 'sparse', embedding_id || segment_id, seq_id FROM wide WHERE id % 9 = 0;
		INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) SELECT id + 900000, 'sparse', embedding_id || segment_id, seq_id FROM wide WHERE id % 9 = 1;
		INSERT INTO embedding_metadata (id, key, int_value) SELECT id, 'own', id FROM embeddings WHERE segment_id = 'sparse';
		INSERT INTO embedding_metadata_array (id, key, int_value) SELECT id, 'list', id FROM embeddings WHERE segment_id = 'sparse'`)
	if err != nil {
		t.Fatal(err)
	}
	n, err := db.Count(t.Context(), "sparse")
	if err != nil || n < 10 {
		t.Fatal(n, err)
	}
	err = db.Embeddings(t.Context(), "sparse", func(e *sysdb.Embedding) error {
		n--
		if len(e.Metadata) != 2 || e.Metadata[1].Value.Int != e.Row || e.Metadata[0].Value.Array[0].Int != e.Row {
			return fmt.Errorf("row %d: %v", e.Row, e.Metadata)
		}
		return nil
	})
	if err != nil || n != 0 {
		t.Errorf("%d left, %v", n, err)
	}
}

func TestDamagedDatabasesDoNotPanic(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range chromatest.Fixtures(t) {
		content := database(t, f)
		var at []int
		for i := range 40 {
			at = append(at, i) // the header
		}
		for range 50 {
			at = append(at, rng.IntN(8192), rng.IntN(len(content)))
		}
		for _, i := range at {
			b := bytes.Clone(content)
			b[i] ^= byte(1 + rng.IntN(255))
			_ = everything(t, write(t, b))
		}
		for range 15 {
			_ = everything(t, write(t, content[:rng.IntN(len(content))]))
		}
		if err := everything(t, write(t, nil)); err == nil {
			t.Error("an empty file is a database")
		}
	}
}

func TestCanceledContext(t *testing.T) {
	db, err := alter(t, `SELECT 1`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.QuickCheck(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := db.Collections(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func FuzzDatabase(f *testing.F) {
	for _, a := range chromatest.Fixtures(f) {
		f.Add(database(f, a)[:min(1<<20, len(database(f, a)))], 100, byte(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, at int, x byte) {
		if at >= 0 && at < len(b) {
			b = bytes.Clone(b)
			b[at] ^= x
		}
		_ = everything(t, write(t, b))
	})
}
