package colorfast

import (
	"errors"
	"fmt"
)

// Kind says what sort of thing went wrong, so that doors can map an error to
// an exit code and callers can decide whether to try again. The zero value is
// Internal: an unmarked error never blames the user.
type Kind int

// The kinds. Adapters translate foreign errors into these at their border.
const (
	Internal    Kind = iota // a defect of ours, or a cause that we did not foresee
	Usage                   // the command, a flag, the environment or the configuration is wrong
	NotFound                // the named thing does not exist
	Denied                  // wrong key, or no permission
	Locked                  // somebody else holds it, or has it open
	Unreachable             // cannot be reached now; trying again may help
	Corrupt                 // bytes that do not say what they must
	Unsupported             // understood, but not something colorfast can do
)

var kindNames = [...]string{"internal", "usage", "not found", "denied", "locked", "unreachable", "corrupt", "unsupported"}

// String returns the kind in words, as used in JSON output.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return "internal"
	}
	return kindNames[k]
}

// Error is an error with a kind and, where there is one, the next step for
// the user.
type Error struct {
	Kind Kind
	Err  error
	Hint string // one line without a period; "" means none
}

// Error returns the message of the wrapped error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of the given kind; format and args as in fmt.Errorf,
// with %w to wrap.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// WithHint returns e with the next step for the user.
func (e *Error) WithHint(format string, args ...any) *Error {
	return &Error{Kind: e.Kind, Err: e.Err, Hint: fmt.Sprintf(format, args...)}
}

// KindOf returns the kind of the outermost Error in err's chain, Internal if
// there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// HintOf returns the first hint in err's chain, "" if there is none.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
