//go:build !linux

package capture

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"
)

// Outside Linux there are no open-file-description locks to rely on, so a
// capture is optimistic: see Optimistic in package colorfast.

var errNoLocks = errors.New("open-file-description locks are not available on this system")

const (
	reservedByte = 0x40000001

	walWriteByte      = 120
	walCheckpointByte = 121
)

func tryLock(*os.File, int64, int64) (bool, error) { return false, errNoLocks }
func unlockAll(*os.File) error                     { return nil }
func writerActive(*os.File) (bool, error)          { return false, errNoLocks }
func tryShared(*os.File) (bool, error)             { return false, errNoLocks }
func noLocks(err error) bool                       { return errors.Is(err, errNoLocks) }
func fileSystemName(string) string                 { return "" }
func freeBytes(string) (int64, error)              { return math.MaxInt64, nil }
func cloneFile(_, _ *os.File) error                { return errors.ErrUnsupported }
func punchHole(*os.File, int64, int64) error       { return errors.ErrUnsupported }

// kernelNow knows nothing here, so that no two looks are alike: stamps cannot be
// told from those of another boot.
func kernelNow(string) kernel { return kernel{} }

func dataRange(_ *os.File, off, size int64) (start, end int64) { return off, size }

func signatureOf(fi fs.FileInfo) signature {
	g := signature{size: fi.Size(), mtime: fi.ModTime().UnixNano(), allocated: fi.Size()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		g.inode, g.uid, g.gid = st.Ino, int(st.Uid), int(st.Gid)
	}
	return g
}
