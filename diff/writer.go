package diff

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"colorfast"
	"colorfast/chroma/records"
)

// An index file:
//
//	"colorfast index 1\n"   these 18 bytes
//	entries                 of all collections, each collection's by id's hash, 32 or 64 bytes each
//	table                   JSON: which entries are of which collection
//	size of the table       8 bytes, big-endian
//	SHA-256                 of all before
//
// A detailed index has its ids in clear in a second file, each as its length (4
// bytes, big-endian) and its bytes.
const magic = "colorfast index 1\n"

// idsSuffix is what the name of the file of ids ends with.
const idsSuffix = ".ids"

// tail is the size of what follows the table.
const tail = 8 + sha256.Size

const (
	runLength   = 1 << 16  // entries that are sorted in memory at a time: 4.5 MiB
	mergeMemory = 16 << 20 // bytes of all the buffers of a merge together
	portion     = 64 << 10 // bytes of other buffers, and the most of one run's
)

// Options of an index.
type Options struct {
	// Detail keeps the ids in clear, and hashes of the parts of a record apart, so
	// that a difference has a name. Such an index is for a private folder. Without
	// it there are only hashes of ids and contents on disk: a few dozen bytes a
	// record, from which nothing can be read, but with which a guess can be proved.
	Detail bool
}

// Writer makes an index of the records of a backup's collections. However many
// there are, it holds some ten MiB in memory: entries are sorted in runs of 65,536,
// which lie on disk and are merged at the end, by buffers that share 16 MiB.
type Writer struct {
	path   string
	detail bool
	length int // of a run; runLength

	mu       sync.Mutex // guards all below
	sections []*section
	byID     map[string]*section
	buf      []entry
	spare    [][]entry
	file     *os.File // of the runs; it has no name, so that a killed run leaves nothing
	runs     []run
	end      int64 // of file
	ids      *os.File
	idsOut   *bufio.Writer
	idsEnd   uint64
	err      error // the first
}

// section is one collection's line in the table.
type section struct {
	ID      string           `json:"id"`
	Records int64            `json:"records"`
	Digest  colorfast.Digest `json:"digest"`
	Rounded bool             `json:"rounded,omitempty"` // vectors are compared by their sketches

	number uint32
}

// table is the end of an index.
type table struct {
	Detail      bool       `json:"detail"`
	Collections []*section `json:"collections"`
	IDBytes     uint64     `json:"id_bytes"` // size of the file of ids
}

// run is a part of the file of runs that is sorted.
type run struct{ at, entries int64 }

// Create begins the index that Seal will put at path, which is of one writer at a
// time. Its folder must exist; nobody but the user can read the files.
func Create(path string, o Options) (_ *Writer, err error) {
	w := &Writer{path: path, detail: o.Detail, length: runLength, byID: map[string]*section{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make index %q: %w", path, err), w.Discard())
		}
	}()
	if w.file, err = os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".runs-*"); err != nil {
		return nil, err
	}
	if err := os.Remove(w.file.Name()); err != nil {
		return nil, err
	}
	if w.detail {
		if w.ids, err = create(path + idsSuffix); err != nil {
			return nil, err
		}
		w.idsOut = bufio.NewWriterSize(w.ids, portion)
	}
	return w, nil
}

