package verify_test

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"colorfast"
	"colorfast/chroma/records"
	"colorfast/internal/chromatest"
	"colorfast/verify"
)

// TestEach: the hook sees every record that is counted, with its hash, and one of a
// collection at a time; without it and with it the report is the same.
func TestEach(t *testing.T) {
	for _, version := range chromatest.Fixtures(t) {
		dir, scratch := fixture(t, version), t.TempDir()
		want := look(t, dir, scratch)
		type seen struct {
			busy   atomic.Int32
			n      int64
			digest colorfast.Digest
			c      colorfast.Collection
		}
		var all sync.Map
		v := verify.Directory{Dir: dir, Scratch: scratch, Each: func(c *colorfast.Collection, r *records.Record, hash [sha256.Size]byte) error {
			x, _ := all.LoadOrStore(c.ID, &seen{c: *c})
			s := x.(*seen)
			if s.busy.Add(1) != 1 {
				t.Errorf("%s: two records of %s at a time", version, c)
			}
			defer s.busy.Add(-1)
			if hash != r.Hash() {
				t.Errorf("%s: %s: %q has another hash", version, c, r.ID)
			}
			s.n++
			s.digest.Add(hash)
			return nil
		}}
		r, err := v.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		looked := 0
		for i, c := range r.Inventory.Collections {
			if c != want.Inventory.Collections[i] {
				t.Errorf("%s: %+v, without the hook %+v", version, c, want.Inventory.Collections[i])
			}
			x, ok := all.Load(c.ID)
			if !ok {
				if c.Records > 0 {
					t.Errorf("%s: %s: the hook saw no record", version, &c)
				}
				continue
			}
			looked++
			s := x.(*seen)
			if s.n != c.Records || s.digest != c.Digest || s.c.String() != c.String() || s.c.Space != c.Space || s.c.Dimension != c.Dimension || s.c.VectorSegment != c.VectorSegment {
				t.Errorf("%s: the hook saw %d records of %+v, the report has %+v", version, s.n, s.c, c)
			}
		}
		if looked < 4 {
			t.Errorf("%s: only %d collections were looked at", version, looked)
		}
	}
}

// TestEachMayEndIt: an error of the hook is no finding.
func TestEachMayEndIt(t *testing.T) {
	stop := errors.New("enough")
	v := verify.Directory{Dir: fixture(t, "1.5.9"), Scratch: t.TempDir(), Each: func(*colorfast.Collection, *records.Record, [sha256.Size]byte) error { return stop }}
	if r, err := v.Run(t.Context()); r != nil || !errors.Is(err, stop) {
		t.Errorf("%v, %v", r, err)
	}
}
