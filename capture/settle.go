package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"colorfast"
	"colorfast/chroma"
)

// catchUp brings the copy up to date without any lock. The result may be torn;
// it only makes the freeze shorter.
func (s *session) catchUp(ctx context.Context) error {
	const rounds = 3
	for range rounds {
		changed, err := s.pass(ctx, func(entry) bool { return true })
		if err != nil {
			return err
		}
		// A round that found little to do leaves little to the freeze.
		if changed < little {
			return nil
		}
	}
	return nil
}

// little is how many bytes are not worth another round.
const little = 8 << 20

// catchUpSegments ends a catching up, so that the freeze need not look at the
// segments again: their vectors may be far larger than the database, and one
// that was saved meanwhile would be compared as a whole while writers wait.
// What counts is therefore the bytes looked at, not those that differed.
func (s *session) catchUpSegments(ctx context.Context) error {
	const rounds = 4
	for range rounds {
		looked := int64(0)
		_, err := s.pass(ctx, func(e entry) bool {
			if !e.segment() || s.fresh(e) {
				return false
			}
			looked += e.sig.size
			return true
		})
		if err != nil || looked < little {
			return err
		}
	}
	return nil
}

// catchUpDatabase catches up with a database in write-ahead-log mode while no
// checkpoint can run. Writers go on, for they append to the log; the database
// itself stays as it is copied here, and the freeze has only the log to copy,
// however large the database is. release lets checkpoints run again.
//
// Nothing depends on it but the freeze's length: whether the copy is good is
// told under the freeze, by signatures, as ever. So whatever does not work here
// is no error. Checkpoints are held off for maxFreeze at most, for meanwhile
// the log grows, and a Chroma that starts waits.
func (s *session) catchUpDatabase(ctx context.Context) (release func(), err error) {
	release = func() {}
	if wal, err := isWAL(s.db); err != nil || !wal {
		return release, nil
	}
	shm, err := openRegular(filepath.Join(s.source, chroma.SHMFile))
	if err != nil {
		return release, nil
	}
	fired := make(chan struct{})
	bound := time.AfterFunc(s.maxFreeze, func() {
		defer close(fired)
		_ = unlockAll(shm)
	})
	release = sync.OnceFunc(func() {
		if !bound.Stop() {
			<-fired // lest it unlocks what gets this descriptor's number next
		}
		_ = shm.Close() // and the lock with it
	})
	for begun := time.Now(); ; {
		ok, err := tryLock(shm, walCheckpointByte, 1)
		if err != nil || time.Since(begun) > patience {
			return release, nil
		}
		if ok {
			break
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return release, err
		}
	}
	// The last checkpoint may have ended just now; only an old stamp will show
	// a change.
	if err := sleep(ctx, stampGrain+stampGrain/4); err != nil {
		return release, err
	}
	_, err = s.pass(ctx, func(e entry) bool { return e.path == chroma.SQLiteFile })
	return release, err
}

