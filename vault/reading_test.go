package vault

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/blob"
)

// through opens a new vault through a storage that changes what is read of packs.
func through(t *testing.T, read func(ctx context.Context, n int64) []byte) *Vault {
	t.Helper()
	dir := t.TempDir()
	newVault(t, dir)
	return reopen(t, Options{URL: dir, wrap: func(st blob.Storage) blob.Storage { return &reads{st, read} }})
}

// reads asks before it reads n bytes of a pack, and gives what it is told instead.
type reads struct {
	blob.Storage
	read func(ctx context.Context, n int64) []byte
}

func (s *reads) GetBlob(ctx context.Context, id blob.ID, off, n int64, out blob.OutputBuffer) error {
	if strings.HasPrefix(string(id), "p") {
		b := s.read(ctx, n)
		if err := ctx.Err(); err != nil {
			return err
		}
		if b != nil {
			_, err := out.Write(b)
			return err
		}
	}
	return s.Storage.GetBlob(ctx, id, off, n, out)
}

// TestOneReadersEndIsNotAnothers: two readers wait for the same piece; the
// context of the one that reads it ends.
func TestOneReadersEndIsNotAnothers(t *testing.T) {
	var slow atomic.Bool
	began := make(chan struct{}, 1)
	v := through(t, func(ctx context.Context, _ int64) []byte {
		if slow.Load() {
			select {
			case began <- struct{}{}:
			default:
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
		return nil
	})
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	const path = "seg/data_level0.bin"
	slow.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	first, err := v.Open(ctx, m, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-began
	second, err := v.Open(t.Context(), m, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if b, err := io.ReadAll(second); err != nil || !bytes.Equal(b, files[path].Data) {
			t.Errorf("the reader whose context lives: %d bytes, %v", len(b), err)
		}
	})
	time.Sleep(20 * time.Millisecond) // so that it waits
	cancel()
	wg.Wait()
	for _, r := range []io.Closer{first, second} {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDamagedSumsCostNoRestore: what is stored is whole, and what says which of
// it is new is not.
func TestDamagedSumsCostNoRestore(t *testing.T) {
	var damage atomic.Bool
	v := through(t, func(_ context.Context, n int64) []byte {
		if damage.Load() && n < 1000 { // the table has a piece of its own
			return make([]byte, n)
		}
		return nil
	})
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	m := &colorfast.Manifest{FileList: []colorfast.File{{Path: "a", Type: colorfast.Regular, Size: int64(len(b))}}}
	m.Summarize()
	if err := v.Put(t.Context(), m, fstest.MapFS{"a": {Data: b}}, nil); err != nil {
		t.Fatal(err)
	}
	damage.Store(true)
	for name, older := range map[string]io.ReaderAt{"none": nil, "an older copy": bytes.NewReader(b)} {
		r, err := v.Open(t.Context(), m, "a", older)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
			t.Errorf("over %s: %d bytes, %v", name, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoCacheFolder: where no list of sums can be kept, a backup is slower and no
// worse.
func TestNoCacheFolder(t *testing.T) {
	v := reopen(t, Options{URL: newVault(t, t.TempDir()).opts.URL, CacheDir: "/dev/null/cache"})
	m, files := contract.Sample(1)
	for seed := range uint64(2) {
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		contract.Whole(t, v, m.ID, files)
		m, files = contract.Next(m, files, seed)
	}
}

func TestHostileSizes(t *testing.T) {
	for _, size := range []int64{-1, maxFile + 1, 1<<63 - 1} {
		l := []colorfast.File{{Path: "a", Type: colorfast.Regular, Size: size, Layout: &colorfast.Layout{PageBytes: 1}}}
		if err := checkList(l); err == nil {
			t.Errorf("a file of %d bytes is let in", size)
		}
	}
}
