package apart

import (
	"fmt"
	"strings"
)

// Copy is a vault as far as one source is concerned.
type Copy struct {
	Place   Place
	Verdict Verdict // between the source and Place
	Holds   Answer  // it holds a backup of the source that is not damaged
	// Immutable: not even whoever may write to the vault can delete or change its
	// backups for some time, or nobody can reach it. Whoever knows the storage's
	// locks says so.
	Immutable Answer
	// Verified: the newest backup of the source was read back from the vault and
	// found good (Yes) or bad (No).
	Verified Answer
}

// Digit is one of the numbers of the rule 3-2-1-1-0, and whether it is met.
type Digit struct {
	Rule   string `json:"rule"`   // such as "3 copies"
	Met    Answer `json:"met"`    // yes, no or unknown
	Reason string `json:"reason"` // one sentence
}

// Rule judges 3-2-1-1-0: three copies, the source among them; on two storages that
// do not fail as one; one away from the source's host; one that nobody can
// delete; and no error when the newest was read back. A digit is met only by what is
// known.
func Rule(source *Place, copies []Copy) []Digit {
	return []Digit{three(copies), two(source, copies), away(copies), lasting(copies), sound(copies)}
}

func three(copies []Copy) Digit {
	sure, maybe := 1, 1
	for _, c := range copies {
		if c.Holds == Yes {
			sure++
		}
		if c.Holds != No {
			maybe++
		}
	}
	d := Digit{Rule: "3 copies", Met: atLeast(3, sure, maybe), Reason: fmt.Sprintf("%s, the source among them", count(sure, "copy", "copies"))}
	if maybe > sure {
		d.Reason += fmt.Sprintf("; of %s it is not known whether it holds one", count(maybe-sure, "vault", "vaults"))
	}
	return d
}

// two counts storages: copies that share a file system or a disk are on one.
func two(source *Place, copies []Copy) Digit {
	sure, maybe := []*Place{source}, []*Place{source}
	for i := range copies {
		c := &copies[i]
		if c.Holds == Yes && separate(&c.Place, sure, true) {
			sure = append(sure, &c.Place)
		}
		if c.Holds != No && separate(&c.Place, maybe, false) {
			maybe = append(maybe, &c.Place)
		}
	}
	d := Digit{Rule: "2 storages", Met: atLeast(2, len(sure), len(maybe))}
	switch d.Met {
	case Yes:
		d.Reason = fmt.Sprintf("%s that share no disk", count(len(sure), "storage", "storages"))
	case No:
		d.Reason = "all copies are on one storage"
	default:
		d.Reason = "whether the copies share a disk is not known"
	}
	return d
}

// separate reports whether a place surely (or else: perhaps) shares no disk with
// others.
func separate(p *Place, others []*Place, surely bool) bool {
	for _, o := range others {
		s := Between(o, p).Shared
		if s.Disk == Yes || s.FileSystem == Yes || surely && s.Disk != No {
			return false
		}
	}
	return true
}

func away(copies []Copy) Digit {
	d := Digit{Rule: "1 off-site", Met: No, Reason: "every copy is on the source's host"}
	best := NotKnown
	for _, c := range copies {
		if c.Holds == No {
			continue
		}
		met := NotKnown
		switch {
		case c.Verdict.Shared.Host == Yes:
			met = No
		case c.Verdict.Shared.Host == No && c.Holds == Yes:
			met = Yes
		}
		if met == Yes && (best != Yes || c.Verdict.Shared.Region == No) {
			best = Yes
			d.Met, d.Reason = Yes, fmt.Sprintf("%s is on another host%s", c.Place.Name, site(&c.Verdict.Shared))
		}
		if met == NotKnown && d.Met == No {
			d.Met, d.Reason = NotKnown, fmt.Sprintf("whether %s is on another host and holds a backup is not known", c.Place.Name)
		}
	}
	if none(copies) {
		d.Reason = "no vault holds a backup of the source"
	}
	return d
}

// site tells how far away what is not on the source's host is.
func site(s *Shared) string {
	switch {
	case s.Region == No:
		return " and in no region or building of the source's"
	case s.Zone == No:
		return " and in another zone of the same region"
	case s.Zone == Yes:
		return ", in the same zone"
	}
	return "; whether it is in the same building is not known"
}

func lasting(copies []Copy) Digit {
	d := Digit{Rule: "1 immutable or offline", Met: No, Reason: "whoever may write to the vault may delete every backup"}
	if none(copies) {
		d.Reason = "no vault holds a backup of the source"
	}
	for _, c := range copies {
		switch {
		case c.Holds == Yes && c.Immutable == Yes:
			return Digit{Rule: d.Rule, Met: Yes, Reason: c.Place.Name + " keeps what it holds, whoever has its keys"}
		case c.Holds != No && c.Immutable != No:
			d.Met, d.Reason = NotKnown, fmt.Sprintf("whether what %s holds can be deleted is not known", c.Place.Name)
		}
	}
	return d
}

func sound(copies []Copy) Digit {
	d := Digit{Rule: "0 errors", Met: NotKnown}
	var bad, good, open []string
	for _, c := range copies {
		switch {
		case c.Holds == No && c.Verified != No:
		case c.Verified == No:
			bad = append(bad, c.Place.Name)
		case c.Verified == Yes:
			good = append(good, c.Place.Name)
		default:
			open = append(open, c.Place.Name)
		}
	}
	switch {
	case len(bad) > 0:
		d.Met, d.Reason = No, "errors were found in the newest backup in "+strings.Join(bad, ", ")
	case len(open) > 0:
		d.Reason = "the newest backup was not read back from " + strings.Join(open, ", ")
	case len(good) > 0:
		d.Met, d.Reason = Yes, "the newest backup was read back from "+strings.Join(good, ", ")+" without an error"
	default:
		d.Met, d.Reason = No, "no vault holds a backup of the source"
	}
	return d
}

func none(copies []Copy) bool {
	for _, c := range copies {
		if c.Holds != No {
			return false
		}
	}
	return true
}

// atLeast judges a count of which only two bounds are known.
func atLeast(n, sure, maybe int) Answer {
	switch {
	case sure >= n:
		return Yes
	case maybe >= n:
		return NotKnown
	}
	return No
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
