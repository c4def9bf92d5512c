package vault

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// pieceCache is how many bytes of decrypted pieces are held, so that parts of
// pages which lie near each other are decrypted once.
const pieceCache = 48 << 20

// pieces reads anywhere in stored objects. It is safe for concurrent use.
type pieces struct {
	rep repo.DirectRepository

	mu      sync.Mutex
	extents map[string][]extent // of objects, by ID
	held    map[content.ID]*list.Element
	recent  *list.List // of *piece, the last used first
	bytes   int64
}

// extent is the place of one piece in an object.
type extent struct {
	start, length int64
	id            content.ID
}

// piece is one piece of an object, decrypted.
type piece struct {
	id    content.ID
	ready chan struct{}
	data  []byte
	err   error
}

func newPieces(rep repo.DirectRepository) *pieces {
	return &pieces{rep: rep, extents: map[string][]extent{}, held: map[content.ID]*list.Element{}, recent: list.New()}
}

// readAt fills p with the bytes of an object at off.
func (s *pieces) readAt(ctx context.Context, id string, p []byte, off int64) error {
	all, err := s.of(ctx, id)
	if err != nil {
		return err
	}
	i := sort.Search(len(all), func(i int) bool { return all[i].start+all[i].length > off })
	for ; len(p) > 0; i++ {
		if i == len(all) || all[i].start > off {
			return fmt.Errorf("object %s ends before %d: %w", id, off+int64(len(p)), io.ErrUnexpectedEOF)
		}
		data, err := s.get(ctx, all[i].id)
		if err != nil {
			return err
		}
		if int64(len(data)) != all[i].length {
			return fmt.Errorf("object %s: a piece has %d bytes, want %d", id, len(data), all[i].length)
		}
		n := copy(p, data[off-all[i].start:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// of returns the extents of an object.
func (s *pieces) of(ctx context.Context, id string) ([]extent, error) {
	s.mu.Lock()
	all, ok := s.extents[id]
	s.mu.Unlock()
	if ok {
		return all, nil
	}
	all, err := s.load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extents[id] = all
	return all, nil
}

func (s *pieces) load(ctx context.Context, id string) ([]extent, error) {
	oid, err := object.ParseID(id)
	if err != nil {
		return nil, err
	}
	if index, ok := oid.IndexObjectID(); ok {
		return s.loadIndex(ctx, index)
	}
	cid, compressed, ok := oid.ContentID()
	if !ok || compressed {
		return nil, errors.New("not of a kind that we store")
	}
	data, err := s.get(ctx, cid)
	return []extent{{0, int64(len(data)), cid}}, err
}

// loadIndex reads the list of pieces of an object that has several
// (indirectObject in repo/object, v0.22.3).
func (s *pieces) loadIndex(ctx context.Context, index object.ID) (_ []extent, err error) {
	r, err := s.rep.OpenObject(ctx, index)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var list struct {
		Entries []object.IndirectObjectEntry `json:"entries"`
	}
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return nil, err
	}
	all := make([]extent, 0, len(list.Entries))
	var at int64
	for _, e := range list.Entries {
		cid, compressed, ok := e.Object.ContentID()
		if !ok || compressed || e.Start != at || e.Length <= 0 {
			return nil, errors.New("its list of pieces is not one of ours")
		}
		all = append(all, extent{e.Start, e.Length, cid})
		at += e.Length
	}
	return all, nil
}

// get returns a piece, which the caller must not change. Whoever asks first
// reads it, others wait.
func (s *pieces) get(ctx context.Context, id content.ID) ([]byte, error) {
	s.mu.Lock()
	for {
		e, ok := s.held[id]
		if !ok {
			break
		}
		s.recent.MoveToFront(e)
		s.mu.Unlock()
		p := e.Value.(*piece)
		select {
		case <-p.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if ended := errors.Is(p.err, context.Canceled) || errors.Is(p.err, context.DeadlineExceeded); !ended || ctx.Err() != nil {
			return p.data, p.err
		}
		s.mu.Lock() // it was the context of somebody else that ended
	}
	p := &piece{id: id, ready: make(chan struct{})}
	e := s.recent.PushFront(p)
	s.held[id] = e
	s.mu.Unlock()
	p.data, p.err = s.rep.ContentReader().GetContent(ctx, id)

	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(p.ready)
	if p.err != nil {
		s.drop(e)
		return nil, p.err
	}
	s.bytes += int64(len(p.data))
	for last := s.recent.Back(); s.bytes > pieceCache && last != e; last = s.recent.Back() {
		if q := last.Value.(*piece); !q.done() {
			break // being read
		}
		s.drop(last)
	}
	return p.data, nil
}

func (p *piece) done() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// drop forgets a piece. The caller holds the lock.
func (s *pieces) drop(e *list.Element) {
	p := e.Value.(*piece)
	if s.held[p.id] == e {
		delete(s.held, p.id)
		s.recent.Remove(e)
		if p.err == nil {
			s.bytes -= int64(len(p.data))
		}
	}
}
