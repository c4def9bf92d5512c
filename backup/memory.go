package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"colorfast"
	"colorfast/capture"
	"colorfast/internal/durable"
)

// memory is what a run leaves to the next one of the same source and vault. It
// lies in the user's cache and may be lost, old or damaged: what it says counts
// only as far as the vault and the source say the same.
type memory struct {
	Source   colorfast.Source   `json:"source"`
	VaultKey string             `json:"vault_key"`
	Backup   colorfast.BackupID `json:"backup"` // the look below was taken when this one was captured
	Look     *capture.Look      `json:"look"`
}

// memoryFile returns the file of the memory of source, "" for none.
func (b *Backup) memoryFile(source colorfast.Source) string {
	if b.Memory == "" {
		return ""
	}
	dir, err := future(b.Memory)
	if err != nil || inside(source.Path, dir) {
		return "" // nothing is ever written into a source
	}
	sum := sha256.Sum256([]byte(source.String() + "\x00" + b.VaultKey))
	return filepath.Join(dir, hex.EncodeToString(sum[:8])+".json")
}

// recall returns the look that was taken when the backup parent was captured,
// or an error that says why there is none.
func (b *Backup) recall(source colorfast.Source, parent colorfast.BackupID) (*capture.Look, error) {
	path := b.memoryFile(source)
	if path == "" {
		return nil, fmt.Errorf("no folder for a memory")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if m.Source != source || m.VaultKey != b.VaultKey || m.Backup != parent || m.Look == nil {
		return nil, fmt.Errorf("the memory is of another backup")
	}
	return m.Look, nil
}

// remember keeps look for the next run. That it cannot is no failure of the
// backup: the next one reads everything.
func (b *Backup) remember(m *colorfast.Manifest, look *capture.Look) {
	path := b.memoryFile(m.Source)
	if path == "" || look == nil {
		return
	}
	err := durable.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = durable.Write(path, 0o600, func(w io.Writer) error {
			return json.NewEncoder(w).Encode(memory{Source: m.Source, VaultKey: b.VaultKey, Backup: m.ID, Look: look})
		})
	}
	if err != nil {
		b.Log.Warn("memory not written, the next backup reads everything", "path", path, "err", err)
	}
}
