package restore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/fake"
	"colorfast/internal/openfiles"
)

// clock is the time in names.
var clock = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const stamp = "20260304T050607Z"

// put writes a file below dir with a time in the past.
func put(t testing.TB, dir, name string, content []byte, mode fs.FileMode) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2025, 1, 2, 3, 4, 5, 678900000, time.UTC).Add(time.Duration(len(name)) * time.Hour)
	if err := os.Chtimes(p, when, when); err != nil {
		t.Fatal(err)
	}
}

// noise returns n bytes that do not compress to holes.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32() | 1)
	}
	return b
}

// source makes a directory like Chroma's with everything that can be in one.
func source(t testing.TB, seed uint64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	put(t, dir, "chroma.sqlite3", noise(seed, 300_000), 0o644)
	seg := fmt.Sprintf("seg-%d", seed)
	sparse := append(noise(seed, 8192), make([]byte, 2<<20)...)
	put(t, dir, seg+"/data_level0.bin", append(sparse, noise(seed+1, 5000)...), 0o600)
	put(t, dir, seg+"/header.bin", noise(seed+2, 100), 0o640)
	put(t, dir, seg+"/length.bin", make([]byte, 400_000), 0o400)
	put(t, dir, "common/link_lists.bin", nil, 0o644)
	put(t, dir, "common/index_metadata.pickle", noise(seed+3, 70_000), 0o604)
	for _, d := range []string{"empty", "locked", "sticky/inner"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, dest := range map[string]string{"dangling": "../no/such", "common/sibling": "../chroma.sqlite3", "absolute": "/etc/hostname"} {
		if err := os.Symlink(dest, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		for name, id := range map[string]int{"chroma.sqlite3": 1234, "common": 4321, "dangling": 77} {
			if err := os.Lchown(filepath.Join(dir, name), id, id+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := time.Date(2024, 6, 7, 8, 9, 10, 11000, time.UTC)
	for name, mode := range map[string]fs.FileMode{"empty": 0o700, "locked": 0o500, "sticky": 0o750 | fs.ModeSticky | fs.ModeSetgid, ".": 0o711} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// list makes the file list of a directory as a capture would.
func list(t testing.TB, dir string) []colorfast.File {
	t.Helper()
	var out []colorfast.File
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		f := colorfast.File{Path: filepath.ToSlash(rel), Mode: uint32(st.Mode) & 0o7777, UID: int(st.Uid), GID: int(st.Gid), ModTime: info.ModTime()}
		switch {
		case d.IsDir():
			f.Type = colorfast.Directory
		case d.Type()&fs.ModeSymlink != 0:
			f.Type = colorfast.Symlink
			f.Target, _ = os.Readlink(p)
		default:
			f.Type, f.Size = colorfast.Regular, info.Size()
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stored is a backup in a vault and the directory that it was made of.
type stored struct {
	vault *fake.Vault
	dir   string // of the vault
	m     *colorfast.Manifest
	src   string
}

// store puts a directory into a vault.
func store(t testing.TB, src string) *stored {
	t.Helper()
	s := &stored{dir: filepath.Join(t.TempDir(), "vault"), src: src}
	var err error
	if s.vault, err = fake.NewVault(s.dir); err != nil {
		t.Fatal(err)
	}
	s.m = &colorfast.Manifest{FileList: list(t, src)}
	s.m.Summarize()
	if err := s.vault.Put(context.Background(), s.m, os.DirFS(src), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// restore makes a Restore of the backup.
func (s *stored) restore(target string) *Restore {
	return &Restore{
		Vault: s.vault, Manifest: s.m, Target: target, Now: func() time.Time { return clock },
		look: func(dir string) (openfiles.Report, error) { return openfiles.Report{}, nil },
	}
}

// snapshot describes all that is under dir, but not what only a stage or a
// mount has at the top.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	snap := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if colorfast.IsAside(rel) {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		s := fmt.Sprintf("%v %d:%d %s", info.Mode(), st.Uid, st.Gid, info.ModTime().UTC().Format(time.RFC3339Nano))
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
		}
		if d.Type()&fs.ModeSymlink != 0 {
			dest, _ := os.Readlink(p)
			s += " -> " + dest
		}
		snap[rel] = s
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// wantSame asserts that two snapshots are the same.
func wantSame(t testing.TB, got, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("%s: got %q, want %q", k, got[k], want[k])
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s should not be there", k)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// wantNames asserts what lies in dir.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	got, err := readNames(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%s holds %q, want %q", dir, got, want)
	}
}

// wantError asserts the kind of an error, what it says and that it has a hint.
func wantError(t testing.TB, err error, kind colorfast.Kind, says ...string) {
	t.Helper()
	if err == nil || colorfast.KindOf(err) != kind {
		t.Fatalf("got error %v of kind %v, want kind %v", err, colorfast.KindOf(err), kind)
	}
	for _, s := range says {
		if !strings.Contains(err.Error()+"\nhint: "+colorfast.HintOf(err), s) {
			t.Fatalf("error %q with hint %q does not say %q", err, colorfast.HintOf(err), s)
		}
	}
}

// run runs a restore that must succeed.
func run(t testing.TB, r *Restore) *Report {
	t.Helper()
	rep, err := r.Run(context.Background())
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, colorfast.HintOf(err))
	}
	return rep
}

// counter is a Progress that adds up.
type counter struct{ total, done, begins atomic.Int64 }

func (c *counter) Begin(_ string, total int64) { c.total.Store(total); c.begins.Add(1) }
func (c *counter) Advance(n int64)             { c.done.Add(n) }

// leaks asserts at the end of a test that no descriptor and no goroutine is
// left.
func leaks(t *testing.T) {
	t.Helper()
	percent := debug.SetGCPercent(-1) // the collector closes what is forgotten
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	fds := func() int { n, _ := readNames("/proc/self/fd"); return len(n) }
	before, routines := fds(), runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 100 {
			if runtime.NumGoroutine() <= routines {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > routines {
			t.Errorf("%d goroutines before, %d after", routines, n)
		}
		if n := fds(); n > before {
			t.Errorf("%d descriptors before, %d after", before, n)
		}
	})
}
