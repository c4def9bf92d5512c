package ledger

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"colorfast"
)

// naive is a vault in the plainest form, to compare with.
type naive struct {
	short   int64
	packs   []pack
	pieces  []piece
	objects [][]int
	backups [][]int // objects of each
	sources []int
}

// invent makes a vault up, and the ledger of it.
func invent(r *rand.Rand) (*naive, *Ledger) {
	n := &naive{short: 60}
	l := NewLedger(n.short)
	for range 1 + r.IntN(12) {
		p := pack{0, "pq"[r.IntN(2)]}
		n.packs = append(n.packs, p)
	}
	for range r.IntN(60) {
		c := piece{uint32(r.IntN(len(n.packs))), uint32(r.IntN(30)), r.IntN(10) == 0}
		n.pieces = append(n.pieces, c)
		n.packs[c.pack].length += int64(c.length)
	}
	for i := range n.packs {
		n.packs[i].length += int64(r.IntN(20)) // beside the pieces
		l.AddPack(n.packs[i].group, n.packs[i].length)
	}
	for _, c := range n.pieces {
		l.AddPiece(int(c.pack), int64(c.length), c.keep)
	}
	for range r.IntN(20) {
		var o []int
		if len(n.pieces) > 0 {
			for range r.IntN(6) {
				o = append(o, r.IntN(len(n.pieces))) // maybe the same twice, maybe one of another object
			}
		}
		n.objects = append(n.objects, o)
		l.AddObject(o)
	}
	for b := range r.IntN(150) {
		n.sources = append(n.sources, r.IntN(4))
		l.AddBackup(n.sources[b])
		var uses []int
		if len(n.objects) > 0 {
			for range r.IntN(4) {
				uses = append(uses, r.IntN(len(n.objects)))
				l.Use(b, uses[len(uses)-1])
			}
		}
		n.backups = append(n.backups, uses)
	}
	return n, l
}

// needs returns the pieces that some backups need.
func (n *naive) needs(which func(int) bool) map[int]bool {
	out := map[int]bool{}
	for b, uses := range n.backups {
		if !which(b) {
			continue
		}
		for _, o := range uses {
			for _, p := range n.objects[o] {
				out[p] = true
			}
		}
	}
	return out
}

func (n *naive) bytes(pieces map[int]bool) (sum int64) {
	for p := range pieces {
		sum += int64(n.pieces[p].length)
	}
	return sum
}

// maintained returns the bytes that are left when only some backups are there.
func (n *naive) maintained(which func(int) bool) (sum int64) {
	needed := n.needs(which)
	live := make([]int64, len(n.packs))
	for i, p := range n.pieces {
		if needed[i] || p.keep {
			live[p.pack] += int64(p.length)
		}
	}
	count := map[byte]int{}
	for i, p := range n.packs {
		if live[i] > 0 && live[i] < n.short {
			count[p.group]++
		}
	}
	for i, p := range n.packs {
		switch {
		case live[i] == 0:
		case live[i] < n.short && count[p.group] >= 2:
			sum += live[i]
		default:
			sum += p.length
		}
	}
	return sum
}

func (n *naive) holding(mine func(int) bool) Holding {
	every := func(int) bool { return true }
	others := n.needs(func(b int) bool { return !mine(b) })
	h := Holding{Full: n.bytes(n.needs(mine))}
	for p := range n.needs(mine) {
		if !others[p] && !n.pieces[p].keep {
			h.Alone += int64(n.pieces[p].length)
		}
	}
	h.Shared = h.Full - h.Alone
	h.Freed = n.maintained(every) - n.maintained(func(b int) bool { return !mine(b) })
	return h
}

func TestAgainstThePlainForm(t *testing.T) {
	compared := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		n, l := invent(r)
		for b, got := range l.OfBackups() {
			if want := n.holding(func(x int) bool { return x == b }); got != want {
				t.Fatalf("seed %d, backup %d: %+v, want %+v", seed, b, got, want)
			}
			compared++
		}
		for s, got := range l.OfSources() {
			if want := n.holding(func(x int) bool { return n.sources[x] == s }); got != want {
				t.Fatalf("seed %d, source %d: %+v, want %+v", seed, s, got, want)
			}
		}
		chosen := map[int]bool{}
		for b := range n.backups {
			chosen[b] = r.IntN(2) == 0
		}
		got := l.Without(func(b int) bool { return chosen[b] })
		want := n.holding(func(b int) bool { return chosen[b] })
		if got.Unique != want.Alone || got.Freed != want.Freed {
			t.Fatalf("seed %d, without: %+v, want %+v", seed, got, want)
		}
		totals := l.Totals()
		if totals.Needed+totals.Reclaimable+totals.Held != totals.Packs || totals.Packs-totals.Reclaimable != n.maintained(func(int) bool { return true }) {
			t.Fatalf("seed %d: %+v", seed, totals)
		}
	}
	if compared < 1000 {
		t.Errorf("only %d backups were compared", compared)
	}
}

