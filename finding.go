package colorfast

import "fmt"

// Finding says that something was looked at and is not as it should be. An
// error, in contrast, says that colorfast could not look.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Object   string   `json:"object"`  // what it is about: a collection, a file, a directory
	Detail   string   `json:"detail"`  // what was seen, one line
	Records  int64    `json:"records"` // records lost or wrong because of it, as far as known
	Remedy   string   `json:"remedy"`  // the next step
}

// Severity ranks a finding by what it means for a restore.
type Severity string

// The severities.
const (
	Note  Severity = "note"  // worth knowing; a restore is whole
	Risk  Severity = "risk"  // a restore is whole, but something may go wrong later
	Fatal Severity = "fatal" // a restore will miss records, or Chroma may not start on it
)

// Code names a kind of finding. A code is stable and never reused.
type Code string

// The codes; the catalogue below says what each means.
const (
	SysdbUnreadable  Code = "sysdb.unreadable"
	SysdbCorrupt     Code = "sysdb.corrupt"
	SysdbNewer       Code = "sysdb.newer"
	SysdbOrphanArray Code = "sysdb.orphan-array-rows"
	SysdbStaleFTS    Code = "sysdb.stale-full-text"
	QueueRestarts    Code = "queue.restarts"
	QueueUnreadable  Code = "queue.unreadable"
	HNSWMissing      Code = "hnsw.missing"
	HNSWTorn         Code = "hnsw.torn"
	HNSWPickle       Code = "hnsw.pickle"
	HNSWOrphan       Code = "hnsw.orphan-directory"
	MissingVectors   Code = "records.missing-vector"
	GhostVectors     Code = "records.ghost-vector"
	WrongDimension   Code = "records.wrong-dimension"
	AmbiguousUpdate  Code = "records.ambiguous-update"
	UnreadableRecord Code = "records.unreadable"
	SourceNetworkFS  Code = "source.network-file-system"
	SourceOwners     Code = "source.several-owners"
	SourceSpecial    Code = "source.special-file"
	SourceUnlocked   Code = "source.not-locked"
	StoredMissing    Code = "stored.missing"
	StoredDiffers    Code = "stored.differs"
	StoredRecords    Code = "stored.records-differ"
	VaultFormat      Code = "vault.format"
	VaultFormatCopy  Code = "vault.format-copy"
	VaultIndex       Code = "vault.index"
	VaultUnindexed   Code = "vault.unindexed"
	VaultManifests   Code = "vault.manifests"
	VaultUnused      Code = "vault.unused"
	KeyOnVaultDisk   Code = "key.on-vault-disk"
	KeyOnOneHost     Code = "key.on-one-host"
	KeyMadeUp        Code = "key.made-up"
	KeyNeverVerified Code = "key.never-verified"
	KeyStale         Code = "key.verified-long-ago"
	ApartFileSystem  Code = "apart.same-file-system"
	ApartDisk        Code = "apart.same-disk"
	ApartHost        Code = "apart.same-host"
	ApartZone        Code = "apart.same-zone"
	ApartRegion      Code = "apart.same-region"
	ApartUnknown     Code = "apart.unknown"
	ApartVolatile    Code = "apart.volatile"
	ApartNoBackup    Code = "apart.no-backup"
	ApartOneVault    Code = "apart.one-vault"
	ApartDeletable   Code = "apart.deletable"
)

// FindingKind describes a code.
type FindingKind struct {
	Code     Code
	Severity Severity
	Meaning  string // one sentence
	Remedy   string // one sentence; may name commands
}

