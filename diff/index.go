package diff

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"colorfast"
)

// Index is a sealed index that is open. It may be used by several goroutines.
type Index struct {
	f, ids   *os.File // ids is nil unless it is detailed
	detail   bool
	idBytes  int64
	sections map[string]*Section
}

// Section is the part of an index that is of one collection.
type Section struct {
	Records int64            // number of entries
	Digest  colorfast.Digest // of the records, as in colorfast.Collection: says of which state of the collection this is
	index   *Index
	first   int64
	rounded bool
}

// Open opens an index and reads it once to see that it is whole. Errors: NotFound,
// Corrupt for a file that is cut short, changed or no index.
func Open(path string) (_ *Index, err error) {
	ix := &Index{sections: map[string]*Section{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, ix.Close())
		}
	}()
	if ix.f, err = os.Open(path); err != nil {
		kind := colorfast.Internal
		if errors.Is(err, fs.ErrNotExist) {
			kind = colorfast.NotFound
		}
		return nil, colorfast.Errorf(kind, "open index: %w", err)
	}
	if err := ix.check(); err != nil {
		return nil, colorfast.Errorf(colorfast.KindOf(err), "open index %q: %w", path, err)
	}
	if !ix.detail {
		return ix, nil
	}
	if ix.ids, err = os.Open(path + idsSuffix); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if st, err := ix.ids.Stat(); err != nil || st.Size() != ix.idBytes {
		return nil, errors.Join(err, colorfast.Errorf(colorfast.Corrupt, "open index %q: its file of ids has not the size that it had", path))
	}
	return ix, nil
}

// check checks the sum of the file and reads its table.
func (ix *Index) check() error {
	st, err := ix.f.Stat()
	if err != nil {
		return err
	}
	wrong := func(what string) error { return colorfast.Errorf(colorfast.Corrupt, "%s", what) }
	body := st.Size() - tail
	if !st.Mode().IsRegular() || body < int64(len(magic)) {
		return wrong("it is no index, or cut short")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(ix.f, 0, st.Size()-sha256.Size)); err != nil {
		return err
	}
	var end [tail]byte
	head := make([]byte, len(magic))
	if _, err := ix.f.ReadAt(end[:], body); err != nil {
		return err
	}
	if _, err := ix.f.ReadAt(head, 0); err != nil {
		return err
	}
	size := binary.BigEndian.Uint64(end[:])
	if !bytes.Equal(sum.Sum(nil), end[8:]) || string(head) != magic || size > uint64(body)-uint64(len(magic)) {
		return wrong("it is no index, cut short, or changed")
	}
	b := make([]byte, size)
	if _, err := ix.f.ReadAt(b, body-int64(size)); err != nil {
		return err
	}
	var t table
	if err := json.Unmarshal(b, &t); err != nil {
		return colorfast.Errorf(colorfast.Corrupt, "read its table: %w", err)
	}
	return ix.take(&t, body-int64(size)-int64(len(magic)))
}

// take takes the table over; entries is the size of all entries.
func (ix *Index) take(t *table, entries int64) error {
	ix.detail, ix.idBytes = t.Detail, int64(t.IDBytes)
	room := entries / ix.entrySize()
	var at int64
	for _, s := range t.Collections {
		if s == nil || s.Records < 0 || s.Records > room-at || ix.sections[s.ID] != nil {
			return colorfast.Errorf(colorfast.Corrupt, "its table makes no sense")
		}
		ix.sections[s.ID] = &Section{Records: s.Records, Digest: s.Digest, index: ix, first: at, rounded: s.Rounded}
		at += s.Records
	}
	if at*ix.entrySize() != entries {
		return colorfast.Errorf(colorfast.Corrupt, "its table makes no sense")
	}
	return nil
}

func (ix *Index) entrySize() int64 {
	if ix.detail {
		return detailSize
	}
	return briefSize
}

// Section returns the part of a collection, nil if no record of it was added.
func (ix *Index) Section(collection string) *Section { return ix.sections[collection] }

// Close closes the index.
func (ix *Index) Close() error {
	var err error
	for _, f := range []*os.File{ix.f, ix.ids} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// reader reads the entries of a section one by one.
type reader struct {
	entry
	index *Index
	in    *bufio.Reader
	left  int64
	buf   [detailSize]byte
	done  bool
}

// read begins at the first entry; a nil section has none.
func (s *Section) read() (*reader, error) {
	r := &reader{}
	if s != nil {
		size := s.index.entrySize()
		r.index, r.left = s.index, s.Records
		r.in = bufio.NewReaderSize(io.NewSectionReader(s.index.f, int64(len(magic))+s.first*size, s.Records*size), portion)
	}
	return r, r.next()
}

// next steps to the next entry, or sets done.
func (r *reader) next() error {
	if r.done = r.left == 0; r.done {
		return nil
	}
	r.left--
	b := r.buf[:r.index.entrySize()]
	if _, err := io.ReadFull(r.in, b); err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	r.parse(b, r.index.detail)
	return nil
}

// id returns the id of the entry in clear, "" if the index does not keep it.
func (r *reader) id() (string, error) {
	ix := r.index
	if !ix.detail {
		return "", nil
	}
	var stack [256]byte
	n, err := ix.ids.ReadAt(stack[:], int64(r.at))
	if n < 4 {
		return "", fmt.Errorf("read id: %w", err)
	}
	size := int64(binary.BigEndian.Uint32(stack[:]))
	if size <= int64(n-4) {
		return string(stack[4 : 4+size]), nil
	}
	if int64(r.at)+4+size > ix.idBytes {
		return "", colorfast.Errorf(colorfast.Corrupt, "read id: it goes on after the end of its file")
	}
	b := make([]byte, size)
	if _, err := ix.ids.ReadAt(b, int64(r.at)+4); err != nil {
		return "", fmt.Errorf("read id: %w", err)
	}
	return string(b), nil
}
