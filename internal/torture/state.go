package torture

import (
	"maps"

	"colorfast/chroma/client"
)

// State is what a Chroma holds: records by id, by the name of their collection.
type State map[string]map[string]client.Record

// apply does what Chroma does. It changes s, but no record that s had before:
// those may be shared.
func (s State) apply(o *Op) {
	switch o.Kind {
	case Create:
		s[o.Collection] = map[string]client.Record{}
		return
	case Drop:
		delete(s, o.Collection)
		return
	}
	col := s[o.Collection]
	for i := range o.Records {
		given := o.Records[i]
		had, known := col[given.ID]
		switch {
		case o.Kind == Delete:
			delete(col, given.ID)
		case known && o.Kind != Add:
			col[given.ID] = merge(had, given)
		case !known && o.Kind != Update:
			given.Metadata = maps.Clone(given.Metadata)
			col[given.ID] = given
		}
	}
}

// merge returns had with what given says. Chroma merges metadata by key.
func merge(had, given client.Record) client.Record {
	if given.Vector != nil {
		had.Vector = given.Vector
	}
	if given.Document != nil {
		had.Document = given.Document
	}
	if given.URI != nil {
		had.URI = given.URI
	}
	if given.Metadata != nil {
		m := maps.Clone(had.Metadata)
		if m == nil {
			m = client.Metadata{}
		}
		for k, v := range given.Metadata {
			if v == nil {
				delete(m, k)
			} else {
				m[k] = v
			}
		}
		had.Metadata = m
	}
	return had
}
