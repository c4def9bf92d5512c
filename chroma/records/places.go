package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
)

// where says where a vector is.
type where struct {
	slot  int64 // in the saved index, noSlot if not there
	seq   int64 // of the queue row that has it instead, -1 for none
	flags uint32
}

// noSlot marks an id without a vector in the index.
const noSlot = -1

// Flags of where. The first two say what the queue may be replaying a second
// time.
const (
	wasSaved   = 1 << iota // in the saved index, and not deleted since
	wasUpdated             // and updated by the queue
	live                   // not deleted; kept by places itself
)

// entrySize is what a place takes in the file, in bytes: two hashes of the id,
// the second of which is never 0, slot, flags and seq.
const entrySize = 32

// memoryLimit is the largest table that is kept in memory, in bytes: enough for
// half a million ids.
const memoryLimit = 32 << 20

// places joins ids to where their vectors are: a hash table with linear
// probing, in memory while it is small and then in a file, so that memory does
// not grow with the number of records. (A SQLite table in its stead took half
// of all the time.) Ids are told apart by 128 bits of hashes that are seeded at
// random, so no file can be made up to let two of them meet.
type places struct {
	dir      string
	limit    uint64   // bytes; see memoryLimit
	mem      []byte   // the table, while it is small
	f        *os.File // the table, when it is not; nil before
	capacity uint64   // entries, a power of two
	used     uint64   // entries taken, with the deleted ones
	alive    int64    // entries not deleted
	seeds    [2]maphash.Seed
	buf      [entrySize]byte
}

// newPlaces makes an empty table; its file, if it needs one, will be in dir.
func newPlaces(dir string, limit uint64) *places {
	p := &places{dir: dir, limit: limit, capacity: 1 << 12, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	p.mem = make([]byte, p.capacity*entrySize)
	return p
}

// reset forgets everything.
func (p *places) reset() error {
	p.used, p.alive = 0, 0
	if p.f == nil {
		clear(p.mem)
		return nil
	}
	return errors.Join(p.f.Truncate(0), p.f.Truncate(int64(p.capacity*entrySize)))
}

// close closes the file; whoever made the folder removes it.
func (p *places) close() error {
	if p.f == nil {
		return nil
	}
	return p.f.Close()
}

// read reads len(b) bytes of the table.
func (p *places) read(b []byte, at int64) error {
	if p.f == nil {
		copy(b, p.mem[at:])
		return nil
	}
	if _, err := p.f.ReadAt(b, at); err != nil {
		return fmt.Errorf("read scratch file: %w", err)
	}
	return nil
}

// write writes p.buf.
func (p *places) write(at int64) error {
	if p.f == nil {
		copy(p.mem[at:], p.buf[:])
		return nil
	}
	if _, err := p.f.WriteAt(p.buf[:], at); err != nil {
		return fmt.Errorf("write scratch file: %w", err)
	}
	return nil
}

// hashes returns the two hashes of an id.
func (p *places) hashes(id string) (a, b uint64) {
	return maphash.String(p.seeds[0], id), maphash.String(p.seeds[1], id) | 1
}

// find leaves the entry of the hashes in buf, or zeros, and returns where in
// the file it is or belongs.
func (p *places) find(a, b uint64, buf *[entrySize]byte) (at int64, ok bool, err error) {
	le := binary.LittleEndian
	for i := a & (p.capacity - 1); ; i = (i + 1) & (p.capacity - 1) {
		at := int64(i * entrySize)
		if err := p.read(buf[:], at); err != nil {
			return 0, false, err
		}
		switch x, y := le.Uint64(buf[:]), le.Uint64(buf[8:]); {
		case y == 0:
			return at, false, nil
		case x == a && y == b:
			return at, true, nil
		}
	}
}

// get returns where the vector of an id is. Several goroutines may call it while
// nobody changes the table.
func (p *places) get(id string) (where, bool, error) {
	var buf [entrySize]byte
	a, b := p.hashes(id)
	_, ok, err := p.find(a, b, &buf)
	le := binary.LittleEndian
	w := where{int64(int32(le.Uint32(buf[16:]))), int64(le.Uint64(buf[24:])), le.Uint32(buf[20:])}
	if err != nil || !ok || w.flags&live == 0 {
		return where{}, false, err
	}
	if w.slot != noSlot {
		w.slot &= 1<<32 - 1
	}
	w.flags &^= live
	return w, true, nil
}

// put says where the vector of an id is.
func (p *places) put(id string, w where) error { return p.set(id, w, true) }

// remove forgets the vector of an id.
func (p *places) remove(id string) error { return p.set(id, where{}, false) }

// set writes the entry of an id.
func (p *places) set(id string, w where, alive bool) error {
	if p.used >= p.capacity/2 {
		if err := p.grow(); err != nil {
			return err
		}
	}
	a, b := p.hashes(id)
	at, ok, err := p.find(a, b, &p.buf)
	if err != nil || (!ok && !alive) {
		return err
	}
	le := binary.LittleEndian
	was := ok && le.Uint32(p.buf[20:])&live != 0
	if alive {
		w.flags |= live
	}
	switch {
	case alive && !was:
		p.alive++
	case !alive && was:
		p.alive--
	}
	if !ok {
		p.used++
	}
	le.PutUint64(p.buf[:], a)
	le.PutUint64(p.buf[8:], b)
	le.PutUint32(p.buf[16:], uint32(w.slot))
	le.PutUint32(p.buf[20:], w.flags)
	le.PutUint64(p.buf[24:], uint64(w.seq))
	return p.write(at)
}

// grow moves everything to a table of twice the size.
func (p *places) grow() error {
	old := *p
	p.capacity *= 2
	if size := p.capacity * entrySize; size <= p.limit {
		p.mem = make([]byte, size)
	} else {
		f, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("places-%d", p.capacity)))
		if err != nil {
			return err // p goes on with the old table, for close
		}
		if err := f.Truncate(int64(size)); err != nil {
			return errors.Join(err, f.Close())
		}
		p.mem, p.f = nil, f
	}
	block := make([]byte, 1<<16)
	for off := int64(0); off < int64(old.capacity*entrySize); off += int64(len(block)) {
		if err := old.read(block, off); err != nil {
			return errors.Join(err, old.close())
		}
		if err := p.insert(block); err != nil {
			return errors.Join(err, old.close())
		}
	}
	if old.f == nil {
		return nil
	}
	return errors.Join(old.f.Close(), os.Remove(old.f.Name()))
}

// insert takes over entries of another table.
func (p *places) insert(block []byte) error {
	for e := block; len(e) > 0; e = e[entrySize:] {
		a, b := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])
		if b == 0 {
			continue
		}
		at, _, err := p.find(a, b, &p.buf)
		if err != nil {
			return err
		}
		copy(p.buf[:], e)
		if err := p.write(at); err != nil {
			return err
		}
	}
	return nil
}
