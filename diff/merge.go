package diff

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// order returns the numbers of entries in their order: to move these is cheaper
// than to move the entries.
func order(entries []entry) []uint32 {
	out := make([]uint32, len(entries))
	for i := range out {
		out[i] = uint32(i)
	}
	slices.SortFunc(out, func(a, b uint32) int { return entries[a].before(&entries[b]) })
	return out
}

// cursor reads a run.
type cursor struct {
	entry
	in  *bufio.Reader
	buf []byte
}

// next steps to the next entry; io.EOF after the last.
func (c *cursor) next(detail bool) error {
	if _, err := io.ReadFull(c.in, c.buf); err != nil {
		return err
	}
	c.collection = binary.BigEndian.Uint32(c.buf)
	c.parse(c.buf[4:], detail)
	return nil
}

// merge hands all entries to emit in order. The buffers of all runs share a fixed
// memory, and shrink as runs become many.
func (w *Writer) merge(emit func(*entry) error) error {
	if len(w.runs) == 0 {
		for _, i := range order(w.buf) {
			if err := emit(&w.buf[i]); err != nil {
				return err
			}
		}
		return nil
	}
	size := 4 + w.entrySize()
	share := max(size, min(portion, mergeMemory/len(w.runs)))
	var heap []*cursor
	for _, r := range w.runs {
		c := &cursor{buf: make([]byte, size), in: bufio.NewReaderSize(io.NewSectionReader(w.file, r.at, r.entries*int64(size)), share)}
		if err := c.next(w.detail); err != nil {
			return fmt.Errorf("read run: %w", err)
		}
		heap = append(heap, c)
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sift(heap, i)
	}
	for len(heap) > 0 {
		c := heap[0]
		if err := emit(&c.entry); err != nil {
			return err
		}
		switch err := c.next(w.detail); err {
		case nil:
		case io.EOF:
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		default:
			return fmt.Errorf("read run: %w", err)
		}
		sift(heap, 0)
	}
	return nil
}

// sift moves the cursor at i down to where it belongs in a heap.
func sift(heap []*cursor, i int) {
	for {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < len(heap); k++ {
			if heap[k].before(&heap[least].entry) < 0 {
				least = k
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}
