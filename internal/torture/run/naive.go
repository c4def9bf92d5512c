package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma"
	"colorfast/internal/torture"
)

// slowCopy is how long a paced copy takes. The directories of this test are
// small, so that many can be judged; a copy of a real one takes seconds to hours.
const slowCopy = 500 * time.Millisecond

// naiveCopies copies the live directory in the ways that people do today and
// judges the copies, with all the time that the copy took for the judge's doubt.
func (s *series) naiveCopies(ctx context.Context) error {
	for _, way := range []struct {
		name string
		copy func(ctx context.Context, to string) error
	}{
		{"cp -r of the live directory", s.cpR},
		{"cp -r, slowly", func(ctx context.Context, to string) error {
			return s.paced(ctx, to, func(string) bool { return true })
		}},
		{"SQLite backup API, then files, slowly", func(ctx context.Context, to string) error {
			return errors.Join(s.backupAPI(ctx, to), s.paced(ctx, to, inSegment))
		}},
		{"files, then SQLite backup API, slowly", func(ctx context.Context, to string) error {
			return errors.Join(s.paced(ctx, to, inSegment), s.backupAPI(ctx, to))
		}},
	} {
		to := filepath.Join(s.dir, "naive")
		begun := time.Now()
		err := way.copy(ctx, to)
		ended := time.Now()
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		var verdict *torture.Verdict
		if err == nil {
			verdict = s.judgeNaive(ctx, to, begun, ended)
		}
		s.result.judged(way.name, verdict)
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return nil
}

func inSegment(rel string) bool { return chroma.IsUUID(filepath.Dir(rel)) }

// judgeNaive returns nil for a copy that cannot be read at all.
func (s *series) judgeNaive(ctx context.Context, dir string, begun, ended time.Time) *torture.Verdict {
	// Let SQLite roll back or fold in what was copied along, as Chroma would.
	conn, err := sqlite.OpenConn(filepath.Join(dir, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		return nil
	}
	tableErr := sqlitex.ExecuteTransient(conn, "SELECT count(*) FROM collections", nil)
	if err := errors.Join(tableErr, conn.Close()); err != nil {
		return nil
	}
	state, err := readState(ctx, dir, s.dir)
	if err != nil {
		return nil
	}
	return torture.Judge(s.history, begun, ended, state)
}

func (s *series) cpR(ctx context.Context, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-r", s.live, to).CombinedOutput()
	// A file that vanished while cp ran is what its user would shrug at too.
	if err != nil && !strings.Contains(string(out), "No such file") {
		return fmt.Errorf("cp -r: %w: %s", err, out)
	}
	return nil
}

// backupAPI copies the database as "sqlite3 chroma.sqlite3 .backup" does.
func (s *series) backupAPI(ctx context.Context, to string) (err error) {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	src, err := sqlite.OpenConn(filepath.Join(s.live, chroma.SQLiteFile), sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	src.SetBlockOnBusy()
	src.SetInterrupt(ctx.Done())
	dst, err := sqlite.OpenConn(filepath.Join(to, chroma.SQLiteFile), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	b, err := sqlite.NewBackup(dst, "main", src, "main")
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		more, err = b.Step(-1)
		if err != nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy {
			more, err = true, sleep(ctx, time.Millisecond)
		}
	}
	return errors.Join(err, b.Close())
}

// paced copies the chosen files one after another, so slowly that it takes about
// slowCopy in all.
func (s *series) paced(ctx context.Context, to string, choose func(rel string) bool) error {
	files, total, err := s.list(to, choose)
	if err != nil {
		return err
	}
	for _, rel := range files {
		data, err := os.ReadFile(filepath.Join(s.live, rel))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, rel), data, 0o600)
		}
		if err != nil {
			return err
		}
		if err := sleep(ctx, time.Duration(float64(slowCopy)*float64(len(data))/float64(max(total, 1)))); err != nil {
			return err
		}
	}
	return nil
}

// list makes the directories in to and lists the chosen files with their size.
func (s *series) list(to string, choose func(rel string) bool) (files []string, total int64, err error) {
	err = filepath.WalkDir(s.live, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.live, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if fi, err := d.Info(); err == nil && choose(rel) {
			files = append(files, rel)
			total += fi.Size()
		}
		return nil
	})
	return files, total, err
}
