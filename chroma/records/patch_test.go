package records

import (
	"math"
	"slices"
	"strings"
	"testing"

	"colorfast/chroma/sysdb"
)

func TestParsePatchRejects(t *testing.T) {
	for _, s := range []string{`[]`, `1`, `{`, `{"a":1`, `{"a":{}}`, `{"a":[[1]]}`, `{"a":[null]}`, `{"a":1e999}`, `{"a":NaN}`, `{}{}`, `{"a":1} x`} {
		if p, err := parsePatch(s); err == nil && s != `{}` {
			t.Errorf("%s: %v", s, p)
		}
	}
}

func FuzzPatch(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"a":1,"a":null}`, `{"chroma:document":"d\u0000","chroma:uri":"u","f":-0.0,"i":-0,"l":[1,2.5,true,"x"]}`,
		`{"b":9223372036854775808,"a":["x"],"c":[]}`, `{"x":{"y":1}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePatch(s)
		if err != nil {
			return
		}
		less := func(a, b Field) int { return strings.Compare(a.Key, b.Key) }
		if !slices.IsSortedFunc(p, less) {
			t.Fatalf("not sorted: %v", p)
		}
		once := applyPatch(nil, p)
		twice := applyPatch(slices.Clone(once), p)
		if !slices.EqualFunc(once, twice, func(a, b Field) bool { return a.Key == b.Key && a.Value.Equal(b.Value) }) {
			t.Fatalf("%v, then %v", once, twice)
		}
		for _, x := range once {
			if x.Value.Kind == sysdb.Null {
				t.Fatalf("a null stays: %v", once)
			}
		}
		var r Record
		r.split(once)
		_ = r.Hash()
	})
}

// TestHashTellsRecordsApart: no two of these records are the same.
func TestHashTellsRecordsApart(t *testing.T) {
	empty, x := "", "x"
	str := func(s string) Value { return Value{Kind: sysdb.String, Str: s} }
	field := func(k string, v Value) []Field { return []Field{{Key: k, Value: v}} }
	list := []Record{
		{}, {ID: "x"}, {Vector: []byte{}}, {Vector: []byte("x")}, {Document: &empty}, {Document: &x}, {URI: &empty}, {URI: &x},
		{Metadata: field("", str(""))}, {Metadata: field("x", str(""))}, {Metadata: field("", str("x"))},
		{Metadata: field("x", Value{Kind: sysdb.Int})}, {Metadata: field("x", Value{Kind: sysdb.Float})},
		{Metadata: field("x", Value{Kind: sysdb.Float, Float: math.Copysign(0, -1)})}, {Metadata: field("x", Value{Kind: sysdb.Bool})},
		{Metadata: field("x", Value{Kind: sysdb.Bool, Int: 1})}, {Metadata: field("x", Value{Kind: sysdb.Int, Int: 1})},
		{Metadata: field("x", Value{Kind: sysdb.Array, Array: []Value{str("a"), str("b")}})},
		{Metadata: field("x", Value{Kind: sysdb.Array, Array: []Value{str("ab")}})},
		{Metadata: append(field("x", str("a")), field("y", str("b"))...)},
	}
	seen := map[[32]byte]int{}
	for i := range list {
		h := list[i].Hash()
		if j, ok := seen[h]; ok {
			t.Errorf("records %d and %d hash the same", i, j)
		}
		seen[h] = i
	}
	if got := list[1].Append(nil); string(got) != "colorfast record 1\n\x00\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the encoding changed: %q", got)
	}
}
