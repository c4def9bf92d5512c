package reader

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Backup is the summary of a backup: "manifest.json" in vault.md.
type Backup struct {
	ID     string `json:"-"`
	Format int    `json:"format"`
	Source struct {
		Host string `json:"host"`
		Path string `json:"path"`
	} `json:"source"`
	RestorePoint time.Time `json:"restore_point"`

	root string // object ID of the root
}

// File is an entry of file_list.
type File struct {
	Path   string `json:"path"`
	Type   string `json:"type"`
	Size   int64  `json:"size_bytes"`
	Target string `json:"target"`
	SHA256 string `json:"sha256"`
	Layout Layout `json:"layout"` // all 0: none
}

// manifest is an entry of "Manifests".
type manifest struct {
	ID       string            `json:"id"`
	Labels   map[string]string `json:"labels"`
	Modified time.Time         `json:"modified"`
	Deleted  bool              `json:"deleted"`
	Data     json.RawMessage   `json:"data"`
}

// manifests follows "Manifests". What cannot be read is in the error; the
// others are returned nevertheless.
func (v *Vault) manifests() (all map[string]manifest, damage error) {
	all = map[string]manifest{}
	for id, e := range v.index {
		if e.deleted || !strings.HasPrefix(id, "m") {
			continue
		}
		some, err := v.readManifests(id)
		damage = errors.Join(damage, err)
		for _, m := range some {
			old, ok := all[m.ID]
			if !ok || m.Modified.After(old.Modified) || m.Modified.Equal(old.Modified) && m.Deleted {
				all[m.ID] = m
			}
		}
	}
	return all, damage
}

// readManifests returns the manifests in one content.
func (v *Vault) readManifests(id string) ([]manifest, error) {
	b, err := v.content(id)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("content %q: %w", id, err)
	}
	var some struct {
		Entries []manifest `json:"entries"`
	}
	if err := json.NewDecoder(z).Decode(&some); err != nil {
		return nil, fmt.Errorf("content %q: %w", id, err)
	}
	return some.Entries, nil
}

// Backups lists the backups, the newest restore point first: "Backup" in
// vault.md. With an error there may be others, which cannot be read.
func (v *Vault) Backups() ([]*Backup, error) {
	all, damage := v.manifests()
	var list []*Backup
	for id, m := range all {
		if m.Deleted || m.Labels["type"] != "snapshot" {
			continue
		}
		var data struct {
			Root struct {
				Object string `json:"obj"`
			} `json:"rootEntry"`
			Colorfast *Backup `json:"colorfast"`
		}
		if err := json.Unmarshal(m.Data, &data); err != nil {
			damage = errors.Join(damage, fmt.Errorf("manifest %q: %w", id, err))
			continue
		}
		if b := data.Colorfast; b != nil {
			b.ID, b.root = id, data.Root.Object
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b *Backup) int { return b.RestorePoint.Compare(a.RestorePoint) })
	return list, damage
}

// Manifest returns manifest.json of a backup, and the files that it lists:
// "manifest.json" in vault.md.
func (v *Vault) Manifest(b *Backup) (whole []byte, files []File, err error) {
	id, err := v.find(b, "manifest.json", "f")
	if err != nil {
		return nil, nil, err
	}
	if whole, err = v.readAll(id); err != nil {
		return nil, nil, err
	}
	var m struct {
		Files []File `json:"file_list"`
	}
	if err := json.Unmarshal(whole, &m); err != nil {
		return nil, nil, err
	}
	types := map[string]string{}
	for _, f := range m.Files {
		if !fs.ValidPath(f.Path) || strings.ContainsRune(f.Path, 0) || types[f.Path] != "" {
			return nil, nil, fmt.Errorf("file_list: %q is no path or is listed twice", f.Path)
		}
		if f.Type != "file" && (f.Type != "dir" && f.Type != "symlink" || f.Size != 0) || f.Size < 0 {
			return nil, nil, fmt.Errorf("file_list: %q has type %q and size %d", f.Path, f.Type, f.Size)
		}
		types[f.Path] = f.Type
	}
	for p := range types {
		for p != "." {
			if p = path.Dir(p); types[p] != "" && types[p] != "dir" {
				return nil, nil, fmt.Errorf("file_list: %q is not a directory", p)
			}
		}
	}
	return whole, m.Files, nil
}

// dirEntry is an entry of "Directories".
type dirEntry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Object string `json:"obj"`
}

// directory reads one.
func (v *Vault) directory(id string) ([]dirEntry, error) {
	var d struct {
		Stream  string     `json:"stream"`
		Entries []dirEntry `json:"entries"`
	}
	if err := v.readJSON(id, &d); err != nil {
		return nil, err
	}
	if d.Stream != "kopia:directory" {
		return nil, fmt.Errorf("object %q: not a directory", id)
	}
	return d.Entries, nil
}

// find returns the object ID of a path below the root, whose entry has this
// type.
func (v *Vault) find(b *Backup, p, typ string) (string, error) {
	at := dirEntry{Object: b.root, Type: "d"}
	for name := range strings.SplitSeq(p, "/") {
		var list []dirEntry
		var err error
		if at.Type == "d" {
			if list, err = v.directory(at.Object); err != nil {
				return "", fmt.Errorf("%q: %w", p, err)
			}
		}
		i := slices.IndexFunc(list, func(e dirEntry) bool { return e.Name == name })
		if i < 0 {
			return "", fmt.Errorf("%q: %w", p, fs.ErrNotExist)
		}
		at = list[i]
	}
	if at.Type != typ {
		return "", fmt.Errorf("%q, type %q: %w", p, typ, fs.ErrNotExist)
	}
	return at.Object, nil
}

// formats says how the content of a regular file is opened, by the format of
// its backup.
var formats = map[int]func(*Vault, *Backup, File) (io.Reader, error){
	1: openFormat1,
	2: openFormat2,
}

// Read writes the content of a regular file of a backup to w. There is an error
// unless it has the size and the SHA-256 that manifest.json records.
func (v *Vault) Read(w io.Writer, b *Backup, f File) error {
	open := formats[b.Format]
	if open == nil {
		return fmt.Errorf("backup %s has format %d, which is not known", b.ID, b.Format)
	}
	if f.Type != "file" {
		return errors.New("not a regular file")
	}
	r, err := open(v, b, f)
	if err != nil {
		return err
	}
	return f.check(w, r)
}

// check copies what should be the content of f.
func (f File) check(w io.Writer, r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, w), r)
	if err != nil {
		return fmt.Errorf("file %q: %w", f.Path, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != f.Size || sum != f.SHA256 {
		return fmt.Errorf("file %q: %d bytes with SHA-256 %s; the manifest records %d and %s", f.Path, n, sum, f.Size, f.SHA256)
	}
	return nil
}