// Catalogue returns every kind of finding. docs/findings.md is generated from
// it.
func Catalogue() []FindingKind {
	return []FindingKind{
		{SysdbUnreadable, Fatal, "chroma.sqlite3 cannot be opened or lacks Chroma's tables.", "Restore the newest earlier backup that is not damaged."},
		{SysdbCorrupt, Fatal, "SQLite's own check finds chroma.sqlite3 malformed.", "Restore the newest earlier backup that is not damaged."},
		{SysdbNewer, Note, "A Chroma newer than this colorfast knows has migrated the database.", "Update colorfast; the files are kept as they are."},
		{SysdbOrphanArray, Risk, "Array metadata of deleted records is left over and can show up on later ones (chroma issue 7594).", "Delete the rows of embedding_metadata_array whose id is not in embeddings, with Chroma stopped."},
		{SysdbStaleFTS, Risk, "Documents are not in the full-text index, so text searches miss them.", "Rebuild it with \"chroma utils rebuild-fts\" or by updating the documents."},
		{QueueRestarts, Fatal, "The queue is empty, so that new writes get numbers that Chroma takes for done and drops in silence.", "Restore an earlier backup, or re-create the collections before writing."},
		{QueueUnreadable, Fatal, "A row of the queue that is still needed cannot be read.", "Restore the newest earlier backup that is not damaged."},
		{HNSWMissing, Fatal, "Files of a vector segment are missing although they were saved before.", "Stop Chroma at once, for it destroys the rest when it opens the collection; then restore the newest backup that is not damaged."},
		{HNSWTorn, Fatal, "The files of a vector segment do not belong to the same save; Chroma may crash on them or lose vectors.", "Restore the newest earlier backup that is not damaged, then write again what is newer."},
		{HNSWPickle, Fatal, "index_metadata.pickle is cut short or is not what Chroma writes; every call on the collection fails.", "Restore the newest earlier backup that is not damaged, then write again what is newer."},
		{HNSWOrphan, Note, "A segment directory belongs to no collection; Chroma leaves them behind when a collection is deleted.", "It can be deleted while Chroma is stopped."},
		{MissingVectors, Fatal, "Records have no vector anywhere: queries cannot find them, and reading them fails.", "Restore an earlier backup that has them, or embed and upsert them again."},
		{GhostVectors, Risk, "Vectors without a record: queries return them with no document, and adding their ids keeps the old vector.", "Upsert and then delete these ids."},
		{WrongDimension, Fatal, "Vectors have another number of dimensions than their collection.", "Restore the newest earlier backup that is not damaged."},
		{AmbiguousUpdate, Risk, "An id was updated before it was added and the index was saved ahead of the database, so Chroma's replay may keep the wrong vector.", "Upsert these ids again."},
		{UnreadableRecord, Fatal, "Rows of a record hold values that Chroma does not write.", "Restore the newest earlier backup that is not damaged."},
		{SourceNetworkFS, Risk, "The source lies on a network file system, where SQLite's locks cannot be relied on.", "Move the persist directory to a local disk."},
		{SourceOwners, Risk, "More than one process has the source open; two Chromas on one directory destroy vectors.", "Stop all but one."},
		{SourceSpecial, Note, "A socket, pipe or device lies in the source; it is not kept.", "None is needed."},
		{SourceUnlocked, Risk, "SQLite's locks could not be used; that nothing changed was judged by looking before and after.", "Run colorfast on the host of the source, as a user who may read all of it."},
		{StoredMissing, Fatal, "Something that the backup needs is not in the vault.", "Use another backup, or a copy with --copy-from; then run \"colorfast vault repair\"."},
		{StoredDiffers, Fatal, "A file of the backup does not read back as it was stored.", "Use another backup, or a copy with --copy-from; then run \"colorfast vault repair\"."},
		{StoredRecords, Fatal, "Records read from the backup are not those that were sealed in it.", "Use another backup, or a copy with --copy-from; then run \"colorfast vault repair\"."},
		{VaultFormat, Fatal, "The blob without which a vault cannot be opened is missing or damaged.", "Run \"colorfast vault repair\", which makes it again from its copy."},
		{VaultFormatCopy, Risk, "The copy of the blob without which a vault cannot be opened is missing, damaged, or of an older state.", "Run \"colorfast vault repair\", which makes it again."},
		{VaultIndex, Fatal, "A part of the vault's index is missing or damaged, so that what it tells of is not found.", "Run \"colorfast vault repair\", which makes it again from the packs."},
		{VaultUnindexed, Note, "Packs are in the vault that its index does not name: those of runs that were killed or are under way, or a part of the index is gone.", "None is needed, unless backups are missing from the list; then run \"colorfast vault repair\"."},
		{VaultManifests, Fatal, "What lists backups cannot be read, so that backups are missing from the list.", "Take them from a copy of the vault; look into the vault's storage."},
		{VaultUnused, Risk, "Something is damaged that no backup needs, but that a repair or a later backup might.", "Run \"colorfast vault repair\"; look into the vault's storage."},
		{KeyOnVaultDisk, Risk, "The only known copy of the vault's password is on the file system or the disk of the vault, so that one dead disk takes both.", "Copy it to another place, and prove the copy with \"colorfast recovery verify\"."},
		{KeyOnOneHost, Risk, "The only known copy of the vault's password is on the host that makes the backups, so that it is lost with what they are for.", "Copy it to another place, and prove the copy with \"colorfast recovery verify\"."},
		{KeyMadeUp, Risk, "The vault's password was made up, and nobody has confirmed that it is kept elsewhere.", "Print \"colorfast recovery kit\", keep the password apart from the host, and prove it with \"colorfast recovery verify\"."},
		{KeyNeverVerified, Risk, "No copy of the vault's password was ever shown to open it; without the password no backup can be read.", "Prove a copy that is kept elsewhere with \"colorfast recovery verify\"."},
		{KeyStale, Risk, "It is more than 180 days ago that a copy of the vault's password was shown to open it.", "Fetch the copy from where it is, and prove it again with \"colorfast recovery verify\"."},
		{ApartFileSystem, Risk, "The vault is on the source's file system, or in its bucket: what destroys one destroys both.", "Make a vault on another disk, best on another host."},
		{ApartDisk, Risk, "The vault is on the source's disk: its loss takes both.", "Make a vault on another disk, best on another host."},
		{ApartHost, Risk, "The vault is on the source's host: fire, theft, or whoever takes the host over takes both.", "Keep a vault on another host or in object storage too."},
		{ApartZone, Note, "The vault is in the source's zone of the same cloud.", "Keep a vault in another zone or region too."},
		{ApartRegion, Note, "The vault is in the source's region of the same cloud.", "Keep a vault in another region or with somebody else too, if an outage of a region is more than you can bear."},
		{ApartUnknown, Note, "How far apart the vault and the source are cannot be told.", "See \"colorfast vault where\" for what is not known; find out, or keep a vault where you know it."},
		{ApartVolatile, Risk, "It is in memory or in a container's layer, and is lost though nothing breaks.", "Move it to a disk or a volume that outlives restarts and containers."},
		{ApartNoBackup, Risk, "No vault holds a backup of the source that is not damaged.", "Run \"colorfast backup PATH\"."},
		{ApartOneVault, Note, "There is one vault, so a mistake or an attack on it leaves the source alone.", "Keep a second vault, apart from the first."},
		{ApartDeletable, Risk, "Whoever may write to the vault may delete every backup in it.", "Keep a vault in a storage that locks what it holds, or one that is taken offline."},
	}
}

// NewFinding makes a finding of a kind in the catalogue; detail is a format
// for args. It panics for a code that is not in the catalogue, which only a
// defect can cause.
func NewFinding(code Code, object string, records int64, detail string, args ...any) Finding {
	for _, k := range Catalogue() {
		if k.Code == code {
			return Finding{Code: code, Severity: k.Severity, Object: object, Detail: fmt.Sprintf(detail, args...), Records: records, Remedy: k.Remedy}
		}
	}
	panic("colorfast: no such finding: " + string(code))
}

// OutcomeOf returns Failed if any finding is fatal, Passed otherwise. Use it
// only where everything was looked at.
func OutcomeOf(findings []Finding) Outcome {
	for i := range findings {
		if findings[i].Severity == Fatal {
			return Failed
		}
	}
	return Passed
}

// Unlisted returns those of found that known does not have: none with the same
// code and object.
func Unlisted(found, known []Finding) []Finding {
	type key struct {
		code   Code
		object string
	}
	listed := map[key]bool{}
	for _, f := range known {
		listed[key{f.Code, f.Object}] = true
	}
	var out []Finding
	for _, f := range found {
		if !listed[key{f.Code, f.Object}] {
			out = append(out, f)
		}
	}
	return out
}
