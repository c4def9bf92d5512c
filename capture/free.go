package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/sysdb"
)

// clearFree overwrites the pages of the staged database that its free list names
// as leaves with zeros. They carry nothing, but hold what was deleted: so that
// costs nothing in a vault, and nearly all of it does not get there. (Not all:
// also pages in use have gaps.) The source keeps its bytes.
//
// It comes last, when the copy is proven and final: only if the proof found each
// page in its one place, which SQLite's check is part of, are the pages in the
// list nowhere else. Then SQLite never reads them, and what the proof saw is
// what is stored. So a copy stays as it is, byte by byte, when it has fatal
// findings (also because what was lost may lie in these very pages), when nobody
// has looked at it, and when a journal has remained beside it.
func (s *session) clearFree(ctx context.Context, found []colorfast.Finding) error {
	if !s.proven || colorfast.OutcomeOf(found) != colorfast.Passed {
		return nil
	}
	for _, name := range []string{chroma.JournalFile, chroma.WALFile} {
		if _, err := os.Lstat(s.staged(name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// No further attempt compares the copy with the source; if one did, it would
	// have to do so anew.
	delete(s.copied, chroma.SQLiteFile)
	f, err := os.OpenFile(s.staged(chroma.SQLiteFile), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("clear free pages: %w", err)
	}
	cleared := int64(0)
	err = s.clearLeaves(ctx, f, &cleared)
	var bad *chroma.CorruptError
	if errors.As(err, &bad) {
		s.log.Info("free pages kept", "source", s.source, "reason", bad)
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("clear free pages: %w", err)
	}
	s.log.Debug("free pages cleared", "source", s.source, "bytes", cleared)
	return nil
}

func (s *session) clearLeaves(ctx context.Context, f *os.File, cleared *int64) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return sysdb.FreeLeaves(ctx, f, fi.Size(), func(off, length int64) error {
		*cleared += length
		return clearRange(ctx, f, off, length)
	})
}

// clearRange makes length bytes of f at off zeros: a hole where there can be one.
func clearRange(ctx context.Context, f *os.File, off, length int64) error {
	if punchHole(f, off, length) == nil {
		return nil
	}
	return writeZeros(ctx, f, off, length)
}

func writeZeros(ctx context.Context, f *os.File, off, length int64) error {
	zeros := make([]byte, min(length, block))
	for end := off + length; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}
