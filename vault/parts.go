package vault

import (
	"context"
	"encoding/binary"
	"fmt"
	"sort"

	"colorfast/pages"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/object"
)

// Parts of pages lie in objects of up to pages.MaxObject bytes, followed by a
// table: of each part its offset in 4 bytes, little-endian, and its sum. The
// table tells what is stored where the local list of sums is lost.
const tableEntry = 4 + pages.SumBytes

// pieceSplitter cuts objects of parts. A smaller piece wastes less where one
// part of it is wanted, a larger one compresses better and is fewer entries in
// Kopia's index.
const pieceSplitter = "FIXED-512K"

// class is a kind of parts that are stored together, because they compress
// alike.
type class int

const (
	plain   class = iota // as they are
	columns              // vectors: floats, which hardly compress
	deltas               // what parts differ in from others: mostly zeros
	classes
)

// compressors of the classes. Half of the time of a backup went into compressing
// vectors when these were tried, and saved 8 % of them.
var compressors = [classes]compression.Name{plain: "zstd-fastest", columns: "", deltas: "zstd"}

// shelf stores the parts of one class, one after the other.
type shelf struct {
	w     repo.DirectRepositoryWriter
	m     *pages.Map // gets the objects
	class class
	async int

	out   object.Writer // nil while there is nothing in the object
	at    int           // index of the object in m
	table []byte
}

// add stores a part and returns its place, which has no base.
func (s *shelf) add(ctx context.Context, part []byte, sum pages.Sum) (pages.Place, error) {
	if s.out != nil && s.m.Objects[s.at].Length+int64(len(part)) > pages.MaxObject {
		if err := s.finish(); err != nil {
			return pages.Place{}, err
		}
	}
	if s.out == nil {
		s.out = s.w.NewObjectWriter(ctx, object.WriterOptions{
			Description: "pages", Splitter: pieceSplitter, Compressor: compressors[s.class],
			MetadataCompressor: metaCompression, AsyncWrites: s.async,
		})
		s.at = len(s.m.Objects)
		s.m.Objects = append(s.m.Objects, pages.Object{})
		s.table = s.table[:0]
	}
	o := &s.m.Objects[s.at]
	p := pages.Place{Object: s.at, Offset: o.Length, Base: pages.None}
	s.table = binary.LittleEndian.AppendUint32(s.table, uint32(o.Length))
	s.table = append(s.table, sum[:]...)
	o.Length += int64(len(part))
	o.Parts++
	_, err := s.out.Write(part)
	return p, err
}

// finish ends the object under way, if any.
func (s *shelf) finish() error {
	if s.out == nil {
		return nil
	}
	defer s.close()
	if _, err := s.out.Write(s.table); err != nil {
		return err
	}
	id, err := s.out.Result()
	s.m.Objects[s.at].ID = id.String()
	return err
}

// close gives up what is not finished.
func (s *shelf) close() {
	if s.out != nil {
		_ = s.out.Close() // frees buffers; what was stored is garbage at worst
		s.out = nil
	}
}

// sums reads from the table of an object the sums of count parts, of which the
// first lies at offset and each has length bytes, but for the last.
func (s *pieces) sums(ctx context.Context, o *pages.Object, offset, length, count int64) ([]pages.Sum, error) {
	entry := func(i int64, b []byte) error {
		return s.readAt(ctx, o.ID, b, o.Length+i*tableEntry)
	}
	var b [tableEntry]byte
	var err error
	first := int64(sort.Search(int(o.Parts), func(i int) bool {
		if err == nil {
			err = entry(int64(i), b[:])
		}
		return int64(binary.LittleEndian.Uint32(b[:])) >= offset
	}))
	if err != nil {
		return nil, err
	}
	if first+count > o.Parts {
		return nil, fmt.Errorf("object %s: its table ends before %d", o.ID, offset)
	}
	table := make([]byte, count*tableEntry)
	if err := s.readAt(ctx, o.ID, table, o.Length+first*tableEntry); err != nil {
		return nil, err
	}
	out := make([]pages.Sum, count)
	for i := range out {
		e := table[i*tableEntry:]
		if at := int64(binary.LittleEndian.Uint32(e)); at != offset+int64(i)*length {
			return nil, fmt.Errorf("object %s: its table has a part at %d, want one at %d", o.ID, at, offset+int64(i)*length)
		}
		out[i] = pages.Sum(e[4:tableEntry])
	}
	return out, nil
}
