package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/sysdb"
	"colorfast/diff"
	"colorfast/internal/chromatest"
)

// sql DIR STATEMENT changes the database of a persist directory.
func sql(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "sql DIR STATEMENT")
	ts.Check(change(ts.MkAbs(args[0]), args[1]))
}

func change(dir, statement string) error {
	db, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := sqlitex.ExecuteScript(db, statement, nil); err != nil {
		return err
	}
	if db.Changes() == 0 {
		return fmt.Errorf("changed nothing: %s", statement)
	}
	return nil
}

// write DIR COLLECTION add|update|delete ID makes a write as Chroma does, into the
// queue.
func write(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 4, "write DIR COLLECTION add|update|delete ID")
	ts.Check(change(ts.MkAbs(args[0]), queued(args[1], args[2], args[3])))
}

// queued is the SQL of a write; IDs have no quotes.
func queued(collection, verb, id string) string {
	row := map[string]string{
		"add":    fmt.Sprintf(`%d, x'0000803f0000803f0000803f0000803f', '{"chroma:document":"new"}'`, sysdb.Add),
		"update": fmt.Sprintf(`%d, NULL, '{"chroma:document":"another"}'`, sysdb.Update),
		"delete": fmt.Sprintf(`%d, NULL, NULL`, sysdb.Delete),
	}[verb]
	return `INSERT INTO embeddings_queue (topic, id, encoding, operation, vector, metadata)
		SELECT 'persistent://default/default/' || c.id, '` + id + `', 'FLOAT32', ` + row + ` FROM collections c
		JOIN databases d ON d.id = c.database_id WHERE c.name = '` + collection + `' AND d.name = 'default_database';`
}

// TestDiffListsMany shows the first records by ID and how many more there are, and
// streams all of them into one JSON document.
func TestDiffListsMany(t *testing.T) {
	dir, _ := chromatest.Fixture(t, "1.5.9")
	home := t.TempDir()
	env := map[string]string{"HOME": home, "COLORFAST_VAULT": "file://" + filepath.Join(home, "vault"), "COLORFAST_PASSWORD": "secret"}
	run := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		a := &app{stdout: &out, stderr: os.Stderr, getenv: func(k string) string { return env[k] }}
		if code := a.run(args); code != want {
			t.Fatalf("%v ends with %d", args, code)
		}
		return strings.TrimSpace(out.String())
	}
	run(exitDone, "init")
	first := run(exitDone, "backup", "-q", dir)
	var all strings.Builder
	const n = 3000
	for i := range n {
		all.WriteString(queued("all-l2", "add", fmt.Sprintf("many-%04d\n<x>", i)))
	}
	if err := change(dir, all.String()); err != nil {
		t.Fatal(err)
	}
	run(exitDone, "backup", "-q", dir)

	out := run(exitDone, "diff", first, "latest", "--records", "--limit", "7")
	if strings.Count(out, `"many-`) != 7 || !strings.Contains(out, `"many-0006\n<x>"`) || !strings.Contains(out, "and 2,993 more; --limit 0 lists all") {
		t.Errorf("%s", out)
	}
	if out := run(exitDone, "diff", first, "latest", "--records", "--limit", "0"); strings.Count(out, `"many-`) != n || strings.Contains(out, " more") {
		t.Errorf("%d are listed", strings.Count(out, `"many-`))
	}
	var doc struct {
		State       string
		Changes     colorfast.Changes
		Collections []json.RawMessage
		Records     []differing
	}
	if err := json.Unmarshal([]byte(run(exitDone, "diff", first, "latest", "--records", "--json")), &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range doc.Records {
		seen[r.ID] = r.Change == diff.RecordAdded && r.Collection != "" && strings.HasSuffix(r.ID, "\n<x>")
	}
	if doc.State != "changed" || doc.Changes.Added != n || len(doc.Collections) != 8 || len(doc.Records) != n || len(seen) != n || !seen["many-0000\n<x>"] {
		t.Errorf("%s %+v, %d collections, %d records", doc.State, doc.Changes, len(doc.Collections), len(doc.Records))
	}
}
