package vault

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
)

// storageError marks an error that the storage itself gave, in contrast to
// one about the bytes that it gave.
type storageError struct{ err error }

// Error returns the message of the storage.
func (e *storageError) Error() string { return e.err.Error() }

// Unwrap returns the error of the storage.
func (e *storageError) Unwrap() error { return e.err }

// kindOf translates an error of Kopia or of a storage. fallback is the kind of
// one that says nothing else: Corrupt where bytes were read and did not
// authenticate or parse, Internal elsewhere.
func kindOf(err error, fallback colorfast.Kind) colorfast.Kind {
	var ours *colorfast.Error
	var st *storageError
	switch {
	case errors.As(err, &ours):
		return ours.Kind
	case errors.Is(err, format.ErrInvalidPassword):
		return colorfast.Denied
	case errors.Is(err, repo.ErrRepositoryUnavailableDueToUpgradeInProgress):
		return colorfast.Locked
	case isMissing(err), errors.Is(err, blob.ErrInvalidRange):
		return colorfast.Corrupt
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return colorfast.Denied
	case errors.As(err, &st):
		return colorfast.Unreachable
	}
	return fallback
}

// isMissing reports whether err says that something which other stored things
// refer to is not in the storage.
func isMissing(err error) bool {
	return errors.Is(err, blob.ErrBlobNotFound) || errors.Is(err, content.ErrContentNotFound) ||
		errors.Is(err, object.ErrObjectNotFound) || errors.Is(err, manifest.ErrNotFound)
}

// fail wraps err as an error of the kind that it has, with what was tried. An
// end of ctx stays recognizable with errors.Is.
func fail(err error, fallback colorfast.Kind, format string, args ...any) error {
	kind := kindOf(err, fallback)
	var said *explained // a far storage's error says all that there is to say
	if errors.As(err, &said) && !isContext(err) {
		err = said
	}
	if isContext(err) {
		kind = colorfast.Unreachable
	}
	e := colorfast.Errorf(kind, format+": %w", append(args, err)...)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return e.WithHint("make room where the vault lies")
	}
	return e
}

// isContext reports whether err is the end of a context.
func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
