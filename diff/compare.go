package diff

import "colorfast"

// Change is what happened to a record.
type Change string

// The changes.
const (
	RecordAdded   Change = "added"
	RecordUpdated Change = "updated"
	RecordDeleted Change = "deleted"
)

// Difference is a record that differs.
type Difference struct {
	ID     string // "" unless the index is detailed
	Change Change
	Parts  Parts // that differ; 0 but for RecordUpdated
}

// Compare counts the records that differ between two states of a collection, and
// hands each to fn, if that is not nil, by the hash of its id. A nil section has no
// records. It holds two entries in memory, for both are sorted. An error of fn ends
// it and is returned as it is. Errors: Unsupported when the sections are not of one
// kind.
//
// A record counts as updated if its vector, document, uri or metadata differ. In
// cosine collections vectors that differ by rounding only are the same, for Chroma
// itself gives a vector back with other last bits once it has saved it.
func Compare(old, new *Section, fn func(Difference) error) (colorfast.Changes, error) {
	var n colorfast.Changes
	if old != nil && new != nil && (old.rounded != new.rounded || old.index.detail != new.index.detail) {
		return n, colorfast.Errorf(colorfast.Unsupported, "compare indexes: they are not of one kind")
	}
	o, err := old.read()
	if err != nil {
		return n, err
	}
	w, err := new.read()
	if err != nil {
		return n, err
	}
	tell := func(r *reader, c Change, p Parts) error {
		if fn == nil {
			return nil
		}
		id, err := r.id()
		if err != nil {
			return err
		}
		return fn(Difference{ID: id, Change: c, Parts: p})
	}
	for err == nil && !(o.done && w.done) {
		order := 0
		switch {
		case o.done:
			order = 1
		case w.done:
			order = -1
		default:
			order = o.order(&w.entry)
		}
		switch {
		case order < 0:
			n.Deleted++
			if err = tell(o, RecordDeleted, 0); err == nil {
				err = o.next()
			}
		case order > 0:
			n.Added++
			if err = tell(w, RecordAdded, 0); err == nil {
				err = w.next()
			}
		default:
			if p := differing(&o.entry, &w.entry, old.index.detail, old.rounded); p != 0 {
				n.Updated++
				err = tell(w, RecordUpdated, p)
			}
			if err == nil {
				err = o.next()
			}
			if err == nil {
				err = w.next()
			}
		}
	}
	return n, err
}
