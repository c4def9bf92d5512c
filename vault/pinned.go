package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/kopia/kopia/repo/blob"
)

// pinned is a storage in which the two blobs that the password encrypts stay what
// they were when the vault was opened, for as long as only another password opens
// what they are now. Kopia reads them again every 15 minutes and decrypts them
// with the key that it has (refresh in repo/format, v0.22.3), so that otherwise a
// change of the password would end every backup that is under way. All other
// keys stay the same, so nothing is wrong with going on.
type pinned struct {
	blob.Storage
	password Secret

	mu   sync.Mutex
	held map[blob.ID][]byte
}

// GetBlob implements blob.Storage.
func (p *pinned) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if id != formatBlob && id != configBlob || offset != 0 || length >= 0 {
		return p.Storage.GetBlob(ctx, id, offset, length, out)
	}
	b, err := p.read(ctx, id)
	if err != nil {
		return err
	}
	out.Reset()
	_, err = out.Write(b)
	return err
}

func (p *pinned) read(ctx context.Context, id blob.ID) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now bytesOut
	err := p.Storage.GetBlob(ctx, id, 0, -1, &now)
	held, known := p.held[id]
	switch {
	// A storage that cannot delete what is locked has an empty blob for a moment.
	case id == configBlob && (errors.Is(err, blob.ErrBlobNotFound) || err == nil && len(now.b) == 0):
		if known && held != nil {
			return held, nil
		}
		now.b = nil
		if !known {
			if now.b, err = p.pending(ctx); err != nil {
				return nil, err
			}
		}
		if now.b == nil {
			p.hold(id, nil)
			return nil, blob.ErrBlobNotFound
		}
	case err != nil:
		return nil, err
	case known && !bytes.Equal(held, now.b) && !p.fits(id, now.b):
		if held == nil { // the vault had no settings, and those of another password are none
			return nil, blob.ErrBlobNotFound
		}
		return held, nil
	}
	p.hold(id, now.b)
	return now.b, nil
}

// hold remembers what a blob was; nil for none. The caller holds the lock.
func (p *pinned) hold(id blob.ID, b []byte) {
	if p.held == nil {
		p.held = map[blob.ID][]byte{}
	}
	p.held[id] = b
}

// fits reports whether the password opens another state of a blob.
func (p *pinned) fits(id blob.ID, b []byte) bool {
	if id == formatBlob {
		return opens(b, nil, p.password)
	}
	return opens(p.held[formatBlob], b, p.password)
}

// pending returns the settings for blobs while a change of the password has taken
// them away, nil if none does. To go on without them would be to store without the
// vault's lock: so what cannot be read is an error.
func (p *pinned) pending(ctx context.Context) ([]byte, error) {
	c, err := readRekey(ctx, p.Storage)
	if err != nil || len(c.Settings) == 0 {
		return nil, err
	}
	b := c.pick(p.held[formatBlob], p.password)
	if b == nil && opens(p.held[formatBlob], nil, p.password) {
		return nil, fmt.Errorf("its settings in %q are damaged", rekeyBlob)
	}
	return b, nil
}

// moved reports whether the format in the storage is another one than the one
// that was read, which is forgotten then.
func (p *pinned) moved(ctx context.Context) bool {
	var now bytesOut
	err := p.Storage.GetBlob(ctx, formatBlob, 0, -1, &now)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || bytes.Equal(now.b, p.held[formatBlob]) {
		return false
	}
	p.held = nil
	return true
}

// rekeyBlob is in a vault while its password is being changed.
const rekeyBlob = blob.ID("colorfast.rekey")

// rekeying is what rekeyBlob holds: the settings for blobs, as they are encrypted
// under the old password and under the new one.
type rekeying struct {
	Settings [][]byte `json:"settings"`
}

// readRekey reads rekeyBlob; without one, the zero value.
func readRekey(ctx context.Context, st blob.Storage) (rekeying, error) {
	var out bytesOut
	var c rekeying
	err := st.GetBlob(ctx, rekeyBlob, 0, -1, &out)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(out.b, &c)
	}
	return c, err
}

// pick returns the settings which the password opens beside a format; nil for none.
func (c *rekeying) pick(formatBytes []byte, password Secret) []byte {
	for _, s := range c.Settings {
		if opens(formatBytes, s, password) {
			return s
		}
	}
	return nil
}
