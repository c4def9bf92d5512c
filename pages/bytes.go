package pages

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
)

// SumBytes is the length of a Sum.
const SumBytes = 16

// Sum identifies the bytes of a part, under a key.
type Sum [SumBytes]byte

// Hasher makes sums. It is for one goroutine.
//
// A sum is the first half of the SHA-256 of a secret key and the part. Whoever
// does not know the key cannot make two parts with one sum, however many records
// he may write, and by chance two of them meet after 2^64.
type Hasher struct {
	key []byte
	h   hash.Hash
	out [sha256.Size]byte
}

// NewHasher returns a Hasher under a key of 32 bytes.
func NewHasher(key []byte) *Hasher { return &Hasher{key: key, h: sha256.New()} }

// Sum returns the sum of a part.
func (s *Hasher) Sum(part []byte) Sum {
	s.h.Reset()
	s.h.Write(s.key)
	s.h.Write(part)
	return Sum(s.h.Sum(s.out[:0])[:SumBytes])
}

var zeros [4096]byte

// Zero reports whether all bytes of b are 0.
func Zero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// XOR writes to dst where a and b differ. All have one length.
func XOR(dst, a, b []byte) { subtle.XORBytes(dst, a, b) }

// Sparse reports whether so many bytes of b are 0 that a difference which looks
// like b is worth being stored instead of the bytes themselves.
func Sparse(b []byte) bool {
	return 2*bytes.Count(b, zeros[:1]) >= len(b)
}
