package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// brokenBlob lists pieces that are known not to read back, as a repair has found.
// Kopia takes a piece for stored once its index names it, and a backup takes over
// what its parent has, without reading either. So without this list every later
// backup would be broken where an earlier one is.
const brokenBlob = blob.ID("colorfast.broken")

// brokenPiece is a piece in the pack in which it is broken. In another pack it was
// stored again, and is good.
type brokenPiece struct {
	Piece string `json:"piece"`
	Pack  string `json:"pack"`
}

// readBroken returns what is known to be broken, by piece.
func readBroken(ctx context.Context, st blob.Reader) (map[string]blob.ID, error) {
	var out bytesOut
	err := st.GetBlob(ctx, brokenBlob, 0, -1, &out)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sum, text, _ := bytes.Cut(out.b, []byte("\n"))
	var list []brokenPiece
	if string(sum) != sumOf(text) || json.Unmarshal(text, &list) != nil {
		return nil, colorfast.Errorf(colorfast.Corrupt, "read blob %q: it is damaged", brokenBlob).
			WithHint("run \"colorfast vault repair\"")
	}
	known := map[string]blob.ID{}
	for _, p := range list {
		known[p.Piece] = blob.ID(p.Pack)
	}
	return known, nil
}

// sumOf is the first line of the list: the hash of what follows.
func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// forget notes broken pieces.
func (j *repairing) forget(ctx context.Context) error {
	known, damaged := readBroken(ctx, j.st)
	if damaged != nil && (colorfast.KindOf(damaged) != colorfast.Corrupt || ctx.Err() != nil) {
		return damaged
	}
	if damaged != nil {
		if err := j.move(ctx, brokenBlob, "it is damaged"); err != nil {
			return err
		}
	}
	if known == nil {
		known = map[string]blob.ID{}
	}
	news := 0
	for c, pack := range j.rep.After.broken {
		if known[c.String()] != pack {
			known[c.String()] = pack
			news++
		}
	}
	if news == 0 {
		return nil
	}
	list := []brokenPiece{}
	for _, c := range slices.Sorted(maps.Keys(known)) {
		list = append(list, brokenPiece{c, string(known[c])})
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	j.did("forget", brokenBlob, "%d pieces do not read back: later backups store them again", news)
	return j.st.PutBlob(ctx, brokenBlob, raw(sumOf(b)+"\n"+string(b)), blob.PutOptions{})
}

// stillBroken reports whether a piece is where it is known to be broken.
func stillBroken(ctx context.Context, rep contents, known map[string]blob.ID, id content.ID) bool {
	pack, ok := known[id.String()]
	if !ok {
		return false
	}
	info, err := rep.ContentInfo(ctx, id)
	return err != nil || info.PackBlobID == pack
}

// avoid makes a parent's objects unusable that have broken pieces, and says whether
// there are any.
func (p *parent) avoid(ctx context.Context, rep contents, known map[string]blob.ID) (any bool) {
	if p == nil || len(known) == 0 {
		return false
	}
	for i, o := range p.m.Objects {
		id, err := object.ParseID(o.ID)
		var all []content.ID
		if err == nil {
			all, err = rep.VerifyObject(ctx, id)
		}
		if err != nil || slices.ContainsFunc(all, func(c content.ID) bool { return stillBroken(ctx, rep, known, c) }) {
			p.retired[i], any = true, true
		}
	}
	return any
}

// rewrite makes Kopia store broken pieces again where they come along: it does so
// with those that are marked as deleted.
func rewrite(ctx context.Context, w repo.DirectRepositoryWriter, known map[string]blob.ID) error {
	for s := range known {
		id, err := content.ParseID(s)
		if err != nil || !stillBroken(ctx, w, known, id) {
			continue
		}
		if err := w.ContentManager().DeleteContent(ctx, id); err != nil && !errors.Is(err, content.ErrContentNotFound) {
			return err
		}
	}
	return nil
}
