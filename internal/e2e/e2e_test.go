// Package e2e tries the whole of colorfast on real Chromas: written to through
// Chroma, backed up into a real vault, restored, and read back through the same
// Chroma. It has tests only.
//
// life_test.go follows one source of each version through all that can be done
// with it; the other files each hold what colorfast promises against one sort of
// trouble.
package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/backup"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/internal/torture"
	"colorfast/restore"
	"colorfast/vault"
	"colorfast/verify"
)

// newest is the version that tests use which need only one.
const newest = "1.5.9"

// realChromas skips what needs them where they are not wanted.
func realChromas(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real Chromas")
	}
}

// newVault makes a vault. When the test ends, every backup in it must read back
// byte for byte.
func newVault(t *testing.T) *vault.Vault {
	t.Helper()
	o := vault.Options{URL: "file://" + filepath.Join(t.TempDir(), "vault"), Password: vault.NewSecret("e2e")}
	if err := vault.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		checkVault(t, v)
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return v
}

func checkVault(t *testing.T, v *vault.Vault) {
	t.Helper()
	ctx := context.Background()
	list, err := v.List(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, b := range list {
		m, err := v.Manifest(ctx, b.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		found, err := v.Check(ctx, m, colorfast.Bytes, colorfast.Quiet{})
		if err != nil || len(found) > 0 {
			t.Errorf("backup %s is listed, but: %v %v", b.ID, found, err)
		}
	}
}

// logTo shows what colorfast logs from Info up in the test's log.
func logTo(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// backUp backs dir up. Afterwards nothing but the lock is left in its staging
// directory.
func backUp(t *testing.T, v colorfast.Vault, dir string) *colorfast.Manifest {
	t.Helper()
	staging := t.TempDir()
	b := backup.Backup{Source: dir, Vault: v, Staging: staging, Log: logTo(t)}
	m, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(staging, "*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
		t.Errorf("left in the staging directory: %v %v", left, err)
	}
	t.Logf("backup of %d records in %d collections: mode %s, %s, frozen %.0f ms, %d attempts, %d findings",
		m.Records, m.Collections, m.Consistency.Mode, m.Consistency.JournalMode, 1000*m.FreezeSeconds, m.Consistency.Attempts, len(m.FindingList))
	return m
}

// wantWhole fails unless the backup passed and no finding is worse than a note.
func wantWhole(t *testing.T, m *colorfast.Manifest) {
	t.Helper()
	if m.Verified != colorfast.Passed {
		t.Errorf("the backup is %s", m.Verified)
	}
	for _, f := range m.FindingList {
		if f.Severity != colorfast.Note {
			t.Errorf("finding %s (%s) of %s: %s", f.Code, f.Severity, f.Object, f.Detail)
		}
	}
}

// restoreTo restores a backup into a new directory, proven record by record.
func restoreTo(t *testing.T, v colorfast.Vault, m *colorfast.Manifest) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	r := restore.Restore{
		Vault: v, Manifest: m, Target: dir, AllowDamaged: true,
		Verify: verify.Directory{Scratch: t.TempDir(), Log: logTo(t)}.Proof(), Log: logTo(t),
	}
	rep, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !m.Damaged() && rep.Verified != colorfast.Passed {
		t.Errorf("the restored directory is %s: %v", rep.Verified, rep.Findings)
	}
	return dir
}

// journalMode switches the database in dir, which Chroma may have open.
func journalMode(t *testing.T, dir, mode string) {
	t.Helper()
	db, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetBusyTimeout(10 * time.Second)
	got := ""
	err = sqlitex.ExecuteTransient(db, "PRAGMA journal_mode="+mode, &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { got = s.ColumnText(0); return nil },
	})
	if err != nil || got != mode {
		t.Fatalf("switch to journal mode %s: got %q, %v", mode, got, err)
	}
}

// starts returns how often Chroma has opened the database for writing, read
// from a copy so that the source is not touched; -1 before 1.0.
func starts(t *testing.T, dir string) int64 {
	t.Helper()
	aside := copyOf(t, dir)
	db, err := sqlite.OpenConn(filepath.Join(aside, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := int64(-1)
	err = sqlitex.ExecuteTransient(db, "SELECT count(*) FROM acquire_write", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { n = s.ColumnInt64(0); return nil },
	})
	if err != nil && !strings.Contains(err.Error(), "no such table") {
		t.Fatal(err)
	}
	return n
}

// copyOf copies a directory in which nobody writes.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// fingerprint lists names, types, modes, sizes, times and hashes of all below
// dir, one a line.
func fingerprint(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		sum := [sha256.Size]byte{}
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(b)
		}
		lines = append(lines, fmt.Sprintf("%s %s %d %s %x", path, fi.Mode(), fi.Size(), fi.ModTime().Format(time.RFC3339Nano), sum[:8]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// unchanged fails if dir is not as it was when the fingerprint was taken.
func unchanged(t *testing.T, dir string, before []string) {
	t.Helper()
	after := fingerprint(t, dir)
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("the source changed: gone is %s", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("the source changed: new is %s", l)
		}
	}
}

// read returns what a Chroma holds, without the collections that the workload
// knows nothing of.
func read(t *testing.T, c chromatest.Reader, without ...string) torture.State {
	t.Helper()
	got, err := torture.Read(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range without {
		delete(got, name)
	}
	return got
}

// judge compares what a Chroma holds with what was acknowledged.
func judge(t *testing.T, h *torture.History, frozen, released time.Time, got torture.State) {
	t.Helper()
	v := torture.Judge(h, frozen, released, got)
	t.Logf("%d records checked", v.Checked)
	if !v.Good() {
		t.Error(v)
	}
	if v.Checked == 0 {
		t.Error("nothing was checked")
	}
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, errA := os.ReadFile(a)
	y, errB := os.ReadFile(b)
	fx, errC := os.Stat(a)
	fy, errD := os.Stat(b)
	if errA != nil || errB != nil || errC != nil || errD != nil {
		t.Fatal(errA, errB, errC, errD)
	}
	if !bytes.Equal(x, y) || fx.Mode() != fy.Mode() || !fx.ModTime().Equal(fy.ModTime()) {
		t.Errorf("%s was not kept as it is", filepath.Base(a))
	}
}

// await polls until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
