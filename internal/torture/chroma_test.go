package torture

import (
	"testing"
	"time"

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
		w := Workload{Seed: 1, OwnCollections: true, Queries: true}.For(version)
		t.Run("server "+version, func(t *testing.T) {
			s := chromatest.Start(t, chromatest.Options{Version: version})
			h := rehearse(t, w, s.Chroma(t), s.Kill)
			again := chromatest.Start(t, chromatest.Options{Version: version, Dir: s.Dir})
			judgeNow(t, h, again.Chroma(t))
		})
		t.Run("embedded "+version, func(t *testing.T) {
			e := chromatest.Embed(t, chromatest.Options{Version: version})
			h := rehearse(t, w, e, e.Kill)
			again := chromatest.Embed(t, chromatest.Options{Version: version, Dir: e.Dir})
			judgeNow(t, h, again)
		})
	}
}

func rehearse(t *testing.T, w Workload, c chromatest.Chroma, kill func()) *History {
	t.Helper()
	h := &History{}
	if err := w.Setup(t.Context(), c, h); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := w.Run(t.Context(), c, h, 0, 60); err != nil {
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
