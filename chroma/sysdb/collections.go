package sysdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// DefaultTenant, DefaultDatabase and DefaultDatabaseID are what Chroma before
// 0.4.15, which knew neither, migrates to (chromadb/migrations/sysdb/00004).
const (
	DefaultTenant     = "default_tenant"
	DefaultDatabase   = "default_database"
	DefaultDatabaseID = "00000000-0000-0000-0000-000000000000"
)

// maxCollections bounds what is kept in memory: collections, tenants,
// databases and segments.
const maxCollections = 1 << 20

// Database is a Chroma database.
type Database struct{ ID, Name, Tenant string }

// Collection is a Chroma collection, with what its two segments have seen.
type Collection struct {
	ID, Name         string
	Tenant, Database string
	Dimension        int // 0 before the first record
	Config           Config
	ConfigJSON       string  // collections.config_json_str, "" if none
	SchemaJSON       string  // collections.schema_str, "" if none
	Metadata         []Field // sorted by key
	VectorSegment    string  // names its directory; "" if there is none
	VectorType       string  // such as "urn:chroma:segment/vector/hnsw-local-persisted"
	MetadataSegment  string  // "" if there is none
	VectorSeq        int64   // max_seq_id of the vector segment, -1 for no row
	MetadataSeq      int64   // max_seq_id of the metadata segment, -1 for no row
	LastQueueSeq     int64   // newest row in the queue for it, -1 for none
}

// String returns "tenant/database/name".
func (c *Collection) String() string { return c.Tenant + "/" + c.Database + "/" + c.Name }

// Tenants returns the names of all tenants, sorted.
func (db *DB) Tenants(ctx context.Context) ([]string, error) {
	if !db.has("tenants", "id") {
		return []string{DefaultTenant}, nil
	}
	defer db.guard(ctx)()
	var out []string
	err := db.query(ctx, `SELECT id FROM tenants ORDER BY id`, nil, func(r *row) error {
		out = append(out, r.text(0))
		return db.bounded(r, len(out))
	})
	return out, err
}

// Databases returns all databases, sorted by tenant and name.
func (db *DB) Databases(ctx context.Context) ([]Database, error) {
	if !db.has("databases", "tenant_id") {
		return []Database{{ID: DefaultDatabaseID, Name: DefaultDatabase, Tenant: DefaultTenant}}, nil
	}
	defer db.guard(ctx)()
	var out []Database
	err := db.query(ctx, `SELECT id, name, tenant_id FROM databases ORDER BY tenant_id, name`, nil, func(r *row) error {
		out = append(out, Database{r.text(0), r.text(1), r.text(2)})
		return db.bounded(r, len(out))
	})
	return out, err
}

// bounded returns the error of a row, or one if there are too many rows.
func (db *DB) bounded(r *row, n int) error {
	if r.err == nil && n > maxCollections {
		return db.corrupt("more than %d rows where Chroma keeps few", maxCollections)
	}
	return r.err
}

// Collections returns all collections, sorted by tenant, database and name. A
// collection whose database is not listed has "" for it and its tenant.
func (db *DB) Collections(ctx context.Context) ([]*Collection, error) {
	defer db.guard(ctx)()
	q := fmt.Sprintf(`SELECT id, name, dimension, %s, %s, '%s', '%s' FROM collections c`,
		db.column("collections", "c", "config_json_str"), db.column("collections", "c", "schema_str"),
		DefaultTenant, DefaultDatabase)
	if db.has("collections", "database_id") && db.has("databases", "tenant_id") {
		q = fmt.Sprintf(`SELECT c.id, c.name, c.dimension, %s, %s, d.tenant_id, d.name
			FROM collections c LEFT JOIN databases d ON d.id = c.database_id`,
			db.column("collections", "c", "config_json_str"), db.column("collections", "c", "schema_str"))
	}
	byID := map[string]*Collection{}
	var out []*Collection
	size := 0
	err := db.query(ctx, q, nil, func(r *row) error {
		c := &Collection{ID: r.text(0), Name: r.text(1), VectorSeq: -1, MetadataSeq: -1, LastQueueSeq: -1,
			ConfigJSON: r.optional(3), SchemaJSON: r.optional(4), Tenant: r.optional(5), Database: r.optional(6)}
		if d := r.optionalInt(2); d < 0 || d > 1<<24 {
			return db.corrupt("collection %q has dimension %d", c.ID, d)
		} else {
			c.Dimension = int(d)
		}
		if byID[c.ID] != nil {
			return db.corrupt("two collections with id %q", c.ID)
		}
		if size += len(c.ConfigJSON) + len(c.SchemaJSON); size > MaxRow {
			return db.corrupt("collections take more than %d bytes", MaxRow)
		}
		byID[c.ID] = c
		out = append(out, c)
		return db.bounded(r, len(out))
	})
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context, map[string]*Collection) error{
		db.readSegments, db.readCollectionMetadata, db.readLastQueueSeq,
	} {
		if err := step(ctx, byID); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b *Collection) int {
		return strings.Compare(a.Tenant+"\x00"+a.Database+"\x00"+a.Name+"\x00"+a.ID, b.Tenant+"\x00"+b.Database+"\x00"+b.Name+"\x00"+b.ID)
	})
	return out, nil
}

