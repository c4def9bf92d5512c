package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/format"
)

// vectors fills b with normally distributed float32.
func vectors(seed uint64, b []byte) {
	r := rand.New(rand.NewPCG(seed, 2))
	for i := 0; i+4 <= len(b); i += 4 {
		u := math.Float32bits(float32(r.NormFloat64()))
		b[i], b[i+1], b[i+2], b[i+3] = byte(u), byte(u>>8), byte(u>>16), byte(u>>24)
	}
}

const (
	benchFiles = 4
	benchSize  = 64 << 20
)

func benchSource(b *testing.B) (*colorfast.Manifest, string) {
	b.Helper()
	dir := b.TempDir()
	m := &colorfast.Manifest{}
	buf := make([]byte, benchSize)
	for i := range benchFiles {
		name := fmt.Sprintf("data_level0.%d.bin", i)
		vectors(uint64(i), buf)
		if err := os.WriteFile(filepath.Join(dir, name), buf, 0o600); err != nil {
			b.Fatal(err)
		}
		m.FileList = append(m.FileList, colorfast.File{Path: name, Type: colorfast.Regular, Size: benchSize})
	}
	m.Summarize()
	return m, dir
}

// BenchmarkPlain is what the others are compared with: one copy with SHA-256,
// synced.
func BenchmarkPlain(b *testing.B) {
	m, dir := benchSource(b)
	b.SetBytes(m.OriginalBytes)
	for b.Loop() {
		to := b.TempDir()
		for i := range m.FileList {
			src, err := os.Open(filepath.Join(dir, m.FileList[i].Path))
			if err != nil {
				b.Fatal(err)
			}
			dst, err := os.Create(filepath.Join(to, m.FileList[i].Path))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.MultiWriter(dst, sha256.New()), src); err != nil {
				b.Fatal(err)
			}
			if err := dst.Sync(); err != nil {
				b.Fatal(err)
			}
			_, _ = src.Close(), dst.Close()
		}
	}
}

