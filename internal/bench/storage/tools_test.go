package storage

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestStages(t *testing.T) {
	const log = `time=2026-01-02T03:04:06.5Z level=INFO msg="source captured" seconds=1.2
something else
time=2026-01-02T03:04:06.75Z level=INFO msg=stored bytes=7
`
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := stages([]byte(log), begun, 2)
	want := []Stage{{"source captured", 1.5}, {"stored", 0.25}, {"end", 0.25}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := stages([]byte("no log\n"), begun, 2); got != nil {
		t.Errorf("no log gave %v", got)
	}
}

func TestStoredNames(t *testing.T) {
	for _, c := range []struct {
		r         repository
		out, want string // "" for an error
	}{
		{&colorfastRepository{}, `{"id": "2d55", "source": {"id": "no"}}`, "2d55"},
		{&colorfastRepository{}, "done", ""},
		{&kopiaRepository{}, `{"id":"k1","source":{}}`, "k1"},
		{&resticRepository{}, "{\"message_type\":\"status\"}\n{\"message_type\":\"summary\",\"snapshot_id\":\"r1\"}\n", "r1"},
		{&resticRepository{}, "{\"message_type\":\"status\"}\n", ""},
	} {
		id, err := c.r.stored([]byte(c.out))
		if id != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%T of %q: %q, %v", c.r, c.out, id, err)
		}
	}
}

// TestArchives runs what is measured of tar, from a backup to its restore.
func TestArchives(t *testing.T) {
	home := t.TempDir()
	tool, err := tarTool(t.Context(), "zstd")
	if err != nil {
		t.Skip("needs tar and zstd: ", err)
	}
	r, err := tool.open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	source := tree(t, map[string][]byte{"a": []byte("1"), "d/b": []byte("2")})
	var id string
	for range 3 {
		if _, _, err := output(t.Context(), r.backup(source)); err != nil {
			t.Fatal(err)
		}
		if id, err = r.stored(nil); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(r.dir(), "*"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "001.tar.zst" || filepath.Base(left[1]) != id {
		t.Errorf("left %v, %v", left, err)
	}
	to := filepath.Join(home, "restored")
	for _, c := range []command{r.verify(id), r.restore(id, to)} {
		if _, _, err := output(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := compare(source, r.restored(to, source)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir(), id), []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := output(t.Context(), r.verify(id)); err == nil {
		t.Error("a broken archive passed")
	}
}

func TestMeter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cost")
	if err := Meter(file, []string{"sh", "-c", "sleep 0.1; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c Cost
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	if c.Seconds < 0.1 || c.CPUSeconds <= 0 || c.CPUSeconds > c.Seconds || c.PeakRSS < 100<<10 {
		t.Errorf("got %+v", c)
	}
	none := filepath.Join(t.TempDir(), "cost")
	if err := Meter(none, []string{"false"}); err == nil {
		t.Error("a failure was no error")
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a failed program has a cost")
	}
	if _, _, err := output(t.Context(), command{args: []string{"sh", "-c", "echo why >&2; exit 3"}}); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a failed program is told as %v", err)
	}
}
