// Package hnsw reads one vector segment directory of Chroma: hnswlib's four
// files and the pickled map of ids. It reads only, in any state that a
// directory can be in, and tells apart what is healthy, torn and missing.
//
// It trusts no number in the files: whatever is allocated is proven by bytes
// that were read before, or small. It does not know which space a collection
// has (that is in the database): callers say whether it is cosine.
//
// A Segment keeps its files open and sees writes to them; read a copy, or check
// afterwards that nothing changed. Start reading at Open; check.go has what
// holds in every good segment.
package hnsw

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"colorfast/chroma"
	"colorfast/chroma/pickle"
)

// State says how far a segment directory has come.
type State int

// The states. The zero value is Absent.
const (
	// Absent: the directory has none of the five files.
	Absent State = iota
	// Young: the four files of hnswlib and no pickle. Chroma makes them at the
	// first write and the pickle at the first save, and starts all anew if
	// there is no pickle when it opens the segment. Healthy as long as the
	// database has no max_seq_id of the segment.
	Young
	// Saved: all five files.
	Saved
	// Partial: some other of the five files is missing; see Segment.Missing.
	Partial
)

// String returns the state in a word.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Young:
		return "young"
	case Saved:
		return "saved"
	}
	return "partial"
}

// file is one of the five files.
type file struct {
	io.ReaderAt
	name string // path, for errors
	size int64  // bytes, when it was opened
	io.Closer
}

// Segment is a segment directory with its files open. Its methods may be called
// from several goroutines once Index has returned.
type Segment struct {
	dir    string
	files  map[string]*file // by chroma's name; those that there are
	header Header
	table  *table // nil until Index
	err    error  // of Index
}

// Open opens the segment directory dir.
//
// Errors: those of the operating system (fs.ErrNotExist if there is no dir),
// and a *chroma.CorruptError for a header.bin that contradicts itself, unless
// there is no pickle and so nothing saved. A file that is missing is no error,
// see State; nor are files that contradict each other, see Check.
func Open(dir string) (*Segment, error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	} else if !st.IsDir() {
		return nil, &chroma.CorruptError{File: dir, Offset: -1, Reason: "not a directory"}
	}
	files := map[string]*file{}
	for _, name := range chroma.SegmentFiles() {
		f, err := openFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, closeAll(files))
		}
		files[name] = f
	}
	s, err := newSegment(dir, files)
	if err != nil {
		return nil, errors.Join(err, closeAll(files))
	}
	return s, nil
}

// openFile opens a regular file; opening anything else could block.
func openFile(path string) (*file, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, &chroma.CorruptError{File: path, Offset: -1, Reason: "not a regular file"}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	if st, err = f.Stat(); err != nil {
		return nil, errors.Join(fmt.Errorf("open segment: %w", err), f.Close())
	}
	return &file{ReaderAt: f, name: path, size: st.Size(), Closer: f}, nil
}

// newSegment makes a segment of the open files of dir.
func newSegment(dir string, files map[string]*file) (*Segment, error) {
	s := &Segment{dir: dir, files: files}
	f := files[chroma.HeaderFile]
	if f == nil {
		return s, nil
	}
	h, err := readHeader(f)
	var bad *chroma.CorruptError
	switch {
	case err == nil:
		s.header = h
	case errors.As(err, &bad) && files[chroma.PickleFile] == nil:
		// Killed while it made the files. Chroma starts anew without a look at
		// them, if there is no pickle.
	default:
		return nil, err
	}
	return s, nil
}

// Close closes the files.
func (s *Segment) Close() error { return closeAll(s.files) }

func closeAll(files map[string]*file) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// State returns how far the directory has come.
func (s *Segment) State() State {
	missing := s.Missing()
	switch {
	case len(missing) == len(chroma.SegmentFiles()):
		return Absent
	case len(missing) == 0:
		return Saved
	case len(missing) == 1 && missing[0] == chroma.PickleFile:
		return Young
	}
	return Partial
}

// Missing returns the names of those of the five files that are not there.
func (s *Segment) Missing() []string {
	var missing []string
	for _, name := range chroma.SegmentFiles() {
		if s.files[name] == nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// Header returns what header.bin says; the zero value if there is none, or a
// damaged one and no pickle.
func (s *Segment) Header() Header { return s.header }

// Dimension returns the number of components of a vector, 0 without a header.
func (s *Segment) Dimension() int { return s.header.Dimension() }

// Elements returns the number of elements in the index, with the deleted ones;
// 0 without a header.
func (s *Segment) Elements() int64 { return int64(s.header.Elements) }

// IDs calls fn for every entry of the pickled map of ids, in stored order, and
// returns what else the pickle says; see pickle.Decode. These are the live
// records as of the last save. An error wraps fs.ErrNotExist if there is no
// pickle, as in a Young segment.
func (s *Segment) IDs(fn func(id string, label uint64) error) (*pickle.Info, error) {
	f, err := s.file(chroma.PickleFile)
	if err != nil {
		return nil, err
	}
	return pickle.Decode(f, f.size, f.name, fn)
}

// file returns one of the five files.
func (s *Segment) file(name string) (*file, error) {
	if f := s.files[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("open segment file %q: %w", name, fs.ErrNotExist)
}

func (f *file) corrupt(off int64, format string, args ...any) error {
	return &chroma.CorruptError{File: f.name, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

func (f *file) short() error { return f.corrupt(f.size, "the file is cut short") }

// read fills p from off on.
func (f *file) read(p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return f.short()
	}
	return fmt.Errorf("read %q: %w", f.name, err)
}
