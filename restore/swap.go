package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"colorfast"
	"colorfast/internal/durable"
)

// database is the file that makes a directory a Chroma's.
const database = "chroma.sqlite3"

// swap puts the staged directory under the target's name.
func (j *job) swap(ctx context.Context) error {
	was := j.to.state
	j.seen, j.blind = j.lookAround()
	err := j.refuseOpen()
	if err == nil {
		wasInPlace := j.to.inPlace
		if err = j.to.inspect(j.seen.Mounts); err == nil && (j.to.state != was && j.to.state != missing || j.to.inPlace != wasInPlace && j.to.state != missing) {
			err = colorfast.Errorf(colorfast.Locked, "swap in %q: it was changed during the restore", j.to.path).
				WithHint("see who writes there, then run the restore again")
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return j.abandon(ctx, err)
	}
	// From here on it is no use to stop.
	s := j.stage
	s.journal.Verified, s.journal.Top = j.rep.Verified, j.tree.byPath["."]
	s.journal.Old = j.to.state == full
	j.rep.KeptAside = ""
	if s.journal.Old {
		j.rep.KeptAside = j.to.aside(j.now())
		s.journal.Aside = filepath.Base(j.rep.KeptAside)
	}
	s.root.Close()
	s.root = nil
	if j.to.inPlace {
		return j.swapInPlace(ctx)
	}
	if err := s.write(swapping); err != nil {
		return j.abandon(ctx, colorfast.Errorf(kindOf(err), "swap in %q: %w", j.to.path, err))
	}
	j.step("swap recorded")
	if err := j.renameIn(); err != nil {
		err = colorfast.Errorf(kindOf(err), "swap in %q: %w", j.to.path, err).WithHint("%s", swapHint(err))
		if back := s.write(staging); back != nil {
			return errors.Join(err, back) // the next restore settles it
		}
		return j.abandon(ctx, err)
	}
	if err := j.finishRename(ctx); err != nil {
		return colorfast.Errorf(kindOf(err), "tidy up after the swap of %q: %w", j.to.path, err).
			WithHint("the target is restored; run the restore again to put the old directory aside")
	}
	return nil
}

// swapHint says what to do when a rename fails.
func swapHint(err error) string {
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
		return "it cannot be renamed (a mount, or a lower layer of a container image); restore to a new directory"
	}
	return hintOr(err, "restore as root, or as the owner of the target and its parent")
}

