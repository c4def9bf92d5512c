package contract

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
)

// Copyable is a vault whose backups can be copied.
type Copyable interface {
	colorfast.Vault
	colorfast.Replica
}

// Replica runs the suite of colorfast.Replica, and of what Vault.Put promises to
// copies. newVault returns a new, empty vault; the suite closes it.
func Replica(t *testing.T, newVault func(t *testing.T) Copyable) {
	fresh := func(t *testing.T) Copyable {
		v := newVault(t)
		t.Cleanup(func() {
			if err := v.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return v
	}
	t.Run("has a fingerprint of its own", func(t *testing.T) {
		a, b := fresh(t), fresh(t)
		first, again, other := a.Fingerprint(), a.Fingerprint(), b.Fingerprint()
		if len(first) < 16 || first != again || first == other {
			t.Errorf("fingerprints %q, %q and of another vault %q", first, again, other)
		}
	})
	t.Run("reads files at any place", func(t *testing.T) { replicaFiles(t, fresh(t)) })
	t.Run("knows what is alike", func(t *testing.T) { replicaAlike(t, fresh(t)) })
	t.Run("stores no other content than what is sealed", func(t *testing.T) { replicaSealed(t, fresh(t)) })
	t.Run("takes what is alike unread", func(t *testing.T) { replicaUnread(t, fresh(t)) })
	t.Run("keeps where a copy comes from", func(t *testing.T) { replicaOrigin(t, fresh(t)) })
}

func replicaFiles(t *testing.T, v Copyable) {
	m, files := put(t, v, 1)
	stored, err := v.Files(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 7))
	read := 0
	for _, f := range m.FileList {
		if f.Type != colorfast.Regular {
			continue
		}
		in, err := stored.Open(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		want := files[f.Path].Data
		for range 20 {
			off := r.Int64N(f.Size + 10)
			b := make([]byte, r.Int64N(max(f.Size, 1)+10))
			n, err := in.(io.ReaderAt).ReadAt(b, off)
			if rest := max(0, min(int64(len(b)), f.Size-off)); int64(n) != rest || (n < len(b)) != (err == io.EOF) || n == len(b) && err != nil {
				t.Fatalf("%q: %d of %d bytes at %d: %v", f.Path, n, len(b), off, err)
			}
			if n > 0 && !bytes.Equal(b[:n], want[off:off+int64(n)]) {
				t.Fatalf("%q: other bytes at %d", f.Path, off)
			}
			read += n
		}
		if all, err := io.ReadAll(in); err != nil || !bytes.Equal(all, want) {
			t.Errorf("%q as a whole: %v", f.Path, err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	if read == 0 {
		t.Fatal("nothing was read")
	}
	for _, name := range []string{"seg", "no such file", "../x", "link"} {
		if _, err := stored.Open(name); err == nil {
			t.Errorf("%q was opened", name)
		}
	}
	_, err = v.Files(t.Context(), &colorfast.Manifest{Backup: colorfast.Backup{ID: "0123456789abcdef0123456789abcdef"}})
	wantKind(t, err, colorfast.NotFound)
}

func replicaAlike(t *testing.T, v Copyable) {
	m, files := put(t, v, 1)
	next, after := Next(m, files, 1)
	if err := v.Put(t.Context(), next, after, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		older *colorfast.Manifest
		was   fstest.MapFS
	}{{m, files}, {next, after}} {
		spans, err := v.Alike(t.Context(), next, c.older)
		if err != nil {
			t.Fatal(err)
		}
		for path, list := range spans {
			a, b, end, same := after[path].Data, c.was[path].Data, int64(0), int64(0)
			for _, s := range list {
				if s.Offset < end || s.Length <= 0 || !bytes.Equal(a[s.Offset:s.Offset+s.Length], b[s.Offset:s.Offset+s.Length]) {
					t.Fatalf("%q: %+v is not alike, or out of order", path, s)
				}
				end, same = s.Offset+s.Length, same+s.Length
			}
			if path == "seg/data_level0.bin" && same < int64(len(a))/4 {
				t.Errorf("only %d of %d bytes are known to be alike", same, len(a))
			}
		}
		if len(spans["seg/data_level0.bin"]) == 0 {
			t.Error("nothing is known to be alike")
		}
	}
	_, err := v.Alike(t.Context(), next, &colorfast.Manifest{Backup: colorfast.Backup{ID: "0123456789abcdef0123456789abcdef"}})
	wantKind(t, err, colorfast.NotFound)
}

func replicaSealed(t *testing.T, v Copyable) {
	m, files := put(t, v, 1)
	again := *m
	again.ID, again.FileList = "", append([]colorfast.File{}, m.FileList...)
	for i := range again.FileList {
		again.FileList[i].Sealed = again.FileList[i].Type == colorfast.Regular
	}
	bad := fstest.MapFS{}
	for p, f := range files {
		bad[p] = &fstest.MapFile{Data: bytes.Clone(f.Data)}
	}
	bad["deep/a/b/c.txt"].Data[1000] ^= 1
	err := v.Put(t.Context(), &again, bad, nil)
	wantKind(t, err, colorfast.Corrupt)
	list(t, v, 1)
	if err := v.Put(t.Context(), &again, files, nil); err != nil {
		t.Fatal(err)
	}
	Whole(t, v, again.ID, files)
	for _, f := range again.FileList {
		if f.Sealed {
			t.Errorf("%q is still marked as sealed", f.Path)
		}
	}
}

// unread is content of which some spans cannot be read.
type unread struct {
	fs.FS
	never map[string][]colorfast.Span
}

func (u unread) Open(name string) (fs.File, error) {
	f, err := u.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return unreadFile{f, u.never[name]}, nil
}

type unreadFile struct {
	fs.File
	never []colorfast.Span
}

func (u unreadFile) ReadAt(b []byte, off int64) (int, error) {
	for _, s := range u.never {
		if off < s.Offset+s.Length && s.Offset < off+int64(len(b)) {
			return 0, colorfast.Errorf(colorfast.Internal, "bytes from %d were read, which are alike", s.Offset)
		}
	}
	return u.File.(io.ReaderAt).ReadAt(b, off)
}

func replicaUnread(t *testing.T, v Copyable) {
	m, files := put(t, v, 1)
	next, after := Next(m, files, 1)
	if err := v.Put(t.Context(), next, after, nil); err != nil { // so as to know the hashes
		t.Fatal(err)
	}
	spans, err := v.Alike(t.Context(), next, m)
	if err != nil {
		t.Fatal(err)
	}
	again := *next
	again.ID, again.Parent, again.Against = "", "ffffffffffffffffffffffffffffffff", m.ID
	again.FileList = append([]colorfast.File{}, next.FileList...)
	for i := range again.FileList {
		f := &again.FileList[i]
		f.Sealed, f.Alike = f.Type == colorfast.Regular, spans[f.Path]
	}
	if err := v.Put(t.Context(), &again, unread{after, spans}, nil); err != nil {
		t.Fatal(err)
	}
	Whole(t, v, again.ID, after)
	got, err := v.Manifest(t.Context(), again.ID)
	if err != nil || got.Parent != "ffffffffffffffffffffffffffffffff" || got.Against != "" || again.Against != "" {
		t.Errorf("parent %q, against %q, %v", got.Parent, got.Against, err)
	}
	for i, f := range again.FileList {
		if f.SHA256 != next.FileList[i].SHA256 || f.Alike != nil {
			t.Errorf("%q: SHA-256 %q, alike %v", f.Path, f.SHA256, f.Alike)
		}
	}
}

func replicaOrigin(t *testing.T, v Copyable) {
	m, files := Sample(1)
	m.FinishedAt = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	m.Origin = &colorfast.Origin{Vault: "elsewhere", Backup: "b1", CopiedAt: m.FinishedAt.Add(time.Hour)}
	want := *m.Origin
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	got, err := v.Manifest(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []colorfast.Backup{m.Backup, got.Backup, list(t, v, 1)[0]} {
		if b.Origin == nil || *b.Origin != want || !b.FinishedAt.Equal(want.CopiedAt.Add(-time.Hour)) {
			t.Errorf("origin %+v, finished at %v", b.Origin, b.FinishedAt)
		}
		if id := b.Identity(v.Fingerprint()); id != (colorfast.Identity{Vault: "elsewhere", Backup: "b1"}) {
			t.Errorf("identity %+v", id)
		}
	}
}
