package vault

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// refusing is a storage that lists or deletes nothing any more.
type refusing struct {
	blob.Storage
	list, remove *bool
}

func (r *refusing) ListBlobs(ctx context.Context, prefix blob.ID, found func(blob.Metadata) error) error {
	if r.list != nil && *r.list {
		return fs.ErrPermission
	}
	return r.Storage.ListBlobs(ctx, prefix, found)
}

func (r *refusing) DeleteBlob(ctx context.Context, id blob.ID) error {
	if r.remove != nil && *r.remove {
		return fs.ErrPermission
	}
	return r.Storage.DeleteBlob(ctx, id)
}

// TestAStorageThatCannotBeListed: Kopia would try again without an end.
func TestAStorageThatCannotBeListed(t *testing.T) {
	dir := t.TempDir()
	m, _ := firstBackup(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	refuse := true
	o := Options{URL: dir, Password: password, wrap: func(st blob.Storage) blob.Storage { return &refusing{Storage: st, list: &refuse} }}
	denied := func(what string, err error) {
		t.Helper()
		if ctx.Err() != nil || colorfast.KindOf(err) != colorfast.Denied || !errors.Is(err, fs.ErrPermission) {
			t.Fatalf("%s: %v; %v", what, err, ctx.Err())
		}
	}
	_, err := Open(ctx, o)
	denied("open", err)
	refuse = false
	v, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close(context.WithoutCancel(ctx)) }()
	refuse = true
	_, err = v.List(ctx)
	denied("list", err)
	refuse = false
	if l, err := v.List(ctx); err != nil || len(l) != 1 || l[0].ID != m.ID {
		t.Errorf("when it can be listed again: %v, %v", l, err)
	}
}

// firstBackup makes a vault with one backup in a folder.
func firstBackup(t *testing.T, dir string) (*colorfast.Manifest, fs.FS) {
	t.Helper()
	v := newVault(t, dir)
	m, files := bigSample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	return m, files
}

// TestAPackThatIsGone is noted as broken, so that later backups store its pieces
// again, whether a parent had them or not.
func TestAPackThatIsGone(t *testing.T) {
	for name, spoil := range map[string]func(string) error{
		"gone":      os.Remove,
		"cut short": func(path string) error { return os.Truncate(path, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m, files := firstBackup(t, dir)
			packs := glob(t, dir+"/p/*/*")
			if err := spoil(packs[0]); err != nil {
				t.Fatal(err)
			}
			o := Options{URL: dir, Password: password}
			for _, level := range []colorfast.Level{colorfast.Stored, colorfast.Bytes} {
				rep, err := RepairVault(t.Context(), o, Repair{Apply: true, Level: level})
				if err != nil || len(rep.After.Hurt) == 0 {
					t.Fatalf("%s: %+v, %v", level, rep, err)
				}
			}
			next := *m
			next.Parent, next.ID = m.ID, ""
			v := reopen(t, o)
			if err := v.Put(t.Context(), &next, files, nil); err != nil {
				t.Fatalf("the next backup: %v", err)
			}
			if found, err := v.Check(t.Context(), &next, colorfast.Bytes, nil); err != nil || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}

// TestALostIndexAndABackupAfterIt: what the later backup has named again does not
// hide what the index has lost.
func TestALostIndexAndABackupAfterIt(t *testing.T) {
	dir := t.TempDir()
	m, files := firstBackup(t, dir)
	if err := os.RemoveAll(dir + "/x"); err != nil {
		t.Fatal(err)
	}
	o := Options{URL: dir, Password: password}
	v := reopen(t, o)
	again := *m
	again.Parent, again.ID = "", ""
	if err := v.Put(t.Context(), &again, files, nil); err != nil {
		t.Fatal(err)
	}
	rep, err := RepairVault(t.Context(), o, Repair{Apply: true, Level: colorfast.Bytes})
	if err != nil || rep.After.Outcome != colorfast.Passed || rep.After.Backups != 2 {
		t.Fatalf("%+v, %v", rep.After, err)
	}
	if found, err := reopen(t, o).Check(t.Context(), m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
		t.Errorf("the first backup: %v, %v", found, err)
	}
}

// TestANewPasswordForADamagedVault: the change ends, and the vault can be repaired.
func TestANewPasswordForADamagedVault(t *testing.T) {
	dir := t.TempDir()
	firstBackup(t, dir)
	flipByte(t, glob(t, dir+"/x/*/*")[0], 40)
	if err := ChangePassword(t.Context(), Options{URL: dir, Password: password}, nextPassword); err == nil {
		t.Error("a vault that does not open passed for proven")
	}
	o := Options{URL: dir, Password: nextPassword}
	rep, err := RepairVault(t.Context(), o, Repair{Apply: true, Level: colorfast.Stored})
	if err != nil || rep.After.Outcome != colorfast.Passed {
		t.Fatalf("%+v, %v", rep, err)
	}
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close(context.WithoutCancel(t.Context())) }()
	if l, err := v.List(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("%v, %v", l, err)
	}
}

// TestANewPasswordWithoutDeleting is refused before anything is written.
func TestANewPasswordWithoutDeleting(t *testing.T) {
	dir := t.TempDir()
	firstBackup(t, dir)
	refuse := true
	o := Options{URL: dir, Password: password, wrap: func(st blob.Storage) blob.Storage { return &refusing{Storage: st, remove: &refuse} }}
	if err := ChangePassword(t.Context(), o, nextPassword); colorfast.KindOf(err) != colorfast.Denied {
		t.Errorf("%v", err)
	}
	rep, err := VerifyVault(t.Context(), Options{URL: dir, Password: password}, Verification{Level: colorfast.Stored})
	if err != nil || rep.Outcome != colorfast.Passed {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestARepairEndsADeadChange: killed between the change and the settings, and never
// called again.
func TestARepairEndsADeadChange(t *testing.T) {
	dir := t.TempDir()
	firstBackup(t, dir)
	st, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &rekey{o: Options{URL: dir, Password: password}, st: &guard{Storage: st}, next: nextPassword}
	now, _, err := r.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	then, err := r.prepare(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.putAside(t.Context(), now, then), st.DeleteBlob(t.Context(), configBlob), r.put(t.Context(), formatBlob, then.format, blob.PutOptions{})); err != nil {
		t.Fatal(err)
	}
	o := Options{URL: dir, Password: nextPassword}
	rep, err := RepairVault(t.Context(), o, Repair{Apply: true, Level: colorfast.Stored})
	if err != nil || rep.After.Outcome != colorfast.Passed {
		t.Fatalf("%+v, %v", rep, err)
	}
	var got bytesOut
	if err := st.GetBlob(t.Context(), configBlob, 0, -1, &got); err != nil || string(got.b) != string(then.config) {
		t.Errorf("the settings: %v", err)
	}
	if err := st.GetBlob(t.Context(), rekeyBlob, 0, -1, &got); !errors.Is(err, blob.ErrBlobNotFound) {
		t.Errorf("the mark: %v", err)
	}
}
