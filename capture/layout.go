package capture

import (
	"path"
	"path/filepath"

	"colorfast"
	"colorfast/chroma"
	"colorfast/chroma/hnsw"
	"colorfast/chroma/sysdb"
)

// pageBytes is about how long the pages of vectors are: short ones keep more of
// what did not change apart from what did, long ones cost less to account for.
const pageBytes = 64 << 10

// layout tells how the staged file at rel changes; nil where nothing is known of
// it. It only makes backups small, so bytes that are not Chroma's have none, and
// what is wrong with them is for the proof to tell.
func (s *session) layout(rel string) *colorfast.Layout {
	var l *colorfast.Layout
	dir, name := path.Split(rel)
	switch {
	case rel == chroma.SQLiteFile:
		l = databaseLayout(s.staged(rel))
	case name == chroma.DataFile && chroma.IsUUID(path.Clean(dir)):
		l = vectorLayout(filepath.Join(filepath.Dir(s.staged(rel)), chroma.HeaderFile))
	}
	if !l.Valid() {
		return nil
	}
	return l
}

// databaseLayout returns the layout of the database at path: SQLite writes pages.
func databaseLayout(path string) *colorfast.Layout {
	f, err := openRegular(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	n, err := sysdb.PageSize(f)
	if err != nil {
		return nil
	}
	return &colorfast.Layout{PageBytes: n}
}

// vectorLayout returns the layout of the elements that the header at path tells
// of. Of an element the links before the vector change with every insert nearby,
// and the vector does not.
func vectorLayout(header string) *colorfast.Layout {
	h, err := hnsw.ReadHeader(header)
	if err != nil {
		return nil
	}
	unit := int(h.ElementSize)
	return &colorfast.Layout{
		PageBytes: unit * max(1, pageBytes/unit), UnitBytes: unit,
		ColumnFrom: int(h.VectorOffset), ColumnTo: int(h.LabelOffset),
	}
}
