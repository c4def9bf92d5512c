package apart

import (
	"fmt"
	"slices"
	"strings"
)

// Between judges how far apart two places are, a the source's and b the vault's.
// What two share on one rung they share on all above it: one file system is on
// one disk, in one host, in one zone, in one region. What differs on a rung
// differs on all below.
func Between(a, b *Place) Verdict {
	var v Verdict
	fs, disk := commonFS(a, b), commonDisk(a, b)
	rungs := []*Answer{&v.Shared.FileSystem, &v.Shared.Disk, &v.Shared.Host, &v.Shared.Zone, &v.Shared.Region}
	for i, found := range []Answer{oneFS(a, b, fs), oneDisk(a, b, disk), oneHost(&a.Host, &b.Host), oneZone(&a.Site, &b.Site), oneRegion(&a.Site, &b.Site)} {
		*rungs[i] = found
	}
	for i := 1; i < len(rungs); i++ {
		if *rungs[i-1] == Yes {
			*rungs[i] = Yes
		}
	}
	for i := len(rungs) - 2; i >= 0; i-- {
		if *rungs[i+1] == No && *rungs[i] != Yes {
			*rungs[i] = No
		}
	}
	v.Distance = distance(&v.Shared)
	v.Destroys = destroys(&v, a, b, fs, disk)
	v.Doubts = doubts(&v, a, b)
	return v
}

// doubts returns what could not be found out and would matter.
func doubts(v *Verdict, a, b *Place) []string {
	out := []string{}
	if v.Distance == SameFileSystem || v.Distance == SameDisk {
		return out
	}
	for _, p := range []*Place{a, b} {
		all := p.Doubts
		if v.Shared.Zone == NotKnown || v.Shared.Region == NotKnown {
			all = append(slices.Clone(all), p.Site.Doubt)
		}
		for _, d := range all {
			if d != "" && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out
}

// distance is the lowest rung that is surely shared. Unknown: none surely is, and one
// may be.
func distance(s *Shared) Distance {
	open := false
	for _, rung := range []struct {
		Distance
		Answer
	}{{SameFileSystem, s.FileSystem}, {SameDisk, s.Disk}, {SameHost, s.Host}, {SameZone, s.Zone}, {SameRegion, s.Region}} {
		if rung.Answer == Yes {
			return rung.Distance
		}
		open = open || rung.Answer == NotKnown
	}
	if open {
		return Unknown
	}
	return Apart
}

// commonFS returns a file system without which neither lives, nil for none.
func commonFS(a, b *Place) *FileSystem {
	for i := range a.FileSystems {
		for j := range b.FileSystems {
			if a.FileSystems[i].ID == b.FileSystems[j].ID {
				return &b.FileSystems[j]
			}
		}
	}
	return nil
}

func oneFS(a, b *Place, common *FileSystem) Answer {
	switch {
	case common != nil:
		return Yes
	case a.Open || b.Open || len(a.FileSystems) == 0 || len(b.FileSystems) == 0:
		return NotKnown
	}
	return No
}

func commonDisk(a, b *Place) *Disk {
	for i := range a.Disks {
		for j := range b.Disks {
			if a.Disks[i].ID == b.Disks[j].ID {
				return &b.Disks[j]
			}
		}
	}
	return nil
}

func oneDisk(a, b *Place, common *Disk) Answer {
	switch {
	case common != nil:
		return Yes
	case a.Open || b.Open || len(a.Disks) == 0 || len(b.Disks) == 0:
		return NotKnown
	}
	return No
}

func oneHost(a, b *Host) Answer {
	switch {
	case a.Service || b.Service: // many machines; one bucket is one file system
		return No
	case a.Here == Yes && b.Here != NotKnown:
		return b.Here
	case b.Here == Yes:
		return a.Here
	case a.Name != "" && a.Name == b.Name, slices.ContainsFunc(a.Address, func(x string) bool { return slices.Contains(b.Address, x) }):
		return Yes
	}
	return NotKnown // one machine may have several names and addresses
}

func oneRegion(a, b *Site) Answer {
	switch {
	case a.Provider == "" || b.Provider == "":
		return NotKnown
	case a.Provider != b.Provider:
		return No
	case a.Region == "" || b.Region == "":
		return NotKnown
	}
	return is(a.Region == b.Region)
}

func oneZone(a, b *Site) Answer {
	switch {
	case oneRegion(a, b) != Yes:
		return oneRegion(a, b)
	case a.Zones || b.Zones:
		return No
	case a.ZoneID != "" && b.ZoneID != "":
		return is(a.ZoneID == b.ZoneID)
	case a.Zone == "" || b.Zone == "":
		return NotKnown
	}
	return is(a.Zone == b.Zone)
}

// destroys says in one sentence what would destroy both.
func destroys(v *Verdict, a, b *Place, fs *FileSystem, disk *Disk) string {
	switch v.Distance {
	case SameFileSystem:
		if b.Kind != "path" {
			return fmt.Sprintf("whatever empties the bucket of %s takes both", b.Name)
		}
		return fmt.Sprintf("a broken or wiped file system %s%s takes both", fs.Mount, onDisks(b))
	case SameDisk:
		return fmt.Sprintf("the loss of %s takes both", disk)
	case SameHost:
		return fmt.Sprintf("the loss of the host%s, or whoever takes it over, takes both", named(&b.Host)) + maybe(v)
	case SameZone:
		return fmt.Sprintf("an outage of the zone %s of %s takes both", a.Site.zone(), a.Site.Provider)
	case SameRegion:
		return fmt.Sprintf("an outage of the region %s of %s takes both", a.Site.Region, a.Site.Provider) + maybeZone(v)
	case Apart:
		return "nothing in one place: only somebody who may write to both, or a mistake in both"
	}
	return "not known: " + unknown(&v.Shared)
}

// maybe adds what may be shared below the host.
func maybe(v *Verdict) string {
	if v.Shared.Disk == NotKnown {
		return "; whether they share a disk is not known"
	}
	return ""
}

func maybeZone(v *Verdict) string {
	if v.Shared.Zone == NotKnown {
		return "; whether they share a zone is not known"
	}
	return ""
}

func unknown(s *Shared) string {
	var open []string
	for _, rung := range []struct {
		what string
		is   Answer
	}{{"file system", s.FileSystem}, {"disk", s.Disk}, {"host", s.Host}, {"zone", s.Zone}, {"region", s.Region}} {
		if rung.is == NotKnown {
			open = append(open, rung.what)
		}
	}
	if s.Host == No {
		return "they are on different hosts, but whether these stand in one place cannot be told"
	}
	return "they may share the " + strings.Join(open, ", ")
}

func onDisks(p *Place) string {
	if len(p.Disks) == 0 {
		return ""
	}
	return ", or the loss of " + p.Disks[0].String() + ","
}

// String names a disk for people.
func (d *Disk) String() string {
	switch {
	case d.ID == memory:
		return "the memory, as at a restart"
	case strings.HasPrefix(d.ID, zpool):
		return "the " + d.ID
	case len(d.Members) > 0:
		return fmt.Sprintf("the array %s (%s of %s)", d.ID, d.Detail, strings.Join(d.Members, ", "))
	}
	return "the disk " + d.ID
}

func named(h *Host) string {
	if h.Name == "" {
		return ""
	}
	return " " + h.Name
}

func (s *Site) zone() string {
	if s.Zone == "" {
		return s.ZoneID
	}
	return s.Zone
}
