package vault

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"colorfast"
	"colorfast/internal/contract"
)

// imprint is what a folder holds, for comparing.
func imprint(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	for _, p := range blobs(t, dir) {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %x\n", p, sha256.Sum256(b))
	}
	return out.String()
}

func repairVault(t *testing.T, dir string, apply bool, level colorfast.Level) *Repaired {
	t.Helper()
	rep, err := RepairVault(t.Context(), Options{URL: dir, Password: password}, Repair{Apply: apply, Level: level})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

func flipByte(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 8
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRepair: what can be made again is; the dry run writes nothing and says the
// same as the repair does; and then everything is whole.
func TestRepair(t *testing.T) {
	remove := func(t *testing.T, paths []string) {
		for _, p := range paths {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		do     []string // what the actions are, in order, each once
		finds  colorfast.Outcome
	}{
		"nothing": {func(*testing.T, string) {}, nil, colorfast.Passed},
		"format flipped": {func(t *testing.T, dir string) {
			if err := flip(filepath.Join(dir, formatBlob+".f"), "encryptedBlockFormat", 40); err != nil {
				t.Fatal(err)
			}
		}, []string{"quarantine", "restore"}, colorfast.Failed},
		"format gone": {func(t *testing.T, dir string) {
			remove(t, []string{filepath.Join(dir, formatBlob+".f")})
		}, []string{"restore"}, colorfast.Failed},
		"copy of the format gone": {func(t *testing.T, dir string) {
			remove(t, []string{filepath.Join(dir, formatCopyBlob+".f")})
		}, []string{"restore"}, colorfast.Passed},
		"settings flipped": {func(t *testing.T, dir string) {
			flipByte(t, filepath.Join(dir, configBlob+".f"), 20)
		}, []string{"quarantine"}, colorfast.Failed},
		"index flipped": {func(t *testing.T, dir string) {
			flipByte(t, glob(t, filepath.Join(dir, "x", "n0_", "*.f"))[0], 90)
		}, []string{"quarantine", "index"}, colorfast.Failed},
		"index gone": {func(t *testing.T, dir string) {
			remove(t, glob(t, filepath.Join(dir, "x", "*", "*.f")))
		}, []string{"index"}, colorfast.Unknown}, // no backup is seen, but packs are
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			all, files := smallVault(t, dir)
			c.damage(t, dir)
			before := imprint(t, dir)
			plan := repairVault(t, dir, false, colorfast.Stored)
			if now := imprint(t, dir); now != before {
				t.Fatalf("a dry run has written:\n%s\n%s", before, now)
			}
			done := repairVault(t, dir, true, colorfast.Stored)
			if plan.Before.Outcome != c.finds || plan.After.Outcome != colorfast.Passed || done.After.Outcome != colorfast.Passed || done.After.Backups != len(all) || plan.After.Backups != len(all) {
				t.Errorf("before %+v, after as planned %+v, after %+v", plan.Before, plan.After, done.After)
			}
			var did []string
			for i, a := range done.Actions {
				if !slices.Contains(did, a.Do) {
					did = append(did, a.Do)
				}
				if len(plan.Actions) != len(done.Actions) || plan.Actions[i].Do != a.Do || plan.Actions[i].Object != a.Object {
					t.Fatalf("planned %+v, did %+v", plan.Actions, done.Actions)
				}
			}
			if !slices.Equal(did, c.do) {
				t.Errorf("actions %+v, want %v", done.Actions, c.do)
			}
			if refused, read := readEverything(t, dir, all, files); refused > 0 || read == 0 {
				t.Errorf("after the repair %d files are refused, %d read", refused, read)
			}
			again := repairVault(t, dir, true, colorfast.Bytes)
			if len(again.Actions) > 0 || again.Before.Outcome != colorfast.Passed {
				t.Errorf("a second repair: %+v", again.Actions)
			}
		})
	}
}

// TestRepairOfLostBytes: what is lost stays lost, is told, and hurts no backup that
// is made after the repair.
func TestRepairOfLostBytes(t *testing.T) {
	dir := t.TempDir()
	all, files := smallVault(t, dir)
	for _, p := range glob(t, filepath.Join(dir, "p", "*", "*.f")) {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for i := 64; i < len(b)-4096; i += 1000 {
			b[i] ^= 1
		}
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Without a repair nobody knows: a backup that shares what is lost is broken too.
	plan := repairVault(t, dir, false, colorfast.Bytes)
	done := repairVault(t, dir, true, colorfast.Bytes)
	if done.After.Outcome != colorfast.Failed || len(done.After.Hurt) == 0 || len(plan.After.Hurt) != len(done.After.Hurt) {
		t.Fatalf("after: %+v", done.After)
	}
	last := len(all) - 2 // the newest of the first source
	v := reopen(t, Options{URL: dir})
	same := *all[last]
	same.FileList = slices.Clone(same.FileList)
	same.Parent, same.ID = all[last].ID, ""
	for i := range same.FileList {
		same.FileList[i].Same = same.FileList[i].Type == colorfast.Regular
	}
	wantKind(t, v.Put(t.Context(), &same, fstest.MapFS{}, nil), colorfast.Corrupt, "")
	// The same content read again, with and without the hurt parent; and another's.
	for _, parent := range []colorfast.BackupID{all[last].ID, ""} {
		m := *all[last]
		m.FileList = slices.Clone(m.FileList)
		m.Parent, m.ID = parent, ""
		if err := v.Put(t.Context(), &m, files[last], nil); err != nil {
			t.Fatal(err)
		}
		contract.Whole(t, v, m.ID, files[last])
	}
	rep := verifyVault(t, dir, Verification{Level: colorfast.Bytes})
	for _, h := range rep.Hurt {
		if !slices.ContainsFunc(all, func(m *colorfast.Manifest) bool { return m.ID == h.Backup }) {
			t.Errorf("a backup made after the repair is hurt: %+v", h)
		}
	}
}
