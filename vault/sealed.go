package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
)

// formats are both copies of the blob without which nothing can be read.
type formats struct {
	blob, copied   []byte // nil: there is none
	opens, copyToo bool   // with the password
	key            []byte // of all sealed pieces, by docs/formats; nil if neither opens
}

// readFormats reads both copies. Errors: Denied if they are whole and the password
// is wrong, NotFound if there is no vault, and those of the storage.
func readFormats(ctx context.Context, st blob.Storage, o Options) (*formats, error) {
	f := &formats{}
	for id, to := range map[blob.ID]*[]byte{formatBlob: &f.blob, formatCopyBlob: &f.copied} {
		var out bytesOut
		err := st.GetBlob(ctx, id, 0, -1, &out)
		switch {
		case errors.Is(err, blob.ErrBlobNotFound):
		case err != nil:
			return nil, fail(err, colorfast.Unreachable, "read blob %q of vault %q", id, o.URL)
		default:
			*to = out.b
		}
	}
	if f.blob == nil && f.copied == nil {
		return nil, noVault(o.URL)
	}
	busy, err := leased(ctx, st, rekeyLease, rekeyLeaseLife)
	if err != nil {
		return nil, err
	}
	if busy && !o.rekeying { // the two differ meanwhile, and nothing is wrong
		return nil, colorfast.Errorf(colorfast.Locked, "look through vault %q: its password is being changed, or a change was interrupted just now", o.URL).
			WithHint("try again in five minutes")
	}
	for _, c := range []struct {
		b  *[]byte
		ok *bool
	}{{&f.blob, &f.opens}, {&f.copied, &f.copyToo}} {
		b, ok := c.b, c.ok
		if *b == nil {
			continue
		}
		if b == &f.copied && f.opens && string(f.copied) == string(f.blob) {
			f.copyToo = true // it need not be tried, which takes a while
			continue
		}
		m, err := format.NewManager(ctx, &keyBlobs{format: *b}, "", 0, o.Password.text, time.Now)
		if err != nil {
			continue
		}
		*ok = true
		if f.key, err = hkdf.Key(sha256.New, m.GetMasterKey(), []byte("encryption"), "", 32); err != nil {
			return nil, err
		}
	}
	if f.key == nil && (f.blob == nil || f.copied == nil || string(f.blob) == string(f.copied)) {
		return nil, colorfast.Errorf(colorfast.Denied, "open vault %q: %w, or its file %s is damaged", o.URL, ErrWrongPassword, formatBlob)
	}
	if f.key == nil {
		return nil, colorfast.Errorf(colorfast.Denied, "open vault %q: %w, or both its files %s and %s are damaged", o.URL, ErrWrongPassword, formatBlob, formatCopyBlob)
	}
	return f, nil
}

// findings says what is wrong with the two copies.
func (f *formats) findings() []colorfast.Finding {
	bad := func(code colorfast.Code, id blob.ID, b []byte, why string) []colorfast.Finding {
		if b == nil {
			why = "it is missing"
		}
		return []colorfast.Finding{colorfast.NewFinding(code, string(id), 0, "%s", why)}
	}
	switch {
	case !f.opens:
		return bad(colorfast.VaultFormat, formatBlob, f.blob, "it does not open with the password, and its copy does")
	case !f.copyToo:
		return bad(colorfast.VaultFormatCopy, formatCopyBlob, f.copied, "it does not open with the password")
	case string(f.blob) != string(f.copied):
		return bad(colorfast.VaultFormatCopy, formatCopyBlob, f.copied, "it differs from "+string(formatBlob)+"; both open")
	}
	return nil
}

// unseal opens a sealed blob, whose name says how (docs/formats/repository.md). That
// it opens proves every byte of it.
func unseal(key []byte, id blob.ID, b []byte) error {
	name, _, _ := strings.Cut(string(id), "-")
	if len(name) < 32 {
		return fmt.Errorf("its name %q is not that of a sealed blob", id)
	}
	iv, err := hex.DecodeString(name[len(name)-32:])
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(iv)
	c, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(c)
	if err != nil {
		return err
	}
	if len(b) < gcm.NonceSize() {
		return errors.New("it is too short")
	}
	_, err = gcm.Open(nil, b[:gcm.NonceSize()], b[gcm.NonceSize():], iv)
	return err
}

// badIndexes returns the blobs of the index that do not open, with why.
func badIndexes(ctx context.Context, st blob.Storage, key []byte) (map[blob.ID]error, error) {
	bad := map[blob.ID]error{}
	for _, prefix := range []blob.ID{"xn", "xs", "xr"} {
		all, err := blob.ListAllBlobs(ctx, st, prefix)
		if err != nil {
			return nil, err
		}
		for _, m := range all {
			var out bytesOut
			err := st.GetBlob(ctx, m.BlobID, 0, -1, &out)
			if errors.Is(err, blob.ErrBlobNotFound) {
				continue // merged since
			}
			if err != nil {
				return nil, err
			}
			if err := unseal(key, m.BlobID, out.b); err != nil {
				bad[m.BlobID] = err
			}
		}
	}
	return bad, nil
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[blob.ID]V) []blob.ID {
	out := make([]blob.ID, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
