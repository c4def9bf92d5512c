package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"colorfast/chroma"
	"colorfast/internal/chromatest"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

// TestMain makes the test binary a colorfast of its own, which the scripts run.
func TestMain(m *testing.M) {
	// What runs in this process is bounded as the program is: the peak of a child,
	// which a test measures, counts that of its parent.
	debug.SetMemoryLimit(softMemory)
	testscript.Main(m, map[string]func(){"colorfast": main})
}

// TestScripts runs testdata/*.txtar, one for each command. They are the second
// manual: read them to see how the program is used.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) < 8 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	testscript.Run(t, params(testscript.Params{Dir: "testdata", UpdateScripts: *update}))
}

// params completes p with a clean environment and the commands of the scripts.
func params(p testscript.Params) testscript.Params {
	p.RequireExplicitExec, p.RequireUniqueNames = true, true
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
		for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "COLORFAST_VAULT", "COLORFAST_PASSWORD", "COLORFAST_PASSWORD_FILE", "COLORFAST_STAGING", "COLORFAST_COPIES", "COLORFAST_COPY_PASSWORD_FILE",
			"COLORFAST_PASSWORD_COMMAND", "COLORFAST_PASSWORD_KEYRING", "COLORFAST_NEW_PASSWORD", "COLORFAST_NEW_PASSWORD_FILE", "COLORFAST_NEW_PASSWORD_COMMAND", "CREDENTIALS_DIRECTORY"} {
			e.Setenv(name, "")
		}
		return nil
	}
	p.Cmds = map[string]func(*testscript.TestScript, bool, []string){
		"persist": persist, "damage": damage, "mend": mend, "exits": exits, "snap": snap, "unchanged": unchanged,
		"keys": keys, "mode": mode, "remember": remember, "spoil": spoil,
		"write": write, "sql": sql,
	}
	return p
}

// need checks how a command of a script is called.
func need(ts *testscript.TestScript, neg bool, args []string, n int, use string) {
	if neg || len(args) != n {
		ts.Fatalf("usage: %s", use)
	}
}

// persist DIR makes a persist directory that Chroma 1.5.9 wrote.
func persist(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "persist DIR")
	to := ts.MkAbs("fixture")
	ts.Check(os.MkdirAll(to, 0o755))
	ts.Check(chromatest.UnpackFixture("1.5.9", to))
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(dir), 0o755))
	ts.Check(os.Rename(filepath.Join(to, "data"), dir))
	ts.Check(os.RemoveAll(to))
	// Long at rest, as a source is that nobody writes to.
	ts.Check(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)))
	}))
}

// pickle returns one of the pickles in a persist directory.
func pickle(ts *testscript.TestScript, dir string) string {
	found, err := filepath.Glob(filepath.Join(ts.MkAbs(dir), "*", chroma.PickleFile))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("no pickle in %s", dir)
	}
	return slices.Max(found)
}

// damage DIR cuts a segment's pickle in half; mend DIR puts it right.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "damage DIR")
	path := pickle(ts, args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("damaged.pickle"), b, 0o644))
	ts.Check(os.WriteFile(path, b[:len(b)/2], 0o644))
}

func mend(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "mend DIR")
	b, err := os.ReadFile(ts.MkAbs("damaged.pickle"))
	ts.Check(err)
	ts.Check(os.WriteFile(pickle(ts, args[0]), b, 0o644))
}

// spoil DIR changes a byte in the middle of every pack of a vault.
func spoil(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "spoil DIR")
	spoiled := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "p") && !strings.Contains(path, "/p") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 4096 {
			return err
		}
		for i := len(b) / 8; i < len(b)*7/8; i += 64 {
			b[i] ^= 1
		}
		spoiled++
		return os.WriteFile(path, b, 0o600)
	}))
	if spoiled == 0 {
		ts.Fatalf("no pack in %s", args[0])
	}
}

// exits CODE PROGRAM ARG... demands an exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := 0
	var exit *exec.ExitError
	err := ts.Exec(args[1], args[2:]...)
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s ended with %d, not with %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// look lists names, modes, sizes, times and hashes of all below dir.
func look(ts *testscript.TestScript, dir string) string {
	var out strings.Builder
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		var b []byte
		if fi.Mode().IsRegular() {
			if b, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&out, "%s %s %d %d %x\n", path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano(), sha256.Sum256(b))
		return nil
	}))
	return out.String()
}

// snap DIR FILE remembers in FILE what a directory is like; unchanged DIR FILE
// demands that it is so.
func snap(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "snap DIR FILE")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(look(ts, ts.MkAbs(args[0]))), 0o600))
}

func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "unchanged DIR FILE")
	want, got := ts.ReadFile(args[1]), look(ts, ts.MkAbs(args[0]))
	for line := range strings.Lines(want + got) {
		if !strings.Contains(want, line) || !strings.Contains(got, line) {
			ts.Fatalf("%s changed: %s", args[0], line)
		}
	}
}

// keys FILE lists the keys in the JSON document that was just printed. It must
// be the only thing on standard output.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "keys FILE")
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var doc any
	ts.Check(d.Decode(&doc))
	if rest, err := d.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("more after the document: %v %v", rest, err)
	}
	var out []string
	collect(&out, "", doc)
	slices.Sort(out)
	var b bytes.Buffer
	for _, k := range slices.Compact(out) {
		fmt.Fprintln(&b, k)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

func collect(out *[]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			collect(out, path+"."+k, x)
		}
	case []any:
		*out = append(*out, path+"[]")
		for _, x := range v {
			collect(out, path+"[]", x)
		}
	default:
		*out = append(*out, path)
	}
}

// mode BITS FILE demands permission bits.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "mode BITS FILE")
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%d files fit %s", len(found), args[1])
	}
	fi, err := os.Stat(found[0])
	ts.Check(err)
	if got := fmt.Sprintf("%o", fi.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s", found[0], got)
	}
}

// remember NAME puts what was just printed into a variable.
func remember(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "remember NAME")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
