package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"colorfast"
	"colorfast/pages"

	"golang.org/x/sync/errgroup"
)

const (
	// stretchBytes is how much of a file one worker takes at a time, in whole pages.
	stretchBytes = 1 << 20

	// Bounds of what is under way at a time, whatever the number of processors:
	// stretches, and pieces of the objects of a class, each of which holds the
	// history of a compressor and a part of a pack.
	maxWorkers = 8
	maxPieces  = 3
)

// maxUnderWay bounds the bytes of pages that are under way, where these are huge.
const maxUnderWay = 64 << 20

// atOnce returns how many stretches of a file are worked on at a time.
func atOnce(c pages.Cut) int {
	return int(max(1, min(maxWorkers, int64(runtime.GOMAXPROCS(0)), maxUnderWay/c.PageBytes())))
}

// fate is what becomes of a part.
type fate int

const (
	full  fate = iota // stored
	same              // the parent has it
	zero              // all zeros
	delta             // stored as the difference to a place of the parent
)

// part is one part of a page, as a worker has judged it.
type part struct {
	fate fate
	sum  pages.Sum
	data []byte      // to store: for full the part, for delta the difference
	at   pages.Place // in the parent: for same where it is, for delta the base
}

// openFile is a file that is being stored.
type openFile struct {
	file    *colorfast.File
	cut     pages.Cut
	old     *parentFile // nil for none
	content io.ReaderAt
	close   func() error

	alike   []colorfast.Span // of it, what is as in old
	hash    hash.Hash
	unread  bool // some of it was not read, so hash is not that of the whole
	streams []*pages.Stream
}

// stretch is some pages of a file on their way through the workers.
type stretch struct {
	of    *openFile
	first int64 // page
	count int64
	last  bool // of its file

	bytes []byte // of the file, but for pages that were not read
	kept  []bool // of each page: it is the parent's, and was not read
	split []byte // room for parts, where there is a column
	diff  []byte // room for differences
	parts []part // by page, then by part

	err  error
	done chan struct{}
}