// TestMemory: a million pieces, which are half a TiB, in as many bytes as the
// ledger says.
func TestMemory(t *testing.T) {
	const pieces, backups = 1 << 20, 200
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := NewLedger(12 << 20)
	for i := range pieces {
		if i%40 == 0 {
			l.AddPack('p', 20<<20)
		}
		l.AddPiece(i/40, 512<<10, false)
	}
	for i := 0; i < pieces; i += 128 {
		o := make([]int, 128)
		for k := range o {
			o[k] = i + k
		}
		l.AddObject(o)
	}
	for b := range backups {
		l.AddBackup(0)
		for o := b; o < pieces/128; o += 1 + b%3 {
			l.Use(b, o)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > pieces*40 {
		t.Errorf("%d bytes for a piece", used/pieces)
	} else {
		t.Logf("%.1f bytes for a piece", float64(used)/pieces)
	}
	h := l.OfBackups()
	if h[0].Full != pieces*(512<<10) || h[0].Alone < 0 {
		t.Errorf("%+v", h[0])
	}
}

func TestPrices(t *testing.T) {
	for s, want := range map[string]Price{
		"0.023/GB-month": {Class: "given", Storage: 0.023}, "$6/TB-month": {Class: "given", Storage: 6.0 / 1024},
		"0.01/gib-month, 0.09/GB": {Class: "given", Storage: 0.01, Egress: 0.09}, "0/GB-month": {Class: "given"},
	} {
		if got, err := ParsePrice(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0.023", "0.023/GB", "x/GB-month", "-1/GB-month", "1/MB-month", "1/GB-month,1/GB-month", "1/GB-month,1/GB,1/GB", "NaN/GB-month", "1e999/GB-month"} {
		if got, err := ParsePrice(s); colorfast.KindOf(err) != colorfast.Usage {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	list, err := ReadPrices(strings.NewReader(`[{"class":"mine","storage_gb_month":0.005,"egress_gb":0.01,"currency":"EUR"}]`))
	if err != nil || len(list) != 1 || list[0].Storage != 0.005 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, s := range []string{"", "[]", "{", `[{"class":""}]`, `[{"class":"x","storage_gb_month":-1}]`, `[{"class":"x","price":1}]`} {
		if _, err := ReadPrices(strings.NewReader(s)); colorfast.KindOf(err) != colorfast.Usage {
			t.Errorf("%q: %v", s, err)
		}
	}
	classes := map[string]bool{}
	for _, p := range ListPrices() {
		if classes[p.Class] || p.Storage <= 0 || p.Egress <= 0 || p.AsOf == "" {
			t.Errorf("%+v", p)
		}
		classes[p.Class] = true
	}
	if n := len(PricesFor(ListPrices(), "s3://bucket")); n == 0 || n == len(classes) {
		t.Errorf("%d prices for S3", n)
	}
	if n := len(PricesFor(ListPrices(), "file:///x")); n != len(classes) {
		t.Errorf("%d prices for a folder", n)
	}
	c := Costs([]Price{{Storage: 0.02, Retrieval: 0.01, Egress: 0.09}}, 100*GB, 10*GB, 50*GB)[0]
	if math.Abs(c.Month-2) > 1e-9 || math.Abs(c.Restore-1) > 1e-9 || math.Abs(c.Change+1) > 1e-9 {
		t.Errorf("%+v", c)
	}
	var shown []string
	for _, m := range []float64{0, 0.001, 1.005, -3} {
		shown = append(shown, Money(m, ""))
	}
	if want := []string{"0 USD", "under 0.01 USD", "1.00 USD", "-3.00 USD"}; !slices.Equal(shown, want) {
		t.Errorf("%q", shown)
	}
}
