package torture

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"colorfast/chroma"
	"colorfast/internal/chromatest"
)

// TestChroma shows that the judge's model is what Chroma does: after a random
// workload on a real one, which is then killed at rest and started again, the
// judge must find nothing, before and after.
func TestChroma(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real Chromas")
	}
	for _, version := range chromatest.Versions() {
		ops := 20
		if version[0] == '0' {
			ops = 8 // they are some five times slower
		}
		w := Workload{Seed: 1, OwnCollections: true, Queries: true}.For(version)
		t.Run("server "+version, func(t *testing.T) {
			s := chromatest.Start(t, chromatest.Options{Version: version})
			h := rehearse(t, w, s.Chroma(t), ops, s.Kill)
			again := chromatest.Start(t, chromatest.Options{Version: version, Dir: s.Dir})
			judgeNow(t, h, again.Chroma(t))
		})
		t.Run("embedded "+version, func(t *testing.T) {
			e := chromatest.Embed(t, chromatest.Options{Version: version})
			h := rehearse(t, w, e, ops, e.Kill)
			again := chromatest.Embed(t, chromatest.Options{Version: version, Dir: e.Dir})
			judgeNow(t, h, again)
		})
	}
}

func rehearse(t *testing.T, w Workload, c chromatest.Chroma, ops int, kill func()) *History {
	t.Helper()
	h := &History{}
	if err := w.Setup(t.Context(), c, h); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := w.Run(t.Context(), c, h, 0, ops); err != nil {
		t.Error(err)
	}
	st := h.Stats()
	t.Logf("%d operations of %d records in %.1f s, %d failed; %d queries, %d refused", st.Ops, st.Records, time.Since(start).Seconds(), st.Failed, st.Queries, st.Refused)
	for _, e := range h.Errors() {
		t.Error(e)
	}
	judgeNow(t, h, c)
	kill()
	return h
}

func judgeNow(t *testing.T, h *History, c chromatest.Reader) {
	t.Helper()
	got, err := Read(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	v := Judge(h, now, now, got)
	t.Log(v.Checked, "records checked")
	if !v.Good() {
		t.Error(v)
	}
}

// TestJudgeCatchesDamage damages what a real Chroma keeps, in ways that leave
// its counts right, and expects the judge to see it through the API.
func TestJudgeCatchesDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real Chromas")
	}
	const version = "1.5.9"
	for _, c := range []struct {
		name, file string
		want       What
	}{
		{"index forgotten", chroma.PickleFile, MissingVector},
		{"vectors changed", chroma.DataFile, WrongVector},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := Workload{Seed: 2, Writers: 1, Shared: []chromatest.Spec{{Name: "only", Space: "l2", SyncThreshold: 50}}}.For(version)
			s := chromatest.Start(t, chromatest.Options{Version: version})
			h := rehearse(t, w, s.Chroma(t), 35, s.Kill)
			files, err := filepath.Glob(filepath.Join(s.Dir, "*", c.file))
			if err != nil || len(files) != 1 {
				t.Fatalf("%d files %s, %v; want one", len(files), c.file, err)
			}
			if c.file == chroma.PickleFile {
				err = os.Remove(files[0])
			} else {
				err = flip(files[0])
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := Read(t.Context(), chromatest.Start(t, chromatest.Options{Version: version, Dir: s.Dir}).Chroma(t))
			if err != nil {
				t.Fatal(err)
			}
			v := Judge(h, time.Now(), time.Now(), got)
			t.Log(v)
			if v.Good() || v.Lost+v.Corrupt < v.Checked/3 || v.Discrepancies[0].What != c.want {
				t.Errorf("want %q of most records", c.want)
			}
		})
	}
}

// flip changes the last bit of the first number of every vector of 16
// dimensions. Offsets as hnswlib's saveIndex writes them, with M 16: four bytes
// of counts, 32 links, the vector, the label.
func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const links, size = 4 + 4*32, 4 + 4*32 + 4*16 + 8
	for at := links; at < len(b); at += size {
		b[at] ^= 1
	}
	return os.WriteFile(path, b, 0o600)
}

// TestCrash kills a server in the middle of writes, goes on with the same
// history, and expects every acknowledged write. The collection never saves its
// index: a Chroma killed in the middle of that can lose records by itself.
func TestCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real Chromas")
	}
	const version = "1.5.9"
	w := Workload{Seed: 3, Shared: []chromatest.Spec{{Name: "only", Space: "l2", SyncThreshold: 1e6}}, MaxBatch: 100, Timeout: 20 * time.Second}.For(version)
	s := chromatest.Start(t, chromatest.Options{Version: version})
	h := &History{}
	c := s.Chroma(t)
	if err := w.Setup(t.Context(), c, h); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- w.Run(t.Context(), c, h, 0, 0) }()
	for h.Stats().Acked < 60 {
		time.Sleep(10 * time.Millisecond)
	}
	s.Kill()
	crash := time.Now()
	if err := <-ended; err == nil {
		t.Error("the writers did not notice the crash")
	}
	again := chromatest.Start(t, chromatest.Options{Version: version, Dir: s.Dir}).Chroma(t)
	got, err := Read(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	v := Judge(h, crash, crash, got)
	t.Log(v.Checked, "records checked;", h.Stats())
	if !v.Good() {
		t.Error(v)
	}
	if err := w.Run(t.Context(), again, h, 1, 10); err != nil {
		t.Error(err)
	}
	judgeNow(t, h, again)
}
