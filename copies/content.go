package copies

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"slices"

	"colorfast"
)

// content is a file that is read from one member after the other.
type content struct {
	ctx   context.Context
	from  *Several
	m     *colorfast.Manifest
	path  string
	older io.ReaderAt

	member int
	now    colorfast.Content // nil after Close
	n      int64             // bytes given out
	sum    hash.Hash         // of these
	moved  int64             // by members that failed
	err    error             // the one that ended it
}

func newContent(ctx context.Context, s *Several, m *colorfast.Manifest, path string, older io.ReaderAt) *content {
	return &content{ctx: ctx, from: s, m: m, path: path, older: older, sum: sha256.New()}
}

// open opens the file in the first member from the given one on that has it, and
// goes to where the one before has failed.
func (c *content) open(member int, before error) error {
	listed := slices.ContainsFunc(c.m.FileList, func(f colorfast.File) bool {
		return f.Path == c.path && f.Type == colorfast.Regular
	})
	var answer error // that holds whatever other members say
	err := c.from.each(c.ctx, member, before, func(i int, m *Member, before error) error {
		as, err := c.from.as(c.ctx, i, c.m)
		if err != nil {
			return err
		}
		in, err := m.Vault.Open(c.ctx, as, c.path, c.older)
		if err != nil && !listed { // no member can have it
			answer = err
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.skip(in); err != nil {
			c.moved += in.Moved()
			return errors.Join(err, in.Close())
		}
		c.member, c.now = i, in
		c.from.took(i, as.ID, c.path, before)
		return nil
	})
	return errors.Join(answer, err)
}

// skip reads over what was given out already, which must be the same here.
func (c *content) skip(in io.Reader) error {
	if c.n == 0 {
		return nil
	}
	h := sha256.New()
	if _, err := io.CopyN(h, in, c.n); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), c.sum.Sum(nil)) {
		return colorfast.Errorf(colorfast.Corrupt, "read file %q: the first %d bytes are others than before", c.path, c.n)
	}
	return nil
}

// Read implements io.Reader.
func (c *content) Read(b []byte) (int, error) {
	for {
		if c.err != nil {
			return 0, c.err
		}
		n, err := c.now.Read(b)
		c.sum.Write(b[:n])
		c.n += int64(n)
		if err == nil || errors.Is(err, io.EOF) {
			return n, err
		}
		if c.ctx.Err() != nil {
			c.err = err
			return n, err
		}
		c.moved += c.now.Moved()
		failed := c.now
		c.err = c.open(c.member+1, err)
		if c.err == nil {
			// What could not be read is not closed better.
			_ = failed.Close()
		} else {
			c.moved -= failed.Moved()
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Moved implements colorfast.Content.
func (c *content) Moved() int64 { return c.moved + c.now.Moved() }

// Close implements io.Closer.
func (c *content) Close() error { return c.now.Close() }
