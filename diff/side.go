package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
)

// side is one of the two backups, of which some collections are read.
type side struct {
	vault    colorfast.Vault
	m        *colorfast.Manifest
	dir      string // for its files and its index
	progress colorfast.Progress

	wanted []colorfast.Collection
	failed map[string]string // why a collection could not be read, by its ID
}

// index returns the path of the side's index.
func (s *side) index() string { return filepath.Join(s.dir, "index") }

// want has a collection read, if there is one. rounded says that the vectors of
// its counterpart may be rounded, so that its own are to be compared as if they
// were.
func (s *side) want(c *colorfast.Collection, rounded bool) {
	if c == nil {
		return
	}
	w := *c
	if rounded {
		w.Space = "cosine"
	}
	s.wanted = append(s.wanted, w)
}

// files returns the database, or the files of a segment.
func (s *side) files(segment string) []*colorfast.File {
	var out []*colorfast.File
	for i := range s.m.FileList {
		f := &s.m.FileList[i]
		needed := f.Path == chroma.SQLiteFile
		if segment != "" {
			needed = path.Dir(f.Path) == segment
		}
		if needed && f.Type == colorfast.Regular {
			out = append(out, f)
		}
	}
	return out
}

func bytesOf(files []*colorfast.File) int64 {
	var n int64
	for _, f := range files {
		n += f.Size
	}
	return n
}

// segmentOf returns the directory of a collection's vectors, "" for none.
func segmentOf(c *colorfast.Collection) string {
	if !chroma.IsUUID(c.VectorSegment) {
		return ""
	}
	return c.VectorSegment
}

// segment returns the files of a collection's vectors.
func (s *side) segment(c *colorfast.Collection) []*colorfast.File {
	if seg := segmentOf(c); seg != "" {
		return s.files(seg)
	}
	return nil
}

// work returns the bytes that are told to Progress: the database and each segment
// when they are brought, and each segment once more while its records are read.
func (s *side) work() int64 {
	if len(s.wanted) == 0 {
		return 0
	}
	n := bytesOf(s.files(""))
	for i := range s.wanted {
		n += 2 * bytesOf(s.segment(&s.wanted[i]))
	}
	return n
}

// room returns about how many bytes the side needs at a time: the database, the
// largest segment, what reading needs for the largest collection, and the index as
// runs and sealed, with its ids.
func (s *side) room() int64 {
	if len(s.wanted) == 0 {
		return 0
	}
	const (
		reading  = 128              // bytes a record: the table of places in chroma/records, before and after it grows
		indexing = 4 + 2*detailSize // bytes a record
		clear    = 4 + 64           // bytes an id, about
		small    = 16 << 20         // for the rest
	)
	var most, sum int64
	for i := range s.wanted {
		c := &s.wanted[i]
		sum += c.Records
		most = max(most, bytesOf(s.segment(c))+reading*c.Records)
	}
	return bytesOf(s.files("")) + most + sum*(indexing+clear) + small
}

// read makes the index of the wanted collections. What is damaged goes to failed.
func (s *side) read(ctx context.Context) (err error) {
	s.failed = map[string]string{}
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	w, err := Create(s.index(), Options{Detail: true})
	if err != nil {
		return err
	}
	if err = s.fill(ctx, w, data); err != nil {
		return errors.Join(err, w.Discard())
	}
	return errors.Join(w.Seal(), os.RemoveAll(data))
}

