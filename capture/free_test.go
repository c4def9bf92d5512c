package capture

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"colorfast"
	"colorfast/chroma"
)

// TestFreePagesAreCleared: what was deleted is in the source's bytes still, and
// not in a proven copy, but for the rest of a page that SQLite uses again.
func TestFreePagesAreCleared(t *testing.T) {
	secret := bytes.Repeat([]byte("forgotten"), 50)
	held := func(dir string) int {
		b, err := os.ReadFile(filepath.Join(dir, chroma.SQLiteFile))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, secret)
	}
	prove := func(found ...colorfast.Finding) func(context.Context, string) ([]colorfast.Finding, error) {
		return func(context.Context, string) ([]colorfast.Finding, error) { return found, nil }
	}
	fatal := colorfast.NewFinding(colorfast.SysdbCorrupt, chroma.SQLiteFile, 0, "for a test")
	risk := colorfast.NewFinding(colorfast.SysdbStaleFTS, chroma.SQLiteFile, 0, "for a test")
	for name, c := range map[string]struct {
		journal string
		prove   func(context.Context, string) ([]colorfast.Finding, error)
		damage  bool
		cleared bool
	}{
		"of a copy that passed":                     {"delete", prove(), false, true},
		"of a copy with a log":                      {"wal", prove(), false, true},
		"of a copy that is a risk":                  {"delete", prove(risk), false, true},
		"not of a copy that is damaged":             {"delete", prove(fatal), false, false},
		"not of a copy that nobody looked at":       {"delete", nil, false, false},
		"not of a copy with a damaged free list":    {"delete", prove(), true, false},
		"not of a copy with a log and damaged list": {"wal", prove(), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, writer := newSource(t, c.journal, 1000)
			writer.do("CREATE TABLE gone(x TEXT)")
			writer.do("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200) INSERT INTO gone SELECT replace(printf('%.300c', 'x'), 'x', 'forgotten') FROM n")
			writer.do("DELETE FROM gone")
			if c.journal == "wal" {
				writer.do("PRAGMA wal_checkpoint(TRUNCATE)")
				writer.do("UPDATE total SET round = 3") // the log is not empty
			}
			if c.damage {
				f, err := os.OpenFile(filepath.Join(dir, chroma.SQLiteFile), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				// The chain goes back to its first page.
				var first [4]byte
				if _, err := f.ReadAt(first[:], 32); err != nil {
					t.Fatal(err)
				}
				trunk := int64(first[2])<<8 | int64(first[3]) - 1
				if _, err := f.WriteAt(first[:], trunk*4096); err != nil || f.Close() != nil {
					t.Fatal(err)
				}
			}
			was := held(dir)
			if was < 500 {
				t.Fatalf("%d times in the source: too little was deleted, or not kept", was)
			}
			before := fingerprint(t, dir)
			capture := newCapture(t, dir)
			capture.Prove = c.prove
			cut, err := capture.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			const inOnePage = 4096 / 450
			if n := held(cut.Dir); c.cleared && n > inOnePage || !c.cleared && n != was {
				t.Errorf("%d times in the source, %d times in the copy", was, n)
			}
			if !c.damage {
				balance(t, cut.Dir)
			}
			if after := fingerprint(t, dir); after != before {
				t.Error("the source changed")
			}
		})
	}
}

// TestClearRange: with a hole or without, the bytes around stay.
func TestClearRange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	full := bytes.Repeat([]byte{7}, 3<<20)
	for _, c := range [][2]int64{{4096, 4096}, {8192, 1 << 20}, {100, 5}, {0, 3 << 20}, {3<<20 - 4096, 4096}} {
		if err := os.WriteFile(path, full, 0o600); err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(full)
		clear(want[c[0] : c[0]+c[1]])
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for name, clearing := range map[string]func() error{
			"hole":  func() error { return clearRange(t.Context(), f, c[0], c[1]) },
			"zeros": func() error { return writeZeros(t.Context(), f, c[0], c[1]) },
		} {
			if _, err := f.WriteAt(full, 0); err != nil {
				t.Fatal(err)
			}
			if err := clearing(); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %v: %v", name, c, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
