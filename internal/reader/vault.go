// Package reader is a second reader of vaults, for tests. It was written from
// docs/formats/repository.md and docs/formats/vault.md alone and shares no code
// with package vault or Kopia: so what it reads, those documents tell. Comments
// name their sections.
package reader

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/scrypt"
)

// ErrPassword says that the password does not open the vault, or that the blob
// which it should open is damaged.
var ErrPassword = errors.New("wrong password, or the format is damaged")

// Vault is an open vault, as it was at the last Refresh.
type Vault struct {
	blobs folder
	key   []byte           // K of "Sealed pieces"
	index map[string]entry // by content ID
}

// Open opens the vault in a folder.
func Open(dir, password string) (*Vault, error) {
	v := &Vault{blobs: folder(dir)}
	if err := v.unlock(password); err != nil {
		return nil, fmt.Errorf("open %q: %w", dir, err)
	}
	return v, v.Refresh()
}

// format is what a reader needs of the parameters in "Format blob".
type format struct {
	Version      int    `json:"version"`
	IndexVersion int    `json:"indexVersion"`
	Encryption   string `json:"encryption"`
	ECC          string `json:"ecc"`
	MasterKey    []byte `json:"masterKey"`
	Epochs       struct {
		Enabled bool
	} `json:"epochParameters"`
	RequiredFeatures []any `json:"requiredFeatures"`
	UpgradeLock      any   `json:"upgradeLock"`
}

// unlock reads the format blob and derives the key of all contents.
func (v *Vault) unlock(password string) error {
	_, f, err := v.format(password)
	if err != nil {
		return err
	}
	v.key, err = hkdf.Key(sha256.New, f.MasterKey, []byte("encryption"), "", 32)
	return err
}

// format follows "Format blob".
func (v *Vault) format(password string) (uniqueID []byte, f format, err error) {
	b, err := v.blobs.read("kopia.repository")
	if err != nil {
		return nil, f, err
	}
	var blob struct {
		UniqueID   []byte `json:"uniqueID"`
		KeyAlgo    string `json:"keyAlgo"`
		Encryption string `json:"encryption"`
		Sealed     []byte `json:"encryptedBlockFormat"`
	}
	if err := json.Unmarshal(b, &blob); err != nil {
		return nil, f, err
	}
	if blob.KeyAlgo != "scrypt-65536-8-1" || blob.Encryption != "AES256_GCM" {
		return nil, f, fmt.Errorf("algorithms %q and %q are not known", blob.KeyAlgo, blob.Encryption)
	}
	key, data, err := passwordKeys(password, blob.UniqueID)
	if err != nil {
		return nil, f, err
	}
	b, err = unseal(key, blob.Sealed, data)
	if err != nil {
		return nil, f, ErrPassword
	}
	var inside struct {
		Format format `json:"format"`
	}
	if err := json.Unmarshal(b, &inside); err != nil {
		return nil, f, err
	}
	f = inside.Format
	if f.Version != 3 || f.IndexVersion != 2 || f.Encryption != "AES256-GCM-HMAC-SHA256" || f.ECC != "" ||
		len(f.MasterKey) != 32 || !f.Epochs.Enabled || len(f.RequiredFeatures) > 0 || f.UpgradeLock != nil {
		return nil, f, errors.New("the repository has parameters that are not known")
	}
	return blob.UniqueID, f, nil
}

// passwordKeys derives the key and the additional data of "Format blob".
func passwordKeys(password string, uniqueID []byte) (key, data []byte, err error) {
	p, err := scrypt.Key([]byte(password), uniqueID, 65536, 8, 1, 32)
	if err != nil {
		return nil, nil, err
	}
	if key, err = hkdf.Key(sha256.New, p, uniqueID, "AES", 32); err != nil {
		return nil, nil, err
	}
	data, err = hkdf.Key(sha256.New, p, uniqueID, "CHECKSUM", 32)
	return key, data, err
}

// unseal opens sealed bytes.
func unseal(key, sealed, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(sealed) < gcm.NonceSize() {
		return nil, errors.New("too short to be sealed")
	}
	return gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], data)
}

// open follows "Sealed pieces".
func (v *Vault) open(sealed, iv []byte) ([]byte, error) {
	return unseal(pieceKey(v.key, iv), sealed, iv)
}

func pieceKey(k, iv []byte) []byte {
	mac := hmac.New(sha256.New, k)
	_, _ = mac.Write(iv)
	return mac.Sum(nil)
}

// blobIV is the IV of a blob that is one sealed piece.
func blobIV(name string) ([]byte, error) {
	name, _, _ = strings.Cut(name, "-")
	if len(name) < 32 {
		return nil, fmt.Errorf("blob %q: its name has no IV", name)
	}
	return hex.DecodeString(name[len(name)-32:])
}
