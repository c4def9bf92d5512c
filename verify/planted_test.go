package verify_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"colorfast"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/verify"
)

// TestWholeDirectoriesPass: what Chroma wrote and nobody touched gives at most
// notes.
func TestWholeDirectoriesPass(t *testing.T) {
	for _, version := range chromatest.Fixtures(t) {
		r := look(t, fixture(t, version), t.TempDir())
		if len(r.Inventory.Collections) < 8 || r.Inventory.Records() < 100 {
			t.Errorf("%s: %d collections, %d records", version, len(r.Inventory.Collections), r.Inventory.Records())
		}
		lost := 0
		for _, f := range r.Findings {
			switch {
			case f.Severity == colorfast.Note:
			case version == "0.4.24" && f.Code == colorfast.MissingVectors && strings.HasSuffix(f.Detail, `such as "id-8"`):
				lost++
			default:
				t.Errorf("%s: %s", version, brief([]colorfast.Finding{f}))
			}
		}
		// This Chroma lost the vector itself: it forgets an id that is deleted and
		// added again before its batch is full, and its own get fails on it.
		if version == "0.4.24" && lost != 3 {
			t.Errorf("0.4.24: %d of 3 collections lack the vector that Chroma lost", lost)
		}
	}
}

// target is a collection to damage.
type target struct {
	t       *testing.T
	dir     string
	version string
	c       *colorfast.Collection
	scratch string
}

func (x *target) file(name string) string { return filepath.Join(x.dir, x.c.VectorSegment, name) }
func (x *target) metadataSegment() string {
	return "(SELECT id FROM segments WHERE scope='METADATA' AND collection='" + x.c.ID + "')"
}
func (x *target) cut(name string) {
	edit(x.t, x.file(name), func(b []byte) []byte { return b[:len(b)/2] })
}

// planted is a damage and what must be found.
type planted struct {
	name   string
	in     string // the collection; "" means all-cosine
	do     func(x *target)
	want   colorfast.Code
	grade  colorfast.Severity
	object string // part of the finding's object; "" means the collection
	since  string // earliest version whose fixture it fits; "" means all
}

// queue rows that the vector segment has not seen, so that their vectors are
// nowhere else.
func (x *target) unsaved() string {
	return "topic LIKE '%" + x.c.ID + "' AND seq_id > " + itoa(x.c.VectorSeq)
}

