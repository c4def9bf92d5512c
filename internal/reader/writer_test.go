package reader

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Tests that need an older vault, or one with fewer backups, write it by
// repository.md too: with Kopia they would share what it takes for granted.

// seal is the counterpart of open.
func (v *Vault) seal(t *testing.T, plain, iv []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(pieceKey(v.key, iv))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := random(gcm.NonceSize())
	return gcm.Seal(nonce, nonce, plain, iv)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// buildIndex is the counterpart of parseIndex.
func buildIndex(entries map[string]entry) []byte {
	var packs []string
	var compressions []uint32
	var rows [][]byte
	be := binary.BigEndian
	for id, e := range entries {
		row := []byte{0}
		if len(id)%2 == 1 {
			row[0], id = id[0], id[1:]
		}
		hash, _ := hex.DecodeString(id)
		row = append(row, hash...)
		row = be.AppendUint32(row, uint32(e.time))
		at := e.offset
		if e.deleted {
			at |= 1 << 31
		}
		row = be.AppendUint32(row, at)
		row = append(row, byte(e.length>>16), byte(e.length>>8), byte(e.length))
		row = append(row, byte(e.packed>>16), byte(e.packed>>8), byte(e.packed))
		packs = withElement(packs, e.pack)
		row = be.AppendUint16(row, uint16(slices.Index(packs, e.pack)))
		compressions = withElement(compressions, e.compression)
		row = append(row, byte(slices.Index(compressions, e.compression)))
		rows = append(rows, row)
	}
	slices.SortFunc(rows, bytes.Compare)
	b := []byte{2, 33, 0, 17}
	b = be.AppendUint32(b, uint32(len(rows)))
	b = be.AppendUint32(b, uint32(len(packs)))
	b = append(b, byte(len(compressions)), 0, 0, 0, 0)
	b = append(b, bytes.Join(rows, nil)...)
	names := len(b) + len(packs)*packSize + len(compressions)*formatSize
	for _, p := range packs {
		b = append(b, byte(len(p)))
		b = be.AppendUint32(b, uint32(names))
		names += len(p)
	}
	for _, c := range compressions {
		b = append(be.AppendUint32(b, c), 3, 0)
	}
	return append(b, strings.Join(packs, "")...)
}

func withElement[E comparable](s []E, e E) []E {
	if slices.Contains(s, e) {
		return s
	}
	return append(s, e)
}

// addIndex writes an index blob of the epoch.
func (v *Vault) addIndex(t *testing.T, epoch int, entries map[string]entry) {
	t.Helper()
	hash := random(32)
	name := fmt.Sprintf("xn%d_%x-s0123456789abcdef012-c1", epoch, hash)
	write(t, v.blobs.path(name), v.seal(t, buildIndex(entries), hash[16:]))
}

// age makes everything in a vault, whose index was never merged, older by three
// days: to Kopia nothing of it is new any more.
func age(t *testing.T, dir, password string) {
	t.Helper()
	v := open(t, dir, password)
	remove(t, dir, "xn0_")
	for id, e := range v.index {
		e.time -= 3 * 24 * 60 * 60
		v.index[id] = e
	}
	v.addIndex(t, 0, v.index)
}

// deleteBackups writes one content of manifests, which says that these are gone.
func deleteBackups(t *testing.T, dir, password string, ids ...string) {
	t.Helper()
	v := open(t, dir, password)
	var gone struct {
		Entries []manifest `json:"entries"`
	}
	for _, id := range ids {
		gone.Entries = append(gone.Entries, manifest{ID: id, Labels: map[string]string{"type": "snapshot"}, Modified: time.Now().UTC(), Deleted: true, Data: json.RawMessage("null")})
	}
	var plain bytes.Buffer
	z := gzip.NewWriter(&plain)
	if err := json.NewEncoder(z).Encode(gone); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	hash := random(32)
	sealed := v.seal(t, plain.Bytes(), hash[16:])
	e := entry{
		pack: fmt.Sprintf("q%x-s0123456789abcdef012", random(16)), offset: 32, time: time.Now().Unix(),
		length: uint32(plain.Len()), packed: uint32(len(sealed)),
	}
	write(t, v.blobs.path(e.pack), append(random(32), sealed...))
	v.addIndex(t, 0, map[string]entry{"m" + hex.EncodeToString(hash): e})
}