// renameIn renames the staged directory to the target. On an error, everything
// has its old name.
func (j *job) renameIn() error {
	s := j.stage
	if !s.journal.Old {
		// An empty directory is replaced too; one that is not empty any more is
		// left and makes this fail.
		if err := unix.Rename(s.data(), j.to.path); err != nil {
			return err
		}
		j.step("renamed in")
		return nil
	}
	err := errors.ErrUnsupported
	if !j.noExchange {
		err = exchange(s.data(), j.to.path)
	}
	if err == nil {
		j.step("exchanged")
		return nil
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := rename(j.to.path, j.rep.KeptAside); err != nil {
		return err
	}
	j.step("old moved aside")
	// Nothing may be lost between the two, so the first must be durable.
	err = durable.SyncDir(j.to.parent)
	if err == nil {
		err = unix.Rename(s.data(), j.to.path)
	}
	if err != nil {
		return errors.Join(err, rename(j.rep.KeptAside, j.to.path))
	}
	j.step("new moved in")
	return nil
}

// finishRename puts the old directory aside and removes the stage.
func (j *job) finishRename(ctx context.Context) error {
	s := j.stage
	if err := errors.Join(durable.SyncDir(j.to.parent), durable.SyncDir(s.dir)); err != nil {
		return err
	}
	j.step("swapped")
	old, err := inode(s.data())
	if err != nil {
		return err
	}
	if old != 0 {
		if err := rename(s.data(), j.rep.KeptAside); err != nil {
			return err
		}
		j.step("old set aside")
		if err := errors.Join(durable.SyncDir(j.to.parent), durable.SyncDir(s.dir)); err != nil {
			return err
		}
	}
	if err := sealTop(j.to.path, s.journal.Top); err != nil {
		return err
	}
	return j.removeStage(ctx)
}

// removeStage removes the emptied stage.
func (j *job) removeStage(ctx context.Context) error {
	j.step("before removing the stage")
	unlock, err := lockHome(context.WithoutCancel(ctx), j.stage.home)
	if err != nil {
		return err
	}
	defer unlock()
	return j.stage.remove()
}

// rename renames, and fails if something has the new name already.
func rename(from, to string) error {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// swapInPlace moves the target's entries aside and the staged ones in.
func (j *job) swapInPlace(ctx context.Context) error {
	s := j.stage
	if err := s.write(movingOut); err != nil {
		return j.abandon(ctx, colorfast.Errorf(kindOf(err), "swap in %q: %w", j.to.path, err))
	}
	j.step("move recorded")
	err := j.moveOut(s)
	if err != nil {
		err = colorfast.Errorf(kindOf(err), "move aside what is in %q: %w", j.to.path, err).WithHint("%s", swapHint(err))
		if back := j.moveBack(s); back != nil {
			return errors.Join(err, back)
		}
		return j.abandon(ctx, err)
	}
	if err = j.moveIn(s); err == nil {
		err = j.removeStage(ctx)
	}
	if err != nil {
		return colorfast.Errorf(kindOf(err), "move the restored files into %q: %w", j.to.path, err).
			WithHint("leave Chroma stopped and run the same restore again, which finishes it")
	}
	return nil
}

// moveAll finishes an interrupted restore in place.
func (j *job) moveAll(s *stage) error {
	if s.journal.Phase == movingOut {
		if err := j.moveOut(s); err != nil {
			return err
		}
	}
	if err := j.moveIn(s); err != nil {
		return err
	}
	if s.journal.Aside != "" {
		j.rep.KeptAside = filepath.Join(j.to.path, s.journal.Aside)
		j.note("%q is what was there before", j.rep.KeptAside)
	}
	return s.remove()
}

// setAside moves one entry of the target into the directory for old ones.
func (j *job) setAside(s *stage, name string) error {
	if s.journal.Aside == "" {
		s.journal.Aside = filepath.Base(j.to.aside(j.now()))
		if err := s.write(s.journal.Phase); err != nil {
			return err
		}
	}
	aside := filepath.Join(j.to.path, s.journal.Aside)
	if err := os.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return rename(filepath.Join(j.to.path, name), unused(filepath.Join(aside, name)))
}

// moveOut moves everything that the target holds aside, the database first, so
// that no Chroma can take the half that is left for a whole.
func (j *job) moveOut(s *stage) error {
	names, err := readNames(j.to.path)
	if err != nil {
		return err
	}
	for _, n := range firstDatabase(names) {
		if colorfast.IsAside(n) || n == lostFound {
			continue
		}
		if err := j.setAside(s, n); err != nil {
			return err
		}
		j.step("moved out " + n)
	}
	if err := j.syncInPlace(s); err != nil {
		return err
	}
	if err := s.write(movingIn); err != nil {
		return err
	}
	j.step("all moved out")
	return nil
}

// moveBack undoes moveOut after an error, while nothing has been moved in.
func (j *job) moveBack(s *stage) error {
	if s.journal.Phase != movingOut {
		return fmt.Errorf("stage is in phase %q", s.journal.Phase)
	}
	if s.journal.Aside != "" {
		aside := filepath.Join(j.to.path, s.journal.Aside)
		names, err := readNames(aside)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		names = firstDatabase(names)
		slices.Reverse(names)
		for _, n := range names {
			if err := rename(filepath.Join(aside, n), filepath.Join(j.to.path, n)); err != nil {
				return err
			}
		}
		if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := j.syncInPlace(s); err != nil {
		return err
	}
	return s.write(staging)
}

// moveIn moves the staged entries in, the database last.
func (j *job) moveIn(s *stage) error {
	names, err := readNames(s.data())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names = firstDatabase(names)
	slices.Reverse(names)
	for _, n := range names {
		if n == lostFound {
			if err := os.Remove(filepath.Join(s.data(), n)); err == nil {
				continue // the mount has its own
			}
		}
		if _, err := os.Lstat(filepath.Join(j.to.path, n)); err == nil {
			// Made since everything was moved out, perhaps by a Chroma that was
			// started too early.
			if err := j.setAside(s, n); err != nil {
				return err
			}
		}
		if err := rename(filepath.Join(s.data(), n), filepath.Join(j.to.path, n)); err != nil {
			return err
		}
		j.step("moved in " + n)
	}
	if err := sealTop(j.to.path, s.journal.Top); err != nil {
		return err
	}
	if err := j.syncInPlace(s); err != nil {
		return err
	}
	j.step("all moved in")
	if err := os.Remove(s.data()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(s.dir)
}

// syncInPlace makes the moves durable.
func (j *job) syncInPlace(s *stage) error {
	dirs := []string{j.to.path, s.dir, s.data(), filepath.Join(j.to.path, s.journal.Aside)}
	for _, d := range dirs {
		if err := durable.SyncDir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// firstDatabase sorts names so that SQLite's files come first, the database
// before its journals.
func firstDatabase(names []string) []string {
	slices.Sort(names)
	rank := func(n string) int {
		switch {
		case n == database:
			return 0
		case len(n) > len(database) && n[:len(database)] == database:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}
