package capture

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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
	"colorfast/chroma"
)

const segmentID = "0f0e0d0c-0b0a-4908-8706-050403020100"

// newSource makes a directory with a database of accounts in the given journal
// mode and a segment directory, and returns it with a child that has it open.
func newSource(t *testing.T, journal string, rows int) (string, *child) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my chroma?#%")
	seg := filepath.Join(dir, segmentID)
	if err := os.MkdirAll(seg, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range chroma.SegmentFiles() {
		if err := os.WriteFile(filepath.Join(seg, name), make([]byte, 1000*(i+1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	c := startChild(t, filepath.Join(dir, chroma.SQLiteFile))
	c.do("PRAGMA journal_mode=" + journal)
	c.do("CREATE TABLE account(id INTEGER PRIMARY KEY, money INT, pad BLOB)")
	c.do("CREATE TABLE total(money INT, round INT)")
	c.do(fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO account SELECT i, 1000, zeroblob(200) FROM n", rows))
	c.do("INSERT INTO total SELECT sum(money), 0 FROM account")
	return dir, c
}

func newCapture(t *testing.T, dir string) *Capture {
	return &Capture{Source: dir, Staging: t.TempDir()}
}

// balance checks a copied database with SQLite and returns its round.
func balance(t *testing.T, dir string) int {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := sqlitex.ResultText(conn.Prep("PRAGMA integrity_check")); err != nil || got != "ok" {
		t.Fatalf("integrity_check: %q, %v", got, err)
	}
	off, err := sqlitex.ResultInt(conn.Prep("SELECT (SELECT sum(money) FROM account) - money FROM total"))
	if err != nil || off != 0 {
		t.Fatalf("the accounts are off by %d (%v): the copy mixes transactions", off, err)
	}
	round, err := sqlitex.ResultInt(conn.Prep("SELECT round FROM total"))
	if err != nil {
		t.Fatal(err)
	}
	return round
}

// fingerprint describes names, modes, times and bytes of all below dir.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %d %d", p, fi.Mode(), fi.Size(), fi.ModTime().UnixNano())
		if fi.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(data))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCapture(t *testing.T) {
	for _, journal := range []string{"delete", "truncate", "persist", "wal"} {
		t.Run("copies one committed state while a process writes in mode "+journal, func(t *testing.T) {
			dir, c := newSource(t, journal, 20000)
			c.do("transfers")
			last := -1
			for range 3 {
				cut, err := newCapture(t, dir).Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if cut.Consistency.Mode != colorfast.Frozen {
					t.Fatalf("mode is %q", cut.Consistency.Mode)
				}
				round := balance(t, cut.Dir)
				if round < last {
					t.Fatalf("round %d after round %d", round, last)
				}
				last = round
			}
			if last < 1 {
				t.Fatal("the writer did nothing, so nothing was tested")
			}
		})
		t.Run("leaves an idle source as it was in mode "+journal, func(t *testing.T) {
			dir, _ := newSource(t, journal, 500)
			before := fingerprint(t, dir)
			cut, err := newCapture(t, dir).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if after := fingerprint(t, dir); after != before {
				t.Errorf("source changed:\n%s\nwas:\n%s", after, before)
			}
			balance(t, cut.Dir)
			if len(cut.Findings) != 0 || cut.Consistency.Attempts != 1 || len(cut.Consistency.Notes) != 0 {
				t.Errorf("findings %v, evidence %+v", cut.Findings, cut.Consistency)
			}
		})
	}
}

func TestCaptureLists(t *testing.T) {
	t.Run("lists every entry with type, mode and time", func(t *testing.T) {
		dir, _ := newSource(t, "delete", 10)
		cut, err := newCapture(t, dir).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]colorfast.File{}
		for _, f := range cut.Files {
			got[f.Path] = f
		}
		if len(got) != 9 || got["."].Type != colorfast.Directory || got["link"].Target != "nowhere" || got[segmentID+"/"+chroma.LinksFile].Size != 4000 {
			t.Errorf("files: %+v", cut.Files)
		}
		if got[segmentID].Mode != 0o755 || got[chroma.SQLiteFile].Mode != 0o644 {
			t.Errorf("modes: %o and %o", got[segmentID].Mode, got[chroma.SQLiteFile].Mode)
		}
	})
}

func TestCaptureAfterKill(t *testing.T) {
	t.Run("rolls a hot journal back in the copy and not in the source", func(t *testing.T) {
		dir, c := newSource(t, "delete", 20000)
		c.do("PRAGMA cache_size=10")
		c.do("BEGIN")
		c.do("UPDATE account SET money = money + 5") // spills to the database file
		c.kill()
		before := fingerprint(t, dir)
		cut, err := newCapture(t, dir).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if cut.Consistency.Mode != colorfast.HotJournal || !cut.Consistency.HotJournal {
			t.Errorf("evidence: %+v", cut.Consistency)
		}
		balance(t, cut.Dir)
		if after := fingerprint(t, dir); after != before {
			t.Error("source changed")
		}
		if names, _ := filepath.Glob(filepath.Join(cut.Dir, "chroma.sqlite3-*")); len(names) != 0 {
			t.Errorf("left in the copy: %v", names)
		}
	})
	t.Run("takes the log of a killed writer along in mode wal", func(t *testing.T) {
		dir, c := newSource(t, "wal", 100)
		c.do("PRAGMA wal_autocheckpoint=0")
		c.do("UPDATE total SET round = 77")
		c.kill()
		before := fingerprint(t, dir)
		cut, err := newCapture(t, dir).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if round := balance(t, cut.Dir); round != 77 {
			t.Errorf("round is %d: what lay only in the log is lost", round)
		}
		if cut.Consistency.WALBytes == 0 {
			t.Error("the evidence tells of no log")
		}
		if after := fingerprint(t, dir); after != before {
			t.Error("source changed")
		}
	})
}

func TestCaptureInWALMode(t *testing.T) {
	dir, c := newSource(t, "wal", 20000)
	if a := c.ask("PRAGMA wal_checkpoint(TRUNCATE)"); a != "0" {
		t.Fatalf("checkpoint is busy: %s", a)
	}
	other := startChild(t, filepath.Join(dir, chroma.SQLiteFile))
	other.do("PRAGMA wal_autocheckpoint=5") // folds the log into the database all the time
	other.do("transfers")
	cut, err := newCapture(t, dir).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	balance(t, cut.Dir)
	t.Run("copies the log alone under the freeze", func(t *testing.T) {
		fi, err := os.Stat(filepath.Join(cut.Dir, chroma.SQLiteFile))
		if err != nil {
			t.Fatal(err)
		}
		log := cut.Consistency.WALBytes
		if n := cut.Consistency.SettledBytes; n > log || log == 0 {
			t.Errorf("%d bytes were copied under the freeze, of a log of %d and a database of %d", n, log, fi.Size())
		}
	})
	t.Run("lets checkpoints go on afterwards", func(t *testing.T) {
		other.kill()
		if a := c.ask("PRAGMA wal_checkpoint(TRUNCATE)"); a != "0" {
			t.Errorf("checkpoint is busy: %s", a)
		}
	})
}

func TestFreeze(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		t.Run("lets readers go on and makes writers wait without error in mode "+journal, func(t *testing.T) {
			dir, writer := newSource(t, journal, 100)
			reader := startChild(t, filepath.Join(dir, chroma.SQLiteFile))
			reader.do("SELECT count(*) FROM account")
			s, err := newCapture(t, dir).open()
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			f, err := s.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			writer.send("UPDATE total SET round = 5")
			for range 20 {
				if ms := reader.do("SELECT sum(money) FROM account"); ms > 400 {
					t.Errorf("a reader waited %d ms", ms)
				}
			}
			newcomer := startChild(t, filepath.Join(dir, chroma.SQLiteFile))
			newcomer.do("SELECT sum(money) FROM account")
			time.Sleep(300 * time.Millisecond)
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
			var ms int
			if a := writer.answer(); a[:2] != "ok" {
				t.Fatal(a)
			} else if _, err := fmt.Sscanf(a, "ok %d", &ms); err != nil || ms < 300 {
				t.Errorf("the writer waited %d ms only: nothing was frozen", ms)
			}
		})
	}
}

func TestFreezeOfHotJournal(t *testing.T) {
	t.Run("keeps a second Chroma from reading a half-written database", func(t *testing.T) {
		dir, c := newSource(t, "delete", 20000)
		c.do("PRAGMA cache_size=10")
		c.do("BEGIN")
		c.do("UPDATE account SET money = money + 5")
		c.kill()
		s, err := newCapture(t, dir).open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		f, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second := startChild(t, filepath.Join(dir, chroma.SQLiteFile))
		second.send("CREATE TABLE proof AS SELECT sum(money) - (SELECT money FROM total) AS off FROM account")
		time.Sleep(300 * time.Millisecond)
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		if a := second.answer(); a[:2] != "ok" {
			t.Fatal(a)
		}
		second.kill()
		conn, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if off, err := sqlitex.ResultInt(conn.Prep("SELECT off FROM proof")); err != nil || off != 0 {
			t.Errorf("it read a state that is off by %d (%v)", off, err)
		}
	})
}

func TestSharedMode(t *testing.T) {
	dir, c := newSource(t, "delete", 20000)
	c.do("relentless")
	capture := newCapture(t, dir)
	s, err := capture.open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.precopy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.savesApart {
		t.Error("a database without Chroma's migrations counts as Rust-era")
	}
	s.savesApart = true
	for range 3 {
		cut, err := s.attempt(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// A gap between two transactions may be hit all the same.
		if m := s.evidence.Mode; m != colorfast.Shared && m != colorfast.Frozen {
			t.Errorf("mode is %q", m)
		}
		balance(t, cut.Dir)
	}
}

func TestOddSources(t *testing.T) {
	t.Run("a link in the place of a segment is refused", func(t *testing.T) {
		dir, _ := newSource(t, "delete", 10)
		away := filepath.Join(t.TempDir(), "away")
		if err := os.Rename(filepath.Join(dir, segmentID), away); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(away, filepath.Join(dir, segmentID)); err != nil {
			t.Fatal(err)
		}
		if _, err := newCapture(t, dir).Run(t.Context()); colorfast.KindOf(err) != colorfast.Unsupported {
			t.Errorf("got %v", err)
		}
	})
	t.Run("pipes are told and passed over, wherever they lie", func(t *testing.T) {
		dir, _ := newSource(t, "delete", 10)
		for _, p := range []string{"pipe", segmentID + "/pipe", chroma.JournalFile} {
			if err := syscall.Mkfifo(filepath.Join(dir, p), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cut, err := newCapture(t, dir).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(cut.Findings) != 3 || cut.Findings[0].Code != colorfast.SourceSpecial || cut.Consistency.Attempts != 1 {
			t.Errorf("%d attempts, findings %+v", cut.Consistency.Attempts, cut.Findings)
		}
	})
	t.Run("a link that becomes a file is not written through", func(t *testing.T) {
		dir, _ := newSource(t, "delete", 10)
		victim := filepath.Join(t.TempDir(), "victim")
		if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), os.Symlink(victim, filepath.Join(dir, "f"))); err != nil {
			t.Fatal(err)
		}
		s, err := newCapture(t, dir).open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if err := s.precopy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(filepath.Join(dir, "f")), os.WriteFile(filepath.Join(dir, "f"), []byte("other"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.attempt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "mine" {
			t.Errorf("the link's target is %q (%v)", b, err)
		}
	})
}

func TestFreezeEnds(t *testing.T) {
	t.Run("is ended at its bound when a segment does not come to rest", func(t *testing.T) {
		dir, writer := newSource(t, "delete", 100)
		stop := make(chan struct{})
		done := make(chan struct{})
		file, err := os.OpenFile(filepath.Join(dir, segmentID, chroma.DataFile), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		go func() {
			defer close(done)
			for n := byte(0); ; n++ {
				select {
				case <-stop:
					return
				default:
					_, _ = file.WriteAt([]byte{n}, 0)
				}
			}
		}()
		c := newCapture(t, dir)
		c.MaxFreeze = 100 * time.Millisecond
		s, err := c.open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if err := s.precopy(t.Context()); err != nil {
			t.Fatal(err)
		}
		// On a busy machine the file may come to rest by chance, now and then.
		for n := 0; err == nil && n < 10; n++ {
			_, err = s.attempt(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "bound") {
			t.Errorf("got %v", err)
		}
		if ms := writer.do("UPDATE total SET round = 6"); ms > 2000 {
			t.Errorf("a writer waited %d ms after the bound", ms)
		}
		close(stop)
		<-done
	})
	t.Run("ends when cancelled and lets writers go on", func(t *testing.T) {
		dir, writer := newSource(t, "delete", 100)
		writer.do("BEGIN IMMEDIATE")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := newCapture(t, dir).Run(ctx); err == nil {
			t.Error("captured during a transaction")
		}
		writer.do("COMMIT")
		writer.do("UPDATE total SET round = 7")
	})
}

func TestCheckSource(t *testing.T) {
	empty := t.TempDir()
	file := filepath.Join(empty, "file")
	nested := t.TempDir()
	for _, p := range []string{file, filepath.Join(nested, "chroma", chroma.SQLiteFile)} {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		dir  string
		kind colorfast.Kind
		hint string
	}{
		"a missing directory":            {filepath.Join(empty, "no"), colorfast.NotFound, "persist directory"},
		"a file":                         {file, colorfast.Usage, "persist directory"},
		"a directory without a database": {empty, colorfast.NotFound, "open"},
		"the parent of a source":         {nested, colorfast.NotFound, filepath.Join(nested, "chroma")},
	} {
		err := CheckSource(tc.dir)
		if err == nil || colorfast.KindOf(err) != tc.kind || !strings.Contains(colorfast.HintOf(err), tc.hint) {
			t.Errorf("%s: %v (%s; hint %q)", name, err, colorfast.KindOf(err), colorfast.HintOf(err))
		}
	}
}