// pass looks at the source and copies what changed among the chosen files. It
// returns the bytes that it had to write.
func (s *session) pass(ctx context.Context, choose func(entry) bool) (int64, error) {
	tree, err := s.look()
	if err != nil {
		return 0, err
	}
	s.forget(tree)
	var written int64
	for _, e := range tree {
		if !choose(e) || s.fresh(e) {
			continue
		}
		n, err := s.refresh(ctx, e)
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// fresh reports whether the copy of e is what the source holds.
func (s *session) fresh(e entry) bool {
	c, ok := s.copied[e.path]
	return ok && c.settled && c.sig == e.sig
}

// forget removes from the copy what is no longer in the source.
func (s *session) forget(tree []entry) {
	there := make(map[string]bool, len(tree))
	for _, e := range tree {
		there[e.path] = true
	}
	for path := range s.copied {
		if !there[path] {
			// Only a copy of ours; what cannot be removed shows when it is proven.
			_ = os.RemoveAll(s.staged(path))
			delete(s.copied, path)
		}
	}
}

// settle brings the copy up to date under the freeze.
//
// The database cannot change any more: it is copied once, and looked at again at
// the end. The segments can, for one save that was under way (Chroma's
// LocalCompactionManager does one at a time, and the save's end needs the lock
// that is held here). So they are looked at, copied where changed, and looked
// at again, until nothing has changed: no save ran during the last round, and
// one that starts later is not in the copy at all. A file stamped just now is
// left for the next round, for only then does its stamp prove anything.
func (s *session) settle(ctx context.Context, f *freeze) error {
	choose := func(e entry) bool {
		if e.path == chroma.JournalFile {
			return f.needsJournal()
		}
		return !e.segment() || e.aged()
	}
	for {
		n, err := s.pass(ctx, choose)
		s.evidence.SettledBytes += n
		if err != nil {
			return fmt.Errorf("settle %q: %w", s.source, err)
		}
		steady, err := s.steady()
		if err != nil {
			return err
		}
		if steady {
			return s.heldStill(f)
		}
		choose = func(e entry) bool { return e.segment() && e.aged() }
		if err := sleep(ctx, stampGrain/4); err != nil {
			return err
		}
	}
}

// steady reports whether the segments are now as they were copied.
func (s *session) steady() (bool, error) {
	tree, err := s.look()
	if err != nil {
		return false, err
	}
	segments := 0
	for _, e := range tree {
		if !e.segment() || !e.keepable() {
			continue
		}
		segments++
		if !s.fresh(e) {
			return false, nil
		}
	}
	for path := range s.copied {
		if (entry{path: path}).segment() {
			segments--
		}
	}
	return segments == 0, nil
}

// heldStill checks that the lock did what it promises: the database is as it
// was copied. If not, the locks do not work here, and there is no cut.
func (s *session) heldStill(f *freeze) error {
	names := []string{chroma.SQLiteFile, chroma.WALFile}
	if f.needsJournal() {
		names = append(names, chroma.JournalFile)
	}
	for _, name := range names {
		fi, err := os.Lstat(filepath.Join(s.source, name))
		was, had := s.copied[name]
		switch {
		case errors.Is(err, fs.ErrNotExist) && !had:
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return denied(err)
		case err != nil || !had || !was.sameContent(signatureOf(fi)):
			return fmt.Errorf("%w: %s changed while it was locked", errRetry, name)
		case f.mode == colorfast.Optimistic && !was.settled:
			return fmt.Errorf("%w: %s was written just before it was copied", errRetry, name)
		}
	}
	if f.mode == colorfast.Optimistic && f.shared != s.hasSHM() {
		return fmt.Errorf("%w: a process opened or closed the database meanwhile", errRetry)
	}
	return nil
}

// sameContent compares all but the stamps that a chown or chmod changes.
func (c mirror) sameContent(sig signature) bool {
	return c.sig.size == sig.size && c.sig.mtime == sig.mtime && c.sig.inode == sig.inode
}

// refresh brings the copy of one entry up to date and returns the bytes that it
// had to write. What went away in between is no error: the next look tells.
func (s *session) refresh(ctx context.Context, e entry) (int64, error) {
	dst := s.staged(e.path)
	if fi, err := os.Lstat(dst); err == nil && fi.Mode().Type() != e.info.Mode().Type() {
		// It was something else at an earlier look. Above all a link must go, lest
		// the copy is written through it.
		if err := os.RemoveAll(dst); err != nil {
			return 0, fmt.Errorf("stage the copy: %w", err)
		}
	}
	switch {
	case e.info.IsDir():
		s.copied[e.path] = mirror{sig: e.sig, settled: true}
		return 0, os.MkdirAll(dst, 0o700)
	case e.info.Mode()&fs.ModeSymlink != 0:
		return 0, s.relink(e, dst)
	case !e.regular():
		return 0, nil
	}
	n, m, err := s.update(ctx, e, dst)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return n, err
	}
	s.copied[e.path] = m
	return n, nil
}

func (s *session) relink(e entry, dst string) error {
	target, err := os.Readlink(filepath.Join(s.source, filepath.FromSlash(e.path)))
	if err != nil {
		return nil // went away, or is no link any more
	}
	if err := os.RemoveAll(dst); err != nil {
		return err
	}
	s.copied[e.path] = mirror{sig: e.sig, settled: true}
	return os.Symlink(target, dst)
}
