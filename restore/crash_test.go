package restore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/fake"
	"colorfast/internal/openfiles"
)

// TestMain lets the test binary play a restore that is killed.
func TestMain(m *testing.M) {
	if arg := os.Getenv("RESTORE_TEST_VICTIM"); arg != "" {
		if err := victim([]byte(arg)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// orders are what a victim is to do.
type orders struct {
	Vault, Target string
	ID            colorfast.BackupID
	Replace       bool
	NoExchange    bool
	Slow          time.Duration // before each step
}

// victim runs a restore in a process of its own, which will be killed.
func victim(arg []byte) error {
	var o orders
	if err := json.Unmarshal(arg, &o); err != nil {
		return err
	}
	v, err := fake.NewVault(o.Vault)
	if err != nil {
		return err
	}
	m, err := v.Manifest(context.Background(), o.ID)
	if err != nil {
		return err
	}
	r := &Restore{
		Vault: v, Manifest: m, Target: o.Target, Replace: o.Replace, noExchange: o.NoExchange,
		Now:  func() time.Time { return clock },
		look: func(string) (openfiles.Report, error) { return openfiles.Report{}, nil },
		at:   func(string) { time.Sleep(o.Slow) },
	}
	fmt.Println("started")
	_, err = r.Run(context.Background())
	return err
}

// crash is what a step panics with: nothing after it happens, as in a kill.
type crash struct{ step string }

// crashAt runs a restore that ends at the given step, by count; it reports
// which that was, "" if it came to its end before.
func crashAt(t *testing.T, r *Restore, n int) (step string) {
	t.Helper()
	defer func() {
		r.at = nil
		if p := recover(); p != nil {
			c, ok := p.(crash)
			if !ok {
				panic(p)
			}
			step = c.step
		}
	}()
	count := 0
	r.at = func(step string) {
		if count++; count == n+1 {
			panic(crash{step})
		}
	}
	run(t, r)
	return ""
}

// crashAtStep is crashAt for a step by name, which must come.
func crashAtStep(t *testing.T, r *Restore, name string) {
	t.Helper()
	defer func() {
		r.at = nil
		if p := recover(); p != (crash{name}) {
			t.Fatalf("no crash at %q but %v", name, p)
		}
	}()
	r.at = func(step string) {
		if step == name {
			panic(crash{step})
		}
	}
	run(t, r)
}

// scene is a kind of target in which restores are killed.
type scene struct {
	name       string
	replace    bool
	noExchange bool
	mounted    bool
	before     func(t *testing.T, target string) // makes what is there before
}

var scenes = []scene{
	{name: "to a new directory"},
	{name: "to an empty directory", before: func(t *testing.T, target string) {
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "in place of an old one", replace: true, before: oldChroma},
	{name: "in place of an old one, without exchange", replace: true, noExchange: true, before: oldChroma},
	{name: "in place of an old one on a mount", replace: true, mounted: true, before: oldChroma},
	{name: "to an empty mount", mounted: true},
}

// oldChroma makes an old directory, some of whose names are also in the backup.
func oldChroma(t *testing.T, target string) {
	put(t, target, "chroma.sqlite3", noise(99, 5000), 0o644)
	put(t, target, "chroma.sqlite3-wal", noise(98, 500), 0o644)
	put(t, target, "seg-old/header.bin", noise(97, 50), 0o600)
	put(t, target, "common/header.bin", noise(96, 50), 0o600)
	put(t, target, "empty", []byte("a file here, a directory there"), 0o600)
}

// set prepares a target.
func (sc scene) set(t *testing.T, parent string) (target string, old map[string]string) {
	target = filepath.Join(parent, "target")
	if sc.mounted {
		mount(t, target, "tmpfs", "size=64m")
		put(t, target, "lost+found/x", nil, 0o600)
	}
	if sc.before != nil {
		sc.before(t, target)
	}
	return target, topless(snapshot(t, target))
}

// inMemory makes a directory where syncing takes no time, if there is one. The
// real kills use the disk.
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "restore-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := removeTree(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// topless forgets the directory itself, which is not moved on a mount, and the
// mount's own.
func topless(snap map[string]string) map[string]string {
	for k := range snap {
		if k == "." || strings.HasPrefix(k, "lost+found") {
			delete(snap, k)
		}
	}
	return snap
}

// never asserts what must hold at every moment: the target is the old one or
// the new one. Only where the file system cannot exchange may it be missing,
// with the old one aside; and only on a mount may it be in between.
func (sc scene) never(t *testing.T, target, when string, old, want map[string]string) {
	t.Helper()
	got := topless(snapshot(t, target))
	if sc.mounted || reflect.DeepEqual(got, want) || reflect.DeepEqual(got, old) {
		return
	}
	if sc.noExchange && got == nil {
		// Of a restore before, killed late, the new one may be aside as well.
		aside, _ := filepath.Glob(target + ".before-restore-*")
		for _, a := range aside {
			if reflect.DeepEqual(topless(snapshot(t, a)), old) {
				return
			}
		}
	}
	t.Fatalf("after a kill at %q the target is neither old nor new: %v", when, got)
}

// after asserts what must hold after the next restore: the target is the new
// one, the old one is kept exactly once, and there is nothing else.
func (sc scene) after(t *testing.T, target, when string, old, want map[string]string) {
	t.Helper()
	wantSame(t, topless(snapshot(t, target)), want)
	dir := filepath.Dir(target)
	if sc.mounted {
		dir = target
	}
	names, err := readNames(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, n := range names {
		if strings.Contains(n, "colorfast-restore") {
			t.Fatalf("after a kill at %q, %q is left", when, n)
		}
		if strings.Contains(n, "before-restore") {
			snap := topless(snapshot(t, filepath.Join(dir, n)))
			if reflect.DeepEqual(snap, old) {
				kept++
			} else if !reflect.DeepEqual(snap, want) {
				t.Fatalf("after a kill at %q, %q holds %v", when, n, snap)
			}
		}
	}
	if len(old) > 0 && kept != 1 {
		t.Fatalf("after a kill at %q the old directory is there %d times, beside %q", when, kept, names)
	}
}

func TestKilledAtEveryStep(t *testing.T) {
	one, two := store(t, source(t, 1)), store(t, source(t, 2))
	wantOne, wantTwo := topless(snapshot(t, one.src)), topless(snapshot(t, two.src))
	for _, sc := range scenes {
		for _, next := range []string{"same", "other", "dry run, then same"} {
			t.Run(sc.name+", next the "+next, func(t *testing.T) {
				if testing.Short() && next != "same" {
					t.Skip("takes seconds")
				}
				sc.set(t, t.TempDir()) // skips where nothing can be mounted
				steps := 0
				for n := 0; ; n++ {
					if !sc.killOnce(t, n, next, one, two, wantOne, wantTwo) {
						break
					}
					steps++
				}
				if steps < 12 {
					t.Fatalf("only %d steps", steps)
				}
				t.Logf("%d steps", steps)
			})
		}
	}
}

// killOnce kills a restore of one at step n and runs the next; it reports
// whether there was such a step.
func (sc scene) killOnce(t *testing.T, n int, next string, one, two *stored, wantOne, wantTwo map[string]string) (more bool) {
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		target, old := sc.set(t, inMemory(t))
		r := one.restore(target)
		r.Parallel, r.Replace, r.noExchange = 1, sc.replace, sc.noExchange
		step := crashAt(t, r, n)
		if step == "" {
			return
		}
		more = true
		sc.never(t, target, step, old, wantOne)
		want := wantOne
		switch next {
		case "other":
			r = two.restore(target)
			r.Replace, want = true, wantTwo
		case "dry run, then same":
			before := snapshot(t, filepath.Dir(target))
			r.DryRun = true
			if _, err := r.Run(context.Background()); err != nil && colorfast.KindOf(err) != colorfast.Usage {
				t.Fatal(err)
			}
			wantSame(t, snapshot(t, filepath.Dir(target)), before)
			r.DryRun = false
		}
		rep := run(t, r)
		if next == "other" && reflect.DeepEqual(topless(snapshot(t, rep.KeptAside)), wantOne) {
			old2 := old // the first was finished, and then replaced by the second
			sc.afterTwo(t, target, step, old2, wantTwo)
			return
		}
		sc.after(t, target, step, old, want)
	})
	return more
}

// afterTwo is after for a restore that was finished and then replaced.
func (sc scene) afterTwo(t *testing.T, target, when string, old, want map[string]string) {
	t.Helper()
	wantSame(t, topless(snapshot(t, target)), want)
	dir := filepath.Dir(target)
	if sc.mounted {
		dir = target
	}
	aside, _ := filepath.Glob(filepath.Join(dir, "*before-restore*"))
	kept := 0
	for _, a := range aside {
		if reflect.DeepEqual(topless(snapshot(t, a)), old) {
			kept++
		}
	}
	stages, _ := filepath.Glob(filepath.Join(dir, "*colorfast-restore*"))
	if len(stages) > 0 || len(old) > 0 && kept != 1 {
		t.Fatalf("after a kill at %q: stages %q, kept aside %q, the old one %d times", when, stages, aside, kept)
	}
}

func TestInterruptedRestoreIsContinued(t *testing.T) {
	s, target := store(t, source(t, 1)), filepath.Join(t.TempDir(), "target")
	r := s.restore(target)
	r.Parallel = 1
	crashAtStep(t, r, "filled")
	stages, _ := filepath.Glob(filepath.Join(filepath.Dir(target), ".target.colorfast-restore-*"))
	if len(stages) != 1 {
		t.Fatalf("stages %q", stages)
	}
	// One file is damaged, one cut short, and something does not belong there.
	data := filepath.Join(stages[0], "data")
	put(t, data, "chroma.sqlite3", noise(5, 300_000), 0o644)
	put(t, data, "seg-1/header.bin", nil, 0)
	put(t, data, "foreign/x", nil, 0o644)
	if err := os.Chmod(data+"/foreign", 0); err != nil {
		t.Fatal(err)
	}
	var p counter
	r.Progress = &p
	opened := 0
	s.vault.OnOpen = func(string) error { opened++; return nil }
	rep := run(t, r)
	if want := rep.Bytes - 300_000 - 100; rep.BytesReused != want || opened != 2 {
		t.Errorf("reused %d bytes, want %d; read %d files", rep.BytesReused, want, opened)
	}
	if p.done.Load() != rep.Bytes {
		t.Errorf("progress %d of %d", p.done.Load(), rep.Bytes)
	}
	wantSame(t, snapshot(t, target), snapshot(t, s.src))
}

func TestStageOfUnknownOriginIsNotTouched(t *testing.T) {
	s := store(t, source(t, 1))
	id := s.m.ID.Short()
	for name, prep := range map[string]func(t *testing.T, stage string){
		"without a journal": func(t *testing.T, stage string) {},
		"with a broken journal": func(t *testing.T, stage string) {
			put(t, stage, "journal.json", []byte("{"), 0o600)
		},
		"with a journal that names a place outside": func(t *testing.T, stage string) {
			put(t, stage, "journal.json", []byte(`{"format":1,"phase":"swapping","aside":"../../x"}`), 0o600)
		},
		"that others may write to": func(t *testing.T, stage string) {
			if err := os.Chmod(stage, 0o777); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			stage := filepath.Join(filepath.Dir(target), ".target.colorfast-restore-"+id)
			oldChroma(t, filepath.Join(stage, "data"))
			if err := os.Chmod(stage, 0o700); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, filepath.Join(stage, "data"))
			prep(t, stage)
			_, err := s.restore(target).Run(context.Background())
			if k := colorfast.KindOf(err); err == nil || k != colorfast.Corrupt && k != colorfast.Denied || colorfast.HintOf(err) == "" {
				t.Fatalf("%v of kind %v", err, k)
			}
			wantSame(t, snapshot(t, filepath.Join(stage, "data")), before)
		})
	}
	t.Run("in the phase swapping with an unknown directory, which is kept", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target")
		stage := filepath.Join(filepath.Dir(target), ".target.colorfast-restore-"+id)
		oldChroma(t, filepath.Join(stage, "data"))
		if err := os.Chmod(stage, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, stage, "journal.json", []byte(`{"format":1,"phase":"swapping","staged_inode":1,"old":true,"aside":"target.before-restore-x"}`), 0o600)
		before := snapshot(t, filepath.Join(stage, "data"))
		run(t, s.restore(target))
		wantSame(t, snapshot(t, target), snapshot(t, s.src))
		wantSame(t, snapshot(t, target+".before-restore-x"), before)
	})
}