// fill brings the files and reads them.
func (s *side) fill(ctx context.Context, w *Writer, data string) error {
	if len(s.wanted) == 0 {
		return nil
	}
	db, known, err := s.open(ctx, data)
	if why := damage(err); why != "" {
		for i := range s.wanted {
			s.failed[s.wanted[i].ID] = why
		}
		return nil
	}
	if err != nil {
		return err
	}
	for i := range s.wanted {
		c := &s.wanted[i]
		err := s.collection(ctx, w, db, known[c.ID], c, data)
		if why := damage(err); why != "" {
			s.failed[c.ID], err = why, nil
		}
		if err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return db.Close()
}

// open brings the database and lists its collections by ID.
func (s *side) open(ctx context.Context, data string) (*sysdb.DB, map[string]*sysdb.Collection, error) {
	files := s.files("")
	if len(files) == 0 {
		return nil, nil, colorfast.Errorf(colorfast.Corrupt, "%s is not in it", chroma.SQLiteFile)
	}
	if err := s.fetch(ctx, files, data); err != nil {
		return nil, nil, err
	}
	db, err := sysdb.Open(filepath.Join(data, chroma.SQLiteFile))
	if err != nil {
		return nil, nil, err
	}
	list, err := db.Collections(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	known := map[string]*sysdb.Collection{}
	for _, c := range list {
		known[c.ID] = c
	}
	return db, known, nil
}

// collection brings a segment, and adds the records to the index. They must be
// those that were sealed.
func (s *side) collection(ctx context.Context, w *Writer, db *sysdb.DB, in *sysdb.Collection, c *colorfast.Collection, data string) error {
	if in == nil || in.VectorSegment != c.VectorSegment {
		return colorfast.Errorf(colorfast.Corrupt, "the collection is not in its %s", chroma.SQLiteFile)
	}
	files := s.segment(c)
	if seg := segmentOf(c); seg != "" && len(files) > 0 {
		if err := os.Mkdir(filepath.Join(data, seg), 0o700); err != nil {
			return err
		}
		defer os.RemoveAll(filepath.Join(data, seg)) // for room; whoever made the scratch folder removes all
		if err := s.fetch(ctx, files, data); err != nil {
			return err
		}
	}
	work, told, n := bytesOf(files), int64(0), int64(0)
	var digest colorfast.Digest
	_, err := records.Read(ctx, db, in, data, s.dir, func(r *records.Record) error {
		if n++; n%1024 == 0 && n < c.Records {
			now := int64(float64(work) * float64(n) / float64(c.Records))
			s.progress.Advance(now - told)
			told = now
		}
		hash := r.Hash()
		digest.Add(hash)
		return w.Add(c, r, hash)
	})
	s.progress.Advance(work - told)
	switch {
	case err != nil:
		return err
	case n != c.Records || digest != c.Digest:
		return colorfast.Errorf(colorfast.Corrupt, "the records read are not those that were sealed")
	}
	return nil
}

// fetch brings files out of the vault, which checks their content.
func (s *side) fetch(ctx context.Context, files []*colorfast.File, data string) error {
	for _, f := range files {
		if err := s.fetchFile(ctx, f, filepath.Join(data, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
	}
	return nil
}

func (s *side) fetchFile(ctx context.Context, f *colorfast.File, to string) (err error) {
	in, err := s.vault.Open(ctx, s.m, f.Path, nil)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := make([]byte, 1<<20)
	for n := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := io.ReadFull(in, buf)
		end := errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		if n += int64(k); n > f.Size || end && n != f.Size {
			return colorfast.Errorf(colorfast.Corrupt, "read %q: it has not the recorded size", f.Path)
		}
		if _, err := out.Write(buf[:k]); err != nil {
			return fmt.Errorf("write %q: %w", to, err)
		}
		s.progress.Advance(int64(k))
		if end {
			return nil
		}
	}
}

// damage says what is wrong with a backup if that is what err tells, and returns
// "" for all other errors.
func damage(err error) string {
	var c *chroma.CorruptError
	if errors.As(err, &c) {
		return filepath.Base(c.File) + ": " + c.Reason
	}
	if k := colorfast.KindOf(err); err != nil && (k == colorfast.Corrupt || k == colorfast.NotFound) {
		return strings.TrimSpace(err.Error())
	}
	return ""
}

// freeSpace returns the bytes that we may still put into a file system.
func freeSpace(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // differs by platform
}