// optionalInt returns an integer, 0 for null.
func (r *row) optionalInt(col int) int64 {
	if r.stmt.ColumnType(col) == typeNull {
		return 0
	}
	return r.int(col)
}

// readSegments fills in the segments, their max_seq_id and the configuration.
func (db *DB) readSegments(ctx context.Context, byID map[string]*Collection) error {
	params := map[string]map[string]Value{} // segment to its hnsw: parameters
	err := db.query(ctx, fmt.Sprintf(`SELECT segment_id, key, str_value, int_value, float_value, %s
		FROM segment_metadata s WHERE key LIKE 'hnsw:%%' AND length(key) < 100`, db.column("segment_metadata", "s", "bool_value")), nil,
		func(r *row) error {
			id := r.text(0)
			if params[id] == nil {
				params[id] = map[string]Value{}
			}
			params[id][r.text(1)] = r.value(2)
			return db.bounded(r, len(params))
		})
	if err != nil {
		return err
	}
	n := 0
	err = db.query(ctx, `SELECT s.id, s.type, s.scope, s.collection, m.seq_id
		FROM segments s LEFT JOIN max_seq_id m ON m.segment_id = s.id ORDER BY s.rowid`, nil,
		func(r *row) error {
			n++
			c := byID[r.optional(3)]
			if c == nil {
				return db.bounded(r, n)
			}
			id, seq := r.text(0), int64(-1)
			if r.stmt.ColumnType(4) != typeNull {
				seq = r.seq(4)
			}
			switch r.text(2) {
			case "VECTOR":
				if c.VectorSegment != "" {
					return db.corrupt("collection %q has two vector segments", c.ID)
				}
				c.VectorSegment, c.VectorType, c.VectorSeq = id, r.text(1), seq
			case "METADATA":
				if c.MetadataSegment != "" {
					return db.corrupt("collection %q has two metadata segments", c.ID)
				}
				c.MetadataSegment, c.MetadataSeq = id, seq
			}
			return db.bounded(r, n)
		})
	if err != nil {
		return err
	}
	for _, c := range byID {
		c.Config = config(c.ConfigJSON, c.SchemaJSON, params[c.VectorSegment])
	}
	return nil
}

// readCollectionMetadata fills in the metadata of the collections.
func (db *DB) readCollectionMetadata(ctx context.Context, byID map[string]*Collection) error {
	size := 0
	return db.query(ctx, fmt.Sprintf(`SELECT collection_id, key, str_value, int_value, float_value, %s
		FROM collection_metadata m ORDER BY collection_id, key`, db.column("collection_metadata", "m", "bool_value")), nil,
		func(r *row) error {
			f := Field{Key: r.text(1), Value: r.value(2)}
			if size += len(f.Key) + f.Value.Size(); size > MaxRow {
				return db.corrupt("collection_metadata takes more than %d bytes", MaxRow)
			}
			if c := byID[r.optional(0)]; c != nil {
				c.Metadata = append(c.Metadata, f)
			}
			return r.err
		})
}

// readLastQueueSeq fills in the newest queue row of each collection.
func (db *DB) readLastQueueSeq(ctx context.Context, byID map[string]*Collection) error {
	topics := 0
	return db.query(ctx, `SELECT topic, max(seq_id) FROM embeddings_queue GROUP BY topic`, nil, func(r *row) error {
		topics++
		topic, seq := r.text(0), r.int(1)
		if c := byID[collectionOf(topic)]; c != nil && r.err == nil {
			c.LastQueueSeq = max(c.LastQueueSeq, seq)
		}
		return db.bounded(r, topics)
	})
}

// SegmentIDs returns the ids of all VECTOR segments, which name directories: a
// directory named like a UUID that is not among them is left over from a
// deleted collection.
func (db *DB) SegmentIDs(ctx context.Context) (map[string]bool, error) {
	defer db.guard(ctx)()
	out := map[string]bool{}
	err := db.query(ctx, `SELECT id FROM segments WHERE scope = 'VECTOR'`, nil, func(r *row) error {
		out[r.text(0)] = true
		return db.bounded(r, len(out))
	})
	return out, err
}
