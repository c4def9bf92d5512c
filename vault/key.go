package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
)

// keyEventType is the type of the manifests that hold key events. Kopia's
// maintenance keeps manifests of every type until they are deleted.
const keyEventType = "colorfast-key"

// Fingerprint implements colorfast.Replica.
func (v *Vault) Fingerprint() colorfast.Fingerprint { return v.fingerprint }

// fingerprintOf makes the fingerprint of a vault.
func fingerprintOf(conn *connection) (colorfast.Fingerprint, error) {
	var id, key [8]byte
	sum := sha256.Sum256(append([]byte("colorfast vault"), conn.UniqueID()...))
	copy(id[:], sum[:])
	derived, err := conn.DeriveKey("colorfast fingerprint", len(key))
	if err != nil {
		return "", err
	}
	copy(key[:], derived)
	return colorfast.NewFingerprint(id, key), nil
}

// KeyID names the password by which the vault was opened, among all that it had
// and will have. It is of use within the vault only, and is stored nowhere else.
// Errors: Internal.
func (v *Vault) KeyID() (string, error) {
	m := v.conn.FormatManager()
	id, err := hkdf.Key(sha256.New, m.FormatEncryptionKey(), m.UniqueID(), "colorfast key id", 8)
	if err != nil {
		return "", colorfast.Errorf(colorfast.Internal, "name the password of vault %q: %w", v.opts.URL, err)
	}
	return hex.EncodeToString(id), nil
}

// RecordKeyEvent stores e for everybody who opens the vault, with KeyID as above
// and Tool if that is empty. On return it is durable. Errors: Denied, Unreachable.
func (v *Vault) RecordKeyEvent(ctx context.Context, e colorfast.KeyEvent) error {
	ctx = v.ctx(ctx)
	id, err := v.KeyID()
	if err != nil {
		return err
	}
	e.KeyID, e.At = id, e.At.UTC()
	if e.Tool == "" {
		e.Tool = "colorfast " + colorfast.Version
	}
	labels := map[string]string{manifest.TypeLabelKey: keyEventType, "kind": string(e.Kind)}
	err = repo.WriteSession(ctx, v.conn, repo.WriteSessionOptions{Purpose: "key event"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		_, err := w.PutManifest(ctx, labels, &e)
		return err
	})
	if err != nil {
		return fail(err, colorfast.Internal, "record a key event in vault %q", v.opts.URL)
	}
	return nil
}

// KeyEvents returns what the vault remembers of its key, oldest first. One that
// cannot be read is passed over, with a warning. Errors: Corrupt, Unreachable.
func (v *Vault) KeyEvents(ctx context.Context) ([]colorfast.KeyEvent, error) {
	ctx = v.ctx(ctx)
	err := v.conn.Refresh(ctx)
	var found map[manifest.ID]manifestEntry
	var damage []error
	if err == nil {
		found, damage, err = v.conn.manifests.ofType(ctx, v.conn, keyEventType)
	}
	if err != nil {
		return nil, fail(err, colorfast.Corrupt, "read the key events of vault %q", v.opts.URL)
	}
	list := []colorfast.KeyEvent{}
	for id, f := range found {
		var e colorfast.KeyEvent
		if err := json.Unmarshal(f.Data, &e); err != nil {
			damage = append(damage, fmt.Errorf("%s: %w", id, err))
			continue
		}
		list = append(list, e)
	}
	if len(damage) > 0 {
		v.warn(ctx, "key events not read", errors.Join(damage...))
	}
	slices.SortFunc(list, func(a, b colorfast.KeyEvent) int { return a.At.Compare(b.At) })
	return list, nil
}
