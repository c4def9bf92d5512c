package chromatest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"colorfast/chroma/client"
)

func TestPins(t *testing.T) {
	for _, v := range Versions() {
		b := string((&Installation{Version: v}).pins())
		if !strings.Contains(b, "\nchromadb=="+v+" ") {
			t.Errorf("%s: chromadb is not pinned to it", v)
		}
		for line := range strings.Lines(b) {
			if strings.Contains(line, "://") || strings.HasPrefix(strings.TrimSpace(line), "--") && !strings.HasPrefix(strings.TrimSpace(line), "--hash=sha256:") {
				t.Errorf("%s: line %q", v, line)
			}
		}
	}
	files, err := filepath.Glob("requirements/*.txt")
	if err != nil || len(files) != len(Versions()) {
		t.Errorf("%d files with pins, %v; want %d", len(files), err, len(Versions()))
	}
}

func TestRequire(t *testing.T) {
	t.Setenv("COLORFAST_TEST_CACHE", t.TempDir())
	for _, c := range []struct{ env, want string }{{"", "skip"}, {"postgres", "skip"}, {"postgres,chroma", "fatal"}, {"chroma", "fatal"}} {
		t.Setenv("COLORFAST_REQUIRE", c.env)
		f := &fakeTB{TB: t}
		func() {
			defer func() { _ = recover() }()
			Require(f, "1.5.9")
		}()
		if f.did != c.want || !strings.Contains(f.said, `run "make chroma"`) {
			t.Errorf("with %q: %s %q", c.env, f.did, f.said)
		}
	}
	if _, err := Lookup("9.9.9"); err == nil {
		t.Error("an unknown version was found")
	}
}

// fakeTB notes how a test ends.
type fakeTB struct {
	testing.TB
	did, said string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Skip(args ...any) {
	f.did, f.said = "skip", fmt.Sprint(args...)
	panic(f)
}

func (f *fakeTB) Fatal(args ...any) {
	f.did, f.said = "fatal", fmt.Sprint(args...)
	panic(f)
}

func TestServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	for _, v := range Versions() {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			s := Start(t, Options{Version: v})
			exercise(t, s.Chroma(t), v)
			began := time.Now()
			s.Stop()
			t.Logf("stopped in %s", time.Since(began))
			if err := syscall.Kill(s.PID, 0); err == nil || !s.Ended() {
				t.Error("the server is still there")
			}
			again := Start(t, Options{Version: v, Dir: s.Dir})
			check(t, again.Chroma(t))
			again.Kill()
			if _, err := os.Stat(filepath.Join(s.Dir, "chroma.sqlite3")); err != nil {
				t.Error(err)
			}
			if names, _ := filepath.Glob(filepath.Join(s.Dir, "*log*")); len(names) > 0 {
				t.Errorf("left %v in the persist directory", names)
			}
		})
	}
}

func TestEmbedded(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real Chromas")
	}
	for _, v := range Versions() {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			e := Embed(t, Options{Version: v})
			exercise(t, e, v)
			e.Kill()
			if _, err := e.Count(t.Context(), "kept"); err == nil {
				t.Error("a killed Chroma answered")
			}
			again := Embed(t, Options{Version: v, Dir: e.Dir})
			check(t, again)
			again.Stop()
			if err := again.p.Err(); err != nil {
				t.Errorf("it stopped with %v", err)
			}
		})
	}
}

// exercise uses each method; check looks at what it left.
func exercise(t *testing.T, c Chroma, version string) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Create(ctx, Spec{Name: "kept", Space: "ip", SyncThreshold: 20, Modern: version[0] != '0'}))
	must(c.Create(ctx, Spec{Name: "dropped"}))
	if err := c.Create(ctx, Spec{Name: "kept"}); err == nil {
		t.Error("a collection could be created twice")
	}
	must(c.Write(ctx, "kept", client.Add, records(600)))
	must(c.Write(ctx, "kept", client.Update, []client.Record{{ID: "3", Metadata: client.Metadata{"k": "new"}}}))
	must(c.Write(ctx, "kept", client.Update, []client.Record{{ID: "4", Document: new("new")}}))
	must(c.Write(ctx, "kept", client.Delete, records(1)))
	must(c.Write(ctx, "dropped", client.Upsert, records(3)))
	must(c.Drop(ctx, "dropped"))
	check(t, c)
	if err := c.Write(ctx, "dropped", client.Add, records(1)); err == nil {
		t.Error("a dropped collection could be written")
	}
	// The best is 599; an index of inner products is approximate, and 0.4.24 gave the
	// second best once, so any of the best ten will do.
	if ids, err := c.Query(ctx, "kept", []float32{1, 0, 0}, 1); err != nil || len(ids) != 1 || len(ids[0]) != 3 || ids[0] < "590" {
		t.Errorf("query gave %v, %v", ids, err)
	}
}

func records(n int) []client.Record {
	recs := make([]client.Record, n)
	for i := range recs {
		recs[i] = client.Record{ID: fmt.Sprint(i), Vector: []float32{float32(i) / 3, 0.1, -1}, Metadata: client.Metadata{"k": int64(i), "f": 2.0}}
		if i%2 == 0 {
			recs[i].Document, recs[i].URI = new(fmt.Sprint("d", i)), new(fmt.Sprint("u", i))
		}
	}
	return recs
}

func check(t *testing.T, c Chroma) {
	t.Helper()
	if names, err := c.Collections(t.Context()); err != nil || !slices.Equal(names, []string{"kept"}) {
		t.Errorf("collections %v, %v", names, err)
	}
	want := records(600)
	want[3].Metadata["k"], want[4].Document = "new", new("new")
	want = want[1:]
	if n, err := c.Count(t.Context(), "kept"); err != nil || n != int64(len(want)) {
		t.Errorf("count %d, %v", n, err)
	}
	got, err := c.Records(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]client.Record{}
	for _, r := range got {
		byID[r.ID] = r
	}
	for _, w := range want {
		if g := byID[w.ID]; !reflect.DeepEqual(g, w) {
			t.Fatalf("got  %+v\nwant %+v", g, w)
		}
	}
}

func TestInstallKeepsNothingHalf(t *testing.T) {
	in := &Installation{Version: "1.5.9", Dir: filepath.Join(t.TempDir(), "1.5.9"), Source: PyPI}
	var said bytes.Buffer
	err := in.install(t.Context(), func(_ context.Context, _ *Installation, dir string) error {
		fmt.Fprint(&said, filepath.Base(dir))
		return os.ErrPermission
	})
	if err == nil || said.String() == "" {
		t.Fatalf("%v, %q", err, said.String())
	}
	left, err := os.ReadDir(filepath.Dir(in.Dir))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
