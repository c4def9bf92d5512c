package diff

import "colorfast"

// Since sets what has changed in m since its parent: Collection.Changes of every
// collection, Inventory.Dropped and Backup.Changes. Call it when m's inventory and
// findings are set, and after Manifest.Summarize.
//
// old and new are the indexes of the two; nil, or one of another backup, is no
// mistake: what a section is of is told by its digest. A collection that is equal
// in both needs no index, nor does one that the parent has not got. What is not
// known stays nil: where the parent's index lacks the collection, and where either
// backup has lost some of it.
//
// An error means that an index could not be read; what is set then is true, and the
// rest nil.
func Since(parent, m *colorfast.Manifest, old, new *Index) error {
	was := map[string]*colorfast.Collection{}
	for i := range parent.Inventory.Collections {
		c := &parent.Inventory.Collections[i]
		was[c.ID] = c
	}
	m.Inventory.Dropped, m.Backup.Changes = nil, nil
	for i := range m.Inventory.Collections {
		m.Inventory.Collections[i].Changes = nil
	}
	if blind(parent) || blind(m) {
		return nil // there may be collections that nobody saw
	}
	var failed error
	for i := range m.Inventory.Collections {
		c := &m.Inventory.Collections[i]
		o := was[c.ID]
		delete(was, c.ID)
		switch {
		case doubt(m, c) != "" || o != nil && doubt(parent, o) != "":
		case o == nil:
			c.Changes = &colorfast.Changes{Added: c.Records}
		case same(o, c):
			c.Changes = &colorfast.Changes{}
		case failed == nil:
			c.Changes, failed = between(o, c, old, new)
		}
	}
	for i := range parent.Inventory.Collections {
		if o := &parent.Inventory.Collections[i]; was[o.ID] != nil {
			m.Inventory.Dropped = append(m.Inventory.Dropped, colorfast.Dropped{ID: o.ID, Name: o.Name, Tenant: o.Tenant, Database: o.Database, Records: o.Records})
		}
	}
	m.Backup.Changes = m.Inventory.Changes()
	return failed
}

// between compares two states of a collection, if the indexes are of these.
func between(o, c *colorfast.Collection, old, new *Index) (*colorfast.Changes, error) {
	before, ok := old.of(o)
	after, too := new.of(c)
	if !ok || !too || before != nil && after != nil && before.rounded != after.rounded {
		return nil, nil
	}
	n, err := Compare(before, after, nil)
	if err != nil {
		return nil, err
	}
	return &n, nil
}

// of returns the section of a collection, nil if that has no records. ok is false
// if the index is of another state of it.
func (ix *Index) of(c *colorfast.Collection) (s *Section, ok bool) {
	if c.Records == 0 {
		return nil, true
	}
	if ix == nil {
		return nil, false
	}
	s = ix.Section(c.ID)
	return s, s != nil && s.Records == c.Records && s.Digest == c.Digest
}
