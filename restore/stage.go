package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"colorfast"
	"colorfast/internal/durable"
)

// phase is how far a restore has come, as its journal says. What lies in a
// stage's data directory may be deleted in the phase staging and in no other:
// from the moment before the first rename until the stage is gone, it may be
// the old directory.
//
// A restore by rename may be killed in these states, and the next one
//
//	staging, no data yet or part of it      continues or removes the stage
//	swapping, data is the staged directory  nothing was renamed: as staging
//	swapping, the same, no target, but      finishes: renames data to the target
//	  something kept aside
//	swapping, target is the staged one      finishes: sets data, the old one, aside
//	swapping, no data, target in place      finishes: removes the journal
//
// The staged directory is known by its inode. A restore in place may be killed
// in movingOut and in movingIn, and the next one finishes both.
type phase string

const (
	staging   phase = "staging"
	swapping  phase = "swapping"
	movingOut phase = "moving-out" // everything in the target is old
	movingIn  phase = "moving-in"  // what is in data is still to be moved in
)

// journal says what a stage is. It is replaced as a whole, durably.
type journal struct {
	What      string             `json:"what"` // for a person who finds it
	Format    int                `json:"format"`
	Backup    colorfast.BackupID `json:"backup"`
	Target    string             `json:"target"` // as seen from where the restore ran
	Phase     phase              `json:"phase"`
	StartedAt time.Time          `json:"started_at"`
	PID       int                `json:"pid"`
	Staged    uint64             `json:"staged_inode,omitempty"` // of the data directory
	Old       bool               `json:"old,omitempty"`          // there is an old directory to keep
	Aside     string             `json:"aside,omitempty"`        // name for the old directory
	Top       *colorfast.File    `json:"top,omitempty"`          // the directory itself, as recorded
	Verified  colorfast.Outcome  `json:"verified"`
}

// stage is a directory in which a restore is put together:
//
//	lock          flocked by the process that works on it
//	journal.json  what it is and how far it has come
//	data/         what will be the target
type stage struct {
	home    string // the directory that it lies in
	dir     string
	lock    *os.File
	root    *os.Root // data; all writes go through it
	journal journal
}

func (s *stage) data() string { return filepath.Join(s.dir, "data") }

// close gives back descriptors, and with them the lock.
func (s *stage) close() {
	if s.root != nil {
		s.root.Close()
	}
	if s.lock != nil {
		s.lock.Close()
	}
}

// write makes a phase durable.
func (s *stage) write(p phase) error {
	j := s.journal
	j.Phase = p
	b, err := json.MarshalIndent(&j, "", "  ")
	if err != nil {
		return err
	}
	err = durable.Write(filepath.Join(s.dir, "journal.json"), 0o600, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("write the journal in %q: %w", s.dir, err)
	}
	s.journal = j
	return nil
}

// read reads the journal; fs.ErrNotExist if there is none.
func (s *stage) read() error {
	b, err := os.ReadFile(filepath.Join(s.dir, "journal.json"))
	if err != nil {
		return err
	}
	var j journal
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	switch j.Phase {
	case staging, swapping, movingOut, movingIn:
	default:
		return fmt.Errorf("unknown phase %q", j.Phase)
	}
	if j.Format != 1 || j.Aside != filepath.Base(j.Aside) && j.Aside != "" {
		return errors.New("not of this program's form")
	}
	s.journal = j
	return nil
}

// take locks a stage that exists. Errors: Locked while a process works on it,
// Denied when it is not ours alone.
func (s *stage) take() error {
	info, err := os.Lstat(s.dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(st.Uid) != os.Geteuid() {
		return colorfast.Errorf(colorfast.Denied, "take stage %q: it is not a directory of ours alone", s.dir).
			WithHint("see who made it; then move it away")
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return colorfast.Errorf(colorfast.Locked, "take stage %q: another restore to this target is running", s.dir).
				WithHint("wait for it to end, or stop it")
		}
		return err
	}
	s.lock = f
	return nil
}

