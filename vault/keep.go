package vault

import (
	"encoding/hex"
	"sort"

	"colorfast"
)

// keep says which pages of a stretch need not be read, because they are as in the
// parent and may stay where they are.
func (s *session) keep(st *stretch) {
	of := st.of
	for i := st.first; i < st.first+st.count; i++ {
		at, n := of.cut.Page(i)
		kept := covers(of.alike, at, n) && i < of.old.cut.Pages()
		for k := 0; kept && k < of.cut.Parts(); k++ {
			kept = of.old.cut.PartBytes(k, i) == of.cut.PartBytes(k, i) && s.old.usable(of.old.streams[k].At(i))
		}
		st.kept = append(st.kept, kept)
	}
}

// covers reports whether one of the spans, which are in order, holds all of these
// bytes.
func covers(spans []colorfast.Span, at, n int64) bool {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].Offset+spans[i].Length > at })
	return i < len(spans) && spans[i].Offset <= at && spans[i].Offset+spans[i].Length >= at+n
}

// seal notes the hash of a file, or checks it against the one that is demanded. Of
// a file that was not read as a whole there is no hash but that one.
func (of *openFile) seal() error {
	got := hex.EncodeToString(of.hash.Sum(nil))
	switch f := of.file; {
	case f.Same:
		got = of.old.file.SHA256
	case of.unread:
		got = f.SHA256
	}
	if f := of.file; f.Sealed && got != f.SHA256 {
		return colorfast.Errorf(colorfast.Corrupt, "it has SHA-256 %s, %s is recorded", got, f.SHA256)
	}
	of.file.SHA256 = got
	return nil
}
