package apart

import "colorfast"

// Findings says what is wrong with where the copies of a source lie.
func Findings(source *Place, copies []Copy) []colorfast.Finding {
	out := []colorfast.Finding{}
	add := func(code colorfast.Code, object, detail string, args ...any) {
		out = append(out, colorfast.NewFinding(code, object, 0, detail, args...))
	}
	if source.Volatile != "" {
		add(colorfast.ApartVolatile, source.Name, "the source: %s", source.Volatile)
	}
	holding := 0
	for i := range copies {
		c := &copies[i]
		name := c.Place.Name
		if c.Holds != No {
			holding++
		}
		if code, ok := codes[c.Verdict.Distance]; ok {
			add(code, name, "%s", c.Verdict.Destroys)
		}
		if c.Place.Volatile != "" {
			add(colorfast.ApartVolatile, name, "the vault: %s", c.Place.Volatile)
		}
		if c.Immutable == No {
			add(colorfast.ApartDeletable, name, "whoever may write to the vault may delete every backup in it")
		}
	}
	switch holding {
	case 0:
		add(colorfast.ApartNoBackup, source.Name, "no vault holds a backup of it that is not damaged")
	case 1:
		add(colorfast.ApartOneVault, source.Name, "one vault holds its backups")
	}
	return out
}

// codes are the findings that a distance is.
var codes = map[Distance]colorfast.Code{
	SameFileSystem: colorfast.ApartFileSystem,
	SameDisk:       colorfast.ApartDisk,
	SameHost:       colorfast.ApartHost,
	SameZone:       colorfast.ApartZone,
	SameRegion:     colorfast.ApartRegion,
	Unknown:        colorfast.ApartUnknown,
}

// Warning is the one line that is worth telling at each backup: the vault dies
// with the source's file system or disk, or is lost though nothing breaks. "" for
// none.
func Warning(source, vault *Place) string {
	v := Between(source, vault)
	switch {
	case v.Distance == SameFileSystem || v.Distance == SameDisk:
		return "the vault is not apart from the source: " + v.Destroys
	case vault.Volatile != "":
		return "the vault does not last: " + vault.Volatile
	}
	return ""
}