func BenchmarkPut(b *testing.B) {
	m, dir := benchSource(b)
	b.SetBytes(m.OriginalBytes)
	for b.Loop() {
		b.StopTimer()
		v := benchVault(b)
		c := *m
		b.StartTimer()
		if err := v.Put(b.Context(), &c, os.DirFS(dir), nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(c.StoredBytes)/float64(c.OriginalBytes), "stored/original")
		if err := v.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkPutUnchanged(b *testing.B) {
	m, dir := benchSource(b)
	v := benchVault(b)
	c := *m
	if err := v.Put(b.Context(), &c, os.DirFS(dir), nil); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(m.OriginalBytes)
	for b.Loop() {
		c := *m
		if err := v.Put(b.Context(), &c, os.DirFS(dir), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func benchVault(b *testing.B) *Vault {
	b.Helper()
	o := Options{URL: b.TempDir(), Password: password}
	if err := Create(b.Context(), o); err != nil {
		b.Fatal(err)
	}
	v, err := Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

func BenchmarkRead(b *testing.B) {
	m, dir := benchSource(b)
	v := benchVault(b)
	if err := v.Put(b.Context(), m, os.DirFS(dir), nil); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(m.OriginalBytes)
	b.Run("one", func(b *testing.B) {
		b.SetBytes(m.OriginalBytes)
		for b.Loop() {
			for i := range m.FileList {
				r, err := v.Open(b.Context(), m, m.FileList[i].Path, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				_ = r.Close()
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		b.SetBytes(m.OriginalBytes)
		for b.Loop() {
			if found, err := v.Check(b.Context(), m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
				b.Fatal(found, err)
			}
		}
	})
}

// TestMeasure compares how a vault may be set up. It runs only on demand:
// COLORFAST_MEASURE=1 go test -run TestMeasure -v ./vault
func TestMeasure(t *testing.T) {
	if os.Getenv("COLORFAST_MEASURE") == "" {
		t.Skip("set COLORFAST_MEASURE to run")
	}
	const size, page = 96 << 20, 4096
	first := make([]byte, size)
	vectors(1, first)
	// A database: 60 runs of up to 20 pages rewritten in place, some rows added.
	second := append(bytes.Clone(first), make([]byte, 1<<20)...)
	vectors(2, second[size:])
	r := rand.New(rand.NewPCG(3, 3))
	for range 60 {
		at := r.IntN(size/page-20) * page
		vectors(r.Uint64(), second[at:at+page*(1+r.IntN(20))])
	}
	for _, c := range []struct{ splitter, hash string }{
		{"FIXED-128K", hashAlgorithm}, {"FIXED-256K", hashAlgorithm}, {"FIXED-1M", hashAlgorithm}, {"FIXED-4M", hashAlgorithm},
		{"DYNAMIC-128K-BUZHASH", hashAlgorithm}, {"DYNAMIC-1M-BUZHASH", hashAlgorithm}, {"DYNAMIC-4M-BUZHASH", hashAlgorithm},
		{"FIXED-128K", "BLAKE2B-256"}, {"FIXED-128K", "HMAC-SHA256"},
	} {
		o := Options{URL: t.TempDir(), Password: password}
		err := repo.Initialize(t.Context(), newDisk(o.URL), &repo.NewRepositoryOptions{
			BlockFormat:  format.ContentFormat{Hash: c.hash, Encryption: encryptionAlgorithm},
			ObjectFormat: format.ObjectFormat{Splitter: c.splitter},
		}, o.Password.text)
		if err != nil {
			t.Fatal(err)
		}
		v := reopen(t, o)
		var line strings.Builder
		for _, b := range [][]byte{first, second} {
			m := &colorfast.Manifest{FileList: []colorfast.File{{Path: "f", Type: colorfast.Regular, Size: int64(len(b))}}}
			t0 := time.Now()
			if err := v.Put(t.Context(), m, fstest.MapFS{"f": {Data: b}}, nil); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&line, "  %6.2f MiB in %4.2f s", float64(m.StoredBytes)/(1<<20), time.Since(t0).Seconds())
		}
		t.Logf("%-22s %-12s%s", c.splitter, c.hash, line.String())
	}
}

func TestMemoryDoesNotGrowWithTheSource(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 600 MB")
	}
	small, large := peak(t, 100), peak(t, 500)
	t.Logf("peak of resident memory: %d KiB for 100 MB, %d KiB for 500 MB", small, large)
	if large > small+small/2+64<<10 {
		t.Errorf("memory grows with the source: %d KiB for 100 MB, %d KiB for 500 MB", small, large)
	}
}

// peak returns the peak memory in KiB of a process that stores, reads and
// checks a backup of so many MB.
func peak(t *testing.T, mb int) int {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	f, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for i := range mb {
		randomBytes(uint64(i), buf)
		if _, err := f.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	vault := filepath.Join(dir, "vault")
	if err := Create(t.Context(), Options{URL: vault, Password: password}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|0|%s", childEnv, vault, dir))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var kib int
	if _, err := fmt.Sscan(string(out), &kib); err != nil {
		t.Skipf("no peak of memory here: %s", out)
	}
	return kib
}

// peakChild stores, reads and checks dir/src, and prints its peak memory.
func peakChild(vault, dir string) error {
	ctx := context.Background()
	v, err := Open(ctx, Options{URL: vault, Password: password})
	if err != nil {
		return err
	}
	fi, err := os.Stat(filepath.Join(dir, "src"))
	if err != nil {
		return err
	}
	m := &colorfast.Manifest{FileList: []colorfast.File{{Path: "src", Type: colorfast.Regular, Size: fi.Size()}}}
	if err := v.Put(ctx, m, os.DirFS(dir), nil); err != nil {
		return err
	}
	if found, err := v.Check(ctx, m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
		return fmt.Errorf("check: %v, %w", found, err)
	}
	if err := printPeak(); err != nil {
		return err
	}
	return v.Close(ctx)
}

// printPeak prints the peak memory of this process in KiB.
func printPeak() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println(strings.Fields(rest)[0])
	return nil
}
