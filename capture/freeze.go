package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"colorfast"
	"colorfast/chroma"
)

// freeze holds the source still: while it lasts, no transaction can commit.
// Readers are not disturbed, except in mode HotJournal, where nobody can read
// before the journal is rolled back anyway.
type freeze struct {
	mode  colorfast.Mode
	wal   bool
	start time.Time
	shm   *os.File // nil unless locked
	db    *os.File

	unlocked error // why no lock could be had, where that is a worry
	shared   bool  // Optimistic: the shared-memory file was there at the start
}

// How long to look for a gap between write transactions, and how.
const (
	lockWait     = 60 * time.Second       // in all, until the capture gives up
	patience     = 250 * time.Millisecond // looking now and then; enough for all but a writer without pauses
	spinFor      = 30 * time.Millisecond  // looking all the time, to hit even a gap of microseconds
	spinPause    = 5 * time.Millisecond   // between two such stretches
	sharedSpared = 3 * time.Second        // before SHARED alone must do
)

// take freezes the source, waiting for a running write to end. It holds nothing
// while it waits, so that it cannot deadlock with a writer that waits for the
// last reader to leave.
func (s *session) take(ctx context.Context) (*freeze, error) {
	begun := time.Now()
	defer func() { s.evidence.LockWaitSeconds += time.Since(begun).Seconds() }()
	pause, spinUntil := 200*time.Microsecond, time.Time{}
	for {
		waited := time.Since(begun)
		f, err := s.try(waited > sharedSpared && s.savesApart)
		switch {
		case err != nil && noLocks(err):
			return s.optimistic(err)
		case err != nil:
			return nil, fmt.Errorf("lock %q: %w", s.db.Name(), err)
		case f != nil:
			return f, nil
		case waited > lockWait:
			return nil, colorfast.Errorf(colorfast.Locked, "lock %q: another process has been writing for %s", s.db.Name(), lockWait).
				WithHint("see who has it open; a Chroma that hangs in a transaction must be restarted")
		case waited < patience:
			pause = min(2*pause, 5*time.Millisecond)
		case time.Now().Before(spinUntil):
			continue
		default:
			pause, spinUntil = spinPause, time.Now().Add(spinPause+spinFor)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// try takes the locks at once or not at all; nil and no error means that a
// writer is at work. With shared, SHARED is enough in rollback-journal mode.
func (s *session) try(shared bool) (f *freeze, err error) {
	wal, err := isWAL(s.db)
	if err != nil {
		return nil, err
	}
	if !wal && !shared {
		// A look takes nothing from anybody; only then it is worth a lock.
		if active, err := writerActive(s.db); active || err != nil {
			return nil, err
		}
	}
	defer func() {
		if f == nil {
			err = errors.Join(err, unlockAll(s.db))
		}
	}()
	ok, err := tryShared(s.db)
	if !ok || err != nil {
		return nil, err
	}
	// Only now can the journal mode not change any more.
	if wal, err = isWAL(s.db); err != nil {
		return nil, err
	}
	if wal {
		return s.tryWAL()
	}
	return s.tryRollback(shared)
}

// tryRollback goes on from SHARED in rollback-journal mode.
//
// The order matters. A journal that lies there while no writer is active is
// hot: the database is half written, and whoever comes next must roll it back
// before reading. Holding RESERVED would make others believe that the journal
// is a living writer's, and read the half-written database; so with a hot
// journal SHARED alone is held, which nobody can roll back or write past. A
// journal that appears after the look is harmless: our SHARED lock has kept its
// writer from touching the database.
//
// A process that writes without a pause holds RESERVED nearly always. Then, at
// last, SHARED alone is held too: the writer may go on preparing its
// transaction, and can neither write to the database nor commit. While it waits
// for that it lets no new reader in, which is why this comes last. It is not done
// to Python-era Chroma, which saves its index within the transaction: the files
// would be ahead of all that the database can commit to.
func (s *session) tryRollback(shared bool) (*freeze, error) {
	active, err := writerActive(s.db)
	if err != nil {
		return nil, err
	}
	if active {
		if !shared {
			return nil, nil
		}
		return &freeze{mode: colorfast.Shared, start: time.Now(), db: s.db}, nil
	}
	hot, err := hotJournal(filepath.Join(s.source, chroma.JournalFile))
	if err != nil {
		return nil, err
	}
	if hot {
		return &freeze{mode: colorfast.HotJournal, start: time.Now(), db: s.db}, nil
	}
	ok, err := tryLock(s.db, reservedByte, 1)
	if !ok || err != nil {
		return nil, err
	}
	return &freeze{mode: colorfast.Frozen, start: time.Now(), db: s.db}, nil
}

// tryWAL goes on from SHARED in write-ahead-log mode: SHARED on the database
// keeps the last connection from folding the log on closing, the two locks on
// the shared-memory file keep writers and checkpoints out. Without that file
// nobody has the database open, and nothing can be locked without making it:
// then the freeze is optimistic.
func (s *session) tryWAL() (*freeze, error) {
	shm, err := openRegular(filepath.Join(s.source, chroma.SHMFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s.optimistic(nil)
	}
	if errors.Is(err, fs.ErrPermission) {
		return s.optimistic(err)
	}
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(shm, walWriteByte, 1)
	if ok && err == nil {
		ok, err = tryLock(shm, walCheckpointByte, 1)
	}
	if !ok || err != nil {
		return nil, errors.Join(err, shm.Close())
	}
	return &freeze{mode: colorfast.Frozen, wal: true, start: time.Now(), shm: shm, db: s.db}, nil
}

func (s *session) optimistic(why error) (*freeze, error) {
	wal, err := isWAL(s.db)
	return &freeze{mode: colorfast.Optimistic, wal: wal, start: time.Now(), db: s.db, unlocked: why, shared: s.hasSHM()}, err
}

// hasSHM reports whether the shared-memory file is there, as it is while a
// process has a database in write-ahead-log mode open.
func (s *session) hasSHM() bool {
	_, err := os.Lstat(filepath.Join(s.source, chroma.SHMFile))
	return err == nil
}

// needsJournal reports whether a rollback journal belongs to the cut. It does
// not where a lock of ours kept its writer from touching the database.
func (f *freeze) needsJournal() bool {
	return f.mode == colorfast.HotJournal || f.mode == colorfast.Optimistic
}

// release gives all locks back. It may be called more than once and from a
// watchdog.
func (f *freeze) release() error {
	err := unlockAll(f.db)
	if f.shm != nil {
		err = errors.Join(err, unlockAll(f.shm))
	}
	return err
}

// close releases and closes what the freeze has opened.
func (f *freeze) close() error {
	err := f.release()
	if f.shm != nil {
		err = errors.Join(err, f.shm.Close())
	}
	return err
}

// isWAL reports whether the database is in write-ahead-log mode: byte 18 of
// its header, the file format write version, is 2 then (sqlite.org/fileformat2).
// An empty file is a database too, not yet written.
func isWAL(db *os.File) (bool, error) {
	var b [1]byte
	if _, err := db.ReadAt(b[:], 18); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	return b[0] == 2, nil
}

// hotJournal reports whether a rollback journal lies at path that SQLite would
// roll back if no writer is active: it is not empty and does not begin with a
// zero byte (pager.c, hasHotJournal).
func hotJournal(path string) (bool, error) {
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	return b[0] != 0, nil
}
