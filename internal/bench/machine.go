package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"colorfast/chroma"
)

// machine says where the figures are from, without naming it.
type machine struct {
	Cores      int     `json:"cores"`
	Kernel     string  `json:"kernel"`
	FileSystem string  `json:"file_system"`
	Go         string  `json:"go"`
	LoadBefore float64 `json:"load_before"` // processes that want a core, of all who use the machine
	LoadAfter  float64 `json:"load_after"`
}

// String implements fmt.Stringer.
func (m machine) String() string {
	return fmt.Sprintf("%d cores, Linux %s, %s, %s, load %.1f before and %.1f after", m.Cores, m.Kernel, m.FileSystem, m.Go, m.LoadBefore, m.LoadAfter)
}

func describe(dir string) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), LoadBefore: loadAverage(), Kernel: "?", FileSystem: "?"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		// Only the number: what builders append may name the machine.
		m.Kernel, _, _ = strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	}
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		switch st.Type {
		case unix.EXT4_SUPER_MAGIC:
			m.FileSystem = "ext4"
		case unix.XFS_SUPER_MAGIC:
			m.FileSystem = "xfs"
		case unix.BTRFS_SUPER_MAGIC:
			m.FileSystem = "btrfs"
		case unix.TMPFS_MAGIC:
			m.FileSystem = "tmpfs"
		default:
			m.FileSystem = fmt.Sprintf("file system %#x", st.Type)
		}
	}
	return m
}

// loadAverage returns that of the last minute, 0 if it is not to be had.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return v
}

// peakRSS returns the most memory that this process has ever had resident. Not
// getrusage's: that begins with the parent's.
func peakRSS() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("find VmHWM in /proc/self/status")
}

// sizes returns the bytes of the database and of the segments' files in dir.
func sizes(dir string) (database, vectors int64, err error) {
	fi, err := os.Stat(filepath.Join(dir, chroma.SQLiteFile))
	if err != nil {
		return 0, 0, err
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Dir(path) == dir {
			return err
		}
		info, err := e.Info()
		if err == nil {
			vectors += info.Size()
		}
		return err
	})
	return fi.Size(), vectors, err
}
