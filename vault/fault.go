package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// trouble is what an error of a far storage means for whoever asked.
type trouble int

const (
	transient trouble = iota // may go away by itself: the network, an overloaded server
	refused                  // we are known, and may not; or are not known
	expired                  // credentials that were good once
	absent                   // the bucket or container is not there
	noRoom                   // no room
	misnamed                 // the URL says something that is not so
	unfit                    // the storage does not understand or cannot do what was asked
)

// fault is an error of a far storage.
type fault struct {
	class trouble
	after time.Duration // the storage asked to wait for so long; 0 if it did not
	err   error
	hint  string // "" for the one of the class
}

// Error implements error.
func (f *fault) Error() string { return f.err.Error() }

// Unwrap returns what the storage said.
func (f *fault) Unwrap() error { return f.err }

// faultOf classes an error; one of which nothing is known may go away.
func faultOf(err error) *fault {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, fs.ErrPermission):
		return &fault{class: refused, err: err}
	case errors.Is(err, syscall.ENOSPC):
		return &fault{class: noRoom, err: err}
	}
	return &fault{err: err}
}

// isAnswer reports whether err is no failure but what the storage has to say.
func isAnswer(err error) bool {
	var ours *colorfast.Error
	return err == nil || errors.As(err, &ours) || errors.Is(err, blob.ErrBlobNotFound) || errors.Is(err, blob.ErrInvalidRange) ||
		errors.Is(err, blob.ErrBlobAlreadyExists) || errors.Is(err, blob.ErrUnsupportedPutBlobOption) || errors.Is(err, blob.ErrSetTimeUnsupported)
}

// bare returns what went wrong with a request without its URL, in which there may
// be a signature.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// byStatus classes an answer of an HTTP server that is no success.
func byStatus(status int) trouble {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return refused
	case http.StatusInsufficientStorage:
		return noRoom
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusLocked, http.StatusConflict:
		return transient
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return unfit
	}
	if status >= 500 {
		return transient
	}
	return unfit
}

// mostAsked is the longest wait that a storage may ask for.
const mostAsked = 30 * time.Second

// retryAfter reads the header of that name, in seconds or as a time.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return min(max(time.Duration(n)*time.Second, 0), mostAsked)
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(t), 0), mostAsked)
	}
	return 0
}

// maxSkew is how far the clocks of this host and of a storage may differ before
// requests are refused for it; the services allow 5 to 15 minutes.
const maxSkew = 4 * time.Minute

// explain makes the one error that a person sees of a fault.
func (s *patient) explain(what string, f *fault, tries int, took time.Duration) error {
	e := colorfast.Errorf(colorfast.Unreachable, "%s %s: %w", what, s.name, f.err)
	if tries > 1 {
		e = colorfast.Errorf(colorfast.Unreachable, "%s %s: tried %d times in %v: %w", what, s.name, tries, took.Round(time.Second/10), f.err)
	}
	hint := "look at the network and the storage, and run it again; what is stored already is not sent again"
	switch f.class {
	case refused, expired:
		e.Kind, hint = colorfast.Denied, s.access
		if f.class == expired {
			hint = "the credentials have expired; renew them and run it again, what is stored already is not sent again"
		}
		if skew := s.clock(); skew.Abs() > maxSkew {
			hint = fmt.Sprintf("this host's clock is %v %s of the storage's; set it (by NTP) and run it again", skew.Abs().Round(time.Second), behind(skew))
		}
	case absent:
		e.Kind, hint = colorfast.NotFound, "make it first, or look at the URL"
	case noRoom:
		hint = "make room where the vault lies, and run it again"
	case misnamed:
		e.Kind, hint = colorfast.Usage, "look at the URL and its parameters"
	case unfit:
		e.Kind, hint = colorfast.Unsupported, "look at the URL and its parameters"
	}
	if f.hint != "" {
		hint = f.hint
	}
	return e.WithHint("%s", hint)
}

// behind says on which side this host's clock is when the storage's is ahead by
// so much.
func behind(ahead time.Duration) string {
	if ahead > 0 {
		return "behind"
	}
	return "ahead"
}

// interrupted returns the end of ctx in the place of what it broke off.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
