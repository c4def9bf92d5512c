package colorfast_test

import (
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"colorfast"
)

func digestOf(members ...[32]byte) colorfast.Digest {
	var d colorfast.Digest
	for _, m := range members {
		d.Add(m)
	}
	return d
}

func TestDigest(t *testing.T) {
	a, b, c := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b")), sha256.Sum256([]byte("c"))
	if digestOf(a, b, c) != digestOf(c, a, b) {
		t.Error("the order counts")
	}
	if digestOf(a) != colorfast.Digest(a) {
		t.Error("one member is not its own digest")
	}
	if digestOf() != (colorfast.Digest{}) {
		t.Error("no member is not the zero value")
	}
	seen := map[colorfast.Digest]string{}
	for name, d := range map[string]colorfast.Digest{
		"": digestOf(), "a": digestOf(a), "aa": digestOf(a, a), "aaa": digestOf(a, a, a), "ab": digestOf(a, b), "abb": digestOf(a, b, b), "aab": digestOf(a, a, b), "c": digestOf(c),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q have the same digest", name, other)
		}
		seen[d] = name
	}
}

// TestDigestIsASum compares with arithmetic of another library, carries and the
// wrap at 2^256 included.
func TestDigestIsASum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var d colorfast.Digest
	sum, wraps := new(big.Int), 0
	limit := new(big.Int).Lsh(big.NewInt(1), 256)
	for range 1000 {
		var m [32]byte
		for i := range m {
			m[i] = byte(rng.Uint32())
			if rng.IntN(4) == 0 {
				m[i] = 0xff // long carries
			}
		}
		d.Add(m)
		if sum.Add(sum, new(big.Int).SetBytes(m[:])); sum.Cmp(limit) >= 0 {
			sum.Sub(sum, limit)
			wraps++
		}
		if want := sum.FillBytes(make([]byte, 32)); string(want) != string(d[:]) {
			t.Fatalf("got %s, want %x", d, want)
		}
	}
	if wraps == 0 {
		t.Error("the sum never wrapped: this test shows little")
	}
}

func TestDigestAsText(t *testing.T) {
	d := digestOf(sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b")))
	b, err := json.Marshal(d)
	if err != nil || string(b) != `"`+d.String()+`"` || len(d.String()) != 64 {
		t.Errorf("%s, %v", b, err)
	}
	var back colorfast.Digest
	if err := json.Unmarshal(b, &back); err != nil || back != d {
		t.Errorf("came back as %s, %v", back, err)
	}
	for _, bad := range []string{"", "00", d.String()[:63], d.String() + "0", strings.Repeat("g", 64)} {
		if err := back.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
