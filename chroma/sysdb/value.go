package sysdb

import (
	"fmt"
	"math"
	"strconv"

	"zombiezen.com/go/sqlite"
)

// Kind is the kind of a metadata value. The numbers are part of the canonical
// encoding of records (see records.Record.Hash): never change one.
type Kind uint8

// The kinds. The zero value is no value.
const (
	Null   Kind = 0
	String Kind = 1
	Int    Kind = 2
	Float  Kind = 3
	Bool   Kind = 4
	Array  Kind = 5
)

// String returns the kind in words.
func (k Kind) String() string {
	names := [...]string{"null", "string", "int", "float", "bool", "array"}
	if int(k) < len(names) {
		return names[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Value is a metadata value: exactly one of the fields counts, by Kind.
type Value struct {
	Kind  Kind
	Str   string
	Int   int64 // also a Bool, 0 or 1
	Float float64
	Array []Value // of strings, ints, floats or bools, in order
}

// Bool returns a Bool as Go's own.
func (v Value) Bool() bool { return v.Kind == Bool && v.Int != 0 }

// Any returns the value as string, int64, float64, bool, []any or nil.
func (v Value) Any() any {
	switch v.Kind {
	case String:
		return v.Str
	case Int:
		return v.Int
	case Float:
		return v.Float
	case Bool:
		return v.Int != 0
	case Array:
		out := make([]any, len(v.Array))
		for i := range v.Array {
			out[i] = v.Array[i].Any()
		}
		return out
	}
	return nil
}

// Equal reports whether two values are the same, floats by their bits.
func (v Value) Equal(w Value) bool {
	if v.Kind != w.Kind || v.Str != w.Str || v.Int != w.Int || len(v.Array) != len(w.Array) ||
		math.Float64bits(v.Float) != math.Float64bits(w.Float) {
		return false
	}
	for i := range v.Array {
		if !v.Array[i].Equal(w.Array[i]) {
			return false
		}
	}
	return true
}

// Size returns about how many bytes of memory the value takes.
func (v Value) Size() int {
	n := 64 + len(v.Str)
	for i := range v.Array {
		n += v.Array[i].Size()
	}
	return n
}

// String returns the value for people.
func (v Value) String() string { return fmt.Sprint(v.Any()) }

// Field is one metadata entry.
type Field struct {
	Key   string
	Value Value
}

// value reads four columns from col on: string, int, float, bool. Chroma fills
// one and reads them in this order (rust/segment/src/sqlite_metadata.rs, get).
// SQLite keeps a float column's infinities, and stores no NaN at all.
func (r *row) value(col int) Value {
	if r.stmt.ColumnType(col) != sqlite.TypeNull {
		return Value{Kind: String, Str: r.text(col)}
	}
	if r.stmt.ColumnType(col+1) != sqlite.TypeNull {
		return Value{Kind: Int, Int: r.int(col + 1)}
	}
	switch r.stmt.ColumnType(col + 2) {
	case sqlite.TypeNull:
	case sqlite.TypeFloat, sqlite.TypeInteger:
		return Value{Kind: Float, Float: r.stmt.ColumnFloat(col + 2)}
	default:
		r.fail(col+2, "REAL")
		return Value{}
	}
	if r.stmt.ColumnType(col+3) != sqlite.TypeNull {
		v := Value{Kind: Bool}
		if r.int(col+3) != 0 {
			v.Int = 1
		}
		return v
	}
	return Value{}
}
