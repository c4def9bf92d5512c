package colorfast_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"colorfast"
)

func TestResolveBackup(t *testing.T) {
	a, b := colorfast.Source{Host: "h", Path: "/srv/a"}, colorfast.Source{Host: "h", Path: "/srv/b"}
	list := []colorfast.Backup{ // newest first
		{ID: "aa11", Source: a, Verified: colorfast.Failed},
		{ID: "bb22", Source: b, Verified: colorfast.Passed},
		{ID: "aa33", Source: a, Verified: colorfast.Passed},
		{ID: "ab44", Source: a, Verified: colorfast.Passed},
		{ID: "latest55", Source: b, Verified: colorfast.Passed},
	}
	damaged := []colorfast.Backup{{ID: "d1", Source: a, Verified: colorfast.Failed}, {ID: "d2", Source: a, Verified: colorfast.Failed}}
	for _, c := range []struct {
		name      string
		list      []colorfast.Backup
		q, source string
		want      colorfast.BackupID // "" for an error
		kind      colorfast.Kind
	}{
		{"a full ID", list, "aa33", "", "aa33", 0},
		{"a damaged one by its ID", list, "aa11", "", "aa11", 0},
		{"a shortened ID", list, "bb", "", "bb22", 0},
		{"in capitals", list, "BB22", "", "bb22", 0},
		{"several", list, "aa", "", "", colorfast.Usage},
		{"several, one of this source", list, "b", "/srv/b", "bb22", 0},
		{"an ID of another source", list, "bb22", "/srv/a", "", colorfast.NotFound},
		{"unknown", list, "zz", "", "", colorfast.NotFound},
		{"longer than an ID", list, "aa333", "", "", colorfast.NotFound},
		{"nothing", list, "", "", "", colorfast.NotFound},
		{"latest passes over a damaged one, in the same source", list, "latest", "", "aa33", 0},
		{"latest of a source", list, "latest", "/srv/b", "bb22", 0},
		{"latest of a source by host and path", list, "latest", "h:/srv/a", "aa33", 0},
		{"latest of a source by its last element", list, "latest", "b", "bb22", 0},
		{"latest where all are damaged", damaged, "latest", "", "d1", 0},
		{"latest of none", nil, "latest", "", "", colorfast.NotFound},
		{"latest of an unknown source", list, "latest", "/srv/c", "", colorfast.NotFound},
		{"latest in capitals is an ID", list, "LATEST", "", "latest55", 0},
	} {
		got, err := colorfast.ResolveBackup(c.list, c.q, c.source)
		switch {
		case c.want == "" && (err == nil || colorfast.KindOf(err) != c.kind || colorfast.HintOf(err) == ""):
			t.Errorf("%s: got %v, error %v of kind %q, hint %q", c.name, got, err, colorfast.KindOf(err), colorfast.HintOf(err))
		case c.want != "" && (err != nil || got.ID != c.want):
			t.Errorf("%s: got %v, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestOutcomeAsText(t *testing.T) {
	type doc struct {
		Verified colorfast.Outcome `json:"verified"`
	}
	for o, want := range map[colorfast.Outcome]string{colorfast.Unknown: "unknown", colorfast.Passed: "passed", colorfast.Failed: "failed"} {
		b, err := json.Marshal(doc{o})
		if err != nil || string(b) != `{"verified":"`+want+`"}` || o.String() != want {
			t.Errorf("%q: %s, %v", want, b, err)
		}
		var back doc
		if err := json.Unmarshal(b, &back); err != nil || back.Verified != o {
			t.Errorf("%q came back as %q, %v", want, back.Verified, err)
		}
	}
	for _, strange := range []string{"", "PASSED", "fine", "passed "} {
		back := doc{colorfast.Passed}
		if err := json.Unmarshal([]byte(`{"verified":"`+strange+`"}`), &back); err != nil || back.Verified != colorfast.Unknown {
			t.Errorf("%q was read as %q, %v", strange, back.Verified, err)
		}
	}
	if b := (colorfast.Backup{}); b.Verified != colorfast.Unknown || b.Damaged() {
		t.Error("a backup that says nothing is taken for judged")
	}
}

func TestSummarize(t *testing.T) {
	frozen := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	m := colorfast.Manifest{
		Inventory:   colorfast.Inventory{Generation: colorfast.Generation{Since: "1.5.0"}, Collections: []colorfast.Collection{{Records: 3}, {Records: 4}}},
		Consistency: colorfast.Consistency{FrozenAt: frozen, FreezeSeconds: 0.25},
		FindingList: []colorfast.Finding{colorfast.NewFinding(colorfast.HNSWOrphan, "x", 0, "y")},
		FileList: []colorfast.File{
			{Path: ".", Type: colorfast.Directory}, {Path: "a", Type: colorfast.Regular, Size: 5},
			{Path: "b", Type: colorfast.Regular, Size: 6}, {Path: "c", Type: colorfast.Symlink, Target: "a"},
		},
	}
	m.Summarize()
	want := colorfast.Backup{
		Format: colorfast.Format, Verified: colorfast.Passed, Since: "1.5.0", Collections: 2, Records: 7, Files: 2,
		OriginalBytes: 11, RestorePoint: frozen, FreezeSeconds: 0.25, Findings: 1,
	}
	if m.Backup != want {
		t.Errorf("got  %+v\nwant %+v", m.Backup, want)
	}
	first := m.Backup
	m.Summarize()
	if m.Backup != first {
		t.Error("a second time gives something else")
	}

	b, err := json.Marshal(m)
	var back colorfast.Manifest
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("came back as %+v, %v", back, err)
	}
}

func TestShort(t *testing.T) {
	for id, want := range map[colorfast.BackupID]string{"": "", "abc": "abc", "0123456789": "01234567"} {
		if got := id.Short(); got != want {
			t.Errorf("%q: %q", id, got)
		}
	}
}

// TestResolveBackupByOrigin: a copy is found by the ID that it has where it was made.
func TestResolveBackupByOrigin(t *testing.T) {
	list := []colorfast.Backup{
		{ID: "aa11", Origin: &colorfast.Origin{Vault: "v", Backup: "cc33"}},
		{ID: "bb22"},
	}
	for q, want := range map[string]colorfast.BackupID{"aa": "aa11", "cc33": "aa11", "CC": "aa11", "bb": "bb22"} {
		if b, err := colorfast.ResolveBackup(list, q, ""); err != nil || b.ID != want {
			t.Errorf("%q: %+v, %v", q, b, err)
		}
	}
	if _, err := colorfast.ResolveBackup(list, "dd", ""); colorfast.KindOf(err) != colorfast.NotFound {
		t.Errorf("a backup that is not there: %v", err)
	}
	want := colorfast.Identity{Vault: "v", Backup: "cc33"}
	if got := list[0].Identity("here"); got != want {
		t.Errorf("identity %+v", got)
	}
	if got := list[1].Identity("here"); got != (colorfast.Identity{Vault: "here", Backup: "bb22"}) {
		t.Errorf("identity %+v", got)
	}
}
