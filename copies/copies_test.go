package copies_test

import (
	"reflect"
	"testing"
	"time"

	"colorfast"
	"colorfast/copies"
	"colorfast/internal/contract"
	"colorfast/internal/fake"
)

func TestCopiesAreTheSameBackups(t *testing.T) {
	both(t, func(t *testing.T, open func(string) copies.Vault) {
		from, to := open("a"), open("b")
		all, files := history(t, from, 4)
		rep := run(t, copies.Copy{From: from, To: to, Level: colorfast.Bytes})
		if len(rep.Copied) != 4 || rep.There != 0 || rep.Left != 0 || len(rep.Refused) != 0 {
			t.Fatalf("report %+v", rep)
		}
		names := map[colorfast.BackupID]colorfast.BackupID{}
		for i, c := range rep.Copied {
			names[c.Backup] = c.Copy
			if c.Backup != all[i].ID || c.Verified != colorfast.Passed || c.Copy == c.Backup {
				t.Errorf("copy %d: %+v", i, c)
			}
			if i > 0 && c.Read > all[i].OriginalBytes*3/4 {
				t.Errorf("copy %d read %d of %d bytes", i, c.Read, all[i].OriginalBytes)
			}
		}
		for i, m := range all {
			got, err := to.Manifest(t.Context(), names[m.ID])
			if err != nil {
				t.Fatal(err)
			}
			contract.Whole(t, to, got.ID, files[i])
			if got.Origin == nil || got.Origin.Backup != m.ID || got.Origin.Vault != from.Fingerprint() || got.Parent != names[m.Parent] {
				t.Errorf("copy %d: origin %+v, parent %q", i, got.Origin, got.Parent)
			}
			want, err := from.Manifest(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			want.ID, want.Parent, want.StoredBytes, want.Origin = got.ID, got.Parent, got.StoredBytes, got.Origin
			if !reflect.DeepEqual(got, want) {
				t.Errorf("copy %d says\n%+v\nnot\n%+v", i, got, want)
			}
		}
		again := run(t, copies.Copy{From: from, To: to})
		if len(again.Copied) != 0 || again.There != 4 || again.Stored != 0 || again.Read != 0 {
			t.Errorf("a second run: %+v", again)
		}
	})
}

// TestCopiesGoOn: a copy of a copy is known as what it is a copy of, everywhere.
func TestCopiesGoOn(t *testing.T) {
	both(t, func(t *testing.T, open func(string) copies.Vault) {
		a, b, c := open("a"), open("b"), open("c")
		all, files := history(t, a, 2)
		run(t, copies.Copy{From: a, To: b})
		rep := run(t, copies.Copy{From: b, To: c})
		if len(rep.Copied) != 2 {
			t.Fatalf("report %+v", rep)
		}
		for _, l := range list(t, c, 2) {
			if l.Origin.Vault != a.Fingerprint() {
				t.Errorf("origin %+v", l.Origin)
			}
		}
		contract.Whole(t, c, rep.Copied[1].Copy, files[1])
		for _, pair := range [][2]copies.Vault{{a, c}, {c, a}, {c, b}, {b, a}} {
			if rep := run(t, copies.Copy{From: pair[0], To: pair[1]}); len(rep.Copied) != 0 || rep.There != 2 {
				t.Errorf("copied again: %+v", rep)
			}
		}
		list(t, a, 2)
		found, err := colorfast.ResolveBackup(list(t, c, 2), string(all[0].ID.Short()), "")
		if err != nil || found.ID != rep.Copied[0].Copy {
			t.Errorf("by the ID where it was made: %+v, %v", found, err)
		}
	})
}

func TestCopiesOfDamagedAndOfChosenBackups(t *testing.T) {
	both(t, func(t *testing.T, open func(string) copies.Vault) {
		from, to := open("a"), open("b")
		m, files := contract.Sample(1)
		m.FindingList = []colorfast.Finding{colorfast.NewFinding(colorfast.MissingVectors, "docs", 3, "gone")}
		m.Summarize()
		if err := from.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		other, _ := contract.Sample(2)
		other.Source.Path = "/srv/other"
		if err := from.Put(t.Context(), other, files, nil); err != nil {
			t.Fatal(err)
		}
		rep := run(t, copies.Copy{From: from, To: to, Source: "chroma"})
		if len(rep.Copied) != 1 || !rep.Copied[0].Damaged || rep.Copied[0].Verified != colorfast.Passed {
			t.Fatalf("report %+v", rep)
		}
		if l := list(t, to, 1); !l[0].Damaged() || l[0].Findings != 1 {
			t.Errorf("copied as %+v", l[0])
		}
		if rep := run(t, copies.Copy{From: from, To: to, Backups: []colorfast.BackupID{other.ID}}); len(rep.Copied) != 1 {
			t.Errorf("report %+v", rep)
		}
		_, err := (&copies.Copy{From: from, To: to, Backups: []colorfast.BackupID{"none"}}).Run(t.Context())
		if colorfast.KindOf(err) != colorfast.NotFound {
			t.Errorf("a backup that is not there: %v", err)
		}
		_, err = (&copies.Copy{From: from, To: from}).Run(t.Context())
		if colorfast.KindOf(err) != colorfast.Usage {
			t.Errorf("onto itself: %v", err)
		}
	})
}

// TestCopyOfCorruptBackup: what cannot be read whole is not listed in the copy,
// and the others go on.
func TestCopyOfCorruptBackup(t *testing.T) {
	from, err := fake.NewVault(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	to := kinds["fake"](t, t.TempDir())
	all, _ := history(t, from, 3)
	find := func(m *colorfast.Manifest, path string) *colorfast.File {
		for i := range m.FileList {
			if m.FileList[i].Path == path {
				return &m.FileList[i]
			}
		}
		t.Fatal("no such file")
		return nil
	}
	flip(t, from.Blob(find(all[1], "seg/data_level0.bin")), 650_000)
	rep := run(t, copies.Copy{From: from, To: to})
	if len(rep.Copied) != 2 || len(rep.Refused) != 1 || rep.Refused[0].Backup != all[1].ID || rep.Refused[0].Kind != "corrupt" {
		t.Fatalf("report %+v", rep)
	}
	for _, b := range list(t, to, 2) {
		if b.Origin.Backup == all[1].ID {
			t.Error("the corrupt one is listed")
		}
	}
}

func TestStatus(t *testing.T) {
	both(t, func(t *testing.T, open func(string) copies.Vault) {
		from, to := open("a"), open("b")
		status := func() *copies.Status {
			t.Helper()
			s, err := copies.StatusOf(t.Context(), from, to)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if s := status(); *s != (copies.Status{}) {
			t.Errorf("of nothing: %+v", s)
		}
		all, _ := history(t, from, 3)
		if s := status(); s.Behind != 3 || s.Seconds != 7200 || s.Newest != nil || s.LastCopy != nil {
			t.Errorf("of none: %+v", s)
		}
		now := time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC)
		run(t, copies.Copy{From: from, To: to, Backups: []colorfast.BackupID{all[0].ID, all[1].ID}, Now: func() time.Time { return now }})
		s := status()
		if s.Backups != 2 || s.Behind != 1 || s.Seconds != 3600 || !s.Newest.Equal(all[1].RestorePoint) || !s.LastCopy.Equal(now) || s.Others != 0 {
			t.Errorf("of two: %+v", s)
		}
		run(t, copies.Copy{From: from, To: to})
		if s := status(); s.Behind != 0 || s.Seconds != 0 {
			t.Errorf("of all: %+v", s)
		}
	})
}
