package colorfast

import (
	"strings"
	"time"
)

// Format is the version of the stored form of a backup. Every release restores
// all earlier ones.
const Format = 2

// BackupID names a backup in its vault. It may be shortened wherever that
// leaves it unique.
type BackupID string

// AgainstNothing stands for no backup in Manifest.Against.
const AgainstNothing = BackupID("none")

// Short returns the first eight characters, which tables show.
func (id BackupID) Short() string { return string(id[:min(len(id), 8)]) }

// Latest is the word that stands for the newest backup.
const Latest = "latest"

// Outcome is the result of looking. Silence is never success: the zero value
// is Unknown.
type Outcome string

// The three outcomes.
const (
	Unknown Outcome = ""       // could not look, or not at everything
	Passed  Outcome = "passed" // looked, and it is good
	Failed  Outcome = "failed" // looked, and it is bad
)

// String returns the outcome as a word.
func (o Outcome) String() string {
	if o == Unknown {
		return "unknown"
	}
	return string(o)
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; any word it does not know
// is Unknown.
func (o *Outcome) UnmarshalText(b []byte) error {
	switch w := Outcome(b); w {
	case Passed, Failed:
		*o = w
	default:
		*o = Unknown
	}
	return nil
}

// Backup is a stored, verified copy of a source: a restore point. A copy that
// is not complete and durable is not a Backup and is never listed.
type Backup struct {
	Format        int       `json:"format"`
	ID            BackupID  `json:"id"`
	Source        Source    `json:"source"`
	Parent        BackupID  `json:"parent,omitempty"` // the backup of the same source that this one was compared with; nothing of it is needed to restore
	Tool          string    `json:"tool"`             // such as "colorfast 0.1.0"
	StartedAt     time.Time `json:"started_at"`       // UTC
	RestorePoint  time.Time `json:"restore_point"`
	FinishedAt    time.Time `json:"finished_at"`
	Verified      Outcome   `json:"verified"` // Failed: kept, but damaged
	Since         string    `json:"since"`    // Generation.Since
	Collections   int       `json:"collections"`
	Records       int64     `json:"records"`
	Files         int       `json:"files"`
	OriginalBytes int64     `json:"original_bytes"` // sum of the files' sizes
	StoredBytes   int64     `json:"stored_bytes"`   // bytes that this backup added to the vault, after compression and encryption
	FreezeSeconds float64   `json:"freeze_seconds"` // how long writers had to wait
	Findings      int       `json:"findings"`
	Changes       *Changes  `json:"changes,omitempty"` // since Parent, in all collections; nil: not known
	Origin        *Origin   `json:"origin,omitempty"`  // where it was made, if that was another vault; nil: in this one
}

// Origin names the backup of which another one is a copy. It stays the same
// however often that is copied on.
type Origin struct {
	Vault    Fingerprint `json:"vault"`     // of the vault in which it was made
	Backup   BackupID    `json:"backup"`    // its ID there
	CopiedAt time.Time   `json:"copied_at"` // when this copy was begun, UTC
}

// Copied returns when the backup was copied from another vault; the zero time if it
// was not.
func (b *Backup) Copied() time.Time {
	if b.Origin == nil {
		return time.Time{}
	}
	return b.Origin.CopiedAt
}

// Identity is what a backup and all its copies have in common.
type Identity struct {
	Vault  Fingerprint `json:"vault"`  // of the vault in which it was made
	Backup BackupID    `json:"backup"` // its ID there
}

// Identity returns what this backup, found in the vault with the given
// fingerprint, has in common with its copies.
func (b *Backup) Identity(vault Fingerprint) Identity {
	if b.Origin != nil {
		return Identity{b.Origin.Vault, b.Origin.Backup}
	}
	return Identity{vault, b.ID}
}

// Changes counts the records that differ between two backups of a source. A
// record whose vector, document, uri or metadata differs counts as updated.
type Changes struct {
	Added   int64 `json:"added"`
	Updated int64 `json:"updated"`
	Deleted int64 `json:"deleted"`
}

// Add adds the counts of o.
func (c *Changes) Add(o Changes) {
	c.Added += o.Added
	c.Updated += o.Updated
	c.Deleted += o.Deleted
}

// Damaged reports whether records are known to be missing or wrong.
func (b *Backup) Damaged() bool { return b.Verified == Failed }

// Manifest is a backup with all that it says of itself.
type Manifest struct {
	Backup

	// Against tells Vault.Put which backup of the vault to compare with, where that
	// is not Parent; "" means Parent, and AgainstNothing nothing.
	Against BackupID `json:"-"`

	Inventory   Inventory   `json:"inventory"`
	Consistency Consistency `json:"consistency"`
	FindingList []Finding   `json:"finding_list"`
	FileList    []File      `json:"file_list"`
}

// Summarize sets the fields of the embedded Backup that follow from the others.
func (m *Manifest) Summarize() {
	m.Backup.Format = Format
	m.Backup.Verified = OutcomeOf(m.FindingList)
	m.Backup.Since = m.Inventory.Generation.Since
	m.Backup.Collections = len(m.Inventory.Collections)
	m.Backup.Records = m.Inventory.Records()
	m.Backup.Files, m.OriginalBytes = 0, 0
	for i := range m.FileList {
		if m.FileList[i].Type == Regular {
			m.Backup.Files++
			m.OriginalBytes += m.FileList[i].Size
		}
	}
	m.Backup.RestorePoint = m.Consistency.FrozenAt
	m.Backup.FreezeSeconds = m.Consistency.FreezeSeconds
	m.Backup.Findings = len(m.FindingList)
	m.Backup.Changes = nil
	if m.Parent != "" {
		m.Backup.Changes = m.Inventory.Changes()
	}
}

// Consistency is the evidence that a capture is one consistent cut.
type Consistency struct {
	Mode            Mode      `json:"mode"`
	JournalMode     string    `json:"journal_mode"` // of the source: rollback or wal
	FrozenAt        time.Time `json:"frozen_at"`    // every write acknowledged before is in
	ReleasedAt      time.Time `json:"released_at"`  // no write begun after is in
	FreezeSeconds   float64   `json:"freeze_seconds"`
	LockWaitSeconds float64   `json:"lock_wait_seconds"` // spent waiting for a running write to end, over all attempts
	Attempts        int       `json:"attempts"`          // 1 means the first one was good
	PrecopyBytes    int64     `json:"precopy_bytes"`     // copied while Chroma wrote on
	SettledBytes    int64     `json:"settled_bytes"`     // copied again under the freeze
	HotJournal      bool      `json:"hot_journal"`       // a crash had left one; rolled back in the copy
	WALBytes        int64     `json:"wal_bytes"`         // folded into the copy
	Notes           []string  `json:"notes"`             // retries and why; never nil in a finished capture
}

// Mode is how a capture kept writers from changing the source.
type Mode string

// The modes.
const (
	// Frozen: SQLite's own write lock was held; writers waited, readers did not.
	Frozen Mode = "frozen"
	// Shared: another process wrote without any pause; SQLite's shared lock was
	// held, so that it could not commit. New readers waited too.
	Shared Mode = "shared"
	// HotJournal: a crashed Chroma had left a hot journal; SQLite's shared lock
	// was held, which nobody can write past before rolling it back.
	HotJournal Mode = "hot-journal"
	// Optimistic: no lock could be had; nothing changed between a look before
	// and a look after the copy.
	Optimistic Mode = "optimistic"
	// Unchanged: nothing of the source had changed since its backup before, by
	// the size, times and inode of every file; so nobody was locked out, and
	// nothing was read.
	Unchanged Mode = "unchanged"
)

// FileType is the type of a directory entry that is kept.
type FileType string

// The types. Sockets, pipes and devices are told as findings and not kept.
const (
	Regular   FileType = "file"
	Directory FileType = "dir"
	Symlink   FileType = "symlink"
)

// File is one entry of a source's directory.
type File struct {
	Path    string    `json:"path"` // relative to the source, with slashes; "." is the source itself
	Type    FileType  `json:"type"`
	Mode    uint32    `json:"mode"` // permission bits, with setuid, setgid and sticky as in chmod(2)
	UID     int       `json:"uid"`
	GID     int       `json:"gid"`
	Size    int64     `json:"size_bytes"` // of the content; 0 for directories and symlinks
	ModTime time.Time `json:"mod_time"`
	Target  string    `json:"target,omitempty"` // of a symlink, as read
	SHA256  string    `json:"sha256,omitempty"` // of the content, hexadecimal; set by Vault.Put
	Layout  *Layout   `json:"layout,omitempty"` // how the content is best cut; nil if nothing is known of it

	// Same tells Vault.Put that the content is the one of the same path in the
	// manifest's Parent.
	Same bool `json:"-"`
	// Sealed tells Vault.Put that SHA256 is known already, and that other content
	// is not to be stored.
	Sealed bool `json:"-"`
	// Alike tells Vault.Put which spans of a sealed file's content are the same in
	// the file of this path in the manifest's Parent: these it need not read. They
	// are in ascending order and do not overlap.
	Alike []Span `json:"-"`
}

// Span is a stretch of a file, in bytes.
type Span struct{ Offset, Length int64 }

// Layout tells how a file changes: in pages that are rewritten as wholes, and in
// a column that changes apart from what is around it. It says how to store a
// file well, and nothing about its meaning.
type Layout struct {
	// PageBytes is the length of a page, which begins at a multiple of it; the
	// last page of a file may be shorter. Greater than 0.
	PageBytes int `json:"page_bytes"`
	// UnitBytes is the length of a unit, of which a page holds a whole number; 0
	// if the file has no column.
	UnitBytes int `json:"unit_bytes,omitempty"`
	// ColumnFrom and ColumnTo bound the part of every unit that is a column.
	ColumnFrom int `json:"column_from,omitempty"`
	ColumnTo   int `json:"column_to,omitempty"`
}

// Valid reports whether the layout contradicts nothing.
func (l *Layout) Valid() bool {
	if l == nil {
		return true
	}
	const most = 64 << 20
	if l.PageBytes <= 0 || l.PageBytes > most {
		return false
	}
	if l.UnitBytes == 0 {
		return l.ColumnFrom == 0 && l.ColumnTo == 0
	}
	return l.UnitBytes > 0 && l.PageBytes%l.UnitBytes == 0 &&
		0 <= l.ColumnFrom && l.ColumnFrom < l.ColumnTo && l.ColumnTo <= l.UnitBytes
}

// Fits reports whether a full or shortened ID means this backup: its own, or the
// one that it has where it was made.
func (b *Backup) Fits(q string) bool {
	q = strings.ToLower(q)
	return strings.HasPrefix(string(b.ID), q) || b.Origin != nil && strings.HasPrefix(string(b.Origin.Backup), q)
}

// ResolveBackup finds the backup that a user means by q: a full or shortened
// ID, or "latest", optionally among the backups of one source ("" for all).
// list is newest first. "latest" passes over damaged backups, unless there is
// no other. Errors: NotFound, Usage when q fits several.
func ResolveBackup(list []Backup, q, source string) (*Backup, error) {
	var hits []*Backup
	for i := range list {
		b := &list[i]
		if !b.Source.Matches(source) {
			continue
		}
		if q == Latest || q != "" && b.Fits(q) {
			hits = append(hits, b)
		}
	}
	switch {
	case len(hits) == 0 && q == Latest:
		return nil, Errorf(NotFound, "find the latest backup: the vault holds none").
			WithHint("make one with \"colorfast backup PATH\"")
	case len(hits) == 0:
		return nil, Errorf(NotFound, "find backup %q: the vault holds no such backup", q).
			WithHint("see \"colorfast list\"")
	case q == Latest:
		for _, b := range hits {
			if !b.Damaged() && b.Source == hits[0].Source {
				return b, nil
			}
		}
		return hits[0], nil
	case len(hits) > 1:
		return nil, Errorf(Usage, "find backup %q: %d backups start like that", q, len(hits)).
			WithHint("give more characters of the ID; see \"colorfast list\"")
	}
	return hits[0], nil
}
