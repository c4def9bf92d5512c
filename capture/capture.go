// Package capture takes one consistent copy of a Chroma persist directory while
// Chroma goes on serving.
//
// It never writes into the source and never opens the source's database with
// SQLite: it holds the locks of SQLite's documented protocol on a descriptor of
// its own, opened for reading, and copies bytes. So no journal is rolled back,
// no shared-memory file made and no row written there, and a source that may
// only be read is captured as well as any other. docs/guarantees.md says what a
// capture promises; docs/decisions/0001 says why it is done this way.
//
// Start reading at Capture.Run.
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"colorfast"
)

// Bounds of a capture.
const (
	// DefaultMaxFreeze is how long one attempt may make writers wait. Requests
	// fail only after 30 s, and only when ten others wait already (Chroma's
	// pool: sqlx defaults, read in rust/sqlite, 1.5.9).
	DefaultMaxFreeze = 10 * time.Second
	// LongestFreeze is the largest MaxFreeze that is accepted.
	LongestFreeze = 25 * time.Second

	attempts   = 6
	leastLooks = 3 // before what is found wrong counts as the source's own trouble
)

// Capture copies the source into a staging directory.
type Capture struct {
	Source    string        // persist directory, absolute, symbolic links resolved
	Staging   string        // existing, empty, private directory; the copy's parent
	MaxFreeze time.Duration // 0 means DefaultMaxFreeze

	// Prove looks at a copy and returns what is wrong with it; an error means
	// that it could not look. A copy with fatal findings is taken again, and
	// kept only when the findings stay, for then they are the source's. Nil
	// means that no copy is ever wrong.
	Prove func(ctx context.Context, dir string) ([]colorfast.Finding, error)

	Progress colorfast.Progress // nil shows nothing
	Log      *slog.Logger       // nil is silent
}

// Cut is a consistent copy.
type Cut struct {
	Dir         string // below Staging; if it was proven, without what its database had deleted
	Files       []colorfast.File
	Consistency colorfast.Consistency
	Findings    []colorfast.Finding // about the source, then those of Prove

	// Look is what the source looked like, for LookAt to be compared with. Nil
	// if that would prove nothing, as when something was written just now.
	Look *Look
}

// errRetry marks an attempt that gave no cut, but another one may.
var errRetry = errors.New("no consistent cut in this attempt")

// Run captures. Errors: NotFound, Unsupported and Denied for what the source
// is; Locked when a writer never let go; Unreachable when no attempt gave a
// consistent cut. Whatever happens, no lock is held when it returns.
func (c *Capture) Run(ctx context.Context) (*Cut, error) {
	s, err := c.open()
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.precopy(ctx); err != nil {
		return nil, err
	}
	var before []colorfast.Finding // fatal findings of the attempt before
	for n := 1; ; n++ {
		cut, err := s.attempt(ctx)
		s.evidence.Attempts = n
		switch {
		case errors.Is(err, errRetry) && n < attempts:
			s.note("attempt %d: %v", n, err)
		case err != nil:
			return nil, s.giveUp(err, n)
		default:
			grave := worthAnotherLook(cut.Findings)
			if len(grave) == 0 || (n >= leastLooks && sameFindings(before, grave)) || n == attempts {
				if err := s.clearFree(ctx, cut.Findings); err != nil {
					return nil, err
				}
				cut.Consistency = s.evidence
				cut.Findings = append(slices.Clone(s.findings), cut.Findings...)
				return cut, nil
			}
			s.note("attempt %d: %d findings, the first %s of %s; looking again whether they are the source's", n, len(grave), grave[0].Code, grave[0].Object)
			before = grave
		}
		if err := sleep(ctx, backoff(n)); err != nil {
			return nil, err
		}
	}
}

// backoff returns the pause after attempt n. The second is longer than Chroma's
// longest observed silence inside one save.
func backoff(n int) time.Duration {
	return min(time.Duration(n*n)*300*time.Millisecond, 4*time.Second)
}

func (s *session) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.evidence.Notes = append(s.evidence.Notes, text)
	s.log.Warn("capture attempt repeated", "source", s.source, "reason", text)
}

func (s *session) giveUp(err error, n int) error {
	if !errors.Is(err, errRetry) {
		return err
	}
	return colorfast.Errorf(colorfast.Unreachable, "capture %q: no consistent cut in %d attempts: %w", s.source, n, err).
		WithHint("the source is written too fast or its disk is too slow; try again at a quieter time or raise --max-freeze")
}

// worthAnotherLook returns the findings that may come from the moment of the
// cut and not from the source: fatal ones, and ids whose vectors are in doubt
// because a save ran ahead of the database, which the next moment mends.
func worthAnotherLook(fs []colorfast.Finding) []colorfast.Finding {
	var out []colorfast.Finding
	for _, f := range fs {
		if f.Severity == colorfast.Fatal || f.Code == colorfast.AmbiguousUpdate {
			out = append(out, f)
		}
	}
	return out
}

// sameFindings reports whether a and b, not empty, name the same troubles.
// Their numbers of records may differ, since the source may be written; ids in
// doubt must be the same ones.
func sameFindings(a, b []colorfast.Finding) bool {
	return len(a) > 0 && slices.EqualFunc(a, b, func(x, y colorfast.Finding) bool {
		return x.Code == y.Code && x.Object == y.Object && (x.Code != colorfast.AmbiguousUpdate || x.Detail == y.Detail)
	})
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
