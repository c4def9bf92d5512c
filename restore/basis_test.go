package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"colorfast"
)

// bases are the ways in which a restore comes to a basis. set makes the target
// and has dir as the basis.
var bases = []struct {
	name string
	set  func(t *testing.T, r *Restore, dir string)
}{
	{"that is replaced", func(t *testing.T, r *Restore, dir string) { r.Target, r.Replace = dir, true }},
	{"that is replaced in place, on a mount", func(t *testing.T, r *Restore, dir string) {
		r.Target, r.Replace = filepath.Join(t.TempDir(), "volume"), true
		mount(t, r.Target, dir, "")
	}},
	{"that is named", func(t *testing.T, r *Restore, dir string) {
		r.Target, r.Basis = filepath.Join(t.TempDir(), "target"), dir
	}},
}

// ctimes returns when the inode of each file below dir changed last.
func ctimes(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			out[p] = fmt.Sprint(ctime(info.Sys().(*syscall.Stat_t)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// must fails the test on an error of its own preparations.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// edit writes bytes into a file.
func edit(t testing.TB, path string, at int64, b string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(b), at)
	must(t, errors.Join(err, f.Close()))
}

// olderCopies are what may lie in the place of files of the backup, and how many
// bytes have to move then. The fake vault cuts into blocks of 4096 bytes.
var olderCopies = []struct {
	name  string
	moved int64
	make  func(t *testing.T, dir, db string) // db: of the 300,000 bytes
}{
	{"the same", 0, func(t *testing.T, dir, db string) {}},
	{"with other times and modes", 0, func(t *testing.T, dir, db string) {
		put(t, dir, "chroma.sqlite3", noise(1, 300_000), 0o400)
	}},
	{"with two blocks that differ", 2 * 4096, func(t *testing.T, dir, db string) {
		edit(t, db, 4096, "x")
		edit(t, db, 200_000, "x")
	}},
	{"with a last block that differs", 300_000 % 4096, func(t *testing.T, dir, db string) { edit(t, db, 299_999, "\x00") }},
	{"longer", 0, func(t *testing.T, dir, db string) { edit(t, db, 300_000, "more") }},
	{"shorter", 300_000 - 24*4096, func(t *testing.T, dir, db string) { must(t, os.Truncate(db, 100_000)) }},
	{"empty", 300_000, func(t *testing.T, dir, db string) { must(t, os.Truncate(db, 0)) }},
	{"all other", 300_000, func(t *testing.T, dir, db string) { put(t, dir, "chroma.sqlite3", noise(7, 300_000), 0o600) }},
	{"not there", 300_000, func(t *testing.T, dir, db string) { must(t, os.Remove(db)) }},
	{"a symbolic link to it", 300_000, func(t *testing.T, dir, db string) {
		must(t, errors.Join(os.Rename(db, db+"-real"), os.Symlink("chroma.sqlite3-real", db)))
	}},
	{"a symbolic link out of the basis", 300_000, func(t *testing.T, dir, db string) {
		real := filepath.Join(t.TempDir(), "real")
		must(t, errors.Join(os.Rename(db, real), os.Symlink(real, db)))
	}},
	{"a pipe", 300_000, func(t *testing.T, dir, db string) {
		must(t, errors.Join(os.Remove(db), syscall.Mkfifo(db, 0o600)))
	}},
	{"a directory", 300_000, func(t *testing.T, dir, db string) {
		must(t, errors.Join(os.Remove(db), os.Mkdir(db, 0o700)))
	}},
	{"below a link out of the basis", 70_000, func(t *testing.T, dir, db string) {
		real := filepath.Join(t.TempDir(), "common")
		must(t, errors.Join(os.Rename(dir+"/common", real), os.Symlink(real, dir+"/common")))
	}},
	{"below a file", 70_000, func(t *testing.T, dir, db string) {
		must(t, errors.Join(os.RemoveAll(dir+"/common"), os.WriteFile(dir+"/common", nil, 0o600)))
	}},
}

func TestBasis(t *testing.T) {
	for _, b := range bases {
		for _, c := range olderCopies {
			t.Run(b.name+", "+c.name, func(t *testing.T) {
				leaks(t)
				s, dir := store(t, source(t, 1)), source(t, 1)
				c.make(t, dir, filepath.Join(dir, "chroma.sqlite3"))
				r := s.restore("")
				b.set(t, r, dir)
				before, changed := topless(snapshot(t, dir)), ctimes(t, dir)
				rep := run(t, r)
				wantSame(t, topless(snapshot(t, r.Target)), topless(snapshot(t, s.src)))
				kept := rep.KeptAside
				if r.Basis != "" {
					kept = r.Basis
					wantSame(t, ctimes(t, kept), changed)
				}
				wantSame(t, topless(snapshot(t, kept)), before)
				if rep.BytesMoved != c.moved || rep.BytesReused != 0 || len(rep.Basis) == 0 {
					t.Errorf("%d bytes moved, want %d; report %+v", rep.BytesMoved, c.moved, rep)
				}
			})
		}
	}
}

func TestBasisOfDevicesIsNotOpened(t *testing.T) {
	s, dir := store(t, source(t, 1)), source(t, 1)
	db := filepath.Join(dir, "chroma.sqlite3")
	must(t, os.Remove(db))
	if err := syscall.Mknod(db, syscall.S_IFCHR|0o600, 10<<8|200); err != nil { // 10, 200: /dev/net/tun
		t.Skipf("no device can be made here: %v", err)
	}
	b, err := openBasis(dir)
	must(t, err)
	defer b.root.Close()
	if o := b.find("chroma.sqlite3"); o != nil {
		t.Error("a device was opened")
	}
	r := s.restore(dir)
	r.Replace = true
	if rep := run(t, r); rep.BytesMoved != 300_000 {
		t.Errorf("report %+v", rep)
	}
}

func TestBasisThatMayNotBeRead(t *testing.T) {
	dir := source(t, 1)
	must(t, os.Chmod(filepath.Join(dir, "chroma.sqlite3"), 0))
	must(t, os.Chmod(filepath.Join(dir, "common"), 0o700))
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	b, err := openBasis(dir)
	must(t, err)
	j := &job{Restore: &Restore{}, rep: &Report{}, basis: b}
	found := true
	asNobody(t, func() { found = b.find("chroma.sqlite3") != nil })
	j.closeBasis()
	if found || len(j.rep.Notes) != 1 || !strings.Contains(j.rep.Notes[0], "may not be read") {
		t.Errorf("found %v, notes %q", found, j.rep.Notes)
	}
}

func TestBasisThatCannotBeReadEnds(t *testing.T) {
	f, err := os.Open(t.TempDir()) // reading it gives an error
	must(t, err)
	defer f.Close()
	o := &olderCopy{f}
	if n, err := o.ReadAt(make([]byte, 10), 0); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestBasisThatChangesWhileItIsRead(t *testing.T) {
	const name = "seg-1/data_level0.bin" // of several portions
	for _, b := range bases {
		t.Run(b.name+" is found out", func(t *testing.T) {
			leaks(t)
			s, dir := store(t, source(t, 1)), source(t, 1)
			r := s.restore("")
			b.set(t, r, dir)
			s.vault.OnRead = func(path string, _ []byte) error {
				if path == name {
					edit(t, filepath.Join(dir, name), 2<<20+10_000, "changed")
				}
				return nil
			}
			before := topless(snapshot(t, r.Target))
			_, err := r.Run(context.Background())
			wantError(t, err, colorfast.Corrupt, name, "read over", "--no-basis")
			after := topless(snapshot(t, r.Target))
			delete(before, name) // the one that is written to
			delete(after, name)
			wantSame(t, after, before)
			names, err := filepath.Glob(filepath.Dir(r.Target) + "/.*restore*")
			must(t, err)
			if inside, _ := filepath.Glob(r.Target + "/.*restore*"); len(names)+len(inside) > 0 {
				t.Errorf("left: %q, %q", names, inside)
			}
			r.Basis, r.NoBasis = "", true
			if rep := run(t, r); rep.BytesMoved != rep.Bytes || rep.Basis != "" {
				t.Errorf("report %+v", rep)
			}
			wantSame(t, topless(snapshot(t, r.Target)), topless(snapshot(t, s.src)))
		})
		t.Run(b.name+" may shrink", func(t *testing.T) {
			s, dir := store(t, source(t, 1)), source(t, 1)
			r := s.restore("")
			b.set(t, r, dir)
			s.vault.OnRead = func(path string, _ []byte) error {
				if path == name {
					must(t, os.Truncate(filepath.Join(dir, name), 1<<20))
				}
				return nil
			}
			rep := run(t, r)
			wantSame(t, topless(snapshot(t, r.Target)), topless(snapshot(t, s.src)))
			if rep.BytesMoved < 1<<20 {
				t.Errorf("report %+v", rep)
			}
		})
	}
}

func TestBasisThatIsNamed(t *testing.T) {
	s, parent := store(t, source(t, 1)), t.TempDir()
	put(t, parent, "file", nil, 0o644)
	must(t, os.Symlink("nowhere", filepath.Join(parent, "dangling")))
	must(t, syscall.Mkfifo(filepath.Join(parent, "pipe"), 0o600))
	before := snapshot(t, parent)
	for _, c := range []struct {
		name string
		kind colorfast.Kind
		says string
	}{
		{"missing", colorfast.NotFound, "no such directory"},
		{"dangling", colorfast.NotFound, "no such directory"},
		{"file", colorfast.Usage, "not a directory"},
		{"file/below", colorfast.Usage, "not a directory"},
		{"pipe", colorfast.Usage, "not a directory"},
	} {
		t.Run("is refused: "+c.name, func(t *testing.T) {
			r := s.restore(filepath.Join(parent, "target"))
			r.Basis = filepath.Join(parent, c.name)
			for _, r.DryRun = range []bool{true, false} {
				_, err := r.Run(context.Background())
				wantError(t, err, c.kind, "open basis", r.Basis, c.says)
				wantSame(t, snapshot(t, parent), before)
			}
		})
	}
	t.Run("and not wanted is refused", func(t *testing.T) {
		r := s.restore(filepath.Join(parent, "target"))
		r.Basis, r.NoBasis = s.src, true
		_, err := r.Run(context.Background())
		wantError(t, err, colorfast.Usage, "--no-basis")
		wantSame(t, snapshot(t, parent), before)
	})
	t.Run("goes before the target, and links to it are followed", func(t *testing.T) {
		leaks(t)
		link, target := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "target")
		must(t, os.Symlink(s.src, link))
		oldChroma(t, target)
		r := s.restore(target)
		r.Basis, r.Replace = link, true
		if rep := run(t, r); rep.BytesMoved != 0 || rep.Basis != s.src {
			t.Errorf("report %+v", rep)
		}
		wantSame(t, snapshot(t, target), snapshot(t, s.src))
	})
}

func TestBasisInADryRun(t *testing.T) {
	s, dir := store(t, source(t, 1)), source(t, 1)
	must(t, os.Truncate(filepath.Join(dir, "chroma.sqlite3"), 100<<10))
	must(t, os.RemoveAll(filepath.Join(dir, "seg-1")))
	before := snapshot(t, filepath.Dir(dir))
	s.vault.OnOpen = func(string) error { return errors.New("a dry run reads nothing") }
	r := s.restore(dir)
	r.Replace, r.DryRun = true, true
	rep := run(t, r)
	if rep.Basis != dir || rep.BytesMoved != 0 || len(rep.Notes) != 1 || !strings.Contains(rep.Notes[0], "3 of the 6 files") || !strings.Contains(rep.Notes[0], "168.4 KiB") {
		t.Errorf("report %+v", rep)
	}
	wantSame(t, snapshot(t, filepath.Dir(dir)), before)
	r.NoBasis = true
	if rep = run(t, r); rep.Basis != "" || len(rep.Notes) != 0 {
		t.Errorf("report %+v", rep)
	}
}

func TestBasisNeedsNoLessRoom(t *testing.T) {
	s, dir := store(t, source(t, 1)), source(t, 1)
	r := s.restore(dir)
	r.Replace = true
	r.free = func(string) (int64, int64, error) { return 500 << 10, -1, nil }
	before := snapshot(t, filepath.Dir(dir))
	_, err := r.Run(context.Background())
	wantError(t, err, colorfast.Usage, "MiB of room", "has 500.0 KiB")
	wantSame(t, snapshot(t, filepath.Dir(dir)), before)
	// Only holes make it fit, which are looked for over the basis as well.
	r.free = func(string) (int64, int64, error) { return 1600 << 10, -1, nil }
	edit(t, filepath.Join(dir, "chroma.sqlite3"), 0, "x")
	if rep := run(t, r); rep.BytesMoved != 4096 {
		t.Errorf("report %+v", rep)
	}
}

func TestBasisOfAnInterruptedRestore(t *testing.T) {
	s, dir := store(t, source(t, 1)), source(t, 1)
	edit(t, filepath.Join(dir, "chroma.sqlite3"), 0, "x")
	r := s.restore(dir)
	r.Replace, r.Parallel = true, 1
	crashAtStep(t, r, "filled")
	stages, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".source.colorfast-restore-*"))
	if err != nil || len(stages) != 1 {
		t.Fatalf("stages %q, %v", stages, err)
	}
	must(t, os.Truncate(filepath.Join(stages[0], "data/chroma.sqlite3"), 0))
	rep := run(t, r)
	if rep.BytesReused != rep.Bytes-300_000 || rep.BytesMoved != 4096 {
		t.Errorf("report %+v", rep)
	}
	wantSame(t, snapshot(t, dir), snapshot(t, s.src))
}
