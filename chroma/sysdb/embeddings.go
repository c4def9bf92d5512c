package sysdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Embedding is a record as the metadata tables have it.
type Embedding struct {
	Row      int64 // embeddings.id, which is first-insertion order
	ID       string
	Metadata []Field // sorted by key, with chroma:document and chroma:uri
}

// Count returns the number of records of a metadata segment, as the API's
// count does (count in rust/segment/src/sqlite_metadata.rs).
func (db *DB) Count(ctx context.Context, segment string) (int64, error) {
	defer db.guard(ctx)()
	s, err := db.span(ctx, segment)
	return s.n, err
}

// span is how many rows a segment has in embeddings, and between which ids.
type span struct{ n, first, last int64 }

// span looks at the index of embeddings only.
func (db *DB) span(ctx context.Context, segment string) (s span, err error) {
	err = db.query(ctx, `SELECT count(*), min(id), max(id) FROM embeddings WHERE segment_id = ?1`, []any{segment},
		func(r *row) error {
			s = span{r.int(0), r.optionalInt(1), r.optionalInt(2)}
			return r.err
		})
	return s, err
}

// dense reports whether other segments' rows between the first and the last
// are few enough to be read and passed over.
func (s span) dense() bool {
	width := uint64(s.last) - uint64(s.first)
	return width/4 <= uint64(max(s.n, 0))
}

// part narrows a dense span to one of so many parts of it, maybe an empty one.
func (s span) part(i, of int64) span {
	width := s.last - s.first + 1
	return span{s.n, s.first + width/of*i + min(i, width%of), s.first + width/of*(i+1) + min(i+1, width%of) - 1}
}

// Embeddings hands all records of a metadata segment to fn by ascending row.
// The embedding is valid only during the call; its strings are for ever.
func (db *DB) Embeddings(ctx context.Context, segment string, fn func(*Embedding) error) error {
	return db.EmbeddingsPart(ctx, segment, 0, 1, fn)
}

// EmbeddingsPart hands part i of so many to fn. The parts have about as many
// records each, in the order of rows; or the first one has all, where that is
// quicker. Together they are all records.
func (db *DB) EmbeddingsPart(ctx context.Context, segment string, i, of int, fn func(*Embedding) error) error {
	defer db.guard(ctx)()
	s, err := db.span(ctx, segment)
	if err != nil || s.n == 0 {
		return err
	}
	dense := s.dense()
	if dense {
		s = s.part(int64(i), int64(of))
	}
	if !dense && i > 0 || s.first > s.last {
		return nil
	}
	// Three cursors, all in the order of ids. A dense segment is read straight
	// through; one that is spread thin over a large table by a sorted list of
	// its ids, which SQLite makes and keeps outside memory if it is long.
	where, args := `id BETWEEN ?1 AND ?2`, []any{s.first, s.last}
	var records recordRows
	if dense {
		records, err = db.records(ctx, segment, s)
	} else {
		where, args = `id IN (SELECT id FROM embeddings WHERE segment_id = ?1)`, []any{segment}
		var c *cursor
		c, err = db.cursor(ctx, `SELECT id, embedding_id, 1 FROM embeddings WHERE segment_id = ?1 ORDER BY id`, args...)
		records = sqlRecords{c}
	}
	if err != nil {
		return err
	}
	defer records.close()
	scalars, err := db.scalars(ctx, s, where, args)
	if err != nil {
		return err
	}
	defer scalars.close()
	arrays := &fieldCursor{}
	if db.has("embedding_metadata_array", "bool_value") {
		if arrays, err = db.fieldCursor(ctx, "embedding_metadata_array", where, `id, key, rowid`, args); err != nil {
			return err
		}
		defer arrays.close()
	}
	return db.merge(records, scalars, arrays, s.first, fn)
}

