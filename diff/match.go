package diff

import (
	"fmt"
	"strconv"

	"colorfast"
)

// match pairs the collections of two backups: by ID, and what is left by tenant,
// database and name.
func match(old, new *colorfast.Manifest) []Collection {
	byID, byName := map[string]*colorfast.Collection{}, map[string]*colorfast.Collection{}
	for i := range old.Inventory.Collections {
		o := old.Inventory.Collections[i]
		o.Changes = nil // since another backup
		byID[o.ID] = &o
	}
	out := []Collection{}
	for i := range new.Inventory.Collections {
		n := new.Inventory.Collections[i]
		n.Changes = nil
		c := Collection{New: &n, Old: byID[n.ID]}
		if c.Old != nil {
			c.MatchedBy = ByID
			delete(byID, n.ID)
		}
		out = append(out, c)
	}
	for _, o := range byID {
		byName[o.String()] = o
	}
	for i := range out {
		c := &out[i]
		if o := byName[c.New.String()]; c.Old == nil && o != nil {
			c.Old, c.MatchedBy = o, ByName
			delete(byID, o.ID)
			delete(byName, o.String())
		}
	}
	for i := range old.Inventory.Collections {
		if o := byID[old.Inventory.Collections[i].ID]; o != nil {
			out = append(out, Collection{Old: o})
		}
	}
	return out
}

// judge says of a collection what the manifests tell, and what must be read.
// every says that single records are wanted.
func judge(c *Collection, old, new *colorfast.Manifest, every bool) {
	if c.Old != nil && c.New != nil {
		c.Renamed = c.Old.String() != c.New.String()
		if o, n := c.Old.Dimension, c.New.Dimension; o != n {
			c.Settings = append(c.Settings, Setting{"dimension", strconv.Itoa(o), strconv.Itoa(n)})
		}
		if o, n := c.Old.Space, c.New.Space; o != n {
			c.Settings = append(c.Settings, Setting{"space", o, n})
		}
	}
	c.Note = doubts(c, old, new)
	switch {
	case c.Old != nil && c.New != nil && same(c.Old, c.New):
		// What is lost in both may have been different: then nobody knows.
		if c.Note == "" {
			c.State, c.Changes = Equal, &colorfast.Changes{}
		}
	case c.Old != nil && c.New != nil:
		c.read = true
	case c.Note != "":
		c.read = every
	case c.Old == nil:
		c.State, c.Changes, c.read = Added, &colorfast.Changes{Added: c.New.Records}, every
	default:
		c.State, c.Changes, c.read = Dropped, &colorfast.Changes{Deleted: c.Old.Records}, every
	}
}

// same reports whether two collections hold the same records, as far as both
// were read.
func same(a, b *colorfast.Collection) bool { return a.Records == b.Records && a.Digest == b.Digest }

// rounds reports whether reading a vector again may give it with other last bits:
// Chroma keeps direction and length of a saved vector, and multiplies them; while
// it is in the queue it is exact.
func rounds(c *colorfast.Collection) bool { return c.Space == "cosine" }

// doubts says why what the backups hold of a collection cannot be told, "" if it
// can.
func doubts(c *Collection, old, new *colorfast.Manifest) string {
	for _, m := range []*colorfast.Manifest{old, new} {
		if blind(m) {
			return fmt.Sprintf("backup %s: the source's database was damaged", m.ID.Short())
		}
	}
	if c.Old != nil {
		if code := doubt(old, c.Old); code != "" {
			return fmt.Sprintf("backup %s: %s", old.ID.Short(), code)
		}
	}
	if c.New != nil {
		if code := doubt(new, c.New); code != "" {
			return fmt.Sprintf("backup %s: %s", new.ID.Short(), code)
		}
	}
	return ""
}

// doubt returns the fatal finding that a backup has of a collection, "" for none.
func doubt(m *colorfast.Manifest, c *colorfast.Collection) colorfast.Code {
	for i := range m.FindingList {
		if f := &m.FindingList[i]; f.Severity == colorfast.Fatal && f.Object == c.String() {
			return f.Code
		}
	}
	return ""
}

// blind reports whether the database of a backup's source was damaged, so that
// there may be collections and records in it that nobody saw.
func blind(m *colorfast.Manifest) bool {
	for i := range m.FindingList {
		if f := &m.FindingList[i]; f.Code == colorfast.SysdbUnreadable || f.Code == colorfast.SysdbCorrupt {
			return true
		}
	}
	return false
}
