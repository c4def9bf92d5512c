package capture

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bytes that SQLite's processes lock to agree with each other. They are part
// of its file format: pager "locking-page" bytes (sqlite.org/lockingv3.html,
// os_unix.c) in the database, and the lock bytes of the shared-memory file
// (sqlite.org/walformat.html, section 2.3).
const (
	pendingByte  = 0x40000000
	reservedByte = pendingByte + 1
	sharedFirst  = pendingByte + 2
	sharedSize   = 510

	walWriteByte      = 120
	walCheckpointByte = 121
)

// All locks here are open-file-description locks: they conflict with the
// process-wide ones that SQLite takes in other processes, yet are not lost when
// some other descriptor of the same file is closed in this process, which is
// the trap of fcntl's older locks. All are read locks, for which a descriptor
// that may only read suffices: to a writer, who asks for a write lock on the
// same byte, a read lock is as good a "no".

// tryLock takes read locks on length bytes at start; false means that somebody
// holds a write lock there.
func tryLock(f *os.File, start, length int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_RDLCK, Start: start, Len: length}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

func unlock(f *os.File, start, length int64) error {
	lk := unix.Flock_t{Type: unix.F_UNLCK, Start: start, Len: length}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
}

// unlockAll gives back every lock of f.
func unlockAll(f *os.File) error { return unlock(f, 0, 0) }

// writerActive reports whether a process holds SQLite's RESERVED lock.
func writerActive(f *os.File) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_RDLCK, Start: reservedByte, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return false, err
	}
	return lk.Type != unix.F_UNLCK, nil
}

// tryShared takes SQLite's SHARED lock as every reader does; false means that
// a writer is committing.
func tryShared(db *os.File) (bool, error) {
	ok, err := tryLock(db, pendingByte, 1)
	if !ok || err != nil {
		return false, err
	}
	ok, err = tryLock(db, sharedFirst, sharedSize)
	return ok, errors.Join(err, unlock(db, pendingByte, 1))
}

// noLocks reports whether err says that this file system has no such locks.
func noLocks(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}

// fileSystemName names network and user-space file systems, on which locks and
// time stamps cannot be relied on; "" for all others.
func fileSystemName(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return ""
	}
	switch st.Type {
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return "smb"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.V9FS_MAGIC:
		return "9p"
	case unix.CEPH_SUPER_MAGIC:
		return "ceph"
	}
	return ""
}

// freeBytes returns what an unprivileged process may still write below dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Frsize, nil
}

// cloneFile makes dst share the blocks of src, where the file system can.
func cloneFile(dst, src *os.File) error {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
}

// punchHole makes length bytes of f at off zeros that need no room, where the
// file system can.
func punchHole(f *os.File, off, length int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
}

// dataRange returns the next stretch of src at or after off that is no hole.
// io errors, also of file systems that cannot tell, mean "all of it".
func dataRange(src *os.File, off, size int64) (start, end int64) {
	start, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size
	}
	if err != nil {
		return off, size
	}
	end, err = unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE)
	if err != nil || end > size {
		end = size
	}
	return min(start, size), end
}

// signatureOf returns what tells that a file has changed.
func signatureOf(fi fs.FileInfo) signature {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return signature{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	}
	return signature{
		size:      fi.Size(),
		mtime:     st.Mtim.Nano(),
		ctime:     st.Ctim.Nano(),
		device:    uint64(st.Dev),
		inode:     st.Ino,
		allocated: st.Blocks * 512,
		uid:       int(st.Uid),
		gid:       int(st.Gid),
	}
}