// create makes a file that the user alone can read, in the place of any other.
func create(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Add adds a record of a collection, of which only ID and Space count; hash is
// r.Hash(). It may be called by several goroutines at the same time, and fits
// verify.Directory.Each. After an error the index will not be.
func (w *Writer) Add(c *colorfast.Collection, r *records.Record, hash [sha256.Size]byte) error {
	e := summary(r, hash, w.detail, rounds(c))
	full, err := w.add(c, &e, r.ID, hash)
	if full == nil || err != nil {
		return err
	}
	return w.spill(full)
}

// add appends an entry, and returns the buffer if that made it full.
func (w *Writer) add(c *colorfast.Collection, e *entry, id string, hash [sha256.Size]byte) (full []entry, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	s := w.byID[c.ID]
	if s == nil {
		s = &section{ID: c.ID, Rounded: rounds(c), number: uint32(len(w.sections))}
		w.sections, w.byID[c.ID] = append(w.sections, s), s
	}
	s.Records++
	s.Digest.Add(hash)
	e.collection = s.number
	if w.detail {
		e.at = w.idsEnd
		b := binary.BigEndian.AppendUint32(w.idsOut.AvailableBuffer(), uint32(len(id)))
		_, err1 := w.idsOut.Write(b)
		_, err2 := w.idsOut.WriteString(id)
		if err := errors.Join(err1, err2); err != nil {
			return nil, w.fail(err)
		}
		w.idsEnd += uint64(len(b) + len(id))
	}
	if w.buf = append(w.buf, *e); len(w.buf) < w.length {
		return nil, nil
	}
	full, w.buf = w.buf, nil
	if n := len(w.spare); n > 0 {
		w.buf, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	return full, nil
}

// fail keeps the first error; mu is held.
func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = fmt.Errorf("write index %q: %w", w.path, err)
	}
	return w.err
}

// spill sorts entries and writes them as a run, while others go on.
func (w *Writer) spill(entries []entry) error {
	sorted := order(entries)
	size := int64(4 + w.entrySize())
	w.mu.Lock()
	at := w.end
	w.end += size * int64(len(entries))
	w.runs = append(w.runs, run{at, int64(len(entries))})
	w.mu.Unlock()
	out := bufio.NewWriterSize(io.NewOffsetWriter(w.file, at), portion)
	for _, i := range sorted {
		b := binary.BigEndian.AppendUint32(out.AvailableBuffer(), entries[i].collection)
		if _, err := out.Write(entries[i].append(b, w.detail)); err != nil {
			break // Flush gives it again
		}
	}
	err := out.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		return w.fail(err)
	}
	w.spare = append(w.spare, entries[:0])
	return nil
}

func (w *Writer) entrySize() int {
	if w.detail {
		return detailSize
	}
	return briefSize
}

// Seal ends the index and gives it its name, in the place of one that is there.
// Who has that one open keeps it. On an error there is no new one. Nothing is
// flushed to disk: whatever a power cut leaves, Open finds it out.
func (w *Writer) Seal() (err error) {
	defer func() { err = errors.Join(err, w.Discard()) }()
	if w.err != nil {
		return w.err
	}
	if w.idsOut != nil {
		if err := w.idsOut.Flush(); err != nil {
			return w.fail(err)
		}
	}
	if len(w.runs) > 0 && len(w.buf) > 0 {
		if err := w.spill(w.buf); err != nil {
			return err
		}
		w.buf = nil
	}
	w.spare = nil
	out, err := create(w.path + ".new")
	if err != nil {
		return w.fail(err)
	}
	if err = errors.Join(w.write(out), out.Close()); err == nil {
		err = os.Rename(out.Name(), w.path)
	}
	if err != nil {
		return errors.Join(w.fail(err), os.Remove(out.Name()))
	}
	w.detail = false // its ids stay
	return nil
}

// write writes the whole file.
func (w *Writer) write(f *os.File) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), portion)
	if _, err := out.WriteString(magic); err != nil {
		return err
	}
	emit := func(e *entry) error {
		_, err := out.Write(e.append(out.AvailableBuffer(), w.detail))
		return err
	}
	if err := w.merge(emit); err != nil {
		return err
	}
	t, err := json.Marshal(table{Detail: w.detail, Collections: w.sections, IDBytes: w.idsEnd})
	if err != nil {
		return err
	}
	if _, err := out.Write(binary.BigEndian.AppendUint64(t, uint64(len(t)))); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err = f.Write(sum.Sum(nil))
	return err
}

// Discard frees everything and removes what is not sealed.
func (w *Writer) Discard() error {
	var err error
	if w.file != nil {
		err, w.file = w.file.Close(), nil
	}
	if w.ids != nil {
		err, w.ids = errors.Join(err, w.ids.Close()), nil
		if w.detail {
			err = errors.Join(err, os.Remove(w.path+idsSuffix))
		}
	}
	return err
}
