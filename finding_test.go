package colorfast_test

import (
	"strings"
	"testing"

	"colorfast"
)

func TestOutcomeOf(t *testing.T) {
	note := colorfast.NewFinding(colorfast.HNSWOrphan, "x", 0, "y")
	risk := colorfast.NewFinding(colorfast.GhostVectors, "x", 0, "y")
	fatal := colorfast.NewFinding(colorfast.MissingVectors, "x", 1, "y")
	for _, c := range []struct {
		list []colorfast.Finding
		want colorfast.Outcome
	}{
		{nil, colorfast.Passed},
		{[]colorfast.Finding{note, risk}, colorfast.Passed},
		{[]colorfast.Finding{note, fatal, risk}, colorfast.Failed},
	} {
		if got := colorfast.OutcomeOf(c.list); got != c.want {
			t.Errorf("%v: %s, want %s", c.list, got, c.want)
		}
	}
}

// TestNewFinding: every code of the catalogue makes a finding with the
// catalogue's severity and remedy, and only those do.
func TestNewFinding(t *testing.T) {
	kinds := colorfast.Catalogue()
	for _, k := range kinds {
		f := colorfast.NewFinding(k.Code, "collection", 7, "%d of %s", 3, "9")
		want := colorfast.Finding{Code: k.Code, Severity: k.Severity, Object: "collection", Detail: "3 of 9", Records: 7, Remedy: k.Remedy}
		if f != want {
			t.Errorf("got %+v, want %+v", f, want)
		}
		if k.Severity != colorfast.Note && k.Severity != colorfast.Risk && k.Severity != colorfast.Fatal {
			t.Errorf("%s: severity %q", k.Code, k.Severity)
		}
		if area, what, ok := strings.Cut(string(k.Code), "."); !ok || area == "" || what == "" || strings.ToLower(string(k.Code)) != string(k.Code) {
			t.Errorf("code %q is not of the form area.what", k.Code)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a code that is not in the catalogue made a finding")
		}
	}()
	colorfast.NewFinding("no.such-code", "", 0, "")
}
