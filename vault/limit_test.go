package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/blob"
)

// burst is what a limit allows on top, as the documentation of Limits says.
const burst = time.Second / 4

// passed is what passed a meter at some time.
type passed struct {
	at time.Time
	n  int
}

// traffic is what passed a meter in one direction.
type traffic struct {
	mu     sync.Mutex
	passed []passed
	total  int
}

func (f *traffic) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passed = append(f.passed, passed{time.Now(), n})
	f.total += n
}

// holds fails the test if in any window more passed than the limit allows.
func (f *traffic) holds(t *testing.T, limit, extra int64) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, window := range []time.Duration{time.Second / 10, time.Second, 5 * time.Second, 20 * time.Second} {
		allowed := int(float64(limit)*(window+burst).Seconds()) + int(extra)
		sum, from := 0, 0
		for _, p := range f.passed {
			if p.n > 64<<10 {
				t.Fatalf("%d bytes passed at once", p.n)
			}
			sum += p.n
			for ; p.at.Sub(f.passed[from].at) > window; from++ {
				sum -= f.passed[from].n
			}
			if sum > allowed {
				t.Fatalf("%d bytes in %v of a limit of %d a second; at most %d", sum, window, limit, allowed)
			}
		}
	}
}

// meter is a storage that counts the bytes that go in and out.
type meter struct {
	blob.Storage
	up, down traffic
	reading  bool // puts use the Reader, as uploads over HTTP do
	onGet    func()
}

func (m *meter) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if m.onGet != nil {
		m.onGet()
	}
	return m.Storage.GetBlob(ctx, id, offset, length, &meteredOut{out, &m.down})
}

func (m *meter) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	return m.Storage.PutBlob(ctx, id, &meteredBytes{data, m}, opts)
}

type meteredOut struct {
	blob.OutputBuffer
	traffic *traffic
}

func (o *meteredOut) Write(p []byte) (int, error) {
	n, err := o.OutputBuffer.Write(p)
	o.traffic.add(n)
	return n, err
}

type meteredBytes struct {
	blob.Bytes
	m *meter
}

func (b *meteredBytes) WriteTo(w io.Writer) (int64, error) {
	w = meteredWriter{w, &b.m.up}
	if b.m.reading {
		r := b.Reader()
		n, err := io.Copy(w, struct{ io.Reader }{r})
		return n, errors.Join(err, r.Close())
	}
	return b.Bytes.WriteTo(w)
}

type meteredWriter struct {
	w       io.Writer
	traffic *traffic
}

func (w meteredWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.traffic.add(n)
	return n, err
}

// oneBlob is a storage in memory for one blob.
type oneBlob struct {
	blob.Storage
	mu sync.Mutex
	b  []byte
}

// GetBlob implements blob.Storage.
func (s *oneBlob) GetBlob(_ context.Context, _ blob.ID, _, _ int64, out blob.OutputBuffer) error {
	out.Reset()
	_, err := io.Copy(out, struct{ io.Reader }{bytes.NewReader(s.b)})
	return err
}

// PutBlob implements blob.Storage.
func (s *oneBlob) PutBlob(_ context.Context, _ blob.ID, data blob.Bytes, _ blob.PutOptions) error {
	var b bytes.Buffer
	if _, err := data.WriteTo(&b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = b.Bytes()
	return nil
}

// limitedMeter is a meter of one blob, and the storage under limits above it.
func limitedMeter(l Limits, content []byte) (*meter, blob.Storage) {
	m := &meter{Storage: &oneBlob{b: content}}
	o := Options{Limits: l, wrap: func(blob.Storage) blob.Storage { return m }}
	return m, o.wrapped(nil)
}

// TestLimitsHold moves blobs both ways by several goroutines at a time, with a
// pause in between, under a clock that shows no other delay than the limit's.
func TestLimitsHold(t *testing.T) {
	const workers = 3
	for _, c := range []struct {
		limit int64
		size  int
	}{{1000, 10_000}, {100 << 10, 1 << 20}, {10 << 20, 20 << 20}, {1 << 30, 16 << 20}} {
		synctest.Test(t, func(t *testing.T) {
			content := make([]byte, c.size)
			randomBytes(1, content)
			// One direction is limited at twice what the other one is.
			m, st := limitedMeter(Limits{Upload: c.limit, Download: 2 * c.limit}, content)
			begun := time.Now()
			for range 2 {
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						if err := st.PutBlob(t.Context(), "p1", raw(content), blob.PutOptions{}); err != nil {
							t.Error(err)
						}
						var out bytesOut
						if err := st.GetBlob(t.Context(), "p1", 0, -1, &out); err != nil || !bytes.Equal(out.b, content) {
							t.Errorf("read %d bytes, %v", len(out.b), err)
						}
					})
				}
				wg.Wait()
				time.Sleep(time.Hour)
				m.reading = true
			}
			took := time.Since(begun) - 2*time.Hour
			if m.up.total != 2*workers*c.size || m.down.total != m.up.total {
				t.Errorf("%d bytes up, %d down", m.up.total, m.down.total)
			}
			m.up.holds(t, c.limit, workers*largestPortion)
			m.down.holds(t, 2*c.limit, workers*largestPortion)
			// And it is not a lower one.
			least := time.Duration(float64(m.up.total) / float64(c.limit) * float64(time.Second))
			if took < least-2*burst || took > least+least/2+time.Second {
				t.Errorf("limit %d: %v for what takes %v up and half of it down", c.limit, took, least)
			}
		})
	}
}

