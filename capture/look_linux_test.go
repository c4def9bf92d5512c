package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast/chroma"
)

func TestLasting(t *testing.T) {
	const second = int64(time.Second)
	now := time.Unix(1000, 0)
	at := func(sec, nano int64) int64 { return sec*second + nano }
	for name, c := range map[string]struct {
		mtime, ctime int64
		want         bool
	}{
		"long ago":                              {at(1, 5), at(1, 5), true},
		"just before":                           {at(999, second-1), at(999, second-1), false},
		"a tick ago":                            {at(999, second-int64(stampGrain)), at(999, second-int64(stampGrain)), false},
		"more than a tick ago":                  {at(999, second-int64(stampGrain)-1), at(999, second-int64(stampGrain)-1), true},
		"in whole seconds, one ago":             {at(999, 0), at(999, 0), false},
		"in whole seconds, three ago":           {at(997, 0), at(997, 0), true},
		"in the future":                         {at(2000, 5), at(2000, 5), false},
		"a time that was set to the future":     {at(2000, 5), at(1, 5), true},
		"a time that was set back just now":     {at(1, 5), at(999, second-1), false},
		"without a stamp that nobody can set":   {at(1, 5), 0, false},
		"just after, by a clock that goes back": {at(1000, 5), at(1000, 5), false},
	} {
		if got := (signature{mtime: c.mtime, ctime: c.ctime}).lasting(now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestLookOfACapture: the look that a capture keeps is like the next one, until
// something changes; and there is none if the copy cannot be told apart later.
func TestLookOfACapture(t *testing.T) {
	for _, journal := range []string{"delete", "truncate", "persist", "wal"} {
		dir, writer := newSource(t, journal, 100)
		time.Sleep(2 * stampGrain) // so that stamps prove something
		cut, err := newCapture(t, dir).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if cut.Look == nil {
			t.Fatalf("%s: there is none", journal)
		}
		begun := time.Now()
		now, err := LookAt(dir)
		if err != nil || now.Begun.Before(begun) || time.Since(now.Begun) > time.Minute {
			t.Fatal(now, err)
		}
		if why := now.Changed(cut.Look); why != "" {
			t.Errorf("%s: %s", journal, why)
		}
		for _, e := range now.Entries {
			if e.Path == chroma.SHMFile {
				t.Errorf("%s: the shared-memory file counts", journal)
			}
		}
		writer.do("UPDATE total SET round = 9")
		now, err = LookAt(dir)
		if err != nil {
			t.Fatal(err)
		}
		if why := now.Changed(cut.Look); !strings.HasPrefix(why, chroma.SQLiteFile) && !strings.HasPrefix(why, ". ") {
			t.Errorf("%s, after a transaction: %q", journal, why)
		}
	}
}

// TestNoLookOfWhatIsWrittenMeanwhile plays a capture by hand: a file that is not
// Chroma's changes between its copy and the end of the freeze.
func TestNoLookOfWhatIsWrittenMeanwhile(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"nothing":     func(string) error { return nil },
		"just before": func(string) error { return nil },
		"a file":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("b"), 0o600) },
		"a new file":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "g"), nil, 0o600) },
		"a link":      func(dir string) error { return os.Rename(filepath.Join(dir, "spare"), filepath.Join(dir, "link")) },
		"a mode":      func(dir string) error { return os.Chmod(filepath.Join(dir, "f"), 0o640) },
		"a directory": func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o700) },
	} {
		dir, _ := newSource(t, "delete", 10)
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("a"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("elsewhere", filepath.Join(dir, "spare")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * stampGrain)
		s, err := newCapture(t, dir).open()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.precopy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if name == "just before" { // the same stamp again could be another content
			m := s.copied["f"]
			m.lasting = false
			s.copied["f"] = m
		}
		if _, err := s.steady(); err != nil {
			t.Fatal(err)
		}
		s.remember(time.Now())
		if (s.remembered != nil) != (name == "nothing") {
			t.Errorf("%s: %+v", name, s.remembered)
		}
		s.close()
	}
}

func TestKernel(t *testing.T) {
	a := kernelNow(t.TempDir())
	time.Sleep(5 * time.Millisecond)
	b := kernelNow(t.TempDir())
	if a.Boot == "" || a.Boot != b.Boot || time.Duration(b.Born-a.Born).Abs() > clockSlack || time.Since(time.Unix(0, a.Born)) < 0 {
		t.Errorf("%+v and %+v", a, b)
	}
}

// BenchmarkLookAt looks at a source of a thousand collections.
func BenchmarkLookAt(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		seg := filepath.Join(dir, fmt.Sprintf("0f0e0d0c-0b0a-4908-8706-05040302%04d", i))
		if err := os.Mkdir(seg, 0o755); err != nil {
			b.Fatal(err)
		}
		for _, name := range chroma.SegmentFiles() {
			if err := os.WriteFile(filepath.Join(seg, name), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	first, err := LookAt(dir)
	if err != nil || len(first.Entries) != 6001 {
		b.Fatal(err)
	}
	for b.Loop() {
		again, err := LookAt(dir)
		if err != nil {
			b.Fatal(err)
		}
		if why := again.Changed(first); why != "" {
			b.Fatal(why)
		}
	}
}