// merge walks the three cursors together.
func (db *DB) merge(records recordRows, scalars, arrays *fieldCursor, first int64, fn func(*Embedding) error) error {
	var e Embedding
	for started := false; ; {
		ok, err := records.next()
		if err != nil || !ok {
			return err
		}
		id, text, mine, err := records.record()
		if err != nil {
			return err
		}
		if (started && id <= e.Row) || id < first {
			return db.corrupt("embeddings is out of order at id %d", id)
		}
		e.Row, started = id, true
		if !mine {
			continue
		}
		e.ID = text
		if e.Metadata, err = scalars.read(id, e.Metadata[:0]); err != nil {
			return err
		}
		if e.Metadata, err = arrays.readArrays(id, e.Metadata); err != nil {
			return err
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
}

// scalars starts a cursor over the scalar metadata of a segment.
func (db *DB) scalars(ctx context.Context, s span, where string, args []any) (*fieldCursor, error) {
	if pages, err := db.fieldPages(ctx, s); pages != nil || err != nil {
		return &fieldCursor{fieldRows: pages, db: db}, err
	}
	return db.fieldCursor(ctx, "embedding_metadata", where, `id, key`, args)
}

// fieldRows are metadata rows in the order of ids.
type fieldRows interface {
	next() (bool, error)
	rowID() (int64, error)
	field() (Field, error)
	skip(id int64) error // may pass over rows of lower ids
	close()
}

// sqlFields are those that a statement gives.
type sqlFields struct{ *cursor }

func (s sqlFields) rowID() (int64, error) { n := s.int(0); return n, s.err }

func (s sqlFields) field() (Field, error) {
	f := Field{s.text(1), s.value(2)}
	return f, s.err
}

func (sqlFields) skip(int64) error { return nil }

// fieldCursor reads metadata rows in the order of ids. The zero value has none.
type fieldCursor struct {
	fieldRows
	db   *DB
	id   int64 // of the row that the cursor stands on
	on   bool  // stands on a row that is not taken
	seen bool  // has read a row
	done bool
}

// fieldCursor starts one.
func (db *DB) fieldCursor(ctx context.Context, table, where, order string, args []any) (*fieldCursor, error) {
	c, err := db.cursor(ctx, fmt.Sprintf(`SELECT id, key, string_value, int_value, float_value, %s FROM %s t WHERE %s ORDER BY %s`,
		db.column(table, "t", "bool_value"), table, where, order), args...)
	if err != nil {
		return nil, err
	}
	return &fieldCursor{fieldRows: sqlFields{c}, db: db}, nil
}

// seek goes to the next row of the record, passing over lower ids, and reports
// whether there is one. The caller takes the row with f.on = false.
func (f *fieldCursor) seek(id int64) (bool, error) {
	for f.fieldRows != nil && !f.done && (!f.on || f.id < id) {
		if err := f.skip(id); err != nil {
			return false, err
		}
		ok, err := f.next()
		if err != nil {
			return false, err
		}
		if !ok {
			f.done, f.on = true, false
			break
		}
		last := f.id
		if f.id, err = f.rowID(); err != nil {
			return false, err
		}
		if f.seen && f.id < last {
			return false, f.db.corrupt("metadata is out of order at id %d", f.id)
		}
		f.on, f.seen = true, true
	}
	return f.on && f.id == id, nil
}

// read appends the record's fields to dst, sorted by key.
func (f *fieldCursor) read(id int64, dst []Field) ([]Field, error) {
	size := 0
	for {
		ok, err := f.seek(id)
		if err != nil {
			return dst, err
		}
		if !ok {
			break
		}
		f.on = false
		field, err := f.field()
		if err != nil {
			return dst, err
		}
		if field.Value.Kind == Null {
			continue
		}
		if size += len(field.Key) + field.Value.Size(); size > MaxRow {
			return dst, f.db.corrupt("metadata of embedding %d takes more than %d bytes", id, MaxRow)
		}
		dst = append(dst, field)
	}
	SortFields(dst)
	for i := 1; i < len(dst); i++ {
		if dst[i].Key == dst[i-1].Key {
			return dst, f.db.corrupt("embedding %d has key %q twice", id, dst[i].Key)
		}
	}
	return dst, nil
}

// readArrays adds the record's arrays to its sorted fields. An array replaces
// a scalar of the same key.
func (f *fieldCursor) readArrays(id int64, dst []Field) ([]Field, error) {
	size, scalars := 0, len(dst)
	for {
		ok, err := f.seek(id)
		if err != nil {
			return dst, err
		}
		if !ok {
			break
		}
		f.on = false
		field, err := f.field()
		if err != nil {
			return dst, err
		}
		key, v := field.Key, field.Value
		if v.Kind == Null {
			continue
		}
		if size += len(key) + v.Size(); size > MaxRow {
			return dst, f.db.corrupt("arrays of embedding %d take more than %d bytes", id, MaxRow)
		}
		if n := len(dst); n > scalars && dst[n-1].Key == key {
			dst[n-1].Value.Array = append(dst[n-1].Value.Array, v)
			continue
		}
		dst = append(dst, Field{key, Value{Kind: Array, Array: []Value{v}}})
	}
	if len(dst) == scalars {
		return dst, nil
	}
	arrays := slices.Clone(dst[scalars:])
	dst = dst[:scalars]
	for _, a := range arrays {
		if i, ok := FindField(dst, a.Key); ok {
			dst[i] = a
		} else {
			dst = slices.Insert(dst, i, a)
		}
	}
	return dst, nil
}

// SortFields sorts fields by key, by bytes.
func SortFields(fields []Field) {
	less := func(a, b Field) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(fields, less) {
		slices.SortStableFunc(fields, less)
	}
}

// FindField returns where a key is, or belongs, in sorted fields.
func FindField(fields []Field, key string) (int, bool) {
	return slices.BinarySearchFunc(fields, key, func(f Field, k string) int { return strings.Compare(f.Key, k) })
}
