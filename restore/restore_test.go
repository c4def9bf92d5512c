package restore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/openfiles"
)

func TestRestore(t *testing.T) {
	t.Run("makes a directory that is the recorded one to the last bit", func(t *testing.T) {
		leaks(t)
		s, parent := store(t, source(t, 1)), t.TempDir()
		var p counter
		r := s.restore(filepath.Join(parent, "target"))
		r.Progress = &p
		rep := run(t, r)
		wantSame(t, snapshot(t, r.Target), snapshot(t, s.src))
		wantNames(t, parent, "target")
		if rep.Files != 6 || rep.Bytes != s.m.OriginalBytes || rep.BytesReused != 0 || rep.KeptAside != "" || rep.Target != r.Target || rep.Verified != colorfast.Unknown || rep.Seconds <= 0 {
			t.Errorf("report %+v", rep)
		}
		if p.total.Load() != rep.Bytes || p.done.Load() != rep.Bytes || p.begins.Load() != 1 {
			t.Errorf("progress %d of %d, begun %d times", p.done.Load(), p.total.Load(), p.begins.Load())
		}
	})
	t.Run("leaves holes where there are zeros", func(t *testing.T) {
		s, target := store(t, source(t, 1)), filepath.Join(t.TempDir(), "target")
		run(t, s.restore(target))
		for name, limit := range map[string]int64{"seg-1/data_level0.bin": 64 << 10, "seg-1/length.bin": 0} {
			info, err := os.Stat(filepath.Join(target, name))
			if err != nil {
				t.Fatal(err)
			}
			if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > limit {
				t.Errorf("%s takes %d bytes on disk, want at most %d", name, used, limit)
			}
		}
	})
	t.Run("takes an empty directory as its target", func(t *testing.T) {
		s, target := store(t, source(t, 1)), t.TempDir()
		rep := run(t, s.restore(target))
		wantSame(t, snapshot(t, target), snapshot(t, s.src))
		if rep.KeptAside != "" {
			t.Errorf("kept %q", rep.KeptAside)
		}
	})
}

func TestRestoreKeepsAside(t *testing.T) {
	t.Run("what it replaces, each time", func(t *testing.T) {
		parent := t.TempDir()
		target := filepath.Join(parent, "target")
		one, two := store(t, source(t, 1)), store(t, source(t, 2))
		run(t, one.restore(target))
		r := two.restore(target)
		r.Replace = true
		rep := run(t, r)
		if rep.KeptAside != target+".before-restore-"+stamp {
			t.Errorf("kept %q", rep.KeptAside)
		}
		wantSame(t, snapshot(t, target), snapshot(t, two.src))
		wantSame(t, snapshot(t, rep.KeptAside), snapshot(t, one.src))
		rep = run(t, r)
		wantSame(t, snapshot(t, target), snapshot(t, two.src))
		wantSame(t, snapshot(t, rep.KeptAside), snapshot(t, two.src))
		wantNames(t, parent, "target", "target.before-restore-"+stamp, "target.before-restore-"+stamp+"-2")
	})
	t.Run("what a symbolic link leads to, and follows dangling ones too", func(t *testing.T) {
		s, parent := store(t, source(t, 1)), t.TempDir()
		link, real := filepath.Join(parent, "link"), filepath.Join(parent, "real")
		if err := os.Symlink("real", link); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r := s.restore(link)
			r.Replace = true
			rep := run(t, r)
			if rep.Target != real || len(rep.Notes) == 0 {
				t.Errorf("report %+v", rep)
			}
			wantSame(t, snapshot(t, real), snapshot(t, s.src))
		}
		wantNames(t, parent, "link", "real", "real.before-restore-"+stamp)
	})
	t.Run("nothing in a dry run, which only plans it", func(t *testing.T) {
		s, parent := store(t, source(t, 1)), t.TempDir()
		target := filepath.Join(parent, "target")
		put(t, target, "chroma.sqlite3-wal", nil, 0o644)
		before := snapshot(t, parent)
		s.m.FindingList = []colorfast.Finding{colorfast.NewFinding(colorfast.HNSWTorn, "c", 3, "torn")}
		s.m.Summarize()
		r := s.restore(target)
		r.DryRun, r.Replace = true, true
		rep := run(t, r)
		if !rep.DryRun || rep.Files != 6 || rep.KeptAside != target+".before-restore-"+stamp || len(rep.Findings) != 1 || len(rep.Notes) != 1 {
			t.Errorf("report %+v", rep)
		}
		wantSame(t, snapshot(t, parent), before)
	})
}

