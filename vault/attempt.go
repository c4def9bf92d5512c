package vault

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// attempt is the context of one call on a vault. It ends when the storage cannot be
// listed: Kopia tries that again until its context has an error, without an end and
// whatever the reason (refreshLocked in internal/epoch, v0.22.3), although the
// storage was tried for as long as makes sense, and said why. It looks at Err after
// each failure, so that is what tells it; Done is the caller's.
type attempt struct {
	context.Context
	failed atomic.Pointer[error]
	over   atomic.Bool // failures are not noted any more
}

type attemptKey struct{}

// newAttempt prepares a caller's context for Kopia.
func newAttempt(ctx context.Context, log *slog.Logger) (context.Context, *attempt) {
	a := &attempt{Context: ctx}
	return withLog(a, log), a
}

// Err implements context.Context: the error of the storage, or the caller's.
func (a *attempt) Err() error {
	if err := a.failed.Load(); err != nil {
		return *err
	}
	return a.Context.Err()
}

// Value implements context.Context.
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// giveUp ends the attempt that ctx belongs to.
func giveUp(ctx context.Context, err error) {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok && !a.over.Load() {
		a.failed.CompareAndSwap(nil, &err)
	}
}
