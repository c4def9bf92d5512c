package storage

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// tree writes files below a new directory.
func tree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func stat(t *testing.T, path string) (inode uint64, changed time.Time) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return st.Ino, time.Unix(st.Ctim.Unix())
}

func TestBring(t *testing.T) {
	blocks := func(s string) []byte { // a block for each letter
		var b []byte
		for _, c := range s {
			b = append(b, bytes.Repeat([]byte{byte(c)}, blockSize)...)
		}
		return b
	}
	long := bytes.Repeat([]byte("x"), 64*blockSize+100) // more than is read at once
	longer := append(bytes.Clone(long), "tail"...)
	place := tree(t, map[string][]byte{
		"equal": blocks("abc"), "middle": blocks("abc"), "shorter": blocks("abc"), "grown": long,
		"gone": nil, "old/a": nil, "old/b/c": nil, "d/equal": []byte("e"),
	})
	state := tree(t, map[string][]byte{
		"equal": blocks("abc"), "middle": blocks("aXc"), "shorter": blocks("a")[:5], "grown": longer,
		"d/equal": []byte("e"), "d/new/file": blocks("n"),
	})
	kept := []string{"equal", "middle", "shorter", "grown", "d/equal"}
	inodes, times := map[string]uint64{}, map[string]time.Time{}
	for _, name := range kept {
		inodes[name], times[name] = stat(t, filepath.Join(place, name))
	}
	time.Sleep(20 * time.Millisecond) // stamps are as coarse as a tick of the kernel
	got, err := bring(place, state)
	if err != nil {
		t.Fatal(err)
	}
	// middle: a block; grown: its last, partial block; the new file: a block.
	want := Change{
		Bytes:     int64(3*blockSize + 3*blockSize + 5 + len(longer) + 1 + blockSize),
		Files:     6, // middle, shorter, grown, gone, old, d/new/file
		Rewritten: int64(blockSize + 104 + blockSize),
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := compare(state, place); err != nil {
		t.Error(err)
	}
	for _, name := range kept {
		inode, changed := stat(t, filepath.Join(place, name))
		if inode != inodes[name] {
			t.Errorf("%s is another file now", name)
		}
		if equal := filepath.Base(name) == "equal"; changed.Equal(times[name]) != equal {
			t.Errorf("%s: changed at %s, and before at %s", name, changed, times[name])
		}
	}
	again, err := bring(place, state)
	if err != nil || again.Files != 0 || again.Rewritten != 0 || again.Bytes != want.Bytes {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestSizes(t *testing.T) {
	dir := tree(t, map[string][]byte{"a": make([]byte, 10), "b/c": make([]byte, 5)})
	for name, f := range map[string]func(string) (int64, error){"warm": warm, "sizeOf": sizeOf} {
		if n, err := f(dir); n != 15 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if _, err := f(filepath.Join(dir, "none")); err == nil {
			t.Errorf("%s: no error for a directory that is not there", name)
		}
	}
}
