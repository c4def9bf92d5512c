package btree

import (
	"encoding/binary"
	"math"
)

// Kind is the kind of a column's value.
type Kind uint8

// The kinds. The zero value is Null.
const (
	Null Kind = iota
	Integer
	Real
	Text
	Blob
)

// String returns the kind as SQLite calls it.
func (k Kind) String() string { return [...]string{"NULL", "INTEGER", "REAL", "TEXT", "BLOB"}[k] }

// Value is the value of a column. Bytes, of text and blobs, are valid until the
// next row is read.
type Value struct {
	Kind  Kind
	Int   int64
	Real  float64
	Bytes []byte
}

// columns takes a record apart and appends its values to dst. What the record
// leaves out, because its table got columns later, the caller takes for Null. It
// returns nil if the record contradicts itself.
func columns(record []byte, dst []Value) []Value {
	head, n := varint(record)
	if n == 0 || head < int64(n) || head > int64(len(record)) {
		return nil
	}
	types, body := record[n:head], record[head:]
	for len(types) > 0 {
		t, n := varint(types)
		if n == 0 || t < 0 {
			return nil
		}
		types = types[n:]
		size := serialSize(t)
		if size < 0 || size > int64(len(body)) {
			return nil
		}
		dst = append(dst, serial(t, body[:size]))
		body = body[size:]
	}
	if len(dst) == 0 {
		return nil
	}
	return dst
}

// serialSize returns the bytes of a value of a serial type, -1 for a type that
// there is none of.
func serialSize(t int64) int64 {
	switch {
	case t < 10:
		return [...]int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}[t]
	case t < 12:
		return -1
	}
	return (t - 12) / 2
}

func serial(t int64, b []byte) Value {
	switch {
	case t == 0:
		return Value{}
	case t <= 6:
		v := int64(int8(b[0]))
		for _, c := range b[1:] {
			v = v<<8 | int64(c)
		}
		return Value{Kind: Integer, Int: v}
	case t == 7:
		f := math.Float64frombits(binary.BigEndian.Uint64(b))
		if math.IsNaN(f) {
			return Value{} // as SQLite reads it
		}
		return Value{Kind: Real, Real: f}
	case t == 8, t == 9:
		return Value{Kind: Integer, Int: t - 8}
	case t%2 == 0:
		return Value{Kind: Blob, Bytes: b}
	}
	return Value{Kind: Text, Bytes: b}
}