func TestNoLimit(t *testing.T) {
	for _, l := range []Limits{{}, {Upload: 1}, {Download: 1}, {Upload: -1, Download: -1}} {
		synctest.Test(t, func(t *testing.T) {
			_, st := limitedMeter(l, make([]byte, 1<<20))
			begun := time.Now()
			var err error
			if l.Upload <= 0 {
				err = st.PutBlob(t.Context(), "p1", raw(make([]byte, 1<<20)), blob.PutOptions{})
			}
			if l.Download <= 0 {
				err = errors.Join(err, st.GetBlob(t.Context(), "p1", 0, -1, &bytesOut{}))
			}
			if err != nil || time.Since(begun) != 0 {
				t.Errorf("%+v: took %v, %v", l, time.Since(begun), err)
			}
		})
	}
}

func TestLimitEndsWithItsContext(t *testing.T) {
	content := make([]byte, 20<<20)
	for name, move := range map[string]func(context.Context, *meter, blob.Storage) error{
		"get": func(ctx context.Context, _ *meter, st blob.Storage) error {
			return st.GetBlob(ctx, "p1", 0, -1, &bytesOut{})
		},
		"put": func(ctx context.Context, _ *meter, st blob.Storage) error {
			return st.PutBlob(ctx, "p1", raw(content), blob.PutOptions{})
		},
		"put by reading": func(ctx context.Context, m *meter, st blob.Storage) error {
			m.reading = true
			return st.PutBlob(ctx, "p1", raw(content), blob.PutOptions{})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, st := limitedMeter(Limits{Upload: 1000, Download: 1000}, content)
			ctx, cancel := context.WithCancel(t.Context())
			begun := time.Now()
			const patience = 10*time.Second + time.Millisecond/3
			time.AfterFunc(patience, cancel)
			err := move(ctx, m, st)
			if took := time.Since(begun); !errors.Is(err, context.Canceled) || took != patience {
				t.Errorf("%s: ended after %v with %v", name, took, err)
			}
			if n := m.up.total + m.down.total; n < 9_000 || n > 10_000 {
				t.Errorf("%s: %d bytes passed", name, n)
			}
		})
	}
}

// TestVaultKeepsItsLimits stores, checks, reads and maintains, and looks at
// every byte that the storage saw. A slow machine can only be slower.
func TestVaultKeepsItsLimits(t *testing.T) {
	dir := t.TempDir()
	newVault(t, dir)
	var meters []*meter
	const up, down = 4 << 20, 5 << 20
	v := reopen(t, Options{URL: dir, Limits: Limits{Upload: up, Download: down}, wrap: func(st blob.Storage) blob.Storage {
		m := &meter{Storage: st}
		meters = append(meters, m)
		return m
	}})
	begun := time.Now()
	m, files := bigSample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var checked atomic.Bool
	wg.Go(func() {
		defer checked.Store(true)
		if found, err := v.Check(t.Context(), m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
			t.Error(found, err)
		}
	})
	for !checked.Load() { // at the same time, by another connection
		contract.Whole(t, v, m.ID, files)
	}
	wg.Wait()
	if err := v.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var sent, got traffic
	for _, m := range meters { // of the vault, and of what Check opened
		sent.passed, sent.total = append(sent.passed, m.up.passed...), sent.total+m.up.total
		got.passed, got.total = append(got.passed, m.down.passed...), got.total+m.down.total
	}
	t.Logf("%d bytes sent, %d bytes got, in %v", sent.total, got.total, time.Since(begun))
	if len(meters) < 2 || sent.total < bigSize || got.total < 2*bigSize {
		t.Errorf("%d connections, %d bytes sent, %d got: not everything was measured", len(meters), sent.total, got.total)
	}
	for _, f := range []*traffic{&sent, &got} {
		slices.SortFunc(f.passed, func(a, b passed) int { return a.at.Compare(b.at) })
	}
	sent.holds(t, up, 1<<20)
	got.holds(t, down, 1<<20)
	if least := time.Duration(float64(bigSize)/up*float64(time.Second)) - burst; time.Since(begun) < least {
		t.Errorf("all was done in %v", time.Since(begun))
	}
}

// prompt is much longer than any machine takes to give up, and much shorter than
// what the limits of these tests would take.
const prompt = time.Minute

func TestPutUnderALimitCanBeInterrupted(t *testing.T) {
	dir := t.TempDir()
	newVault(t, dir)
	var storage *meter
	v := reopen(t, Options{URL: dir, Limits: Limits{Upload: 1000}, wrap: func(st blob.Storage) blob.Storage {
		storage = &meter{Storage: st}
		return storage
	}})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	begun := time.Now()
	m, files := bigSample(1)
	err := v.Put(ctx, m, files, nil)
	if took := time.Since(begun); !errors.Is(err, context.Canceled) || took > prompt {
		t.Errorf("ended after %v with %v", took, err)
	}
	if l, err := v.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("%d listed, %v", len(l), err)
	}
}

// TestOpenUnderALimitCanBeInterrupted ends opening at each blob that it reads.
func TestOpenUnderALimitCanBeInterrupted(t *testing.T) {
	dir := t.TempDir()
	v := newVault(t, dir)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		var gets atomic.Int64
		again, err := Open(ctx, Options{URL: dir, Password: password, Limits: Limits{Download: 16 << 20}, wrap: func(st blob.Storage) blob.Storage {
			return &meter{Storage: st, onGet: func() {
				if gets.Add(1) == n {
					cancel()
				}
			}}
		}})
		if gets.Load() < n { // it was not interrupted any more
			if err != nil || n < 3 {
				t.Fatalf("opened with %d blobs, %v", gets.Load(), err)
			}
			cancel()
			// What was opened outlives the context that it was opened under.
			contract.Whole(t, again, m.ID, files)
			if err := again.Close(t.Context()); err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at blob %d: %v", n, err)
		}
	}
}