func TestRestoreRefuses(t *testing.T) {
	s := store(t, source(t, 1))
	parent := t.TempDir()
	put(t, parent, "file", nil, 0o644)
	put(t, parent, "leftover/chroma.sqlite3-wal", nil, 0o644)
	if err := os.Symlink("loop", filepath.Join(parent, "loop")); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, parent)
	for _, c := range []struct {
		name, target string
		kind         colorfast.Kind
		says         string
	}{
		{"a target without a name", "", colorfast.Usage, ""},
		{"the whole system", "/", colorfast.Usage, "whole system"},
		{"a target whose parent is missing", parent + "/no/target", colorfast.NotFound, "make it first"},
		{"a target that is a file", parent + "/file", colorfast.Usage, "is a file"},
		{"a target below a file", parent + "/file/target", colorfast.Usage, "not a directory"},
		{"a target that holds no more than a write-ahead log", parent + "/leftover", colorfast.Usage, "--replace"},
		{"a circle of links", parent + "/loop", colorfast.Usage, "circle"},
		{"a target in the vault", s.dir + "/target", colorfast.Usage, "outside the vault"},
		{"the vault itself", s.dir, colorfast.Usage, "outside the vault"},
		{"a target that contains the vault", filepath.Dir(s.dir), colorfast.Usage, "outside the vault"},
		{"a name that is too long", parent + "/" + strings.Repeat("x", 201), colorfast.Usage, "longer"},
		{"what another restore kept aside", parent + "/.before-restore-" + stamp, colorfast.Usage, "mv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.restore(c.target)
			r.VaultDir = s.dir
			r.Replace = !strings.Contains(c.says, "--replace")
			_, err := r.Run(context.Background())
			wantError(t, err, c.kind, c.says)
			wantSame(t, snapshot(t, parent), before)
		})
	}
	t.Run("a damaged backup, unless it is wanted", func(t *testing.T) {
		s := store(t, source(t, 1))
		s.m.FindingList = []colorfast.Finding{colorfast.NewFinding(colorfast.HNSWTorn, "docs", 3, "torn")}
		s.m.Summarize()
		r := s.restore(filepath.Join(t.TempDir(), "target"))
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Corrupt, `hnsw.torn in "docs"`, "--allow-damaged")
		r.AllowDamaged = true
		if rep := run(t, r); len(rep.Findings) != 1 {
			t.Errorf("report %+v", rep)
		}
	})
}

func TestRestoreRefusesHostileManifests(t *testing.T) {
	sum := strings.Repeat("0", 64)
	file := func(p string) colorfast.File {
		return colorfast.File{Path: p, Type: colorfast.Regular, Mode: 0o644, SHA256: sum}
	}
	dir := func(p string) colorfast.File {
		return colorfast.File{Path: p, Type: colorfast.Directory, Mode: 0o755}
	}
	link := func(p, to string) colorfast.File {
		return colorfast.File{Path: p, Type: colorfast.Symlink, Target: to}
	}
	with := func(f colorfast.File, change func(f *colorfast.File)) colorfast.File { change(&f); return f }
	for name, files := range map[string][]colorfast.File{
		"a path that leaves":           {file("../x")},
		"a path that leaves later":     {file("a/../../x")},
		"an absolute path":             {file("/etc/x")},
		"an empty path":                {file("")},
		"a path that is not clean":     {file("a//b")},
		"a path that ends in a slash":  {dir("a/")},
		"a path with a NUL":            {file("a\x00b")},
		"a path that is not UTF-8":     {file("a\xff")},
		"a path that is too long":      {file(strings.Repeat("a/", 3000) + "a")},
		"a name that is too long":      {file(strings.Repeat("a", 256))},
		"a path that is listed twice":  {file("a"), file("a")},
		"a file and a directory":       {file("a"), dir("a")},
		"a file through a link":        {link("a", "/tmp"), file("a/x")},
		"a file through a later link":  {file("a/x"), link("a", "/tmp")},
		"a file deep through a link":   {dir("d"), link("d/a", ".."), dir("d/a/b"), file("d/a/b/x")},
		"a file below a file":          {file("a"), file("a/x")},
		"a top that is a file":         {file(".")},
		"a top that is a link":         {link(".", "/tmp")},
		"a stage's name":               {dir(".colorfast-restore-12345678")},
		"a name of what is kept aside": {dir(".before-restore-x"), file(".before-restore-x/y")},
		"an unknown type":              {{Path: "a", Type: "fifo"}},
		"a negative size":              {with(file("a"), func(f *colorfast.File) { f.Size = -1 })},
		"sizes that overflow":          {with(file("a"), func(f *colorfast.File) { f.Size = 1 << 62 }), with(file("b"), func(f *colorfast.File) { f.Size = 1 << 62 })},
		"a file without a hash":        {with(file("a"), func(f *colorfast.File) { f.SHA256 = "" })},
		"a hash that is a path":        {with(file("a"), func(f *colorfast.File) { f.SHA256 = "../" + sum[3:] })},
		"a mode beyond chmod's":        {with(file("a"), func(f *colorfast.File) { f.Mode = 0o100644 })},
		"an owner that is none":        {with(file("a"), func(f *colorfast.File) { f.UID = -2 })},
		"a link to nowhere":            {link("a", "")},
		"a link with a NUL":            {link("a", "b\x00")},
		"a directory with a size":      {with(dir("a"), func(f *colorfast.File) { f.Size = 1 })},
	} {
		t.Run(name, func(t *testing.T) {
			s, parent := store(t, t.TempDir()), t.TempDir()
			s.m.FileList = files
			_, err := s.restore(filepath.Join(parent, "target")).Run(context.Background())
			wantError(t, err, colorfast.Corrupt, "")
			wantNames(t, parent)
		})
	}
	t.Run("an ID that is a path", func(t *testing.T) {
		s, parent := store(t, t.TempDir()), t.TempDir()
		s.m.ID = "../../x"
		_, err := s.restore(filepath.Join(parent, "target")).Run(context.Background())
		wantError(t, err, colorfast.Corrupt, "")
		wantNames(t, parent)
	})
	t.Run("names that differ by case, where the file system folds it", func(t *testing.T) {
		m := &colorfast.Manifest{FileList: []colorfast.File{file("README"), file("readme")}}
		m.ID = "x"
		tr, err := newTree(m)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, tr.checkCase(), colorfast.Unsupported, "README")
	})
}

