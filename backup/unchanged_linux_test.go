package backup_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/backup"
	"colorfast/chroma"
	"colorfast/internal/contract"
	"colorfast/internal/fake"
)

// scene is a source at rest, with a file and a link that are not Chroma's, and
// all that backups of it need.
type scene struct {
	dir, vaultDir string
	b             backup.Backup
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{dir: source(t), vaultDir: t.TempDir()}
	if err := errors.Join(os.WriteFile(s.path("notes"), []byte("not Chroma's"), 0o644), os.Symlink("notes", s.path("link"))); err != nil {
		t.Fatal(err)
	}
	v, err := fake.NewVault(s.vaultDir)
	if err != nil {
		t.Fatal(err)
	}
	s.b = backup.Backup{Source: s.dir, Vault: v, Staging: t.TempDir(), Memory: filepath.Join(t.TempDir(), "made", "anew"), VaultKey: "v"}
	s.rest(t)
	return s
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// rest waits until everything in the source was stamped long enough ago.
func (s *scene) rest(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			time.Sleep(time.Until(time.Unix(st.Ctim.Unix()).Add(25 * time.Millisecond)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run makes a backup in the wanted way: of an unchanged source, or of one that
// was read.
func (s *scene) run(t *testing.T, unchanged bool) *colorfast.Manifest {
	t.Helper()
	m, err := s.b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Consistency.Mode == colorfast.Unchanged; got != unchanged {
		t.Fatalf("the backup's mode is %s, want unchanged: %t", m.Consistency.Mode, unchanged)
	}
	return m
}

// memory returns the file that the runs have left.
func (s *scene) memory(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.b.Memory, "*.json"))
	if err != nil || len(found) != 1 || !strings.HasSuffix(found[0], ".json") {
		t.Fatalf("in the memory: %v, %v", found, err)
	}
	return found[0]
}

func TestUnchangedSource(t *testing.T) {
	s := newScene(t)
	before := snapshot(t, s.dir)
	first := s.run(t, false)
	if first.Parent != "" || first.Changes != nil {
		t.Errorf("the first backup has parent %q and changes %v", first.Parent, first.Changes)
	}
	last := first
	for range 3 { // the memory goes along
		begun := time.Now()
		m := s.run(t, true)
		if m.Parent != last.ID || m.ID == last.ID || m.StoredBytes != 0 || m.FreezeSeconds != 0 || m.Changes == nil || *m.Changes != (colorfast.Changes{}) || m.Verified != colorfast.Passed {
			t.Errorf("%+v", m.Backup)
		}
		if m.RestorePoint.Before(begun) || m.RestorePoint.After(m.FinishedAt) || m.StartedAt.After(m.RestorePoint) || m.Consistency.Notes == nil {
			t.Errorf("%+v, evidence %+v", m.Backup, m.Consistency)
		}
		wantSameContent(t, m, first)
		contract.Whole(t, s.b.Vault, m.ID, kept(t, s.dir))
		last = m
	}
	if after := snapshot(t, s.dir); after != before {
		t.Errorf("the source changed:\n%s\nwas:\n%s", after, before)
	}
	if list, err := s.b.Vault.List(t.Context()); err != nil || len(list) != 4 || list[0].ID != last.ID {
		t.Errorf("%+v, %v", list, err)
	}
	if got := left(t, s.b.Staging); len(got) > 0 {
		t.Errorf("left in the staging directory: %v", got)
	}
	if fi, err := os.Stat(s.memory(t)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the memory: %v, %v", fi.Mode(), err)
	}
	s.b.Reread = true
	if m := s.run(t, false); m.Parent != last.ID {
		t.Errorf("read again: %+v", m.Backup)
	}
	s.b.Reread = false
	s.run(t, true)
}

// wantSameContent compares everything but times and what follows from them.
func wantSameContent(t *testing.T, m, want *colorfast.Manifest) {
	t.Helper()
	text := func(m *colorfast.Manifest) string {
		inv := m.Inventory
		inv.Collections = append([]colorfast.Collection{}, inv.Collections...)
		for i := range inv.Collections {
			inv.Collections[i].Changes = nil
		}
		b, err := json.Marshal([]any{inv, m.FileList, m.FindingList, m.Records, m.Collections, m.Files, m.OriginalBytes, m.Since, m.Source, m.Tool, m.Format})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if text(m) != text(want) {
		t.Errorf("it holds %s, want %s", text(m), text(want))
	}
}

// snapshot describes all below dir: names, modes, times of changes and sizes.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			st := fi.Sys().(*syscall.Stat_t)
			b.WriteString(strings.Join([]string{p, fi.Mode().String(), fi.ModTime().String(), time.Unix(st.Ctim.Unix()).String()}, " ") + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// changes are what happens to a source between two backups. Each must be seen.
var changes = map[string]func(s *scene) error{
	"a file grows": func(s *scene) error { return os.WriteFile(s.path("notes"), []byte("not Chroma's, either"), 0o644) },
	"a file of the same size and times": func(s *scene) error {
		fi, err := os.Stat(s.path("notes"))
		return errors.Join(err, os.WriteFile(s.path("notes"), []byte("NOT Chroma's"), 0o644), os.Chtimes(s.path("notes"), fi.ModTime(), fi.ModTime()))
	},
	"a time":            func(s *scene) error { return os.Chtimes(s.path("notes"), time.Time{}, time.Now().Add(-time.Hour)) },
	"a mode":            func(s *scene) error { return os.Chmod(s.path("notes"), 0o640) },
	"the source's mode": func(s *scene) error { return os.Chmod(s.dir, 0o700) },
	"another file of the same looks": func(s *scene) error {
		fi, err := os.Stat(s.path("notes"))
		return errors.Join(err, os.WriteFile(s.dir+".new", []byte("NOT Chroma's"), 0o644), os.Chtimes(s.dir+".new", fi.ModTime(), fi.ModTime()), os.Rename(s.dir+".new", s.path("notes")))
	},
	"a new file":      func(s *scene) error { return os.WriteFile(s.path("new"), nil, 0o644) },
	"a new directory": func(s *scene) error { return os.Mkdir(s.path("new"), 0o755) },
	"a file is gone":  func(s *scene) error { return os.Remove(s.path("notes")) },
	"another name":    func(s *scene) error { return os.Rename(s.path("notes"), s.path("remarks")) },
	"another target": func(s *scene) error {
		return errors.Join(os.Remove(s.path("link")), os.Symlink("other", s.path("link")))
	},
	"a file for a link": func(s *scene) error {
		return errors.Join(os.Remove(s.path("link")), os.WriteFile(s.path("link"), []byte("notes"), 0o777))
	},
	"a pipe":                func(s *scene) error { return syscall.Mkfifo(s.path("pipe"), 0o600) },
	"an empty journal":      func(s *scene) error { return os.WriteFile(s.path(chroma.JournalFile), nil, 0o644) },
	"a log":                 func(s *scene) error { return os.WriteFile(s.path(chroma.WALFile), nil, 0o644) },
	"a byte of a segment":   func(s *scene) error { return s.patch(chroma.LengthFile) },
	"a transaction":         func(s *scene) error { return s.sql("UPDATE collections SET name = name") },
	"a transaction, undone": func(s *scene) error { return s.sql("CREATE TABLE mine(x); DROP TABLE mine") },
	"a new file beside a shared-memory file": func(s *scene) error {
		return errors.Join(os.WriteFile(s.path(chroma.SHMFile), nil, 0o644), os.WriteFile(s.path("new"), nil, 0o644))
	},
}

func (s *scene) sql(script string) (err error) {
	db, err := sqlite.OpenConn(s.path(chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	return errors.Join(sqlitex.ExecuteScript(db, script, nil), db.Close())
}

// patch writes a byte of a file of a segment that is there already.
func (s *scene) patch(name string) error {
	found, err := filepath.Glob(s.path("*/" + name))
	if err != nil || len(found) == 0 {
		return errors.Join(err, fs.ErrNotExist)
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], 0)
	_, werr := f.WriteAt(b[:], 0)
	return errors.Join(err, werr, f.Close())
}

func TestChangesAreSeen(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			first := s.run(t, false)
			if err := change(s); err != nil {
				t.Fatal(err)
			}
			s.rest(t)
			if m := s.run(t, false); m.Parent != first.ID {
				t.Errorf("%+v", m.Backup)
			}
			s.run(t, true) // and from then on it is at rest again
		})
	}
}

// TestFilesThatTellNothing: readers and locks leave these, and Chroma's data is
// not in them.
func TestFilesThatTellNothing(t *testing.T) {
	s := newScene(t)
	db, err := sqlite.OpenConn(s.path(chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, sql := range []string{"PRAGMA journal_mode=wal", "UPDATE collections SET name = name"} {
		if err := sqlitex.ExecuteTransient(db, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.rest(t)
	first := s.run(t, false)
	if first.Consistency.WALBytes == 0 || first.Consistency.JournalMode != "wal" {
		t.Fatalf("evidence %+v", first.Consistency)
	}
	// Readers come and go, and leave their marks in the shared-memory file.
	for range 3 {
		if err := sqlitex.ExecuteTransient(db, "SELECT count(*) FROM embeddings", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(s.path(chroma.SHMFile), time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	m := s.run(t, true)
	if m.Consistency.WALBytes != first.Consistency.WALBytes || m.Consistency.JournalMode != "wal" {
		t.Errorf("evidence %+v", m.Consistency)
	}
	wantSameContent(t, m, first)
	if err := sqlitex.ExecuteTransient(db, "UPDATE collections SET name = name || ''", nil); err != nil {
		t.Fatal(err)
	}
	s.rest(t)
	s.run(t, false) // the log has grown
	s.run(t, true)
	if err := sqlitex.ExecuteTransient(db, "PRAGMA wal_checkpoint(PASSIVE)", nil); err != nil {
		t.Fatal(err)
	}
	s.rest(t)
	s.run(t, false) // the database has the log's pages
}

// TestHotJournalThatStays: a dead Chroma's hot journal was rolled back in the
// copy; as long as it lies there, nothing has changed.
func TestHotJournalThatStays(t *testing.T) {
	s := newScene(t)
	journal := append([]byte{0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7}, make([]byte, 504)...)
	if err := os.WriteFile(s.path(chroma.JournalFile), journal, 0o644); err != nil {
		t.Fatal(err)
	}
	s.rest(t)
	first := s.run(t, false)
	m := s.run(t, true)
	if !first.Consistency.HotJournal || !m.Consistency.HotJournal {
		t.Errorf("evidence %+v and %+v", first.Consistency, m.Consistency)
	}
	if err := os.Remove(s.path(chroma.JournalFile)); err != nil {
		t.Fatal(err)
	}
	s.run(t, false)
}

// TestOwnersAreLookedAtAnew is about the one finding that is not of files.
func TestOwnersAreLookedAtAnew(t *testing.T) {
	s := newScene(t)
	first := s.run(t, false)
	s.amend(t, first.ID, func(m map[string]any) {
		m["finding_list"] = append(m["finding_list"].([]any), colorfast.NewFinding(colorfast.SourceOwners, s.dir, 0, "once"), colorfast.NewFinding(colorfast.SourceSpecial, "pipe", 0, "still"))
	})
	m := s.run(t, true)
	codes := map[colorfast.Code]bool{}
	for _, f := range m.FindingList {
		codes[f.Code] = true
	}
	if codes[colorfast.SourceOwners] || !codes[colorfast.SourceSpecial] || m.Findings != len(first.FindingList)+1 {
		t.Errorf("%+v", m.FindingList)
	}
}

// amend changes a manifest in the vault.
func (s *scene) amend(t *testing.T, id colorfast.BackupID, change func(map[string]any)) {
	t.Helper()
	edit(t, filepath.Join(s.vaultDir, "manifests", string(id)+".json"), change)
}

func edit(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc := map[string]any{}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber() // nanoseconds do not fit a float
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	change(doc)
	if b, err = json.Marshal(doc); err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
