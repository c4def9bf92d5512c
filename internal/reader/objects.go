package reader

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// content follows "Contents".
func (v *Vault) content(id string) ([]byte, error) {
	e, ok := v.index[id]
	if !ok {
		return nil, fmt.Errorf("content %q: not in the index", id)
	}
	hash, err := hex.DecodeString(id[len(id)%2:])
	if err != nil || len(hash) < 16 {
		return nil, fmt.Errorf("content %q: not an ID", id)
	}
	b, err := v.blobs.readAt(e.pack, int64(e.offset), int(e.packed))
	if err == nil {
		b, err = v.open(b, hash[len(hash)-16:])
	}
	if err == nil && e.compression != 0 {
		b, err = decompress(b, e.compression, int(e.length))
	}
	if err == nil && len(b) != int(e.length) {
		err = fmt.Errorf("it has %d bytes, its entry says %d", len(b), e.length)
	}
	if err != nil {
		return nil, fmt.Errorf("content %q: %w", id, err)
	}
	return b, nil
}

// zstandard is made once: a decoder is large.
var zstandard = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<28))
})

// decompress undoes the compression with this number of what should have length
// bytes.
func decompress(b []byte, number uint32, length int) ([]byte, error) {
	if len(b) < 4 || binary.BigEndian.Uint32(b) != number || number < 0x1100 || number > 0x1103 {
		return nil, fmt.Errorf("compression %#x is not known, or not the one in the content", number)
	}
	d, err := zstandard()
	if err != nil {
		return nil, err
	}
	return d.DecodeAll(b[4:], make([]byte, 0, length))
}

// piece is a content and where it begins in an object.
type piece struct {
	from, length int64
	id           string
}

// object is an object that is read piece by piece. It implements io.ReaderAt.
type object struct {
	v      *Vault
	pieces []piece
	size   int64

	last string // content that was read last
	data []byte
}

// object follows "Objects".
func (v *Vault) object(id string) (*object, error) {
	list, listed := strings.CutPrefix(id, "I")
	if !listed {
		e, ok := v.index[id]
		if !ok {
			return nil, fmt.Errorf("object %q: not in the index, or not an ID", id)
		}
		n := int64(e.length)
		return &object{v: v, size: n, pieces: []piece{{0, n, id}}}, nil
	}
	var l struct {
		Stream  string `json:"stream"`
		Entries []struct {
			From   int64  `json:"s"`
			Length int64  `json:"l"`
			ID     string `json:"o"`
		} `json:"entries"`
	}
	if err := v.readJSON(list, &l); err != nil {
		return nil, fmt.Errorf("object %q: %w", id, err)
	}
	if l.Stream != "kopia:indirect" || len(l.Entries) == 0 {
		return nil, fmt.Errorf("object %q: not a list of pieces", id)
	}
	o := &object{v: v}
	for _, e := range l.Entries {
		if e.From != o.size || int64(v.index[e.ID].length) != e.Length {
			return nil, fmt.Errorf("object %q: piece %q is missing or does not fit", id, e.ID)
		}
		o.pieces = append(o.pieces, piece{e.From, e.Length, e.ID})
		o.size += e.Length
	}
	return o, nil
}

// ReadAt implements io.ReaderAt.
func (o *object) ReadAt(b []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("negative offset")
	}
	i := sort.Search(len(o.pieces), func(i int) bool { return o.pieces[i].from+o.pieces[i].length > at })
	for ; n < len(b) && i < len(o.pieces); i++ {
		if p := o.pieces[i]; p.id != o.last || o.data == nil {
			if o.data, err = o.v.content(p.id); err != nil {
				return n, err
			}
			o.last = p.id
		}
		n += copy(b[n:], o.data[at+int64(n)-o.pieces[i].from:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// reader reads the object from its beginning.
func (o *object) reader() io.Reader { return io.NewSectionReader(o, 0, o.size) }

// readAll returns all bytes of an object.
func (v *Vault) readAll(id string) ([]byte, error) {
	o, err := v.object(id)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(o.reader())
}

func (v *Vault) readJSON(id string, into any) error {
	b, err := v.readAll(id)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