var damages = []planted{
	{name: "pickle cut", do: func(x *target) { x.cut(chroma.PickleFile) }, want: colorfast.HNSWPickle, grade: colorfast.Fatal},
	{name: "pickle emptied", do: func(x *target) { edit(x.t, x.file(chroma.PickleFile), func([]byte) []byte { return nil }) }, want: colorfast.HNSWPickle, grade: colorfast.Fatal},
	{name: "pickle without its last byte", do: func(x *target) {
		edit(x.t, x.file(chroma.PickleFile), func(b []byte) []byte { return b[:len(b)-1] })
	}, want: colorfast.HNSWPickle, grade: colorfast.Fatal},
	// Before 0.5.6 the queue holds everything, and no pickle means: never saved.
	{name: "pickle missing", do: func(x *target) { remove(x.t, x.file(chroma.PickleFile)) }, want: colorfast.HNSWMissing, grade: colorfast.Fatal, since: "0.5.6"},
	{name: "directory missing", do: func(x *target) { remove(x.t, x.file("")) }, want: colorfast.HNSWMissing, grade: colorfast.Fatal, since: "0.5.6"},
	{name: "directory missing, and vectors with it", do: func(x *target) { remove(x.t, x.file("")) }, want: colorfast.MissingVectors, grade: colorfast.Fatal, since: "1.0"},
	{name: "header missing", do: func(x *target) { remove(x.t, x.file(chroma.HeaderFile)) }, want: colorfast.HNSWMissing, grade: colorfast.Fatal},
	{name: "data missing", do: func(x *target) { remove(x.t, x.file(chroma.DataFile)) }, want: colorfast.HNSWMissing, grade: colorfast.Fatal},
	{name: "length missing", do: func(x *target) { remove(x.t, x.file(chroma.LengthFile)) }, want: colorfast.HNSWMissing, grade: colorfast.Fatal},
	{name: "links missing", do: func(x *target) { remove(x.t, x.file(chroma.LinksFile)) }, want: colorfast.HNSWMissing, grade: colorfast.Fatal},
	{name: "header counts less", do: func(x *target) {
		edit(x.t, x.file(chroma.HeaderFile), func(b []byte) []byte { b[20]--; return b })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "header cut", do: func(x *target) { x.cut(chroma.HeaderFile) }, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "data cut", do: func(x *target) {
		edit(x.t, x.file(chroma.DataFile), func(b []byte) []byte { return b[:156*5] })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "data zeroed in the middle", do: func(x *target) {
		edit(x.t, x.file(chroma.DataFile), func(b []byte) []byte { clear(b[156*3+20 : 156*7]); return b })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "length cut", do: func(x *target) {
		edit(x.t, x.file(chroma.LengthFile), func(b []byte) []byte { return b[:20] })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "length cut in l2", in: "all-l2", do: func(x *target) {
		edit(x.t, x.file(chroma.LengthFile), func(b []byte) []byte { return b[:20] })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "links cut", do: func(x *target) {
		edit(x.t, x.file(chroma.LinksFile), func(b []byte) []byte { return b[:len(b)-4] })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "links with a tail", do: func(x *target) {
		edit(x.t, x.file(chroma.LinksFile), func(b []byte) []byte { return append(b, 0, 0, 0, 0) })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},
	{name: "pickle of another collection", do: func(x *target) {
		other := &target{t: x.t, dir: x.dir, c: collection(x.t, look(x.t, x.dir, x.scratch), "emptied")}
		edit(x.t, x.file(chroma.PickleFile), func([]byte) []byte { return contents(x.t, other.file(chroma.PickleFile)) })
	}, want: colorfast.HNSWTorn, grade: colorfast.Fatal},

	{name: "a row of the queue deleted", in: "young", do: func(x *target) {
		execute(x.t, x.dir, "DELETE FROM embeddings_queue WHERE id='id-1' AND topic LIKE '%"+x.c.ID+"'")
	}, want: colorfast.MissingVectors, grade: colorfast.Fatal},
	{name: "queue emptied", do: func(x *target) { execute(x.t, x.dir, "DELETE FROM embeddings_queue") }, want: colorfast.QueueRestarts, grade: colorfast.Fatal, object: chroma.SQLiteFile, since: "0.5.6"},
	{name: "queue emptied, and vectors with it", in: "young", do: func(x *target) { execute(x.t, x.dir, "DELETE FROM embeddings_queue") }, want: colorfast.MissingVectors, grade: colorfast.Fatal, since: "0.5.6"},
	{name: "an operation that there is not", do: func(x *target) {
		execute(x.t, x.dir, "UPDATE embeddings_queue SET operation=9 WHERE seq_id = (SELECT max(seq_id) FROM embeddings_queue WHERE "+x.unsaved()+")")
	}, want: colorfast.QueueUnreadable, grade: colorfast.Fatal, since: "0.5.6"},
	{name: "an update before its add", do: func(x *target) {
		for _, op := range []string{"1", "0"} { // tail-0 is in the saved index
			execute(x.t, x.dir, "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding) SELECT "+op+", topic, 'tail-0', x'0000803f0000803f0000803f0000803f', 'FLOAT32' FROM embeddings_queue WHERE topic LIKE '%"+x.c.ID+"' LIMIT 1")
		}
	}, want: colorfast.AmbiguousUpdate, grade: colorfast.Risk, since: "1.5"},
	{name: "records dropped", do: func(x *target) {
		execute(x.t, x.dir, "DELETE FROM embeddings WHERE embedding_id IN ('id-1','id-2','id-4') AND segment_id="+x.metadataSegment())
	}, want: colorfast.GhostVectors, grade: colorfast.Risk},
	{name: "all records dropped", do: func(x *target) { execute(x.t, x.dir, "DELETE FROM embeddings WHERE segment_id="+x.metadataSegment()) }, want: colorfast.GhostVectors, grade: colorfast.Risk},
	{name: "another dimension", do: func(x *target) { execute(x.t, x.dir, "UPDATE collections SET dimension=5 WHERE id='"+x.c.ID+"'") }, want: colorfast.WrongDimension, grade: colorfast.Fatal},
	{name: "an array of nobody", do: func(x *target) {
		execute(x.t, x.dir, "INSERT INTO embedding_metadata_array (id, key, string_value) VALUES (999999, 'tags', 'x')")
	}, want: colorfast.SysdbOrphanArray, grade: colorfast.Risk, object: chroma.SQLiteFile, since: "1.5"},
	{name: "a document out of the full-text index", do: func(x *target) {
		execute(x.t, x.dir, "DELETE FROM embedding_fulltext_search WHERE rowid=(SELECT min(rowid) FROM embedding_fulltext_search)")
	}, want: colorfast.SysdbStaleFTS, grade: colorfast.Risk, object: chroma.SQLiteFile},
	{name: "a migration of the future", do: func(x *target) {
		execute(x.t, x.dir, "INSERT INTO migrations (dir, version, filename, sql, hash) VALUES ('sysdb', 99, 'x', 'x', 'x')")
	}, want: colorfast.SysdbNewer, grade: colorfast.Note, object: chroma.SQLiteFile},
	{name: "a directory of nobody", do: func(x *target) {
		execute(x.t, x.dir, "UPDATE segments SET id='00000000-1111-2222-3333-444444444444' WHERE scope='VECTOR' AND collection='"+x.c.ID+"'")
	}, want: colorfast.HNSWOrphan, grade: colorfast.Note, object: "-"},
	{name: "no database", do: func(x *target) { remove(x.t, filepath.Join(x.dir, chroma.SQLiteFile)) }, want: colorfast.SysdbUnreadable, grade: colorfast.Fatal, object: chroma.SQLiteFile},
	{name: "database emptied", do: func(x *target) {
		edit(x.t, filepath.Join(x.dir, chroma.SQLiteFile), func([]byte) []byte { return nil })
	}, want: colorfast.SysdbUnreadable, grade: colorfast.Fatal, object: chroma.SQLiteFile},
	{name: "database cut in half", do: func(x *target) {
		edit(x.t, filepath.Join(x.dir, chroma.SQLiteFile), func(b []byte) []byte { return b[:len(b)/8192*4096] })
	}, want: colorfast.SysdbUnreadable, grade: colorfast.Fatal, object: chroma.SQLiteFile},
	{name: "database without its last page", do: func(x *target) {
		edit(x.t, filepath.Join(x.dir, chroma.SQLiteFile), func(b []byte) []byte { return b[:len(b)-4096] })
	}, want: colorfast.SysdbUnreadable, grade: colorfast.Fatal, object: chroma.SQLiteFile},
	{name: "a page of the records' table zeroed", do: func(x *target) {
		page := number(x.t, x.dir, "SELECT rootpage FROM sqlite_master WHERE name='embeddings'")
		edit(x.t, filepath.Join(x.dir, chroma.SQLiteFile), func(b []byte) []byte { clear(b[(page-1)*4096 : page*4096]); return b })
	}, want: colorfast.SysdbCorrupt, grade: colorfast.Fatal, object: chroma.SQLiteFile},
	{name: "a page of the queue overwritten", do: func(x *target) {
		page := number(x.t, x.dir, "SELECT rootpage FROM sqlite_master WHERE name='embeddings_queue'")
		edit(x.t, filepath.Join(x.dir, chroma.SQLiteFile), func(b []byte) []byte {
			copy(b[(page-1)*4096:], bytes.Repeat([]byte{0x5a}, 4096))
			return b
		})
	}, want: colorfast.SysdbCorrupt, grade: colorfast.Fatal, object: chroma.SQLiteFile},
}

// TestPlantedDamageIsFound plants every damage in the directories of all
// versions that it fits.
func TestPlantedDamageIsFound(t *testing.T) {
	seen := map[string]int{}
	for _, version := range chromatest.Fixtures(t) {
		if testing.Short() && version != "1.5.9" {
			continue // every damage fits that one
		}
		good := fixture(t, version)
		scratch := t.TempDir()
		whole := look(t, good, scratch)
		m := sealed(whole)
		for _, d := range damages {
			if version < d.since {
				continue
			}
			t.Run(version+"/"+d.name, func(t *testing.T) {
				seen[d.name]++
				in := d.in
				if in == "" {
					in = "all-cosine"
				}
				x := &target{t: t, dir: copyOf(t, good), version: version, c: collection(t, whole, in), scratch: scratch}
				d.do(x)
				d.check(t, x, look(t, x.dir, scratch))
				// What a backup says it holds is not what is there any more.
				if found, err := (verify.Directory{Scratch: scratch}).Proof()(t.Context(), x.dir, m); err != nil || len(found) == 0 {
					t.Errorf("the proof against the manifest found %s, %v", brief(found), err)
				}
			})
		}
	}
	for _, d := range damages {
		if seen[d.name] == 0 {
			t.Errorf("%q was planted nowhere", d.name)
		}
	}
}

func (d *planted) check(t *testing.T, x *target, r *verify.Report) {
	t.Helper()
	object := d.object
	if object == "" {
		object = x.c.Name
	}
	if !slices.ContainsFunc(r.Findings, func(f colorfast.Finding) bool {
		return f.Code == d.want && f.Severity == d.grade && strings.Contains(f.Object, object) && f.Remedy != ""
	}) {
		t.Errorf("no %s (%s) of %s, but %s", d.want, d.grade, object, brief(r.Findings))
	}
	if d.grade == colorfast.Fatal && r.Outcome() != colorfast.Failed {
		t.Errorf("the outcome is %s", r.Outcome())
	}
	for _, f := range r.Findings {
		if strings.Contains(f.Detail, x.dir) {
			t.Errorf("the finding names the copy's own place: %s", f.Detail)
		}
	}
}