// lockHome keeps other restores from making or removing stages in a directory.
// File systems that cannot lock a directory do without.
func lockHome(ctx context.Context, home string) (unlock func(), err error) {
	d, err := os.Open(home)
	if err != nil {
		return nil, err
	}
	for wait := 0; ; wait++ {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return func() { d.Close() }, nil
		}
		if wait == 1000 {
			d.Close()
			return nil, colorfast.Errorf(colorfast.Locked, "lock %q: another program has held it for 20 s", home)
		}
		select {
		case <-ctx.Done():
			d.Close()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// openStage makes the stage, or takes the one of an interrupted restore of the
// same backup.
func (j *job) openStage(ctx context.Context) error {
	home := j.to.home()
	fail := func(err error) error {
		return colorfast.Errorf(kindOf(err), "make a stage in %q: %w", home, err).WithHint("%s", hintOr(err, "restore as a user who may write there"))
	}
	unlock, err := lockHome(ctx, home)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	s := &stage{home: home, dir: filepath.Join(home, j.to.stagePrefix(home)+j.Manifest.ID.Short())}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(err)
	}
	if err := s.take(); err != nil {
		return fail(err)
	}
	j.stage = s
	j.step("stage made")
	if err := s.read(); errors.Is(err, fs.ErrNotExist) {
		s.journal = journal{
			What: "colorfast makes a restore here; run it again to finish it", Format: 1,
			Backup: j.Manifest.ID, Target: j.to.path, StartedAt: j.now(), PID: os.Getpid(),
		}
		if err := s.write(staging); err != nil {
			return errors.Join(fail(err), s.remove())
		}
	} else if err != nil || s.journal.Phase != staging || s.journal.Backup != j.Manifest.ID {
		return colorfast.Errorf(colorfast.Corrupt, "take stage %q: its journal is not one of this restore", s.dir).
			WithHint("see what is in it; then move it away")
	}
	err = durable.SyncDir(home)
	j.step("journal written")
	if err == nil {
		err = os.Mkdir(s.data(), 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		err = os.Chmod(s.data(), 0o700)
	}
	if err == nil {
		s.root, err = os.OpenRoot(s.data())
	}
	if err == nil {
		s.journal.Staged, err = inode(s.data())
	}
	if err == nil {
		err = j.refuseOthers(s)
	}
	if err != nil {
		// Not discard, which would lock home again.
		return errors.Join(fail(err), removeTree(s.data()), s.remove())
	}
	j.step("data made")
	return nil
}

// hintOr returns the hint of an error, or else one for errors of permission.
func hintOr(err error, denied string) string {
	if h := colorfast.HintOf(err); h != "" || kindOf(err) != colorfast.Denied {
		return h
	}
	return denied
}

// refuseOthers sees that ours is the only stage for this target now.
func (j *job) refuseOthers(s *stage) error {
	for _, home := range j.to.homes() {
		for _, dir := range j.stagesIn(home) {
			if dir != s.dir {
				return colorfast.Errorf(colorfast.Locked, "take stage %q: another restore to this target has just begun in %q", s.dir, dir).
					WithHint("wait for it to end, or stop it")
			}
		}
	}
	return nil
}

// stagesIn lists this target's stages in a directory.
func (j *job) stagesIn(home string) []string {
	names, _ := readNames(home)
	var dirs []string
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n, j.to.stagePrefix(home)); ok && len(rest) <= 8 && plainName(rest) {
			dirs = append(dirs, filepath.Join(home, n))
		}
	}
	return dirs
}

// discard removes the stage with all that is in it. It is for the phase
// staging only.
func (s *stage) discard(ctx context.Context) error {
	if s.journal.Phase != staging {
		return fmt.Errorf("stage is in phase %q", s.journal.Phase)
	}
	if err := removeTree(s.data()); err != nil {
		return err
	}
	unlock, err := lockHome(ctx, s.home)
	if err != nil {
		return err
	}
	defer unlock()
	return s.remove()
}

// remove removes a stage that has no data any more; it deletes nothing else.
// The caller holds the lock of the stage's home, so that nobody takes the
// stage meanwhile.
func (s *stage) remove() error {
	if _, err := os.Lstat(s.data()); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data is still in %q", s.dir)
	}
	names, err := readNames(s.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == "journal.json" || n == "lock" || durable.IsTemp(n) {
			if err := os.Remove(filepath.Join(s.dir, n)); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(s.dir); err != nil {
		return err
	}
	return durable.SyncDir(s.home)
}

// removeTree deletes a directory, also where modes that were restored already
// are in the way. It follows no symbolic link.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	walk := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			return os.Chmod(p, 0o700) // before it is read
		}
		return nil
	})
	if walk != nil && !errors.Is(walk, fs.ErrNotExist) {
		return walk
	}
	return os.RemoveAll(dir)
}
