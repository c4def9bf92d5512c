package diff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/sysdb"
	"colorfast/internal/chromatest"
	"colorfast/internal/fake"
	"colorfast/verify"
)

const newest = "1.5.9"

// room is a vault with what tests need around it.
type room struct {
	t     *testing.T
	vault *fake.Vault
	dir   string // of the vault

	mu     sync.Mutex // guards opened, which the two sides fill
	opened []string   // files that were opened in the vault
	n      int
}

func newRoom(t *testing.T) *room {
	t.Helper()
	r := &room{t: t, dir: t.TempDir()}
	v, err := fake.NewVault(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	v.OnOpen = func(path string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.opened = append(r.opened, path)
		return nil
	}
	r.vault = v
	return r
}

// fixture unpacks the newest fixture.
func (r *room) fixture() string {
	r.t.Helper()
	dir, _ := chromatest.Fixture(r.t, newest)
	return dir
}

// index returns the path of the index that backUp makes of a backup.
func (r *room) index(id colorfast.BackupID) string { return filepath.Join(r.dir, "index-"+string(id)) }

// backUp backs a quiet directory up, with an index made while it is verified.
func (r *room) backUp(dir string) *colorfast.Manifest {
	r.t.Helper()
	r.n++
	temp := filepath.Join(r.dir, "index")
	w, err := Create(temp, Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	v := verify.Directory{Dir: dir, Scratch: r.t.TempDir(), Each: w.Add}
	rep, err := v.Run(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if err := w.Seal(); err != nil {
		r.t.Fatal(err)
	}
	m := &colorfast.Manifest{Inventory: rep.Inventory, FindingList: rep.Findings}
	m.Source = colorfast.Source{Host: "h", Path: "/source"}
	m.Consistency.FrozenAt = time.Unix(int64(r.n), 0).UTC()
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f := colorfast.File{Path: filepath.ToSlash(rel), Type: colorfast.Directory, Mode: 0o755}
		if !d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			f.Type, f.Size = colorfast.Regular, info.Size()
		}
		m.FileList = append(m.FileList, f)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	m.Summarize()
	if err := r.vault.Put(r.t.Context(), m, os.DirFS(dir), nil); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(temp, r.index(m.ID)); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// diff compares two backups. The report is closed with the test.
func (r *room) diff(old, new *colorfast.Manifest, every bool) *Report {
	r.t.Helper()
	r.opened = nil
	d := Diff{Vault: r.vault, Old: old, New: new, Records: every, Scratch: r.t.TempDir()}
	rep, err := d.Run(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := rep.Close(); err != nil {
			r.t.Error(err)
		}
	})
	if left, _ := filepath.Glob(filepath.Join(d.Scratch, "*", "data")); len(left) > 0 {
		r.t.Errorf("data is left in %v", left)
	}
	return rep
}

// execute runs SQL in the database of a persist directory; the last statement
// must change something.
func execute(t *testing.T, dir, sql string) {
	t.Helper()
	db, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := sqlitex.ExecuteScript(db, sql, nil); err != nil {
		t.Fatal(err)
	}
	if db.Changes() == 0 {
		t.Fatalf("changed nothing: %s", sql)
	}
}

// write is SQL that adds a row to the queue, as a client's write does, of a
// collection in the default database.
func write(collection string, op sysdb.Operation, id, vector, metadata string) string {
	v, m := "NULL", "NULL"
	if vector != "" {
		v = "x'" + vector + "'"
	}
	if metadata != "" {
		m = "'" + metadata + "'"
	}
	return fmt.Sprintf(`INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata)
		SELECT %d, 'persistent://default/default/' || c.id, '%s', %s, 'FLOAT32', %s FROM collections c
		JOIN databases d ON d.id = c.database_id WHERE c.name = '%s' AND d.name = 'default_database';`, op, id, v, m, collection)
}

const vectorA = "0000803f0000803f0000803f0000803f"

// named returns what a report says of a collection.
func named(t *testing.T, r *Report, name string) *Collection {
	t.Helper()
	i := slices.IndexFunc(r.Collections, func(c Collection) bool { return strings.HasSuffix(c.Name(), "default_database/"+name) })
	if i < 0 {
		t.Fatalf("no collection %s", name)
	}
	return &r.Collections[i]
}

// lines lists the records of a collection that differ.
func lines(t *testing.T, r *Report, c *Collection) []string {
	t.Helper()
	out := []string{}
	err := r.Each(c, func(d Difference) error {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Change, d.ID, strings.Join(d.Parts.Names(), ","))))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	slices.Sort(out)
	return out
}

// TestEqualByManifest: what the manifests say to be equal is not read.
func TestEqualByManifest(t *testing.T) {
	x := newRoom(t)
	dir := x.fixture()
	a, b := x.backUp(dir), x.backUp(dir)
	for _, every := range []bool{false, true} {
		r := x.diff(a, b, every)
		if r.State != Equal || *r.Changes != (colorfast.Changes{}) || len(r.Collections) != 8 || len(x.opened) != 0 {
			t.Errorf("%s %+v, %d collections, opened %v", r.State, r.Changes, len(r.Collections), x.opened)
		}
	}
	execute(t, dir, "UPDATE collections SET name='other' WHERE name='all-ip'")
	execute(t, dir, "UPDATE collections SET dimension=9 WHERE name='empty'")
	r := x.diff(a, x.backUp(dir), true)
	ip, empty := named(t, r, "other"), named(t, r, "empty")
	if r.State != Changed || len(x.opened) != 0 || *r.Changes != (colorfast.Changes{}) {
		t.Errorf("%s, opened %v", r.State, x.opened)
	}
	if ip.State != Equal || !ip.Renamed || ip.Old.Name != "all-ip" || ip.MatchedBy != ByID {
		t.Errorf("%+v", ip)
	}
	if empty.State != Equal || fmt.Sprint(empty.Settings) != "[{dimension 0 9}]" {
		t.Errorf("%+v", empty)
	}
}

// TestWrites makes every kind of write and looks at what is told of it.
func TestWrites(t *testing.T) {
	x := newRoom(t)
	dir := x.fixture()
	a := x.backUp(dir)
	execute(t, dir, write("all-l2", sysdb.Add, "new", vectorA, `{"chroma:document":"d"}`)+
		write("all-l2", sysdb.Update, "tail-0", vectorA, "")+
		write("all-l2", sysdb.Update, "tail-1", "", `{"chroma:document":"other"}`)+
		write("all-l2", sysdb.Update, "tail-4", "", `{"k":"v","chroma:uri":"u"}`)+
		write("all-l2", sysdb.Delete, "tail-3", "", "")+
		write("young", sysdb.Delete, "id-1", "", ""))
	execute(t, dir, "DELETE FROM collections WHERE name='exactly-saved'")
	execute(t, dir, "UPDATE collections SET name='renamed' WHERE name='all-ip'")
	b := x.backUp(dir)

	r := x.diff(a, b, true)
	if c := named(t, r, "all-l2"); c.State != Changed || *c.Changes != (colorfast.Changes{Added: 1, Updated: 3, Deleted: 1}) || c.Note != "" {
		t.Errorf("%+v %+v %q", c, c.Changes, lines(t, r, c))
	} else if got, want := lines(t, r, c), []string{"added new", "deleted tail-3", "updated tail-0 vector", "updated tail-1 document", "updated tail-4 uri,metadata"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := lines(t, r, named(t, r, "young")); !slices.Equal(got, []string{"deleted id-1"}) {
		t.Errorf("%q", got)
	}
	if c := named(t, r, "all-cosine"); c.State != Equal || len(lines(t, r, c)) != 0 {
		t.Errorf("%+v", c)
	}
	gone := named(t, r, "exactly-saved")
	if gone.State != Dropped || gone.New != nil || gone.Changes.Deleted != gone.Old.Records || int64(len(lines(t, r, gone))) != gone.Old.Records || gone.Old.Records == 0 {
		t.Errorf("%+v", gone)
	}
	if want := (colorfast.Changes{Added: 1, Updated: 3, Deleted: 2 + gone.Old.Records}); r.State != Changed || *r.Changes != want {
		t.Errorf("%s %+v, want %+v", r.State, r.Changes, want)
	}
	// Only the database and the segments that are needed were read, each once.
	want := map[string]int{chroma.SQLiteFile: 2}
	for _, c := range []*Collection{named(t, r, "all-l2"), named(t, r, "young"), gone} {
		for _, y := range []*colorfast.Collection{c.Old, c.New} {
			if y != nil {
				want[y.VectorSegment] += len(chroma.SegmentFiles())
			}
		}
	}
	got := map[string]int{}
	for _, path := range x.opened {
		dir, _, _ := strings.Cut(path, "/")
		got[dir]++
	}
	if len(got) < 3 {
		t.Errorf("only %v was read", got)
	}
	for dir, n := range got {
		if n > want[dir] {
			t.Errorf("%s: %d files were opened, want at most %d", dir, n, want[dir])
		}
	}

	// The other way round everything is the other way round.
	back := x.diff(b, a, false)
	if want := (colorfast.Changes{Added: r.Changes.Deleted, Updated: 3, Deleted: 1}); *back.Changes != want {
		t.Errorf("%+v, want %+v", back.Changes, want)
	}
	if c := named(t, back, "exactly-saved"); c.State != Added || len(lines(t, back, c)) != 0 {
		t.Errorf("%+v", c) // not asked for, so not read
	}
}

// TestMatchedByName: an import gives collections other IDs.
func TestMatchedByName(t *testing.T) {
	x := newRoom(t)
	dir := x.fixture()
	a := x.backUp(dir)
	const id = "(SELECT c.id FROM collections c JOIN databases d ON d.id = c.database_id WHERE c.name='all-l2' AND d.name='default_database')"
	execute(t, dir, write("all-l2", sysdb.Delete, "tail-3", "", "")+
		"UPDATE embeddings_queue SET topic=replace(topic, "+id+", '00000000-aaaa-bbbb-cccc-000000000000');"+
		"UPDATE segments SET collection='00000000-aaaa-bbbb-cccc-000000000000' WHERE collection="+id+";"+
		"UPDATE collections SET id='00000000-aaaa-bbbb-cccc-000000000000' WHERE id="+id)
	r := x.diff(a, x.backUp(dir), true)
	c := named(t, r, "all-l2")
	if c.MatchedBy != ByName || c.Old.ID == c.New.ID || c.State != Changed || len(r.Collections) != 8 {
		t.Errorf("%+v", c)
	}
	if got := lines(t, r, c); !slices.Equal(got, []string{"deleted tail-3"}) {
		t.Errorf("%q", got)
	}
}

// segment returns the folder of a collection's vectors.
func segment(t *testing.T, dir, name string) string {
	t.Helper()
	db, err := sysdb.Open(filepath.Join(dir, chroma.SQLiteFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	list, err := db.Collections(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Name == name && c.Database == "default_database" {
			return filepath.Join(dir, c.VectorSegment)
		}
	}
	t.Fatalf("no collection %s", name)
	return ""
}

// TestDamagedSourceIsNeverEqual: what a backup has lost may have been anything.
func TestDamagedSourceIsNeverEqual(t *testing.T) {
	x := newRoom(t)
	dir := x.fixture()
	if err := os.WriteFile(filepath.Join(segment(t, dir, "all-l2"), chroma.PickleFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, again := x.backUp(dir), x.backUp(dir)
	r := x.diff(a, again, false)
	if c := named(t, r, "all-l2"); c.State != Unknown || c.Changes != nil || !strings.Contains(c.Note, string(colorfast.HNSWPickle)) || len(x.opened) != 0 {
		t.Errorf("damaged alike: %+v, opened %v", c, x.opened)
	}
	if c := named(t, r, "all-ip"); c.State != Equal || r.State != Unknown || r.Changes != nil {
		t.Errorf("%+v, in all %s %+v", c, r.State, r.Changes)
	}
	execute(t, dir, write("all-l2", sysdb.Add, "new", vectorA, ""))
	r = x.diff(a, x.backUp(dir), true)
	if c := named(t, r, "all-l2"); c.State != Unknown || c.Note == "" || c.Changes == nil || c.Changes.Added != 1 || r.Changes != nil {
		t.Errorf("damaged, and written to: %+v", c)
	}
	if b, err := json.Marshal(r); err != nil || !strings.Contains(string(b), `"state":"unknown"`) {
		t.Errorf("%s, %v", b, err)
	}

	if err := os.Truncate(filepath.Join(dir, chroma.SQLiteFile), 0); err != nil {
		t.Fatal(err)
	}
	r = x.diff(a, x.backUp(dir), true)
	if r.State != Unknown || r.Changes != nil || len(r.Collections) != 8 {
		t.Errorf("no database: %s %+v", r.State, r.Changes)
	}
	for _, c := range r.Collections {
		if c.State != Unknown || c.Note == "" {
			t.Errorf("no database: %+v", c)
		}
	}
}

// TestDamagedVaultIsNeverEqual: nor is what does not read back.
func TestDamagedVaultIsNeverEqual(t *testing.T) {
	for _, file := range []string{chroma.DataFile, chroma.SQLiteFile} {
		x := newRoom(t)
		dir := x.fixture()
		a := x.backUp(dir)
		execute(t, dir, write("all-l2", sysdb.Delete, "tail-3", "", "")+write("all-ip", sysdb.Delete, "tail-3", "", ""))
		b := x.backUp(dir)
		broken, other := filepath.Base(segment(t, dir, "all-l2"))+"/"+file, Changed
		if file == chroma.SQLiteFile {
			broken, other = file, Unknown
		}
		x.vault.OnRead = func(path string, b []byte) error {
			if path == broken {
				b[0] ^= 1
			}
			return nil
		}
		r := x.diff(a, b, true)
		if c := named(t, r, "all-l2"); c.State != Unknown || c.Changes != nil || c.Note == "" || r.State != Unknown || len(lines(t, r, c)) != 0 {
			t.Errorf("%s: %+v", file, c)
		}
		if c := named(t, r, "all-ip"); c.State != other {
			t.Errorf("%s: %+v", file, c)
		}
		if c := named(t, r, "young"); c.State != Equal {
			t.Errorf("%s: %+v", file, c)
		}
	}
}

// TestEveryVersion changes a document in the fixtures of all versions.
func TestEveryVersion(t *testing.T) {
	for _, version := range chromatest.Fixtures(t) {
		x := newRoom(t)
		dir, _ := chromatest.Fixture(t, version)
		a := x.backUp(dir)
		execute(t, dir, `UPDATE embedding_metadata SET string_value = 'changed' WHERE key = 'chroma:document'
			AND id = (SELECT min(id) FROM embedding_metadata WHERE key = 'chroma:document')`)
		b := x.backUp(dir)
		r := x.diff(a, b, true)
		var all []string
		for i := range r.Collections {
			c := &r.Collections[i]
			if (c.State == Unknown) != (doubt(a, c.Old) != "") {
				t.Errorf("%s: %+v", version, c)
			}
			all = append(all, lines(t, r, c)...)
		}
		if len(all) != 1 || !strings.HasPrefix(all[0], "updated ") || !strings.HasSuffix(all[0], " document") {
			t.Errorf("%s: %q", version, all)
		}
	}
}

// TestRunErrors: what keeps from looking is an error, and not a state.
func TestRunErrors(t *testing.T) {
	x := newRoom(t)
	dir := x.fixture()
	a := x.backUp(dir)
	execute(t, dir, write("all-l2", sysdb.Delete, "tail-3", "", ""))
	b := x.backUp(dir)
	d := Diff{Vault: x.vault, Old: a, New: b, Scratch: t.TempDir(), free: func(string) (int64, error) { return 1 << 20, nil }}
	if _, err := d.Run(t.Context()); colorfast.KindOf(err) != colorfast.Usage || colorfast.HintOf(err) == "" {
		t.Errorf("no room: %v", err)
	}
	x.vault.OnRead = func(string, []byte) error { return colorfast.Errorf(colorfast.Unreachable, "gone") }
	d.free = nil
	if _, err := d.Run(t.Context()); colorfast.KindOf(err) != colorfast.Unreachable {
		t.Errorf("the vault is gone: %v", err)
	}
	x.vault.OnRead = nil
	d.Scratch = filepath.Join(t.TempDir(), "not")
	if _, err := d.Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no scratch folder: %v", err)
	}
}
