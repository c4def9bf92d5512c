package colorfast

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Digest identifies a multiset of records whatever their order: the sum of the
// SHA-256 hashes of its members, modulo 2^256. The zero value is the digest of
// no record at all.
//
// It finds damage and mistakes. It is no proof against somebody who can choose
// records freely; the vault's authenticated encryption is.
type Digest [sha256.Size]byte

// Add adds the hash of one record.
func (d *Digest) Add(h [sha256.Size]byte) {
	var carry uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var s uint64
		s, carry = bits.Add64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(h[i:]), carry)
		binary.BigEndian.PutUint64(d[i:], s)
	}
}

// String returns the digest as 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 2*len(d) {
		return fmt.Errorf("digest %q has %d digits, want %d", b, len(b), 2*len(d))
	}
	_, err := hex.Decode(d[:], b)
	return err
}
