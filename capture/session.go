package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/sysdb"
)

// session is one run of a Capture.
type session struct {
	source    string
	data      string // the copy, below the staging directory
	maxFreeze time.Duration
	prove     func(context.Context, string) ([]colorfast.Finding, error)
	progress  colorfast.Progress
	log       *slog.Logger

	// savesApart: this Chroma saves its index outside of any transaction.
	savesApart bool

	// proven: somebody looks at every copy.
	proven bool

	db       *os.File          // chroma.sqlite3 of the source, for reading; its descriptor carries the locks
	copied   map[string]mirror // by path relative to source: what the staging directory holds
	tree     []entry           // of the last look
	evidence colorfast.Consistency
	findings []colorfast.Finding // about the source, whatever the attempt
	seen     []colorfast.Finding // about the source, in the attempt under way

	remembered *Look // of the attempt under way; nil if later looks cannot be compared
}

// mirror is what is known of a file in the staging directory.
type mirror struct {
	sig     signature
	settled bool // sig was old enough when the copy began that a later write shows
	lasting bool // and shows as long as the kernel runs
}

// open checks the source and makes a session.
func (c *Capture) open() (*session, error) {
	s := &session{
		source:    c.Source,
		data:      filepath.Join(c.Staging, "data"),
		maxFreeze: c.MaxFreeze,
		prove:     c.Prove,
		proven:    c.Prove != nil,
		progress:  c.Progress,
		log:       c.Log,
		copied:    map[string]mirror{},
		evidence:  colorfast.Consistency{Notes: []string{}},
	}
	if err := CheckMaxFreeze(s.maxFreeze); err != nil {
		return nil, err
	}
	if s.maxFreeze == 0 {
		s.maxFreeze = DefaultMaxFreeze
	}
	if s.progress == nil {
		s.progress = colorfast.Quiet{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.prove == nil {
		s.prove = func(context.Context, string) ([]colorfast.Finding, error) { return nil, nil }
	}
	if err := CheckSource(c.Source); err != nil {
		return nil, err
	}
	db, err := openRegular(filepath.Join(s.source, chroma.SQLiteFile))
	if err != nil {
		return nil, denied(err)
	}
	s.db = db
	if name := fileSystemName(s.source); name != "" {
		s.findings = append(s.findings, colorfast.NewFinding(colorfast.SourceNetworkFS, s.source, 0, "the file system is %s", name))
	}
	return s, nil
}

func (s *session) close() {
	if err := s.db.Close(); err != nil {
		s.log.Warn("source not closed", "source", s.source, "err", err)
	}
}

// CheckMaxFreeze reports whether a capture accepts d as its MaxFreeze; the error
// is Usage.
func CheckMaxFreeze(d time.Duration) error {
	if d < 0 || d > LongestFreeze {
		return colorfast.Errorf(colorfast.Usage, "freeze for up to %s: the longest allowed is %s", d, LongestFreeze).
			WithHint("Chroma answers 429 to waiting requests after 30 s")
	}
	return nil
}

// CheckSource reports whether dir is a persist directory that can be captured.
// Errors: NotFound, Unsupported, Denied; their hints name the next step.
func CheckSource(dir string) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return colorfast.Errorf(colorfast.NotFound, "capture %q: there is no such directory", dir).
			WithHint("name the persist directory, the one that holds %s", chroma.SQLiteFile)
	}
	if err != nil {
		return denied(err)
	}
	if !fi.IsDir() {
		return colorfast.Errorf(colorfast.Usage, "capture %q: it is a file", dir).
			WithHint("name the persist directory, the one that holds %s", chroma.SQLiteFile)
	}
	fi, err = os.Lstat(filepath.Join(dir, chroma.SQLiteFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return notChroma(dir)
	case err != nil:
		return denied(err)
	case !fi.Mode().IsRegular():
		return colorfast.Errorf(colorfast.Unsupported, "capture %q: %s is not a regular file", dir, chroma.SQLiteFile).
			WithHint("name the directory in which the file itself lies")
	}
	return nil
}

// notChroma explains a directory without chroma.sqlite3.
func notChroma(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "chroma-embeddings.parquet")); err == nil {
		return colorfast.Errorf(colorfast.Unsupported, "capture %q: it was written by a Chroma before 0.4", dir).
			WithHint("migrate it with chroma-migrate first, and copy it while Chroma is stopped until then")
	}
	e := colorfast.Errorf(colorfast.NotFound, "capture %q: no %s in it, so it is no persist directory of Chroma", dir, chroma.SQLiteFile)
	for _, sub := range []string{"chroma", "chroma_data", "data"} {
		p := filepath.Join(dir, sub)
		if _, err := os.Stat(filepath.Join(p, chroma.SQLiteFile)); err == nil {
			return e.WithHint("%q looks like one", p)
		}
	}
	return e.WithHint("look where the running Chroma has %s open; a mistaken path or volume is the commonest way to lose all data", chroma.SQLiteFile)
}

