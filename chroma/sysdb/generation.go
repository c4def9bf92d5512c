package sysdb

import "context"

// Generation tells which Chroma last migrated the database. The rows of the
// migrations table are the only reliable mark of it: every 1.x server answers
// /version with the same constant.
type Generation struct {
	Sysdb  int    // highest migration of directory sysdb
	Metadb int    // highest migration of directory metadb
	Queue  int    // highest migration of directory embeddings_queue
	Since  string // the first Chroma release with these migrations, such as "1.5.0"
	Newer  bool   // has migrations that this package does not know
}

// releases are the first releases with a set of migrations, as read from the
// migrations folders of all tags of chroma-core/chroma up to 1.5.9.
var releases = []Generation{
	{Sysdb: 3, Metadb: 1, Queue: 1, Since: "0.4.0"},
	{Sysdb: 3, Metadb: 2, Queue: 1, Since: "0.4.4"},
	{Sysdb: 3, Metadb: 3, Queue: 1, Since: "0.4.6"},
	{Sysdb: 4, Metadb: 3, Queue: 1, Since: "0.4.15"},
	{Sysdb: 5, Metadb: 3, Queue: 1, Since: "0.5.0"},
	{Sysdb: 6, Metadb: 3, Queue: 1, Since: "0.5.1"},
	{Sysdb: 7, Metadb: 3, Queue: 1, Since: "0.5.4"},
	{Sysdb: 9, Metadb: 4, Queue: 2, Since: "0.5.6"},
	{Sysdb: 9, Metadb: 5, Queue: 2, Since: "1.0.0"},
	{Sysdb: 10, Metadb: 5, Queue: 2, Since: "1.3.0"},
	{Sysdb: 10, Metadb: 6, Queue: 2, Since: "1.5.0"},
}

// Generation returns the generation of the database.
func (db *DB) Generation() Generation { return db.gen }

// readGeneration reads the migrations.
func (db *DB) readGeneration(ctx context.Context) error {
	var g Generation
	rows := 0
	err := db.query(ctx, `SELECT dir, version FROM migrations LIMIT 10000`, nil, func(r *row) error {
		dir, v := r.text(0), r.int(1)
		if r.err != nil {
			return r.err
		}
		if v < 1 || v > 1_000_000 {
			return db.corrupt("migration %d", v)
		}
		rows++
		switch dir {
		case "sysdb":
			g.Sysdb = max(g.Sysdb, int(v))
		case "metadb":
			g.Metadb = max(g.Metadb, int(v))
		case "embeddings_queue":
			g.Queue = max(g.Queue, int(v))
		default:
			g.Newer = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if rows == 0 {
		return db.corrupt("no rows in migrations: not a database of Chroma's")
	}
	db.gen = since(g)
	return nil
}

// since fills in Since and Newer: the newest release none of whose migrations
// is missing, which is the oldest known one if all are.
func since(g Generation) Generation {
	g.Since = releases[0].Since
	for _, r := range releases {
		if g.Sysdb >= r.Sysdb && g.Metadb >= r.Metadb && g.Queue >= r.Queue {
			g.Since = r.Since
		}
	}
	last := releases[len(releases)-1]
	g.Newer = g.Newer || g.Sysdb > last.Sysdb || g.Metadb > last.Metadb || g.Queue > last.Queue
	return g
}
