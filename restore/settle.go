package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"colorfast"
	"colorfast/internal/durable"
)

// settle brings what interrupted restores to this target have left to an end:
// swaps that had begun are finished, stages of other backups removed. It
// reports whether it has finished a restore of the same backup.
func (j *job) settle(ctx context.Context) (same bool, err error) {
	for _, home := range j.to.homes() {
		done, err := j.settleIn(ctx, home)
		if err != nil {
			return false, err
		}
		same = same || done
	}
	return same, nil
}

// settleIn settles the stages in one directory.
func (j *job) settleIn(ctx context.Context, home string) (same bool, err error) {
	dirs := j.stagesIn(home)
	if len(dirs) == 0 {
		return false, nil
	}
	if j.DryRun {
		for _, d := range dirs {
			j.note("the restore would first settle what an interrupted one has left in %q", d)
		}
		return false, nil
	}
	unlock, err := lockHome(ctx, home)
	if err != nil {
		return false, err
	}
	defer unlock()
	for _, d := range dirs {
		done, err := j.settleOne(&stage{home: home, dir: d})
		if err != nil {
			return false, colorfast.Errorf(kindOf(err), "settle the interrupted restore in %q: %w", d, err).
				WithHint("%s", hintOr(err, "run it as the user who began it"))
		}
		same = same || done
	}
	return same, nil
}

// settleOne settles one stage.
func (j *job) settleOne(s *stage) (same bool, err error) {
	defer s.close()
	if err := s.take(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // ended meanwhile
		}
		return false, err
	}
	if err := s.read(); err != nil {
		if _, e := os.Lstat(s.data()); errors.Is(err, fs.ErrNotExist) && errors.Is(e, fs.ErrNotExist) {
			return false, s.remove() // killed before it had begun, or after it had ended
		}
		return false, colorfast.Errorf(colorfast.Corrupt, "read its journal: %w", err).
			WithHint("see what is in %q, for it may be your old data; then move it away", s.dir)
	}
	finished := false
	switch s.journal.Phase {
	case staging:
	case swapping:
		finished, err = j.finishSwap(s)
	default:
		err = j.finishMove(s)
		finished = err == nil
	}
	if err != nil {
		return false, err
	}
	if finished {
		j.log.Warn("interrupted restore finished", "backup", string(s.journal.Backup), "target", j.to.path)
		j.note("the restore of backup %s to this target, interrupted in the middle of its swap, was finished", s.journal.Backup.Short())
		j.rep.Verified = s.journal.Verified
		return s.journal.Backup == j.Manifest.ID, nil
	}
	if s.journal.Phase != staging {
		return false, nil // an unknown directory was kept, and the stage is gone
	}
	if s.journal.Backup == j.Manifest.ID && s.home == j.to.home() {
		return false, nil // openStage will take it
	}
	if err := removeTree(s.data()); err != nil {
		return false, err
	}
	j.note("removed what an interrupted restore of backup %s had staged in %q", s.journal.Backup.Short(), s.dir)
	return false, s.remove()
}

// finishSwap settles a stage in the phase swapping; see phase for the states.
// Where nothing had been renamed, the stage is in the phase staging again.
func (j *job) finishSwap(s *stage) (finished bool, err error) {
	staged := s.journal.Staged
	data, err := inode(s.data())
	if err != nil {
		return false, err
	}
	target, err := inode(j.to.path)
	if err != nil {
		return false, err
	}
	aside := filepath.Join(j.to.parent, s.journal.Aside)
	kept := uint64(0)
	if s.journal.Old {
		if kept, err = inode(aside); err != nil {
			return false, err
		}
	}
	if data == staged {
		if target != 0 || kept == 0 {
			return false, s.write(staging) // nothing was renamed
		}
		if err := unix.Rename(s.data(), j.to.path); err != nil {
			return false, err
		}
		target, data = staged, 0
	}
	if data != 0 {
		// Not the staged directory, so it may be the old one: it is kept.
		if !s.journal.Old {
			aside = j.to.aside(j.now())
		}
		aside, kept = unused(aside), data
		if err := rename(s.data(), aside); err != nil {
			return false, err
		}
	}
	if kept != 0 {
		j.rep.KeptAside = aside
		j.note("%q is what an interrupted restore found at the target, or made of it; it is kept", aside)
	}
	if target == staged {
		if err := sealTop(j.to.path, s.journal.Top); err != nil {
			return false, err
		}
	}
	if err := errors.Join(durable.SyncDir(j.to.parent), durable.SyncDir(s.dir)); err != nil {
		return false, err
	}
	return target == staged, s.remove()
}

// finishMove settles a stage in the phases movingOut and movingIn.
func (j *job) finishMove(s *stage) error {
	j.to.inPlace = true
	if err := j.moveAll(s); err != nil {
		return fmt.Errorf("move its files in: %w", err)
	}
	return nil
}
