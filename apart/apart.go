// Package apart tells whether a source and a vault would die together: by file
// system, disk, host, cloud zone and region.
//
// Facts and judgement are kept apart. A Prober gathers facts, one Place for each
// path or URL, from mountinfo and sysfs, from the names of hosts, and from the
// metadata service of a cloud if the machine says that it is in one. Between,
// Rule and Findings judge them; they are pure functions. What cannot be found out
// is said to be unknown, and never taken for the better.
//
// Nothing here opens a source, a vault or a storage. Start reading at Between.
package apart

import "encoding/json"

// Answer is yes, no or not known. The zero value is NotKnown.
type Answer string

// The answers.
const (
	NotKnown Answer = ""
	Yes      Answer = "yes"
	No       Answer = "no"
)

// String returns the answer as a word.
func (a Answer) String() string {
	if a == NotKnown {
		return "unknown"
	}
	return string(a)
}

// MarshalText implements encoding.TextMarshaler.
func (a Answer) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// is returns Yes or No.
func is(b bool) Answer {
	if b {
		return Yes
	}
	return No
}

// Distance is how far apart two places are. The zero value is Unknown.
type Distance string

// The distances, from the worst to the best, and the one that says nothing.
const (
	SameFileSystem Distance = "same-file-system"
	SameDisk       Distance = "same-disk"
	SameHost       Distance = "same-host"
	SameZone       Distance = "same-zone"
	SameRegion     Distance = "same-region"
	Apart          Distance = "apart"
	Unknown        Distance = ""
)

// String returns the distance as a word.
func (l Distance) String() string {
	if l == Unknown {
		return "unknown"
	}
	return string(l)
}

// MarshalText implements encoding.TextMarshaler.
func (l Distance) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Place is what is known of where bytes lie.
type Place struct {
	Name string `json:"name"` // the path or URL, without user, password and parameters
	Kind string `json:"kind"` // "path", or the scheme of the URL
	// FileSystems are those that must live for the place to live: its own, and
	// those below it that hold its loop file or the layers of its overlay. A bucket
	// counts as one. Empty: not known.
	FileSystems []FileSystem `json:"file_systems"`
	// Disks are those of which each alone takes the place with it, and the arrays
	// that outlive a disk. What they leave out is in Doubts.
	Disks []Disk `json:"disks"`
	Open  bool   `json:"open"` // there may be other file systems and disks below
	Host  Host   `json:"host"`
	Site  Site   `json:"site"`
	// Volatile says why the place is lost though nothing breaks, such as at a
	// restart; "" if it is not.
	Volatile string   `json:"volatile,omitempty"`
	Doubts   []string `json:"doubts"` // what could not be found out
}

// FileSystem is a file system, or a bucket.
type FileSystem struct {
	ID    string `json:"id"`    // the same for two places on the same one
	Type  string `json:"type"`  // such as "ext4", or the scheme of the bucket
	Mount string `json:"mount"` // where it is mounted; "" for a bucket
}

// Disk is what fails as one: a disk, a memory, or an array that outlives some of
// its disks.
type Disk struct {
	ID      string   `json:"id"`                // the kernel's name, such as "sda"
	Detail  string   `json:"detail,omitempty"`  // such as a model, or "raid1"
	Members []string `json:"members,omitempty"` // of an array: its disks
	Network bool     `json:"network,omitempty"` // it is served from elsewhere
}

// Host is the machine, or the service, that holds the bytes.
type Host struct {
	Here    Answer   `json:"here"`              // it is the one that we run on
	Name    string   `json:"name"`              // "" for not known
	ID      string   `json:"id,omitempty"`      // of this host: derived from its machine-id
	Service bool     `json:"service,omitempty"` // a cloud's, of many machines
	Address []string `json:"address,omitempty"` // where a name leads to
}

// Site is where a host stands, as clouds name it.
type Site struct {
	Provider string `json:"provider"` // "aws", "gcp", "azure" or another; "none" for no cloud; "" for not known
	Region   string `json:"region,omitempty"`
	Zone     string `json:"zone,omitempty"`
	ZoneID   string `json:"zone_id,omitempty"` // AWS: the name of the zone that all accounts share
	Zones    bool   `json:"zones,omitempty"`   // kept in several zones of the region
	Doubt    string `json:"doubt,omitempty"`   // what of this could not be found out
}

// None is the provider of a machine that is in no cloud.
const None = "none"

// Shared answers, for two places, what they have in common.
type Shared struct {
	FileSystem Answer `json:"file_system"`
	Disk       Answer `json:"disk"`
	Host       Answer `json:"host"`
	Zone       Answer `json:"zone"`
	Region     Answer `json:"region"`
}

// Verdict is how far apart two places are.
type Verdict struct {
	Distance Distance `json:"distance"`
	Shared   Shared   `json:"shared"`
	Destroys string   `json:"destroys_both"` // one sentence: what would
	Doubts   []string `json:"doubts"`        // what could not be found out, of both
}

// MarshalJSON implements json.Marshaler: lists are never null.
func (p Place) MarshalJSON() ([]byte, error) {
	type plain Place
	p.FileSystems, p.Disks, p.Doubts = list(p.FileSystems), list(p.Disks), list(p.Doubts)
	return json.Marshal(plain(p))
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// doubt adds what could not be found out.
func (p *Place) doubt(s string) {
	for _, d := range p.Doubts {
		if d == s {
			return
		}
	}
	p.Doubts = append(p.Doubts, s)
}
