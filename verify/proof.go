package verify

import (
	"context"

	"colorfast"
)

// Proof returns a function that proves a directory to be what a manifest says
// of it, record by record: every collection is there with its count and digest.
// It returns what is wrong beyond the findings that the manifest lists itself,
// and looks as d would, but at the directory that it is given.
func (d Directory) Proof() func(ctx context.Context, dir string, want *colorfast.Manifest) ([]colorfast.Finding, error) {
	return func(ctx context.Context, dir string, want *colorfast.Manifest) ([]colorfast.Finding, error) {
		d.Dir = dir
		r, err := d.Run(ctx)
		if err != nil {
			return nil, err
		}
		return append(colorfast.Unlisted(r.Findings, want.FindingList), differences(&r.Inventory, &want.Inventory)...), nil
	}
}

// differences compares what was read with what was sealed.
func differences(got, want *colorfast.Inventory) []colorfast.Finding {
	var out []colorfast.Finding
	add := func(object string, n int64, detail string, args ...any) {
		out = append(out, colorfast.NewFinding(colorfast.StoredRecords, object, n, detail, args...))
	}
	read := map[string]*colorfast.Collection{}
	for i := range got.Collections {
		read[got.Collections[i].ID] = &got.Collections[i]
	}
	for i := range want.Collections {
		w := &want.Collections[i]
		g := read[w.ID]
		delete(read, w.ID)
		switch {
		case g == nil:
			add(w.String(), w.Records, "the collection is missing")
		case g.Records != w.Records:
			add(w.String(), max(w.Records-g.Records, g.Records-w.Records), "%d records were sealed, %d are there", w.Records, g.Records)
		case g.Digest != w.Digest:
			add(w.String(), 0, "the digest is %.16s…, %.16s… was sealed", g.Digest, w.Digest)
		case g.Name != w.Name || g.Space != w.Space || g.Dimension != w.Dimension:
			add(w.String(), 0, "name, space or dimension differ: %s %s %d", g.Name, g.Space, g.Dimension)
		}
	}
	for _, g := range read {
		add(g.String(), g.Records, "no such collection was sealed")
	}
	return out
}
