package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"colorfast"
	"colorfast/pages"
)

const (
	// windowBytes is how much of a file is put together at a time, in whole pages.
	windowBytes = 1 << 20
	// farWindows is how many windows of a file are under way where each is waited
	// for: 12 MiB at most, which fills 1 Gbit/s at 50 ms with something to spare.
	farWindows = 12
)

// paged is the content of a file of pages. Windows of it are put together by
// several goroutines ahead of whoever reads, and handed over in their order.
type paged struct {
	from   *reading
	file   pagedFile
	older  io.ReaderAt     // nil for none
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup

	order  <-chan *window
	free   sync.Pool
	now    *window
	rest   []byte // of now
	nmoved int64
}

// window is some pages of a file.
type window struct {
	first, count int64
	bytes        []byte // of the file
	part, base   []byte // room
	old          []byte // room for the older copy
	moved        int64
	err          error
	done         chan struct{}
}

// paged opens a file of format 2.
func (r *reading) paged(ctx context.Context, f *colorfast.File, older io.ReaderAt) (colorfast.Content, error) {
	file, ok := r.files[f.Path]
	if !ok {
		return nil, errors.New("it was not stored")
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &paged{from: r, file: file, older: older, ctx: ctx, cancel: cancel}
	p.free.New = func() any { return &window{} }
	step := max(1, windowBytes/file.cut.PageBytes())
	total := file.cut.Pages()
	workers := atOnce(file.cut)
	if r.far {
		workers = max(workers, min(farWindows, int(maxUnderWay/file.cut.PageBytes())))
	}
	work, order := make(chan *window), make(chan *window, workers)
	p.order = order
	p.wait.Go(func() {
		defer close(work)
		defer close(order)
		for first := int64(0); first < total; first += step {
			w := p.free.Get().(*window)
			w.first, w.count, w.moved, w.err, w.done = first, min(step, total-first), 0, nil, make(chan struct{})
			for _, to := range []chan *window{order, work} {
				select {
				case to <- w:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	for range workers {
		p.wait.Go(func() {
			h := pages.NewHasher(r.pageKey)
			for w := range work {
				w.err = p.fill(ctx, h, w)
				close(w.done)
			}
		})
	}
	return p, nil
}

// Read implements io.Reader.
func (p *paged) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.now != nil {
			p.free.Put(p.now)
			p.now = nil
		}
		w, ok := <-p.order
		if !ok {
			return 0, cmp.Or(p.ctx.Err(), io.EOF)
		}
		select {
		case <-w.done:
		case <-p.ctx.Done(): // it may not have been handed to anybody
			return 0, p.ctx.Err()
		}
		if w.err != nil {
			return 0, w.err
		}
		p.now, p.rest = w, w.bytes
		p.nmoved += w.moved
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Moved implements colorfast.Content.
func (p *paged) Moved() int64 { return p.nmoved }

// Close implements io.Closer.
func (p *paged) Close() error {
	p.cancel()
	p.wait.Wait()
	return nil
}

// fill puts a window together.
func (p *paged) fill(ctx context.Context, h *pages.Hasher, w *window) error {
	c := p.file.cut
	begin, _ := c.Page(w.first)
	at, n := c.Page(w.first + w.count - 1)
	w.bytes = sized(w.bytes, at+n-begin)
	if p.older == nil {
		return p.fetch(ctx, w, w.first, w.count)
	}
	same, err := p.takeOlder(ctx, h, w)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil { // the sums only save work
		return p.fetch(ctx, w, w.first, w.count)
	}
	// What differs is fetched, as many pages at a time as lie side by side.
	for i := int64(0); i < w.count; i++ {
		n := int64(0)
		for i+n < w.count && !same[i+n] {
			n++
		}
		if n > 0 {
			if err := p.fetch(ctx, w, w.first+i, n); err != nil {
				return err
			}
			i += n
		}
	}
	return nil
}

// takeOlder fills in those pages that the older copy has too, all of their
// parts, and says which.
func (p *paged) takeOlder(ctx context.Context, h *pages.Hasher, w *window) ([]bool, error) {
	same := make([]bool, w.count)
	sums, err := storedSums(ctx, p.from.pieces, p.from.m, p.file.streams, w.first, w.count)
	if err != nil {
		return nil, err
	}
	c := p.file.cut
	begin, _ := c.Page(w.first)
	w.old = sized(w.old, int64(len(w.bytes)))
	n, _ := p.older.ReadAt(w.old, begin) // what cannot be read is not the same
	for i := range w.count {
		at, size := c.Page(w.first + i)
		if at-begin+size > int64(n) {
			break
		}
		page := w.old[at-begin : at-begin+size]
		same[i] = true
		for part := range c.Parts() {
			b := page
			if c.Parts() > 1 {
				w.part = c.Split(page, part, w.part[:0])
				b = w.part
			}
			var sum pages.Sum
			if !pages.Zero(b) {
				sum = h.Sum(b)
			}
			same[i] = same[i] && sum == sums[part][i]
		}
		if same[i] {
			copy(w.bytes[at-begin:], page)
		}
	}
	return same, nil
}

// fetch reads n pages from the given one on out of the vault.
func (p *paged) fetch(ctx context.Context, w *window, first, n int64) error {
	c := p.file.cut
	origin, _ := c.Page(w.first)
	for part, stream := range p.file.streams {
		i := first
		for r := range stream.Range(first, n) {
			if err := ctx.Err(); err != nil {
				return err
			}
			begin, _ := c.Page(i)
			at, last := c.Page(i + r.Count - 1)
			dst := w.bytes[begin-origin : at-origin+last]
			bytes := (r.Count-1)*stream.PartBytes() + c.PartBytes(part, i+r.Count-1)
			b := dst
			if c.Parts() > 1 {
				w.part = sized(w.part, bytes)
				b = w.part
			}
			if err := p.bytesOf(ctx, w, r.Place, b); err != nil {
				return err
			}
			if c.Parts() > 1 {
				p.join(dst, part, i, r.Count, b)
			}
			if r.Object != pages.Zeros {
				w.moved += bytes
			}
			i += r.Count
		}
	}
	return nil
}

// join lays consecutive parts into their pages.
func (p *paged) join(dst []byte, part int, first, n int64, b []byte) {
	c := p.file.cut
	for i := first; i < first+n; i++ {
		_, size := c.Page(i)
		k := c.PartBytes(part, i)
		c.Join(dst[:size], part, b[:k])
		dst, b = dst[size:], b[k:]
	}
}

// bytesOf reads the bytes at a place.
func (p *paged) bytesOf(ctx context.Context, w *window, at pages.Place, b []byte) error {
	if at.Object == pages.Zeros {
		clear(b)
		return nil
	}
	m := p.from.m
	if err := p.from.pieces.readAt(ctx, m.Objects[at.Object].ID, b, at.Offset); err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	if at.Base == pages.None {
		return nil
	}
	w.base = sized(w.base, int64(len(b)))
	if err := p.from.pieces.readAt(ctx, m.Objects[at.Base].ID, w.base, at.BaseOffset); err != nil {
		return fmt.Errorf("base of pages: %w", err)
	}
	pages.XOR(b, b, w.base)
	return nil
}

// sized returns b with n bytes, newly made if it has not the room.
func sized(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}