// lie is content that nobody stored.
type lie struct{ io.ReadCloser }

// Moved implements colorfast.Content.
func (lie) Moved() int64 { return 0 }

// liar is a vault that authenticates nothing and gives zeros.
type liar struct{ colorfast.Vault }

// Open implements colorfast.Vault.
func (liar) Open(_ context.Context, m *colorfast.Manifest, path string, _ io.ReaderAt) (colorfast.Content, error) {
	for i := range m.FileList {
		if m.FileList[i].Path == path {
			return lie{io.NopCloser(bytes.NewReader(make([]byte, m.FileList[i].Size)))}, nil
		}
	}
	return nil, errors.New("no such file")
}

// failures are ways in which a restore fails.
var failures = []struct {
	name string
	kind colorfast.Kind
	prep func(t *testing.T, s *stored, r *Restore)
}{
	{"when a flipped bit is read", colorfast.Corrupt, func(t *testing.T, s *stored, r *Restore) {
		s.vault.OnRead = func(_ string, b []byte) error { b[0] ^= 1; return nil }
	}},
	{"when content is cut short", colorfast.Corrupt, func(t *testing.T, s *stored, r *Restore) {
		i := 0
		for s.m.FileList[i].Size == 0 {
			i++
		}
		if err := os.Truncate(s.vault.Blob(&s.m.FileList[i]), 10); err != nil {
			t.Fatal(err)
		}
	}},
	{"when the vault gives other bytes without saying so", colorfast.Corrupt, func(t *testing.T, s *stored, r *Restore) {
		r.Vault = liar{s.vault}
	}},
	{"when the vault goes away", colorfast.Unreachable, func(t *testing.T, s *stored, r *Restore) {
		var n atomic.Int64
		s.vault.OnOpen = func(string) error {
			if n.Add(1) > 3 {
				return colorfast.Errorf(colorfast.Unreachable, "connection reset")
			}
			return nil
		}
	}},
	{"when the staged records are bad", colorfast.Corrupt, func(t *testing.T, s *stored, r *Restore) {
		r.Verify = func(context.Context, string, *colorfast.Manifest) ([]colorfast.Finding, error) {
			return []colorfast.Finding{colorfast.NewFinding(colorfast.StoredRecords, "docs", 1, "digest differs")}, nil
		}
	}},
	{"when verifying is not possible", colorfast.Unsupported, func(t *testing.T, s *stored, r *Restore) {
		r.Verify = func(context.Context, string, *colorfast.Manifest) ([]colorfast.Finding, error) {
			return nil, colorfast.Errorf(colorfast.Unsupported, "too new")
		}
	}},
	{"when verifying changes the files", colorfast.Internal, func(t *testing.T, s *stored, r *Restore) {
		r.Verify = func(_ context.Context, dir string, _ *colorfast.Manifest) ([]colorfast.Finding, error) {
			return nil, os.WriteFile(filepath.Join(dir, "chroma.sqlite3-shm"), nil, 0o600)
		}
	}},
	{"when somebody fills the target meanwhile", colorfast.Locked, func(t *testing.T, s *stored, r *Restore) {
		r.at = func(step string) {
			if step == "verified" {
				put(t, filepath.Dir(r.Target), "elsewhere", nil, 0o644) // is no matter
				put(t, r.Target, "chroma.sqlite3", nil, 0o644)
			}
		}
	}},
	{"when a process opens the target meanwhile", colorfast.Locked, func(t *testing.T, s *stored, r *Restore) {
		looks := 0
		r.look = func(string) (rep openfiles.Report, err error) {
			if looks++; looks == 2 {
				rep.Processes = []openfiles.Process{{PID: 7, Command: "chroma run", Files: []string{"chroma.sqlite3"}}}
			}
			return rep, nil
		}
	}},
}

