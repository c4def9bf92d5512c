package sysdb

import (
	"context"
	"encoding/json"
	"strings"

	"colorfast/chroma"
)

// Operation is what a queue row does (operation_from_code in
// rust/log/src/sqlite_log.rs).
type Operation int64

// The operations.
const (
	Add        Operation = 0
	Update     Operation = 1
	Upsert     Operation = 2
	Delete     Operation = 3
	BackfillFn Operation = 4 // not on a single node
)

// QueueRow is a write in the queue.
type QueueRow struct {
	Seq       int64
	Operation Operation
	ID        string
	HasVector bool
	Vector    []byte // float32, little-endian; valid only during the call
	Metadata  string // JSON object with chroma:document and chroma:uri; "" for none
}

// collectionOf returns the collection's id in a topic, which is
// "persistent://default/default/" and the id; the Python era's tenant and
// namespace could be set, so only the end counts.
func collectionOf(topic string) string {
	if i := strings.LastIndexByte(topic, '/'); i >= 0 {
		return topic[i+1:]
	}
	return topic
}

// Queue hands the rows with a seq_id above after that are meant for a
// collection to fn, by ascending seq_id. The row is valid only during the call.
func (db *DB) Queue(ctx context.Context, collection string, after int64, fn func(*QueueRow) error) error {
	defer db.guard(ctx)()
	var q QueueRow
	last, first := int64(0), true
	// The topic is compared here and not in SQL: collations cannot be trusted.
	return db.query(ctx, `SELECT seq_id, topic, operation, id, vector, metadata, encoding
		FROM embeddings_queue NOT INDEXED WHERE seq_id > ?1 ORDER BY seq_id`, []any{after}, func(r *row) error {
		seq, topic := r.int(0), r.text(1)
		if r.err != nil {
			return r.err
		}
		if !first && seq <= last {
			return db.corrupt("embeddings_queue is out of order at seq_id %d", seq)
		}
		last, first = seq, false
		if collectionOf(topic) != collection {
			return nil
		}
		q = QueueRow{Seq: seq, Operation: Operation(r.int(2)), ID: r.text(3), Vector: q.Vector[:0]}
		q.HasVector = r.stmt.ColumnType(4) != typeNull
		q.Vector = r.blob(4, q.Vector)
		q.Metadata = r.optional(5)
		if r.err != nil {
			return r.err
		}
		if len(q.Vector)%4 != 0 {
			return db.corrupt("queue row %d has a vector of %d bytes", seq, len(q.Vector))
		}
		return fn(&q)
	})
}

// Point reads single rows. Unlike all other methods of a DB, those of a Point
// may be called from callbacks. It is closed before its DB.
type Point struct {
	db     *DB
	queue  *cursor
	exists *cursor
}

// Point makes one.
func (db *DB) Point() (*Point, error) {
	ctx := context.Background()
	queue, err := db.cursor(ctx, `SELECT vector, metadata FROM embeddings_queue WHERE seq_id = ?1`)
	if err != nil {
		return nil, err
	}
	exists, err := db.cursor(ctx, `SELECT 1 FROM embeddings WHERE segment_id = ?1 AND embedding_id = ?2 LIMIT 1`)
	if err != nil {
		queue.close()
		return nil, err
	}
	return &Point{db, queue, exists}, nil
}

// Close ends the use of the point.
func (p *Point) Close() {
	p.queue.close()
	p.exists.close()
}

// Vector appends the vector of a queue row to dst.
func (p *Point) Vector(seq int64, dst []byte) ([]byte, error) {
	err := p.row(seq, func(r *row) { dst = r.blob(0, dst) })
	return dst, err
}

// Metadata returns the metadata of a queue row as JSON, "" for none.
func (p *Point) Metadata(seq int64) (s string, err error) {
	err = p.row(seq, func(r *row) { s = r.optional(1) })
	return s, err
}

// row hands a queue row to fn; a row that does not exist is an error.
func (p *Point) row(seq int64, fn func(*row)) error {
	defer p.queue.stmt.Reset()
	p.queue.stmt.BindInt64(1, seq)
	ok, err := p.queue.next()
	if err != nil {
		return err
	}
	if !ok {
		return p.db.corrupt("queue row %d cannot be found again", seq)
	}
	fn(&p.queue.row)
	return p.queue.err
}

// Exists reports whether a metadata segment has a record with this id.
func (p *Point) Exists(segment, id string) (bool, error) {
	defer p.exists.stmt.Reset()
	p.exists.stmt.BindText(1, segment)
	p.exists.stmt.BindText(2, id)
	return p.exists.next()
}

// QueueState tells whether the queue can go on where it was.
type QueueState struct {
	Rows    int64 // in embeddings_queue, of all collections
	LastSeq int64 // the highest seq_id in it, -1 for none
	MaxSeq  int64 // the highest max_seq_id of any segment, -1 for none
	Purges  bool  // automatically_purge: vectors older than the last save exist only in the index
}

// Restarts reports the trap of Chroma's seq_id being an INTEGER PRIMARY KEY
// without AUTOINCREMENT: where the queue ends below what some segment has
// already seen, most often because it is entirely empty, new writes get old
// numbers, are answered with success and never applied.
func (q QueueState) Restarts() bool { return q.LastSeq < q.MaxSeq }

// QueueState looks at the queue as a whole.
func (db *DB) QueueState(ctx context.Context) (QueueState, error) {
	defer db.guard(ctx)()
	s := QueueState{LastSeq: -1, MaxSeq: -1}
	err := db.query(ctx, `SELECT count(*), max(seq_id) FROM embeddings_queue`, nil, func(r *row) error {
		s.Rows = r.int(0)
		if r.stmt.ColumnType(1) != typeNull {
			s.LastSeq = r.int(1)
		}
		return r.err
	})
	if err != nil {
		return s, err
	}
	err = db.query(ctx, `SELECT seq_id FROM max_seq_id WHERE seq_id IS NOT NULL`, nil, func(r *row) error {
		s.MaxSeq = max(s.MaxSeq, r.seq(0))
		return r.err
	})
	if err != nil || !db.has("embeddings_queue_config", "config_json_str") {
		return s, err
	}
	err = db.query(ctx, `SELECT config_json_str FROM embeddings_queue_config ORDER BY id LIMIT 1`, nil, func(r *row) error {
		var c struct {
			Purge bool `json:"automatically_purge"`
		}
		if text := r.optional(0); text != "" {
			if err := json.Unmarshal([]byte(text), &c); err != nil {
				return &chroma.CorruptError{File: db.path, Offset: -1, Reason: "embeddings_queue_config: " + err.Error()}
			}
		}
		s.Purges = c.Purge
		return r.err
	})
	return s, err
}
