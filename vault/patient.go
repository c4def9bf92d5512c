package vault

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// patience bounds how long a far storage is given. The zero value of a field is
// its default.
type patience struct {
	tries int           // of one operation
	first time.Duration // wait behind the first try; doubles from try to try
	most  time.Duration // longest wait
	total time.Duration // no new try begins when an operation has failed for so long
	stall time.Duration // a connection on which nothing moves for so long is cut
}

var usualPatience = patience{tries: 8, first: 250 * time.Millisecond, most: 15 * time.Second, total: 3 * time.Minute, stall: time.Minute}

func (p patience) orUsual() patience {
	for _, d := range []struct{ v, usual *time.Duration }{
		{&p.first, &usualPatience.first}, {&p.most, &usualPatience.most}, {&p.total, &usualPatience.total}, {&p.stall, &usualPatience.stall},
	} {
		if *d.v == 0 {
			*d.v = *d.usual
		}
	}
	if p.tries == 0 {
		p.tries = usualPatience.tries
	}
	return p
}

// patient wraps a far storage: what may go away by itself is tried again, within
// bounds, and what remains is one error that names the storage and the next step.
//
// Kopia's own wrapper (repo/blob/retrying, v0.22.3) is not used: it tries
// everything ten times, also what is refused, sleeps without looking at the
// context, and repeats an exclusive write that has been done, which then fails.
type patient struct {
	blob.Storage
	patience
	name   string               // the URL, without parameters
	access string               // what to do when access is refused
	clock  func() time.Duration // by how much the storage's clock is ahead; 0 for not known
	renew  func()               // fetches credentials anew; nil if they do not change
}

// do runs op until it succeeds, answers, or there is no point in going on.
func (s *patient) do(ctx context.Context, what string, op func(try int) error) error {
	start, wait, renewed := time.Now(), s.first, false
	for try := 1; ; try++ {
		err := op(try)
		if isAnswer(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := faultOf(err)
		pause := max(wait/2+rand.N(wait/2+1), f.after)
		switch {
		case f.class == expired && s.renew != nil && !renewed:
			renewed, pause = true, 0
			s.renew()
		case f.class != transient || try >= s.tries || time.Since(start)+pause > s.total:
			return s.explain(what, f, try, time.Since(start))
		default:
			wait = min(2*wait, s.most)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// GetBlob implements blob.Storage.
func (s *patient) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	return s.do(ctx, "read "+quoted(id)+" from", func(int) error {
		out.Reset()
		return s.Storage.GetBlob(ctx, id, offset, length, out)
	})
}

// GetMetadata implements blob.Storage.
func (s *patient) GetMetadata(ctx context.Context, id blob.ID) (m blob.Metadata, err error) {
	err = s.do(ctx, "look for "+quoted(id)+" in", func(int) (err error) {
		m, err = s.Storage.GetMetadata(ctx, id)
		return err
	})
	return m, err
}

// ListBlobs implements blob.Storage. It collects first, since a list that breaks
// off begins anew.
func (s *patient) ListBlobs(ctx context.Context, prefix blob.ID, cb func(blob.Metadata) error) error {
	var all []blob.Metadata
	err := s.do(ctx, "list", func(int) error {
		all = all[:0]
		return s.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
			all = append(all, m)
			return nil
		})
	})
	for i := 0; i < len(all) && err == nil; i++ {
		err = cb(all[i])
	}
	return err
}

// PutBlob implements blob.Storage. Where an exclusive write finds the blob there
// after a try whose outcome is not known, it looks whether it is ours.
func (s *patient) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	data, err := detach(data)
	if err != nil {
		return err
	}
	return s.do(ctx, "write "+quoted(id)+" to", func(try int) error {
		err := s.Storage.PutBlob(ctx, id, data, opts)
		if try == 1 || !errors.Is(err, blob.ErrBlobAlreadyExists) {
			return err
		}
		var there bytesOut
		if gerr := s.Storage.GetBlob(ctx, id, 0, -1, &there); gerr != nil {
			return gerr
		}
		if bytes.Equal(there.b, whole(data)) {
			return nil
		}
		return err
	})
}

// DeleteBlob implements blob.Storage.
func (s *patient) DeleteBlob(ctx context.Context, id blob.ID) error {
	return s.do(ctx, "delete "+quoted(id)+" in", func(int) error { return s.Storage.DeleteBlob(ctx, id) })
}

// DisplayName implements blob.Storage.
func (s *patient) DisplayName() string { return s.name }

func quoted(id blob.ID) string { return "\"" + string(id) + "\"" }