func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return colorfast.Errorf(colorfast.Denied, "read the source: %w", err).
			WithHint("run colorfast as the user who owns the directory; it needs to read, never to write")
	}
	return fmt.Errorf("read the source: %w", err)
}

// precopy copies everything once while writers go on; it moves almost all
// bytes, so that little is left to do while they wait.
func (s *session) precopy(ctx context.Context) error {
	tree, err := s.look()
	if err != nil {
		return err
	}
	total, need := int64(0), int64(0)
	for _, e := range tree {
		total += e.sig.size
		need += min(e.sig.size, e.sig.allocated)
	}
	staging := filepath.Dir(s.data)
	if have, err := freeBytes(staging); err != nil {
		return err
	} else if have < need+need/20 {
		return colorfast.Errorf(colorfast.Unreachable, "stage the copy in %q: it needs %d MiB and %d MiB are free", staging, (need+need/20)>>20, have>>20).
			WithHint("name a roomier directory with --staging")
	}
	s.progress.Begin("copying", total)
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return fmt.Errorf("stage the copy: %w", err)
	}
	for _, e := range tree {
		n, err := s.refresh(ctx, e)
		if err != nil {
			return err
		}
		s.evidence.PrecopyBytes += n
		s.progress.Advance(e.sig.size)
	}
	s.savesApart = rustEra(s.staged(chroma.SQLiteFile))
	return nil
}

// rustEra reports whether the first copy of the database, which may be torn, is
// surely one of Chroma 1.0 or later: its fifth migration of metadb came with it.
func rustEra(path string) bool {
	db, err := sysdb.Open(path)
	if err != nil {
		return false
	}
	defer db.Close()
	return db.Generation().Metadb >= 5
}

// attempt freezes the source, brings the copy up to date, releases, and proves
// the copy.
func (s *session) attempt(ctx context.Context) (*Cut, error) {
	s.seen = nil
	// Once more without the lock, so that what changed during a long first copy
	// is not copied while writers wait.
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	release, err := s.catchUpDatabase(ctx)
	defer release()
	if err == nil {
		err = s.catchUpSegments(ctx)
	}
	if err != nil {
		return nil, err
	}
	s.progress.Begin("settling", 0)
	f, err := s.frozen(ctx)
	release()
	if err != nil {
		return nil, err
	}
	s.progress.Begin("proving", 0)
	if err := s.fold(f); err != nil {
		return nil, err
	}
	findings, err := s.prove(ctx, s.data)
	if err != nil {
		return nil, err
	}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	return &Cut{Dir: s.data, Files: files, Look: s.remembered, Findings: append(s.seen, findings...)}, nil
}

// frozen is the part of an attempt during which writers wait. The freeze that it
// returns has ended.
func (s *session) frozen(ctx context.Context) (*freeze, error) {
	f, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithCancelCause(ctx)
	fired := make(chan struct{})
	watchdog := time.AfterFunc(s.maxFreeze, func() {
		defer close(fired)
		cancel(fmt.Errorf("%w: the freeze was ended at its bound of %s", errRetry, s.maxFreeze))
		if err := f.release(); err != nil {
			s.log.Error("freeze not released", "source", s.source, "err", err)
		}
	})
	settleErr := s.settle(bounded, f)
	released := time.Now()
	stopped := watchdog.Stop()
	if !stopped {
		<-fired // lest it releases the lock of a later attempt
	}
	closeErr := f.close()
	cause := context.Cause(bounded)
	cancel(nil)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !stopped:
		return nil, cause
	case settleErr != nil:
		return nil, settleErr
	case closeErr != nil:
		return nil, fmt.Errorf("release the source: %w", closeErr)
	}
	if f.unlocked != nil {
		s.seen = append(s.seen, colorfast.NewFinding(colorfast.SourceUnlocked, s.source, 0, "%v", f.unlocked))
	}
	s.evidence.Mode = f.mode
	s.evidence.HotJournal = f.mode == colorfast.HotJournal
	s.evidence.JournalMode = journalMode(f.wal)
	s.evidence.FrozenAt, s.evidence.ReleasedAt = f.start.UTC(), released.UTC()
	s.evidence.FreezeSeconds = released.Sub(f.start).Seconds()
	s.remember(f.start)
	return f, nil
}

func journalMode(wal bool) string {
	if wal {
		return "wal"
	}
	return "rollback"
}
