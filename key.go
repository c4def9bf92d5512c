package colorfast

import (
	"strings"
	"time"
)

// Fingerprint names one vault for good: it stays the same when the vault is moved
// or its password is changed. It is 32 hexadecimal digits in groups of four. The
// first half follows from what anybody can read in the vault, the second one from
// its keys, of which it reveals nothing; so whoever gets the whole of it out of a
// vault has its key. The zero value is no fingerprint.
type Fingerprint string

const fingerprintDigits = 32

// NewFingerprint makes a fingerprint of its two halves, 8 bytes each.
func NewFingerprint(vault, key [8]byte) Fingerprint {
	const hex = "0123456789abcdef"
	var out strings.Builder
	for i, b := range append(vault[:], key[:]...) {
		if i > 0 && i%2 == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(hex[b>>4])
		out.WriteByte(hex[b&15])
	}
	return Fingerprint(out.String())
}

// ParseFingerprint reads a fingerprint as a person types it: in capitals or not,
// grouped with hyphens, spaces, or not at all. The error is of kind Usage.
func ParseFingerprint(s string) (Fingerprint, error) {
	digits := strings.NewReplacer("-", "", " ", "", "\t", "").Replace(strings.ToLower(s))
	if len(digits) != fingerprintDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", Errorf(Usage, "read the fingerprint %q: not %d hexadecimal digits", s, fingerprintDigits).
			WithHint("it is on the recovery kit, in eight groups of four")
	}
	var groups []string
	for i := 0; i < len(digits); i += 4 {
		groups = append(groups, digits[i:i+4])
	}
	return Fingerprint(strings.Join(groups, "-")), nil
}

// KeyEventKind says what was done about the key of a vault.
type KeyEventKind string

// The kinds of key events.
const (
	KeySet      KeyEventKind = "set"      // a password was made the vault's
	KeyVerified KeyEventKind = "verified" // a copy kept elsewhere was proven to open the vault
)

// KeyEvent is what a vault remembers of its key: never the key itself.
type KeyEvent struct {
	Kind   KeyEventKind `json:"kind"`
	At     time.Time    `json:"at"`
	Host   string       `json:"host"`            // where it was done
	By     string       `json:"by"`              // who did it
	How    string       `json:"how"`             // set: "given", "made up"; verified: "typed", "piped", "file", "scan"
	Place  string       `json:"place,omitempty"` // verified: where the copy is said to be kept
	Tool   string       `json:"tool"`
	KeyID  string       `json:"key_id"`           // which password it was; means something within the vault only
	Backup BackupID     `json:"backup,omitempty"` // verified: the newest backup, whose manifest was read
}

// MadeUp is KeyEvent.How of a password that colorfast made up.
const MadeUp = "made up"
