package e2e

import (
	"slices"
	"strings"
	"testing"

	"colorfast"
	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
	"colorfast/restore"
	"colorfast/verify"
)

// TestRestoreOverWhatCameAfter puts a Chroma back that went on after its backup.
// What has not changed since then is taken from its directory.
func TestRestoreOverWhatCameAfter(t *testing.T) {
	realChromas(t)
	v := newVault(t)
	s := chromatest.Start(t, chromatest.Options{Version: newest})
	c := s.Chroma(t)
	if err := c.Create(t.Context(), chromatest.Spec{Name: rich, Space: "l2", SyncThreshold: 100}); err != nil {
		t.Fatal(err)
	}
	write := func(verb client.Verb, recs []client.Record) {
		t.Helper()
		for batch := range slices.Chunk(recs, 500) {
			if err := c.Write(t.Context(), rich, verb, batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string]client.Record{}
	write(client.Add, put(want, plain("first", 2000)))
	m := backUp(t, v, s.Dir)
	wantWhole(t, m)
	write(client.Add, plain("later", 150))
	write(client.Delete, []client.Record{want["first-3"], want["first-1000"]})
	changed := want["first-77"]
	changed.Vector = []float32{7, 7, 7}
	write(client.Update, []client.Record{changed})
	s.Kill()
	before := fingerprint(t, s.Dir)

	r := restore.Restore{
		Vault: v, Manifest: m, Target: s.Dir, Replace: true, AssumeStopped: true,
		Verify: verify.Directory{Scratch: t.TempDir(), Log: logTo(t)}.Proof(), Log: logTo(t),
	}
	rep, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("moved %d of %d bytes in %d files", rep.BytesMoved, rep.Bytes, rep.Files)
	if rep.Verified != colorfast.Passed || rep.Basis != rep.Target || rep.BytesMoved <= 0 || rep.BytesMoved > rep.Bytes*3/4 {
		t.Errorf("report %+v", rep)
	}
	for i := range before {
		before[i] = strings.ReplaceAll(before[i], s.Dir, rep.KeptAside)
	}
	unchanged(t, rep.KeptAside, before)
	s = chromatest.Start(t, chromatest.Options{Version: newest, Dir: s.Dir})
	got, err := s.Chroma(t).Records(t.Context(), rich)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, newest, want, got, false)
}
