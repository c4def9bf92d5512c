package vault

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
)

var nextPassword = NewSecret("another horse, another staple")

// opensWith opens the vault and reads what it lists.
func opensWith(t *testing.T, dir string, p Secret) error {
	t.Helper()
	v, err := Open(t.Context(), Options{URL: dir, Password: p})
	if err != nil {
		return err
	}
	l, err := v.List(t.Context())
	if err == nil && len(l) == 0 {
		t.Error("nothing is listed")
	}
	return errors.Join(err, v.Close(t.Context()))
}

// changed demands that the password was changed in every place.
func changed(t *testing.T, dir string) {
	t.Helper()
	if err := opensWith(t, dir, nextPassword); err != nil {
		t.Fatal("the new password:", err)
	}
	wantKind(t, opensWith(t, dir, password), colorfast.Denied, "")
	settled(t, dir)
}

// settled demands that the three blobs which follow the password belong together.
func settled(t *testing.T, dir string) {
	t.Helper()
	st, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	var f, c, s bytesOut
	for id, out := range map[blob.ID]*bytesOut{formatBlob: &f, formatCopyBlob: &c, configBlob: &s} {
		if err := st.GetBlob(t.Context(), id, 0, -1, out); err != nil {
			t.Fatal(id, err)
		}
	}
	if !bytes.Equal(f.b, c.b) || !opens(f.b, s.b, nextPassword) {
		t.Error("format, copy and settings do not belong together")
	}
	if left, _ := blob.ListAllBlobs(t.Context(), st, "colorfast.rekey"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChangePassword(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	was := v.Fingerprint()
	oldID, err := v.KeyID()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{URL: dir, Password: password}
	wantKind(t, ChangePassword(t.Context(), o, password), colorfast.Usage, "")
	wantKind(t, ChangePassword(t.Context(), o, Secret{}), colorfast.Usage, "")
	wantKind(t, ChangePassword(t.Context(), Options{URL: dir, Password: NewSecret("wrong")}, nextPassword), colorfast.Denied, "")
	wantKind(t, ChangePassword(t.Context(), Options{URL: t.TempDir(), Password: password}, nextPassword), colorfast.NotFound, "")
	if err := opensWith(t, dir, password); err != nil {
		t.Fatal("refusals changed something:", err)
	}
	if err := ChangePassword(t.Context(), o, nextPassword); err != nil {
		t.Fatal(err)
	}
	changed(t, dir)
	if err := ChangePassword(t.Context(), o, nextPassword); err != nil {
		t.Fatal("a second time:", err)
	}
	changed(t, dir)

	// Who had it open goes on, also where Kopia reads the format again.
	more, moreFiles := contract.Next(m, files, 2)
	if err := v.Put(t.Context(), more, moreFiles, nil); err != nil {
		t.Fatal(err)
	}
	now, err := Open(t.Context(), Options{URL: dir, Password: nextPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = now.Close(context.Background()) }()
	contract.Whole(t, now, m.ID, files)
	contract.Whole(t, now, more.ID, moreFiles)
	if is := now.Fingerprint(); is != was {
		t.Errorf("the fingerprint changed from %s to %s", was, is)
	}
	if newID, err := now.KeyID(); err != nil || newID == oldID {
		t.Errorf("the new password has the old one's ID: %v", err)
	}
}

// changing makes a vault with one backup and the storage in it.
func changing(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// age makes leases of the dead old.
func age(t *testing.T, dir string) {
	t.Helper()
	for p := range blobFiles(t, dir) {
		if strings.HasSuffix(p, ".f") && strings.Contains(strings.ReplaceAll(strings.TrimPrefix(p, dir), "/", ""), string(rekeyLease)) {
			past := time.Now().Add(-2 * rekeyLeaseLife)
			if err := os.Chtimes(p, past, past); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// oneOpens demands that one of the two passwords opens the vault after a change
// that ended with err, and says which.
func oneOpens(t *testing.T, dir string, err error) string {
	t.Helper()
	before, after := opensWith(t, dir, password), opensWith(t, dir, nextPassword)
	if (before == nil) == (after == nil) || err == nil && after != nil {
		t.Fatalf("change: %v; old password: %v; new password: %v", err, before, after)
	}
	wantKind(t, errors.Join(before, after), colorfast.Denied, "")
	switch {
	case err == nil:
		return "changed"
	case after == nil:
		return "new, with an error"
	}
	return "old, with an error"
}

// TestChangePasswordDiesAtAnyWrite ends a change at each of its writes and
// deletions, with all that follow or alone, done or not: the old password or the
// new one opens the vault, the same change again finishes it.
func TestChangePasswordDiesAtAnyWrite(t *testing.T) {
	dir := changing(t)
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var l *liar
	lying := Options{URL: dir, Password: password, wrap: func(st blob.Storage) blob.Storage {
		if l == nil {
			l = &liar{Storage: st}
			l.arm(always, always, false)
		}
		return l
	}}
	if err := ChangePassword(t.Context(), lying, nextPassword); err != nil {
		t.Fatal(err)
	}
	writes := l.n
	if writes < 8 {
		t.Fatalf("only %d writes were seen", writes)
	}
	outcome := map[string]int{}
	// The first and the last write take a lease and give it back. Each case costs a
	// score of derived keys, so what is the same as another one is left out.
	for _, c := range []struct {
		dead, done bool
		from, to   int
	}{{true, false, 2, writes - 1}, {false, true, 3, 6}, {false, false, 3, 5}} {
		if !c.dead && testing.Short() {
			break
		}
		for n := c.from; n <= c.to; n++ {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
				t.Fatal(err)
			}
			to := n
			if c.dead {
				to = always
			}
			l.arm(n, to, c.done)
			err := ChangePassword(t.Context(), lying, nextPassword)
			l.arm(always, always, false)
			outcome[oneOpens(t, dir, err)]++
			age(t, dir)
			if err != nil {
				err = ChangePassword(t.Context(), Options{URL: dir, Password: password}, nextPassword)
			}
			if err != nil {
				t.Fatalf("write %d, %+v: again: %v", n, c, err)
			}
			settled(t, dir)
		}
	}
	changed(t, dir)
	t.Logf("%d writes in a change; %v", writes, outcome)
	if outcome["new, with an error"] == 0 || outcome["old, with an error"] == 0 {
		t.Errorf("not every case was seen: %v", outcome)
	}
}

// TestSettingsOutliveADeadChange has settings that must not get lost: those of
// object lock.
func TestSettingsOutliveADeadChange(t *testing.T) {
	dir := changing(t)
	disk, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := noRetention{disk}
	var f bytesOut
	if err := st.GetBlob(t.Context(), formatBlob, 0, -1, &f); err != nil {
		t.Fatal(err)
	}
	j, err := format.ParseKopiaRepositoryJSON(f.b)
	if err != nil {
		t.Fatal(err)
	}
	key, err := j.DeriveFormatEncryptionKeyFromPassword(password.text)
	if err != nil {
		t.Fatal(err)
	}
	want := format.BlobStorageConfiguration{RetentionMode: blob.Governance, RetentionPeriod: 48 * time.Hour}
	if err := j.WriteBlobCfgBlob(t.Context(), st, want, key); err != nil {
		t.Fatal(err)
	}
	seen := func(p Secret) bool {
		v, err := Open(t.Context(), Options{URL: dir, Password: p})
		if err != nil {
			return false
		}
		defer func() { _ = v.Close(t.Context()) }()
		got, err := v.conn.FormatManager().BlobCfgBlob(t.Context())
		if err != nil || got != want {
			t.Errorf("settings: %+v, %v", got, err)
		}
		return true
	}
	// From the fifth on the change itself is done, and fewer writes follow.
	for _, n := range []int{2, 3, 4, 5, 3, 4} {
		var l *liar
		err := ChangePassword(t.Context(), Options{URL: dir, Password: password, wrap: func(st blob.Storage) blob.Storage {
			if l == nil {
				l = &liar{Storage: noRetention{st}}
				l.arm(n, always, false)
			}
			return l
		}}, nextPassword)
		if err == nil {
			t.Fatalf("write %d: no error", n)
		}
		if before, after := seen(password), seen(nextPassword); before == after {
			t.Fatalf("write %d: old password %v, new password %v", n, before, after)
		}
		age(t, dir)
	}
	if err := ChangePassword(t.Context(), Options{URL: dir, Password: password, wrap: func(st blob.Storage) blob.Storage { return noRetention{st} }}, nextPassword); err != nil {
		t.Fatal(err)
	}
	changed(t, dir)
	if !seen(nextPassword) {
		t.Error("the new password does not open it")
	}
}

// noRetention takes blobs that are to be locked, and does not lock them.
type noRetention struct{ blob.Storage }

func (n noRetention) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	opts.RetentionMode, opts.RetentionPeriod = "", 0
	return n.Storage.PutBlob(ctx, id, data, opts)
}

// TestFormatIsReadAgain does what Kopia does every 15 minutes.
func TestFormatIsReadAgain(t *testing.T) {
	dir := changing(t)
	st, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	clock := func() time.Time { return now }
	open := func(st blob.Storage) *format.Manager {
		m, err := format.NewManager(t.Context(), st, "", time.Second, password.text, clock)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	plain, held := open(st), open(&pinned{Storage: st, password: password})
	if err := ChangePassword(t.Context(), Options{URL: dir, Password: password}, nextPassword); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if _, err := plain.GetMutableParameters(t.Context()); !errors.Is(err, format.ErrInvalidPassword) {
		t.Errorf("without a pin: %v; is it still needed?", err)
	}
	n := held.RefreshCount()
	if _, err := held.GetMutableParameters(t.Context()); err != nil || held.RefreshCount() != n+1 {
		t.Errorf("with a pin: %v, read %d times", err, held.RefreshCount()-n)
	}
}

func TestOthersPutWhileThePasswordChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	newVault(t, dir)
	const puts = 8
	cmd, lines := startChild(t, dir, puts)
	if !lines.Scan() || lines.Text() != "open" || !lines.Scan() { // one is stored
		t.Fatal("the child did not put a backup")
	}
	if err := ChangePassword(t.Context(), Options{URL: dir, Password: password}, nextPassword); err != nil {
		t.Fatal(err)
	}
	stored := 1
	for lines.Scan() {
		stored++
	}
	if err := cmd.Wait(); err != nil || stored != puts {
		t.Errorf("the child: %d stored, %v", stored, err)
	}
	if stored == 1 {
		t.Error("nothing was stored after the change")
	}
	changed(t, dir)
	v, err := Open(t.Context(), Options{URL: dir, Password: nextPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close(context.Background()) }()
	wholeVault(t, v, puts)
}

func TestTwoChangePasswordsAtOnce(t *testing.T) {
	dir := changing(t)
	st, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := takeLeaseOf(t.Context(), st, rekeyLease, rekeyLeaseLife)
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	wantKind(t, ChangePassword(t.Context(), Options{URL: dir, Password: password}, nextPassword), colorfast.Locked, "five minutes")
	if err := l.release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestKeyEvents(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for i, kind := range []colorfast.KeyEventKind{colorfast.KeyVerified, colorfast.KeySet} {
		e := colorfast.KeyEvent{Kind: kind, At: at.Add(time.Duration(-i) * time.Hour), Host: "h", By: "ada", How: "typed", Place: "safe"}
		if err := v.RecordKeyEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	reclaim(t, v) // maintenance without any margin keeps them
	other := reopen(t, Options{URL: dir})
	got, err := other.KeyEvents(t.Context())
	if err != nil || len(got) != 2 || got[0].Kind != colorfast.KeySet || got[1].Kind != colorfast.KeyVerified || !got[1].At.Equal(at) || got[1].Place != "safe" {
		t.Errorf("read back: %+v, %v", got, err)
	}
	if id, err := other.KeyID(); err != nil || got[0].KeyID != id || got[0].Tool == "" {
		t.Errorf("key %q, tool %q, %v", got[0].KeyID, got[0].Tool, err)
	}
	if l, err := other.List(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("%d backups are listed, %v", len(l), err)
	}
	contract.Whole(t, other, m.ID, files)
	for p := range blobFiles(t, dir) {
		if b, err := os.ReadFile(p); err != nil || bytes.Contains(b, []byte("typed")) || bytes.Contains(b, []byte(got[0].KeyID)) {
			t.Errorf("%s shows it, %v", p, err)
		}
	}
}
