package reader

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestIndexBlobsThatCount(t *testing.T) {
	for names, want := range map[string]string{
		"":                "",
		"xn0_a-s1-c1":     "xn0_a-s1-c1",
		"xn0_a xn1_b":     "xn0_a xn1_b",
		"xn0_a xn2_b":     "xn0_a", // nobody writes so far ahead
		"xn0_a xn2_b xe1": "xn0_a xn2_b",
		// A merge counts two epochs later, if it is whole.
		"xe1 xn0_a xs0_m-s1-c1":                                    "xn0_a",
		"xe2 xn0_a xn1_b xs0_m-s1-c1":                              "xs0_m-s1-c1 xn1_b",
		"xe2 xn0_a xs0_m-s1-c2":                                    "xn0_a",
		"xe2 xn0_a xs0_m-s1-c2 xs0_n-s2-c2 xs0_o-s2-c2":            "xs0_n-s2-c2 xs0_o-s2-c2",
		"xe12 xn1_a xn10_b xs1_m-s1-c1 xn12_c xn13_d xs11_x-s1-c1": "xs1_m-s1-c1 xn10_b xn12_c xn13_d",
		// Ranges: the furthest chain, of the fewest.
		"xe9 xs3_m-s1-c1 xn8_a xr0_7_r-s1-c1":                                                "xr0_7_r-s1-c1 xn8_a",
		"xe9 xs3_m-s1-c1 xr0_7_r-s1-c2":                                                      "xs3_m-s1-c1",
		"xe20 xr0_7_r-s1-c1 xr8_15_s-s1-c1 xr9_18_t-s1-c1 xn16_a":                            "xr0_7_r-s1-c1 xr8_15_s-s1-c1 xn16_a",
		"xe20 xr0_7_r-s1-c1 xr8_15_s-s1-c1 xr0_15_u-s1-c1 xn16_a":                            "xr0_15_u-s1-c1 xn16_a",
		"xe20 xr0_7_r-s1-c1 xr8_12_s-s1-c1 xr0_9_u-s1-c1 xr8_7_v-s1-c1 xr8_8_w-s1-c1 xn13_a": "xr0_7_r-s1-c1 xr8_12_s-s1-c1 xn13_a",
		"x xn xn_ xnA_b xn1 xz1_a xe xe1x":                                                   "",
	} {
		got := newEpochs(strings.Fields(names)).count()
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", names, got, want)
		}
	}
	if e := newEpochs([]string{"xw5", "xw1700000000", "xw"}); e.watermark != 1700000000 {
		t.Errorf("watermark %d", e.watermark)
	}
}

func TestEntryThatHolds(t *testing.T) {
	order := []entry{ // each holds over all before it
		{time: 1, deleted: true, pack: "p9"},
		{time: 1, pack: "p1"},
		{time: 1, pack: "p2"},
		{time: 2, deleted: true, pack: "p1"},
		{time: 2, deleted: true, pack: "p2"},
		{time: 2, pack: "p0"},
		{time: 3, deleted: true, pack: "p0"},
	}
	for i, a := range order {
		for j, b := range order {
			if a.holds(b) != (i > j) {
				t.Errorf("%+v over %+v: %v", a, b, a.holds(b))
			}
		}
	}
}

// realIndex returns the plain bytes of an index blob of the fixture.
func realIndex(t testing.TB, v *Vault) []byte {
	t.Helper()
	sealed, err := v.blobs.read(exampleBlob)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := blobIV(exampleBlob)
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.open(sealed, iv)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestIndexCutAndFlipped: no bytes make parseIndex panic.
func TestIndexCutAndFlipped(t *testing.T) {
	b := realIndex(t, open(t, fixture(t), fixturePassword))
	count := func(b []byte) (n int, err error) {
		err = parseIndex(b, func(string, entry) { n++ })
		return n, err
	}
	whole, err := count(b)
	if err != nil || whole == 0 {
		t.Fatalf("%d entries, %v", whole, err)
	}
	for i := range len(b) - 32 { // the last are random
		if n, err := count(b[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes are an index of %d entries", i, len(b), n)
		}
	}
	for i := range b {
		for bit := range 8 {
			c := slices.Clone(b)
			c[i] ^= 1 << bit
			_, _ = count(c)
		}
	}
}

// TestIndexEntry reads an index with all that is optional in it, byte by byte
// as the document says.
func TestIndexEntry(t *testing.T) {
	b := []byte{
		2, 33, 0, 19, 0, 0, 0, 1, 0, 1, 0, 1, 2, 0, 0, 0, 100, // header: 65537 packs, 2 formats
	}
	b = append(b, 'm')
	b = append(b, []byte(strings.Repeat("\xab", 32))...)
	b = append(b,
		0, 0, 1, 0, // time
		0x80, 0, 2, 0, // deleted, offset
		0, 3, 0, // original length
		0, 4, 0, // packed length
		0, 0, // pack
		1,    // format
		1,    // pack, high
		0x56, // lengths, high
	)
	names := uint32(len(b) + 65537*5 + 2*6)
	for i := range 65537 {
		n := byte(1)
		if i == 65536 {
			n = 3
		}
		b = append(b, n, byte(names>>24), byte(names>>16), byte(names>>8), byte(names))
	}
	b = append(b, 0, 0, 0, 0, 3, 0, 0, 0, 0x11, 1, 3, 0)
	b = append(b, "p12"...)
	var got string
	if err := parseIndex(b, func(id string, e entry) { got += fmt.Sprint(id, e) }); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint("m"+strings.Repeat("ab", 32), entry{
		pack: "p12", offset: 0x200, length: 0x5000300, packed: 0x6000400, compression: 0x1101, time: 356, deleted: true,
	})
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
