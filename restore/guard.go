package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"colorfast"
	"colorfast/internal/openfiles"
)

// lookAround sees who has the target open.
func (j *job) lookAround() (openfiles.Report, error) {
	if j.look != nil {
		return j.look(j.to.path)
	}
	return openfiles.Under(j.to.path)
}

// refuseOpen refuses while a process is seen to have the target open.
func (j *job) refuseOpen() error {
	list := j.seen.Processes
	if len(list) == 0 {
		return nil
	}
	var who []string
	for i := range list[:min(len(list), 3)] {
		who = append(who, fmt.Sprintf("process %d (%s) has %s open", list[i].PID, list[i].Command, files(list[i].Files)))
	}
	if more := len(list) - len(who); more > 0 {
		who = append(who, fmt.Sprintf("%d more", more))
	}
	return colorfast.Errorf(colorfast.Locked, "restore to %q: %s", j.to.path, strings.Join(who, ", ")).
		WithHint("stop it, then run the restore again; a Chroma must not run on a directory that is replaced")
}

// files names a process's files.
func files(names []string) string {
	if len(names) == 1 {
		return fmt.Sprintf("%q", names[0])
	}
	return fmt.Sprintf("%q and %d more", names[0], len(names)-1)
}

// refuseBlind refuses to replace a directory where nobody can say who has it
// open, unless the user does.
func (j *job) refuseBlind() error {
	if j.to.state != full {
		return nil
	}
	why := ""
	switch {
	case j.blind != nil:
		why = j.blind.Error()
	case j.seen.Confined:
		why = "this process sees only a part of the processes (a container, or a /proc that hides them)"
	case j.seen.Unseen > 0:
		j.note("no process is seen to have %q open; number of processes that could not be looked into: %d", j.to.path, j.seen.Unseen)
		return nil
	default:
		return nil
	}
	if j.AssumeStopped {
		j.note("that Chroma is stopped was taken on trust: %s", why)
		return nil
	}
	return colorfast.Errorf(colorfast.Unsupported, "see whether Chroma is stopped on %q: %s", j.to.path, why).
		WithHint("stop it, then say so with --assume-stopped; or run this on the host, as root")
}

// checkSpace refuses a restore that will not fit.
func (j *job) checkSpace(ctx context.Context) error {
	home := j.to.home()
	space := j.free
	if space == nil {
		space = freeSpace
	}
	have, inodes, err := space(home)
	if err != nil {
		return colorfast.Errorf(kindOf(err), "see how much room %q has: %w", home, err)
	}
	have += j.staged(home)
	entries := int64(len(j.tree.byPath))
	overhead := entries*block + portion
	need := j.tree.bytes + overhead
	if need > have {
		// The recorded sizes count holes as well.
		if need, err = j.allocation(ctx); err != nil {
			return err
		}
		need += overhead
	}
	if need > have {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: it needs %s of room, and %q has %s", j.to.path, size(need), home, size(have)).
			WithHint("make room, or name a directory on another disk")
	}
	if inodes >= 0 && entries > inodes {
		return colorfast.Errorf(colorfast.Usage, "restore to %q: it makes %d files and directories, and %q has room for %d", j.to.path, entries, home, inodes).
			WithHint("delete files there, or name a directory on another disk")
	}
	return nil
}

// allocation reads the whole backup to see how much of it is not zeros. What
// moves for that is not reported.
func (j *job) allocation(ctx context.Context) (int64, error) {
	var total int64
	for i := range j.tree.files {
		f := &j.tree.files[i]
		if f.Size < minHole {
			total += f.Size
			continue
		}
		in, err := j.open(ctx, f)
		if err != nil {
			return 0, fmt.Errorf("measure %q: %w", f.Path, err)
		}
		c := &copier{size: f.Size}
		if err := errors.Join(in.blame(c.copy(ctx, in)), in.Close()); err != nil {
			return 0, fmt.Errorf("measure %q: %w", f.Path, err)
		}
		total += c.allocated
	}
	return total, nil
}

// staged returns the bytes that an interrupted restore of this backup holds on
// disk already; they are used again or given back.
func (j *job) staged(home string) int64 {
	dir := filepath.Join(home, j.to.stagePrefix(home)+j.Manifest.ID.Short())
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be seen does not count
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok && d.Type().IsRegular() {
				total += st.Blocks * 512
			}
		}
		return nil
	})
	return total
}

// freeSpace returns the bytes and files that we may still put into a file
// system; -1 files where their number is not limited.
func freeSpace(dir string) (bytes, files int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	files = int64(st.Ffree) //nolint:unconvert // differs by platform
	if st.Files == 0 {
		files = -1
	}
	avail := st.Bavail
	if unix.Geteuid() == 0 {
		avail = st.Bfree
	}
	return int64(avail) * int64(st.Bsize), files, nil //nolint:unconvert // differs by platform
}

// isFull reports whether a write failed for want of room.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(unit)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, unit[i])
}
