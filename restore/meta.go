package restore

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"colorfast"
)

// fileMode translates the mode of a chmod(2).
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		unix uint32
		mode fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if mode&bit.unix != 0 {
			m |= bit.mode
		}
	}
	return m
}

// sealFile gives a file of the stage its owner, mode and time, and makes it
// durable.
func (j *job) sealFile(h *os.File, f *colorfast.File) error {
	// The owner first, for a change of it clears setuid and setgid; the time
	// before the mode, which may shut us out.
	if err := j.own(f, h.Chown); err != nil {
		return err
	}
	if !f.ModTime.IsZero() {
		if err := j.stage.root.Chtimes(f.Path, time.Time{}, f.ModTime); err != nil {
			return err
		}
	}
	if err := h.Chmod(fileMode(f.Mode)); err != nil {
		return err
	}
	return h.Sync()
}

// sealDirectory is sealFile for an open directory, which may have left the
// stage.
func (j *job) sealDirectory(h *os.File, f *colorfast.File) error {
	if err := j.own(f, h.Chown); err != nil {
		return err
	}
	if !f.ModTime.IsZero() {
		if err := setTime(h, ".", f.ModTime); err != nil {
			return err
		}
	}
	if err := h.Chmod(fileMode(f.Mode)); err != nil {
		return err
	}
	return h.Sync()
}

// own sets an owner where we may. Others than root may not, and some file
// systems know no owners.
func (j *job) own(f *colorfast.File, chown func(uid, gid int) error) error {
	if f.UID < 0 && f.GID < 0 {
		return nil
	}
	err := chown(f.UID, f.GID)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		j.foreign.Store(true)
		return nil
	}
	return err
}

// sealLink gives a symbolic link its owner and time.
func (j *job) sealLink(l *colorfast.File) error {
	root := j.stage.root
	if err := j.own(l, func(uid, gid int) error { return root.Lchown(l.Path, uid, gid) }); err != nil {
		return err
	}
	if l.ModTime.IsZero() {
		return nil
	}
	d, err := root.Open(path.Dir(l.Path))
	if err != nil {
		return err
	}
	return errors.Join(setTime(d, path.Base(l.Path), l.ModTime), d.Close())
}

// setTime sets the time of modification of a name in an open directory ("."
// for itself), which is not followed if it is a symbolic link.
func setTime(dir *os.File, name string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// sealTop gives the directory itself the mode and time that it could not have
// while it was moved. One that is not ours, such as the root of a volume, stays
// as it is.
func sealTop(dir string, f *colorfast.File) error {
	if f == nil {
		return nil
	}
	h, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err == nil {
		j := &job{} // what it says of owners has been told already
		err = errors.Join(j.sealDirectory(h, f), h.Close())
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
