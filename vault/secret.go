package vault

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a password that does not show itself: printed, logged or
// marshalled it reads "[redacted]". The zero value is no password.
type Secret struct{ text string }

// NewSecret makes a Secret of a password.
func NewSecret(password string) Secret { return Secret{password} }

// IsZero reports whether there is no password.
func (s Secret) IsZero() bool { return s.text == "" }

// Reveal returns the password itself, for the one document that is made to carry it.
func (s Secret) Reveal() string { return s.text }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb shows more than the others.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
