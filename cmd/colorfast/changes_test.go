package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"colorfast"
	"colorfast/vault"
)

// TestChangesAreShown shows what list and show say of what has changed since a
// parent, known or not.
func TestChangesAreShown(t *testing.T) {
	const parent = colorfast.BackupID("0123456789abcdef")
	for want, in := range map[string]struct {
		parent colorfast.BackupID
		c      *colorfast.Changes
	}{
		"":             {"", nil},
		"?":            {parent, nil},
		"none":         {parent, &colorfast.Changes{}},
		"~3":           {parent, &colorfast.Changes{Updated: 3}},
		"+1,200 ~3 -1": {parent, &colorfast.Changes{Added: 1200, Updated: 3, Deleted: 1}},
	} {
		if got := changed(in.parent, in.c); got != want {
			t.Errorf("%+v: %q, want %q", in, got, want)
		}
	}
	m := &colorfast.Manifest{Inventory: colorfast.Inventory{
		Collections: []colorfast.Collection{
			{Name: "known", Tenant: "t", Database: "d", Changes: &colorfast.Changes{Added: 2, Deleted: 1}},
			{Name: "unknown", Tenant: "t", Database: "d"},
		},
		Dropped: []colorfast.Dropped{{Name: "gone", Tenant: "t", Database: "d", Records: 7}},
	}}
	m.Parent, m.Consistency.Mode, m.Consistency.FrozenAt = parent, colorfast.Frozen, time.Now()
	show := func(wanted ...string) {
		t.Helper()
		m.Summarize()
		var out bytes.Buffer
		if err := showManifest(&out, m, vault.Lock{}); err != nil {
			t.Fatal(err)
		}
		for _, w := range wanted {
			if !regexp.MustCompile("(?m)" + w).Match(out.Bytes()) {
				t.Errorf("no %q in:\n%s", w, &out)
			}
		}
	}
	show(`^changes +not known of all collections, since backup 0123456789abcdef$`, `DIGEST +SINCE 01234567$`,
		`^t/d/known .* \+2 -1$`, `^t/d/unknown .* \?$`, `^gone since backup 01234567:\n  t/d/gone, with 7 records$`)
	m.Inventory.Collections[1].Changes = &colorfast.Changes{}
	show(`^changes +\+2 -8, since backup 0123456789abcdef$`, `^t/d/unknown .* none$`, `^consistency +mode frozen`)
	m.Consistency.Mode = colorfast.Unchanged
	show(`^writers waited +not at all$`, `^consistency +no file of the source had changed since backup 01234567, at .*: nothing was locked, read or copied$`)
}