// storePages stores the content of all files. Files go through one after the
// other, in stretches: one goroutine hands them out, workers read, cut, hash and
// compare them, and this one takes them back in their order, so that the parts
// of a stream are stored in their order too and a restore reads forwards.
func (s *session) storePages(ctx context.Context, files fs.FS) (err error) {
	workers := min(maxWorkers, runtime.GOMAXPROCS(0))
	work, order := make(chan *stretch, workers), make(chan *stretch, workers)
	free := sync.Pool{New: func() any { return &stretch{} }}
	var opened []*openFile
	defer func() {
		for _, of := range opened {
			_ = of.close() // those that an error left open
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return s.handOut(ctx, files, func(of *openFile, first, count int64, last bool) error {
			if first == 0 {
				opened = append(opened, of)
			}
			st := free.Get().(*stretch)
			*st = stretch{of: of, first: first, count: count, last: last, done: make(chan struct{}),
				bytes: st.bytes, kept: st.kept[:0], split: st.split, diff: st.diff, parts: st.parts[:0]}
			for _, to := range []chan *stretch{order, work} {
				select {
				case to <- st:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range workers {
		g.Go(func() error {
			h := pages.NewHasher(s.pageKey)
			for st := range work {
				st.err = s.judge(ctx, h, st)
				close(st.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		shelves := s.shelves()
		defer func() {
			for _, sh := range shelves {
				sh.close()
			}
		}()
		for st := range order {
			select {
			case <-st.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := s.takeBack(ctx, st, shelves); err != nil {
				return fmt.Errorf("file %q: %w", st.of.file.Path, err)
			}
			free.Put(st)
		}
		for _, sh := range shelves {
			if err := sh.finish(); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

func (s *session) shelves() []*shelf {
	out := make([]*shelf, classes)
	for c := range classes {
		out[c] = &shelf{w: s.w, m: &s.pages, class: c, async: min(maxPieces, runtime.GOMAXPROCS(0))}
	}
	return out
}

// handOut opens the files, one after the other, and hands out their stretches. A
// file without pages has one empty stretch.
func (s *session) handOut(ctx context.Context, files fs.FS, hand func(of *openFile, first, count int64, last bool) error) error {
	for _, f := range regular(s.m.FileList) {
		of, err := s.open(files, f)
		if err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
		total := of.cut.Pages()
		step := max(1, stretchBytes/of.cut.PageBytes())
		for first := int64(0); ; first += step {
			n := min(step, total-first)
			if err := hand(of, first, n, first+n >= total); err != nil {
				return errors.Join(err, of.close())
			}
			if first+n >= total {
				break
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) open(files fs.FS, f *colorfast.File) (*openFile, error) {
	c := pages.NewCut(f.Size, f.Layout)
	of := &openFile{file: f, cut: c, old: s.old.file(f, c), hash: sha256.New(), close: func() error { return nil }}
	for part := range c.Parts() {
		of.streams = append(of.streams, pages.NewStream(c, part))
	}
	if f.Same {
		return of, nil
	}
	if f.Sealed && of.old != nil {
		of.alike = f.Alike
	}
	src, err := openListed(files, f)
	if err != nil {
		return nil, err
	}
	of.close = sync.OnceValue(src.Close)
	at, ok := src.(io.ReaderAt)
	if !ok {
		return nil, errors.Join(colorfast.Errorf(colorfast.Usage, "it cannot be read at any place"), src.Close())
	}
	of.content = at
	return of, nil
}

func openListed(files fs.FS, f *colorfast.File) (fs.File, error) {
	src, err := files.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, colorfast.Errorf(colorfast.Corrupt, "it is gone: %w", err)
	}
	if err != nil {
		return nil, err
	}
	fi, err := src.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = colorfast.Errorf(colorfast.Corrupt, "it is not a regular file any more")
	}
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// judge reads a stretch and decides what becomes of its parts.
func (s *session) judge(ctx context.Context, h *pages.Hasher, st *stretch) error {
	of := st.of
	if of.file.Same {
		return s.inherit(st)
	}
	s.keep(st)
	if err := st.read(); err != nil {
		return err
	}
	var known []pages.Sum
	inParent := int64(0) // pages of the stretch that the parent has too
	if of.old != nil {
		inParent = max(0, min(st.count, of.old.cut.Pages()-st.first))
		var err error
		if known, err = s.old.sums(of.old, st.first, inParent); err != nil {
			return err
		}
	}
	parts := of.cut.Parts()
	start, _ := of.cut.Page(st.first)
	for i := range st.count {
		if st.kept[i] {
			for k := range parts {
				st.parts = append(st.parts, part{fate: same, sum: known[int(i)*parts+k], at: of.old.streams[k].At(st.first + i)})
			}
			continue
		}
		at, n := of.cut.Page(st.first + i)
		page := st.bytes[at-start : at-start+n]
		for k := range parts {
			begin := len(st.split)
			b := of.cut.Split(page, k, st.split)
			if parts > 1 {
				st.split = b
				b = b[begin:]
			}
			p := part{fate: zero}
			if !pages.Zero(b) {
				p = part{fate: full, sum: h.Sum(b), data: b}
				if i < inParent && of.old.cut.PartBytes(k, st.first+i) == int64(len(b)) {
					if err := s.compare(ctx, st, &p, k, st.first+i, known[int(i)*parts+k]); err != nil {
						return err
					}
				}
			}
			st.parts = append(st.parts, p)
		}
	}
	return ctx.Err()
}

// inherit takes a stretch of a file that is as in the parent.
func (s *session) inherit(st *stretch) error {
	old := st.of.old
	known, err := s.old.sums(old, st.first, st.count)
	if err != nil {
		return err
	}
	parts := len(old.streams)
	for i := range known {
		at := old.streams[i%parts].At(st.first + int64(i/parts))
		st.parts = append(st.parts, part{fate: same, sum: known[i], at: at})
	}
	return nil
}

// read reads the bytes of a stretch and makes room for what is made of them.
func (st *stretch) read() error {
	c := st.of.cut
	var begin, end int64
	if st.count > 0 {
		begin, _ = c.Page(st.first)
		at, n := c.Page(st.first + st.count - 1)
		end = at + n
	}
	size := int(end - begin)
	if cap(st.bytes) < size {
		st.bytes = make([]byte, size)
	}
	st.bytes, st.diff = st.bytes[:size], st.diff[:0]
	if c.Parts() > 1 && cap(st.split) < size {
		st.split = make([]byte, 0, size)
	}
	st.split = st.split[:0]
	if !slices.Contains(st.kept, true) {
		if err := st.readAt(st.bytes, begin); err != nil {
			return err
		}
		return st.ends(end)
	}
	for i := 0; i < len(st.kept); i++ { // as many pages at a time as lie side by side
		n := slices.Index(st.kept[i:], true)
		if n < 0 {
			n = len(st.kept) - i
		}
		if n > 0 {
			from, _ := c.Page(st.first + int64(i))
			to, k := c.Page(st.first + int64(i+n) - 1)
			if err := st.readAt(st.bytes[from-begin:to+k-begin], from); err != nil {
				return err
			}
		}
		i += n
	}
	return st.ends(end)
}

func (st *stretch) readAt(b []byte, off int64) error {
	n, err := st.of.content.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return colorfast.Errorf(colorfast.Corrupt, "it has shrunk: %d bytes, %d are listed", off+int64(n), st.of.file.Size)
	}
	return &storageError{err}
}

// ends checks, at the last stretch, that the file ends where it should.
func (st *stretch) ends(end int64) error {
	if !st.last {
		return nil
	}
	var b [1]byte
	n, err := st.of.content.ReadAt(b[:], end)
	if n > 0 {
		return colorfast.Errorf(colorfast.Corrupt, "it has grown: more than the listed %d bytes", st.of.file.Size)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return &storageError{err}
	}
	return nil
}

// compare decides about a part that the parent has too, and may be of use there.
func (s *session) compare(ctx context.Context, st *stretch, p *part, k int, page int64, known pages.Sum) error {
	at := st.of.old.streams[k].At(page)
	if p.sum == known && at.Object != pages.Zeros && s.old.usable(at) {
		p.fate, p.at, p.data = same, at, nil
		return nil
	}
	base, ok := s.old.base(at)
	if !ok || s.far && !dense(st.of, k) {
		return nil
	}
	begin, n := len(st.diff), len(p.data)
	if cap(st.diff) < begin+n {
		st.diff = append(make([]byte, 0, max(2*(begin+n), cap(st.bytes))), st.diff...)
	}
	d := st.diff[begin : begin+n]
	if err := s.old.read(ctx, base, d); err != nil {
		var st *storageError
		if ctx.Err() != nil || errors.As(err, &st) {
			return err
		}
		return nil // the parent is damaged there; this backup must not be
	}
	pages.XOR(d, d, p.data)
	if pages.Sparse(d) {
		st.diff = st.diff[:begin+n]
		p.fate, p.at, p.data = delta, base, d
	}
	return nil
}

// dense reports whether parts of this number change so many at a time that what
// is read of the parent to store differences is about what that saves. So it is
// with the links of an index, of which nearly each changes a little, and not with
// pages here and there: to read half a MiB for one of them is dearer than to store
// it, where reading goes over a network.
func dense(of *openFile, k int) bool { return of.cut.Parts() > 1 && k == 0 }

// takeBack stores what has to be of a stretch, and notes where everything is.
func (s *session) takeBack(ctx context.Context, st *stretch, shelves []*shelf) error {
	of := st.of
	if st.err != nil {
		return errors.Join(st.err, of.close())
	}
	for i := range st.parts {
		p := &st.parts[i]
		k := i % of.cut.Parts()
		at, err := s.shelve(ctx, p, k, shelves)
		if err != nil {
			return errors.Join(err, of.close())
		}
		s.sums.add(p.sum)
		of.streams[k].Append(at)
	}
	begin, _ := of.cut.Page(st.first)
	if of.file.Same {
		s.p.Advance(min(st.count*of.cut.PageBytes(), of.file.Size-begin))
	} else {
		of.unread = of.unread || slices.Contains(st.kept, true)
		if !of.unread {
			of.hash.Write(st.bytes)
		}
		s.p.Advance(int64(len(st.bytes)))
	}
	if st.last {
		if err := of.seal(); err != nil {
			return errors.Join(err, of.close())
		}
		s.pages.Streams = append(s.pages.Streams, of.streams...)
		if err := of.close(); err != nil {
			return err
		}
	}
	return s.index(ctx)
}

// shelve stores a part if it must be, and returns its place in the new map.
func (s *session) shelve(ctx context.Context, p *part, k int, shelves []*shelf) (pages.Place, error) {
	switch p.fate {
	case zero:
		return pages.Place{Object: pages.Zeros, Base: pages.None}, nil
	case same:
		return s.old.adopt(&s.pages, p.at), nil
	case delta:
		at, err := shelves[deltas].add(ctx, p.data, p.sum)
		base := s.old.adopt(&s.pages, p.at)
		at.Base, at.BaseOffset = base.Object, base.Offset
		return at, err
	}
	to := plain
	if k == 1 {
		to = columns
	}
	return shelves[to].add(ctx, p.data, p.sum)
}