func TestRestoreLeavesNothingBehind(t *testing.T) {
	for _, c := range failures {
		t.Run(c.name, func(t *testing.T) {
			leaks(t)
			s, parent := store(t, source(t, 1)), t.TempDir()
			r := s.restore(filepath.Join(parent, "target"))
			c.prep(t, s, r)
			_, err := r.Run(context.Background())
			wantError(t, err, c.kind, "")
			names, _ := readNames(parent)
			for _, n := range names {
				if strings.Contains(n, "restore") {
					t.Fatalf("%q is left (%v)", n, err)
				}
			}
			if rest := snapshot(t, r.Target); len(rest) > 2 {
				t.Fatalf("the target holds %v", rest)
			}
		})
	}
	t.Run("when it is cancelled, wherever", func(t *testing.T) {
		s := store(t, source(t, 1))
		for _, when := range []string{"stage made", "data made", "file common/link_lists.bin", "filled", "verified"} {
			leaks(t)
			parent := t.TempDir()
			ctx, cancel := context.WithCancel(context.Background())
			r := s.restore(filepath.Join(parent, "target"))
			r.at = func(step string) {
				if step == when {
					cancel()
				}
			}
			if _, err := r.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Fatalf("at %q: %v", when, err)
			}
			wantNames(t, parent)
		}
	})
	t.Run("but finishes when it is cancelled in the swap", func(t *testing.T) {
		s, parent := store(t, source(t, 1)), t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		r := s.restore(filepath.Join(parent, "target"))
		r.at = func(step string) {
			if step == "swap recorded" {
				cancel()
			}
		}
		if _, err := r.Run(ctx); err != nil {
			t.Fatal(err)
		}
		wantNames(t, parent, "target")
	})
}

func TestRestoreVerifies(t *testing.T) {
	s, parent := store(t, source(t, 1)), t.TempDir()
	r := s.restore(filepath.Join(parent, "target"))
	r.Verify = func(_ context.Context, dir string, want *colorfast.Manifest) ([]colorfast.Finding, error) {
		if want != s.m {
			t.Error("another manifest")
		}
		if info, err := os.Stat(filepath.Dir(dir)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the stage can be entered by others: %v, %v", info.Mode(), err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "chroma.sqlite3")); err != nil || len(b) != 300_000 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		return []colorfast.Finding{colorfast.NewFinding(colorfast.HNSWOrphan, "x", 0, "orphan")}, nil
	}
	if rep := run(t, r); rep.Verified != colorfast.Passed || len(rep.Findings) != 1 {
		t.Errorf("report %+v", rep)
	}
}

func TestRestoresAtTheSameTime(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "target")
	one, two := store(t, source(t, 1)), store(t, source(t, 2))
	r := one.restore(target)
	r.at = func(step string) {
		if step == "filled" {
			_, err := one.restore(target).Run(context.Background())
			wantError(t, err, colorfast.Locked, "another restore")
			_, err = two.restore(target).Run(context.Background())
			wantError(t, err, colorfast.Locked, "another restore")
			run(t, two.restore(filepath.Join(parent, "neighbour")))
		}
	}
	run(t, r)
	wantSame(t, snapshot(t, target), snapshot(t, one.src))
	wantNames(t, parent, "target", "neighbour")
}

func TestRestoreIsQuick(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "source")
	for i := range 4 {
		put(t, dir, string(rune('a'+i)), noise(uint64(i), 32<<20), 0o644)
	}
	s := store(t, dir)
	start := time.Now()
	rep := run(t, s.restore(filepath.Join(t.TempDir(), "target")))
	t.Logf("%s in %v", size(rep.Bytes), time.Since(start))
}
