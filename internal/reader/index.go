package reader

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// entry says where a content lies: "Index blob".
type entry struct {
	pack           string
	offset         uint32
	length, packed uint32
	compression    uint32
	time           int64
	deleted        bool
}

// Refresh reads the index again.
func (v *Vault) Refresh() error {
	var names []string
	for _, prefix := range []string{"xn", "xs", "xr", "xe", "xw"} { // in this order: "While others write"
		list, err := v.blobs.list(prefix)
		if err != nil {
			return err
		}
		names = append(names, list...)
	}
	e := newEpochs(names)
	v.index = map[string]entry{}
	for _, blob := range e.count() {
		iv, err := blobIV(blob)
		if err != nil {
			return err
		}
		sealed, err := v.blobs.read(blob)
		if err != nil {
			return err
		}
		b, err := v.open(sealed, iv)
		if err != nil {
			return fmt.Errorf("index blob %q: %w", blob, err)
		}
		if err := parseIndex(b, func(id string, e entry) {
			if old, ok := v.index[id]; !ok || e.holds(old) {
				v.index[id] = e
			}
		}); err != nil {
			return fmt.Errorf("index blob %q: %w", blob, err)
		}
	}
	for id, e2 := range v.index {
		if e2.deleted && e2.time <= e.watermark {
			delete(v.index, id)
		}
	}
	return nil
}

// holds follows "The entry that holds": whether e does, and not o.
func (e entry) holds(o entry) bool {
	if e.time != o.time {
		return e.time > o.time
	}
	if e.deleted != o.deleted {
		return o.deleted
	}
	return e.pack > o.pack
}

const (
	headerSize = 17
	packSize   = 5
	formatSize = 6
)

var errIndex = errors.New("not an index")

// parseIndex follows "Index blob" and hands every entry to add.
func parseIndex(b []byte, add func(id string, e entry)) error {
	if len(b) < headerSize || b[0] != 2 {
		return errIndex
	}
	be := binary.BigEndian
	key, value := int(b[1]), int(be.Uint16(b[2:]))
	count, packs, formats := int(be.Uint32(b[4:])), int(be.Uint32(b[8:])), int(b[12])
	base := int64(be.Uint32(b[13:]))
	entriesEnd := headerSize + count*(key+value)
	packsEnd := entriesEnd + packs*packSize
	if key < 2 || value < 16 || value > 19 || packsEnd+formats*formatSize > len(b) {
		return errIndex
	}
	for at := headerSize; at < entriesEnd; at += key + value {
		var x [19]byte // the bytes that are not there are 0
		copy(x[:], b[at+key:at+key+value])
		e := entry{
			time:    base + int64(be.Uint32(x[0:])),
			deleted: x[4]&0x80 != 0,
			offset:  be.Uint32(x[4:]) &^ (1 << 31),
			length:  be.Uint32(x[7:])&0xffffff | uint32(x[18]>>4)<<24,
			packed:  be.Uint32(x[10:])&0xffffff | uint32(x[18]&0xf)<<24,
		}
		pack, form := int(be.Uint16(x[14:]))|int(x[17])<<16, int(x[16])
		if pack >= packs || form >= formats {
			return errIndex
		}
		p := b[entriesEnd+pack*packSize:]
		from, n := int(be.Uint32(p[1:])), int(p[0])
		if from+n > len(b) {
			return errIndex
		}
		e.pack = string(b[from : from+n])
		f := b[packsEnd+form*formatSize:]
		if e.compression = be.Uint32(f); f[4] != 3 || f[5] != 0 {
			return errIndex
		}
		id := hex.EncodeToString(b[at+1 : at+key])
		if b[at] != 0 {
			id = string(b[at:at+1]) + id
		}
		add(id, e)
	}
	return nil
}
