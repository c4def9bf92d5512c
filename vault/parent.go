package vault

import (
	"context"
	"fmt"

	"colorfast"
	"colorfast/pages"
)

// parent is the backup that a new one is compared with.
type parent struct {
	m       *pages.Map
	objects []int // of each: its number in the new map, or -1
	retired []bool
	files   map[string]*parentFile
	pieces  *pieces
	list    *sumList
}

// parentFile is a file of the parent.
type parentFile struct {
	file    *colorfast.File
	cut     pages.Cut
	streams []*pages.Stream
	first   int64 // number of its first part in the list of sums
}

// loadParent reads what a new backup is compared with; nil if there is nothing
// to compare with, which makes a full one.
func (v *Vault) loadParent(ctx context.Context, id colorfast.BackupID) (*parent, error) {
	if id == "" || id == colorfast.AgainstNothing {
		return nil, nil
	}
	m, t, err := readManifest(ctx, v.conn, id)
	if err != nil {
		return nil, err
	}
	if m.Format < 2 {
		return nil, nil // it has no pages
	}
	mp, err := t.pages(ctx, m.FileList)
	if err != nil {
		return nil, err
	}
	p := &parent{m: mp, files: map[string]*parentFile{}, pieces: newPieces(v.conn)}
	cuts, at, parts := cutsOf(m.FileList), 0, int64(0)
	for i, f := range regular(m.FileList) {
		c := cuts[i]
		p.files[f.Path] = &parentFile{f, c, mp.Streams[at : at+c.Parts()], parts}
		at += c.Parts()
		parts += c.Pages() * int64(c.Parts())
	}
	p.objects = make([]int, len(mp.Objects))
	for i := range p.objects {
		p.objects[i] = -1
	}
	p.retired = mp.Retire(mp.Live(cuts))
	p.list, err = openSumList(v.sumListPath(m.Source), v.sumKey, id, parts)
	if err != nil {
		p.list, err = v.rebuildSums(ctx, p, m)
	}
	return p, err
}

func (p *parent) close() {
	if p != nil && p.list != nil {
		p.list.close()
	}
}

// rebuildSums makes the list of sums of the parent from what the vault holds.
func (v *Vault) rebuildSums(ctx context.Context, p *parent, m *colorfast.Manifest) (_ *sumList, err error) {
	w, err := newSumWriter("", v.sumKey)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.remove()
		}
	}()
	for _, f := range regular(m.FileList) {
		if err := p.rebuildFile(ctx, p.files[f.Path], w); err != nil {
			return nil, fmt.Errorf("file %q: %w", f.Path, err)
		}
	}
	return &sumList{file: w.file}, w.out.Flush()
}

// rebuildFile adds the sums of one file, page by page.
func (p *parent) rebuildFile(ctx context.Context, f *parentFile, w *sumWriter) error {
	const many = 1024 // pages whose sums are held at a time
	for first := int64(0); first < f.cut.Pages(); first += many {
		n := min(many, f.cut.Pages()-first)
		sums, err := storedSums(ctx, p.pieces, p.m, f.streams, first, n)
		if err != nil {
			return err
		}
		for i := range n {
			for part := range f.streams {
				w.add(sums[part][i])
			}
		}
	}
	return nil
}

// storedSums returns the sums of n pages of a file from the given one on, by
// part, from the tables of the objects. Zeros have the zero sum.
func storedSums(ctx context.Context, s *pieces, m *pages.Map, streams []*pages.Stream, first, n int64) ([][]pages.Sum, error) {
	out := make([][]pages.Sum, len(streams))
	for part, stream := range streams {
		sums := make([]pages.Sum, 0, n)
		for r := range stream.Range(first, n) {
			if r.Object == pages.Zeros {
				sums = append(sums, make([]pages.Sum, r.Count)...)
				continue
			}
			got, err := s.sums(ctx, &m.Objects[r.Object], r.Offset, stream.PartBytes(), r.Count)
			if err != nil {
				return nil, err
			}
			sums = append(sums, got...)
		}
		out[part] = sums
	}
	return out, nil
}

// file returns the parent's file that one to be stored is compared with; nil if
// there is none that is cut alike.
func (p *parent) file(f *colorfast.File, c pages.Cut) *parentFile {
	if p == nil {
		return nil
	}
	old := p.files[f.Path]
	if old == nil || !old.cut.Alike(c) {
		return nil
	}
	return old
}

// sums returns the sums of n pages of a file from the given one on, page by
// page and part by part.
func (p *parent) sums(f *parentFile, first, n int64) ([]pages.Sum, error) {
	k := int64(len(f.streams))
	return p.list.at(f.first+first*k, n*k)
}

// usable reports whether a new backup may refer to a place of the parent.
func (p *parent) usable(at pages.Place) bool {
	return (at.Object == pages.Zeros || !p.retired[at.Object]) && (at.Base == pages.None || !p.retired[at.Base])
}

// base returns the place that a changed part may be stored as the difference
// to, which has itself no base; false if there is none.
func (p *parent) base(at pages.Place) (pages.Place, bool) {
	if at.Base != pages.None {
		at = pages.Place{Object: at.Base, Offset: at.BaseOffset, Base: pages.None}
	}
	return at, at.Object != pages.Zeros && !p.retired[at.Object]
}

// read reads the bytes at a place without a base.
func (p *parent) read(ctx context.Context, at pages.Place, b []byte) error {
	return p.pieces.readAt(ctx, p.m.Objects[at.Object].ID, b, at.Offset)
}

// object returns the number in the new map of an object of the parent.
func (p *parent) object(m *pages.Map, i int) int {
	if i < 0 {
		return i
	}
	if p.objects[i] < 0 {
		p.objects[i] = len(m.Objects)
		m.Objects = append(m.Objects, p.m.Objects[i])
	}
	return p.objects[i]
}

// adopt returns a place of the parent as one of the new map.
func (p *parent) adopt(m *pages.Map, at pages.Place) pages.Place {
	at.Object, at.Base = p.object(m, at.Object), p.object(m, at.Base)
	return at
}
