package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
	"colorfast/verify"
)

// twoStates lets a real Chroma write one source twice and returns what it left
// each time. In between lie saves of the index, purges of the queue, adds,
// updates and deletes.
func twoStates(t *testing.T) (a, b string) {
	t.Helper()
	dir := t.TempDir()
	records := func(from, to int, shift float32) []client.Record {
		var recs []client.Record
		for i := from; i < to; i++ {
			x := float32(i)
			recs = append(recs, client.Record{ID: fmt.Sprintf("id-%d", i), Vector: []float32{x + shift, 1 - x, 0.5, x * x}, Document: new("text")})
		}
		return recs
	}
	session := func(do func(c *chromatest.HTTP, name string)) string {
		s := chromatest.Start(t, chromatest.Options{Version: "1.5.9", Dir: dir})
		c := s.Chroma(t)
		for _, name := range []string{"of.l2", "of.cosine"} {
			do(c, name)
		}
		s.Kill()
		return copyOf(t, dir)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(c *chromatest.HTTP, name string, verb client.Verb, recs []client.Record) {
		t.Helper()
		must(c.Write(t.Context(), name, verb, recs))
	}
	a = session(func(c *chromatest.HTTP, name string) {
		must(c.Create(t.Context(), chromatest.Spec{Name: name, Space: name[3:], SyncThreshold: 50, Modern: true}))
		write(c, name, client.Add, records(0, 50, 0)) // is saved
		write(c, name, client.Add, records(50, 60, 0))
	})
	b = session(func(c *chromatest.HTTP, name string) {
		write(c, name, client.Update, records(10, 20, 100))
		write(c, name, client.Delete, records(20, 30, 0))
		write(c, name, client.Add, records(60, 260, 0)) // is saved
		write(c, name, client.Add, records(260, 270, 0))
	})
	return a, b
}

// TestMixturesOfTwoStates: what a copy holds whose files are of different
// moments, as copies of a live Chroma are, is found in every mixture.
func TestMixturesOfTwoStates(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real Chromas")
	}
	earlier, later := twoStates(t)
	scratch := t.TempDir()
	seal := map[string]*colorfast.Manifest{}
	for _, dir := range []string{earlier, later} {
		r := look(t, dir, scratch)
		if r.Outcome() != colorfast.Passed || len(r.Findings) > 0 {
			t.Fatalf("a state as Chroma left it: %s", brief(r.Findings))
		}
		seal[dir] = sealed(r)
	}
	only := func(names ...string) []string { return names }
	all := only(chroma.HeaderFile, chroma.DataFile, chroma.LengthFile, chroma.LinksFile, chroma.PickleFile)
	for _, c := range []struct {
		name        string
		base, other string
		take        []string // files of the segments that are of the other state
		want        []colorfast.Code
	}{
		{"segments of an earlier save", later, earlier, all, []colorfast.Code{colorfast.MissingVectors}},
		{"segments of a later save", earlier, later, all, []colorfast.Code{colorfast.MissingVectors, colorfast.GhostVectors}},
		{"header of an earlier save", later, earlier, only(chroma.HeaderFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"header of a later save", earlier, later, only(chroma.HeaderFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"data of an earlier save", later, earlier, only(chroma.DataFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"length of an earlier save", later, earlier, only(chroma.LengthFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"links of an earlier save", later, earlier, only(chroma.LinksFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"links of a later save", earlier, later, only(chroma.LinksFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"pickle of an earlier save", later, earlier, only(chroma.PickleFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"pickle of a later save", earlier, later, only(chroma.PickleFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"killed after header", earlier, later, only(chroma.HeaderFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"killed after data", earlier, later, only(chroma.HeaderFile, chroma.DataFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"killed after length", earlier, later, only(chroma.HeaderFile, chroma.DataFile, chroma.LengthFile), []colorfast.Code{colorfast.HNSWTorn}},
		{"killed after links", earlier, later, only(chroma.HeaderFile, chroma.DataFile, chroma.LengthFile, chroma.LinksFile), []colorfast.Code{colorfast.HNSWTorn}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyOf(t, c.base)
			for _, col := range seal[c.base].Inventory.Collections {
				for _, name := range c.take {
					to := filepath.Join(dir, col.VectorSegment, name)
					if err := os.WriteFile(to, contents(t, filepath.Join(c.other, col.VectorSegment, name)), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := look(t, dir, scratch)
			if r.Outcome() != colorfast.Failed {
				t.Errorf("the outcome is %s", r.Outcome())
			}
			for _, col := range seal[c.base].Inventory.Collections {
				for _, want := range c.want {
					if !slices.ContainsFunc(r.Findings, func(f colorfast.Finding) bool { return f.Code == want && f.Object == col.String() }) {
						t.Errorf("no %s of %s, but %s", want, col.Name, brief(r.Findings))
					}
				}
			}
			if found, err := (verify.Directory{Scratch: scratch}).Proof()(t.Context(), dir, seal[c.base]); err != nil || len(found) == 0 {
				t.Errorf("the proof against the manifest found nothing, %v", err)
			}
		})
	}
}