func TestChromaThatWroteAfterAKillIsNotTakenForTheBackup(t *testing.T) {
	s, target := store(t, source(t, 1)), filepath.Join(t.TempDir(), "target")
	oldChroma(t, target)
	r := s.restore(target)
	r.Replace = true
	crashAtStep(t, r, "swapped")
	put(t, target, "chroma.sqlite3", noise(2, 300_000), 0o644) // of the same size and time
	written := snapshot(t, target)
	rep := run(t, r)
	wantSame(t, snapshot(t, target), snapshot(t, s.src))
	wantSame(t, snapshot(t, rep.KeptAside), written)
}

func TestKilledForReal(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := store(t, source(t, 1))
	want := topless(snapshot(t, s.src))
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			sc.set(t, t.TempDir()) // skips where nothing can be mounted
			landed := map[string]int{}
			for range 12 {
				target, old := sc.set(t, t.TempDir())
				o := orders{Vault: s.dir, Target: target, ID: s.m.ID, Replace: sc.replace, NoExchange: sc.noExchange, Slow: 2 * time.Millisecond}
				kills := 0
				for range 3 { // killed again while it settles what the kill before left
					if killed(t, exe, o, time.Duration(rand.IntN(90))*time.Millisecond) {
						kills++
					}
					sc.never(t, target, "a random moment", old, want)
				}
				landed[fmt.Sprintf("%d kills", kills)]++
				r := s.restore(target)
				r.Replace, r.noExchange = sc.replace, sc.noExchange
				if _, err := r.Run(context.Background()); err != nil && (sc.replace || colorfast.KindOf(err) != colorfast.Usage) {
					t.Fatal(err) // without Replace, a target that is complete already is refused
				}
				sc.after(t, target, "random moments", old, want)
			}
			t.Log(landed)
		})
	}
}

// killed starts a victim, kills it after a while, and reports whether that
// came before its end.
func killed(t *testing.T, exe string, o orders, after time.Duration) bool {
	t.Helper()
	arg, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "RESTORE_TEST_VICTIM="+string(arg))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "started" {
		t.Fatalf("victim said %q", lines.Text())
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	if lines.Scan() && !strings.Contains(lines.Text(), "not empty") {
		t.Errorf("victim said %q", lines.Text())
	}
	err = cmd.Wait()
	return err != nil && strings.Contains(err.Error(), "killed")
}
