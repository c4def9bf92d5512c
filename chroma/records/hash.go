package records

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"colorfast/chroma/sysdb"
)

// Hash returns the SHA-256 of the record's canonical encoding, the same for
// the same record whatever files it came from. Digests in stored backups depend
// on it: the encoding never changes.
//
// All lengths and counts are 8 bytes, big-endian. A string or byte string is
// its length and its bytes. In order:
//
//	"colorfast record 1\n"  these 19 bytes
//	id                      string
//	vector                  00, or 01 and a byte string (float32, little-endian)
//	document                00, or 01 and a string
//	uri                     00, or 01 and a string
//	metadata                count, then each entry by ascending key: key as a string, then its value
//
// A value is a byte for its kind and: 01 string; 02 int, 8 bytes big-endian
// two's complement; 03 float, the 8 bytes of its IEEE 754 bits, big-endian;
// 04 bool, one byte 00 or 01; 05 array, count and as many values.
func (r *Record) Hash() [sha256.Size]byte {
	var stack [4096]byte
	return sha256.Sum256(r.Append(stack[:0]))
}

// magic begins every encoding.
const magic = "colorfast record 1\n"

// Append appends the canonical encoding of the record to b; see Hash.
func (r *Record) Append(b []byte) []byte {
	b = append(b, magic...)
	b = appendString(b, r.ID)
	if r.Vector == nil {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(len(r.Vector)))
		b = append(b, r.Vector...)
	}
	for _, s := range []*string{r.Document, r.URI} {
		if s == nil {
			b = append(b, 0)
			continue
		}
		b = appendString(append(b, 1), *s)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.Metadata)))
	for i := range r.Metadata {
		b = appendString(b, r.Metadata[i].Key)
		b = appendValue(b, r.Metadata[i].Value)
	}
	return b
}

// appendString appends length and bytes.
func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// appendValue appends kind and content.
func appendValue(b []byte, v Value) []byte {
	b = append(b, byte(v.Kind))
	switch v.Kind {
	case sysdb.String:
		b = appendString(b, v.Str)
	case sysdb.Int:
		b = binary.BigEndian.AppendUint64(b, uint64(v.Int))
	case sysdb.Float:
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v.Float))
	case sysdb.Bool:
		var bit byte
		if v.Int != 0 {
			bit = 1
		}
		b = append(b, bit)
	case sysdb.Array:
		b = binary.BigEndian.AppendUint64(b, uint64(len(v.Array)))
		for i := range v.Array {
			b = appendValue(b, v.Array[i])
		}
	}
	return b
}
