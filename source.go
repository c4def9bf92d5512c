package colorfast

import "strings"

// Source is one Chroma that is backed up: a persist directory on a host.
type Source struct {
	Host string `json:"host"` // host name where Path lies
	Path string `json:"path"` // absolute, symbolic links resolved
}

// String returns "host:path".
func (s Source) String() string { return s.Host + ":" + s.Path }

// Matches reports whether a user who wrote q may mean this source: its path,
// its host:path, or the last elements of its path. The empty q matches all.
func (s Source) Matches(q string) bool {
	return q == "" || s.Path == q || s.String() == q || strings.HasSuffix(s.Path, "/"+strings.Trim(q, "/"))
}

// Generation tells which Chroma last migrated a source. It is read from the
// rows of the migrations table, the only reliable mark: every 1.x server
// answers /version with the same constant.
type Generation struct {
	Sysdb  int    `json:"sysdb"`  // highest migration of directory sysdb
	Metadb int    `json:"metadb"` // highest migration of directory metadb
	Queue  int    `json:"queue"`  // highest migration of directory embeddings_queue
	Since  string `json:"since"`  // the first Chroma release with these migrations, such as "1.5.0"
	Newer  bool   `json:"newer"`  // has migrations that this colorfast does not know
}

// Inventory is what a backup holds, in Chroma's own words.
type Inventory struct {
	Generation  Generation   `json:"generation"`
	Tenants     []string     `json:"tenants"`
	Databases   []Database   `json:"databases"`
	Collections []Collection `json:"collections"`
	Dropped     []Dropped    `json:"dropped,omitempty"` // collections that the manifest's Parent has and this backup has not
}

// Dropped is a collection that is gone.
type Dropped struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Tenant   string `json:"tenant"`
	Database string `json:"database"`
	Records  int64  `json:"records"` // that it had
}

// Changes sums the changes of all collections; nil if those of one are not known.
func (inv *Inventory) Changes() *Changes {
	sum := &Changes{}
	for i := range inv.Collections {
		c := inv.Collections[i].Changes
		if c == nil {
			return nil
		}
		sum.Add(*c)
	}
	for _, d := range inv.Dropped {
		sum.Deleted += d.Records
	}
	return sum
}

// Records returns the number of records in all collections.
func (inv *Inventory) Records() int64 {
	var n int64
	for i := range inv.Collections {
		n += inv.Collections[i].Records
	}
	return n
}

// In returns the collections, as "tenant/database/name", that have data in some of
// the files, whose paths are those of a manifest; never nil. The SQLite file has data
// of all of them.
func (inv *Inventory) In(files []string) []string {
	out := []string{}
	for i := range inv.Collections {
		c := &inv.Collections[i]
		for _, f := range files {
			if f == "chroma.sqlite3" || c.VectorSegment != "" && strings.HasPrefix(f, c.VectorSegment+"/") {
				out = append(out, c.String())
				break
			}
		}
	}
	return out
}

// Database is a Chroma database.
type Database struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
}

// Collection is a Chroma collection as it was when captured.
type Collection struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Tenant        string `json:"tenant"`
	Database      string `json:"database"`
	Dimension     int    `json:"dimension"`      // 0 before the first record
	Space         string `json:"space"`          // l2, ip or cosine
	Records       int64  `json:"records"`        // as the API's count would say after a restart
	Queued        int64  `json:"queued"`         // records whose vector lies only in the queue
	Digest        Digest `json:"digest"`         // of every record
	VectorSegment string `json:"vector_segment"` // names its directory
	MetadataSeq   int64  `json:"metadata_seq"`   // max_seq_id of the metadata segment, -1 for none
	VectorSeq     int64  `json:"vector_seq"`     // max_seq_id of the vector segment, -1 for none
	LastQueueSeq  int64  `json:"last_queue_seq"` // newest row in the queue for it, -1 for none

	// Changes since the manifest's Parent; nil: not known. A collection that the
	// parent has not got has all its records added; what a collection held that is
	// gone shows in Inventory.Dropped.
	Changes *Changes `json:"changes,omitempty"`
}

// String returns "tenant/database/name".
func (c *Collection) String() string { return c.Tenant + "/" + c.Database + "/" + c.Name }

// Names that a restore gives to what it has not finished (RestorePrefix) and to
// the data that it moved aside (AsidePrefix). Where the persist directory is a
// mount point both lie inside it; otherwise beside it, after its name.
const (
	RestorePrefix = ".colorfast-restore-"
	AsidePrefix   = ".before-restore-"
)

// IsAside reports whether an entry at the top of a persist directory is a
// restore's and no part of the source.
func IsAside(name string) bool {
	return strings.HasPrefix(name, RestorePrefix) || strings.HasPrefix(name, AsidePrefix)
}
