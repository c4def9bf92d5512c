package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/blob"
)

// TestFoldersAreTheSame opens vaults of sftp and webdav as folders, and the other
// way round; what killed writers left there goes with the next maintenance.
func TestFoldersAreTheSame(t *testing.T) {
	eachStorage(t, func(t *testing.T, r *remote) {
		if r.dir == nil {
			t.Skip("no folders")
		}
		place := r.place(t)
		o := r.options(place)
		if err := Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		v := reopen(t, o)
		m, files := contract.Sample(1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		dir, err := r.dir(place)
		if err != nil {
			t.Fatal(err)
		}
		there := reopen(t, Options{URL: dir})
		contract.Whole(t, there, m.ID, files)
		m, files = contract.Sample(2)
		if err := there.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		contract.Whole(t, v, m.ID, files)
		left := filepath.Join(dir, "p", "abc", "x.f.tmp.0123456789abcdef")
		if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-25 * time.Hour)
		fresh := filepath.Join(dir, "y.f.tmp.0123456789abcdef")
		if err := errors.Join(os.Chtimes(left, old, old), os.WriteFile(fresh, []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := v.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(left); err == nil {
			t.Error("a file that was half written yesterday is still there")
		}
		if _, err := os.Stat(fresh); err != nil {
			t.Error("a file that is being written was removed")
		}
	})
}

// TestCacheOfIndexes looks at what lies in the cache, and who believes it.
func TestCacheOfIndexes(t *testing.T) {
	r := sftpRemote(t)
	place := r.place(t)
	o := r.options(place)
	o.CacheDir = filepath.Join(t.TempDir(), "cache")
	var reads readCounter
	o.wrap = func(st blob.Storage) blob.Storage { reads.Storage = st; return &reads }
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v := reopen(t, o)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	reopen(t, o)
	reads.n.Store(0)
	again := reopen(t, o)
	if n := reads.n.Load(); n != 0 {
		t.Errorf("%d indexes were read again", n)
	}
	contract.Whole(t, again, m.ID, files)
	kept, err := filepath.Glob(filepath.Join(o.CacheDir, "indexes", "*", "x*"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("the cache holds %v, %v", kept, err)
	}
	if fi, err := os.Stat(filepath.Dir(kept[0])); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the cache is open to others: %v, %v", fi.Mode(), err)
	}
	dir, err := r.dir(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kept {
		b, err := os.ReadFile(k)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(k)
		is, err := os.ReadFile(filepath.Join(dir, name[:1], name[1:4], name[4:]+".f"))
		if err != nil || string(b[32:]) != string(is) {
			t.Errorf("%s is not as it is stored: %v", name, err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(k, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	contract.Whole(t, reopen(t, o), m.ID, files) // a damaged cache costs time
	for _, k := range kept {                     // damage in the storage is found, whatever the cache says
		name := filepath.Base(k)
		path := filepath.Join(dir, name[:1], name[1:4], name[4:]+".f")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := reopen(t, o).Check(t.Context(), m, colorfast.Stored, nil); err == nil && len(found) == 0 {
		t.Error("the storage's indexes are damaged, and check says nothing")
	}
}

// readCounter counts reads of indexes.
type readCounter struct {
	blob.Storage
	n atomic.Int64
}

func (c *readCounter) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if isIndex(id) {
		c.n.Add(1)
	}
	return c.Storage.GetBlob(ctx, id, offset, length, out)
}

// TestKilledPutsFar kills writers, on each real storage: what they said is stored is
// listed and whole, and nothing else is listed.
func TestKilledPutsFar(t *testing.T) {
	eachStorage(t, func(t *testing.T, r *remote) {
		v, o := r.made(t)
		var env []string
		for k, val := range r.env {
			env = append(env, k+"="+val)
		}
		told := 0
		for range 3 {
			cmd, lines := startChild(t, o.URL, 1000, env...)
			if !lines.Scan() || lines.Text() != "open" {
				t.Fatal("the child did not open the vault")
			}
			kill := time.AfterFunc(time.Duration(300+rand.IntN(1500))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			var ids []colorfast.BackupID
			for lines.Scan() {
				ids = append(ids, colorfast.BackupID(lines.Text()))
			}
			kill.Stop()
			_ = cmd.Wait() // it was killed
			told += len(ids)
			l, err := v.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				if !lists(l, id) {
					t.Errorf("backup %s was reported as stored, and is not listed", id)
				}
			}
		}
		n := wholeVault(t, v, -1)
		m, files := contract.Sample(1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal("next put:", err)
		}
		contract.Whole(t, reopen(t, o), m.ID, files)
		t.Logf("%d were reported as stored, %d are listed and whole", told, n)
	})
}

// TestLimitsFar looks whether limits of bandwidth hold on the way to a server too.
func TestLimitsFar(t *testing.T) {
	const limit = 4 << 20
	eachStorage(t, func(t *testing.T, r *remote) {
		o := r.options(r.place(t))
		if err := Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		o.Limits = Limits{Upload: limit, Download: limit}
		v := reopen(t, o)
		m, files := bigSample(1)
		begin := time.Now()
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		up := time.Since(begin)
		begin = time.Now()
		if found, err := v.Check(t.Context(), m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
			t.Fatal(found, err)
		}
		down := time.Since(begin)
		t.Logf("%d bytes: %v up, %v down", bigSize, up, down)
		const least = time.Second * (bigSize - limit/2) / limit
		if up < least || down < least {
			t.Errorf("faster than the limit: %v up, %v down; want %v at least", up, down, least)
		}
	})
}
