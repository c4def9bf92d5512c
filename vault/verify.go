package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"
)

// Verification says how to look at a vault as a whole.
type Verification struct {
	Level    colorfast.Level    // Stored or Bytes
	Sample   int                // percent of the packs whose bytes are read, at most 33; 0 means all
	Now      time.Time          // its day chooses the sample; zero means now
	Progress colorfast.Progress // nil shows nothing
}

// Verified is what a look at a vault has found.
type Verified struct {
	Outcome  colorfast.Outcome   `json:"outcome"` // of what was looked at
	Level    colorfast.Level     `json:"level"`
	Slice    int                 `json:"slice"`      // of the packs, which was read; from 0
	Slices   int                 `json:"slices"`     // into which they fall; 1 means that all were read
	Backups  int                 `json:"backups"`    // listed
	Objects  int                 `json:"objects"`    // that they need, each once
	Packs    int                 `json:"packs"`      // in the storage
	Read     int64               `json:"read_bytes"` // out of the storage, of packs
	Findings []colorfast.Finding `json:"findings"`   // never nil
	Hurt     []Hurt              `json:"hurt"`       // backups, newest restore point first; never nil
	Seconds  float64             `json:"duration_seconds"`

	broken map[content.ID]blob.ID // pieces that do not read back, and their packs
}

// CheckSample says whether a vault can be looked at by samples of so many percent,
// and returns the number of samples that are all of it. The number is prime: so
// whoever looks every day, or every k days, has read all after that many looks,
// unless k is a multiple of it.
func CheckSample(percent int) (slices int, err error) {
	if percent == 0 || percent == 100 {
		return 1, nil
	}
	if percent < 1 || percent > 33 {
		return 0, colorfast.Errorf(colorfast.Usage, "verify a sample of %d%%: at least 1%% and at most 33%% can be", percent).
			WithHint("leave the sample out to read everything")
	}
	for n := 100 / percent; ; n-- {
		prime := n > 1
		for d := 2; d*d <= n; d++ {
			prime = prime && n%d != 0
		}
		if prime {
			return n, nil
		}
	}
}

// VerifyVault looks at a vault as a whole: at all that its backups need, each piece
// once, and at what only a repair needs. At level Stored everything is found in the
// storage, with its length; at level Bytes every piece of the chosen packs is read,
// decrypted and authenticated too. A vault that is too damaged to be opened is a
// finding, not an error. Errors: NotFound, Denied, Usage, Unreachable, and Locked:
// it could not look.
func VerifyVault(ctx context.Context, o Options, what Verification) (*Verified, error) {
	begun := time.Now()
	if what.Level != colorfast.Stored && what.Level != colorfast.Bytes {
		return nil, colorfast.Errorf(colorfast.Usage, "verify vault %q: level %q is not known", o.URL, what.Level).WithHint("levels are stored and bytes")
	}
	n, err := CheckSample(what.Sample)
	if err != nil {
		return nil, err
	}
	if what.Progress == nil {
		what.Progress = colorfast.Quiet{}
	}
	if what.Now.IsZero() {
		what.Now = time.Now()
	}
	l := &look{o: o, what: what, rep: &Verified{
		Level: what.Level, Slices: n, Slice: int(what.Now.UTC().Unix()/86400) % n,
		Findings: []colorfast.Finding{}, Hurt: []Hurt{}, broken: map[content.ID]blob.ID{},
	}}
	ctx, _ = newAttempt(ctx, o.Log)
	if err := l.run(ctx); err != nil {
		return nil, fail(err, colorfast.Internal, "verify vault %q", o.URL)
	}
	l.rep.Outcome = colorfast.OutcomeOf(l.rep.Findings)
	if l.rep.Backups == 0 && l.holdsPages() && l.rep.Outcome == colorfast.Passed {
		l.rep.Outcome = colorfast.Unknown // a first run that was killed, or an index that is gone
	}
	l.rep.Seconds = time.Since(begun).Seconds()
	return l.rep, nil
}

// look is one VerifyVault under way.
type look struct {
	o    Options
	what Verification
	rep  *Verified

	conn    *connection
	stock   *stock
	packs   map[blob.ID]int64 // lengths
	pageKey []byte
	backups []*needed // newest first

	mu sync.Mutex // guards the report and what is bad
	// bad are objects that cannot be had: of each, what is wrong.
	bad map[object.ID]error
}

// needed is a backup and all that it needs.
type needed struct {
	summary colorfast.Backup
	objects []object.ID
	meta    []object.ID // of these: without them the others are not found
	lost    error       // why nothing of it can be read; nil if it can
}

func (l *look) find(code colorfast.Code, object, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rep.Findings = append(l.rep.Findings, colorfast.NewFinding(code, object, 0, format, args...))
}

func (l *look) run(ctx context.Context) (err error) {
	l.o.limiter = newLimiter(l.o.Limits)
	st, err := l.o.openStorage(ctx)
	if colorfast.KindOf(err) == colorfast.Corrupt && err != nil {
		l.find(colorfast.VaultFormat, ".", "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(context.WithoutCancel(ctx))) }()
	g := &guard{Storage: l.o.wrapped(st)}
	f, err := readFormats(ctx, g, l.o)
	if err != nil {
		return err
	}
	l.rep.Findings = append(l.rep.Findings, f.findings()...)
	bad, err := badIndexes(ctx, g, f.key)
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(bad) {
		l.find(colorfast.VaultIndex, string(id), "it does not open: %v", bad[id])
	}
	l.conn, err = connect(ctx, l.o)
	if err != nil {
		if kind := colorfast.KindOf(err); len(l.rep.Findings) == 0 && kind == colorfast.Corrupt {
			l.find(colorfast.VaultFormat, ".", "%v", err)
			return nil
		} else if len(l.rep.Findings) == 0 || kind == colorfast.Unreachable || ctx.Err() != nil {
			return err
		}
		return nil // what was found says why
	}
	defer func() { _ = l.conn.close(ctx) }() // it was only read
	if _, err := maintenance.GetSchedule(ctx, l.conn); err != nil {
		var st *storageError
		if errors.As(err, &st) || ctx.Err() != nil {
			return err
		}
		l.find(colorfast.VaultUnused, "kopia.maintenance", "the schedule of maintenance cannot be read: %v", err)
	}
	return l.all(ctx)
}

// all looks at everything that an open vault has.
func (l *look) all(ctx context.Context) (err error) {
	if l.pageKey, err = l.conn.DeriveKey("colorfast pages", 32); err != nil {
		return err
	}
	if err := l.list(ctx); err != nil {
		return err
	}
	if err := l.unindexed(ctx); err != nil {
		return err
	}
	if _, err := readBroken(ctx, l.conn.BlobReader()); err != nil {
		if colorfast.KindOf(err) != colorfast.Corrupt {
			return err
		}
		l.find(colorfast.VaultUnused, string(brokenBlob), "%v", err)
	}
	if err := l.needs(ctx); err != nil {
		return err
	}
	if err := l.objects(ctx); err != nil {
		return err
	}
	if l.what.Level == colorfast.Bytes {
		if err := l.bytes(ctx); err != nil {
			return err
		}
	}
	if err := l.packless(ctx); err != nil {
		return err
	}
	return l.hurt(ctx)
}

// packless notes pieces whose pack is gone or too short: like broken ones they do not
// read back, and a later backup must not take them for stored.
func (l *look) packless(ctx context.Context) error {
	return l.conn.ContentReader().IterateContents(ctx, content.IterateOptions{Range: allContents}, func(i content.Info) error {
		n, err := l.stock.length(ctx, i.PackBlobID)
		if err == nil && n < int64(i.PackOffset)+int64(i.PackedLength) {
			l.mu.Lock()
			l.rep.broken[i.ContentID] = i.PackBlobID
			l.mu.Unlock()
		}
		return err
	})
}

// list lists the packs, once, with their lengths.
func (l *look) list(ctx context.Context) (err error) {
	l.stock = newStock(l.conn.BlobReader())
	l.packs, err = l.stock.fill(ctx)
	l.rep.Packs = len(l.packs)
	return err
}

// holdsPages reports whether there are packs with more in them than what a vault
// remembers of itself.
func (l *look) holdsPages() bool {
	for id := range l.packs {
		if strings.HasPrefix(string(id), string(content.PackBlobIDPrefixRegular)) {
			return true
		}
	}
	return false
}

// unindexed tells of packs of which the index says nothing.
func (l *look) unindexed(ctx context.Context) error {
	n, err := unnamed(ctx, l.conn)
	if n > 0 {
		l.find(colorfast.VaultUnindexed, "packs", "%d of %d are not in the index", n, l.rep.Packs)
	}
	return err
}

// unnamed counts the packs of which the index says nothing.
func unnamed(ctx context.Context, conn *connection) (n int, err error) {
	named := map[blob.ID]bool{}
	err = conn.ContentReader().IterateContents(ctx, content.IterateOptions{Range: allContents, IncludeDeleted: true}, func(i content.Info) error {
		named[i.PackBlobID] = true
		return ctx.Err()
	})
	for _, prefix := range content.PackBlobIDPrefixes {
		if err == nil {
			err = conn.BlobReader().ListBlobs(ctx, prefix, func(m blob.Metadata) error {
				if !named[m.BlobID] {
					n++
				}
				return nil
			})
		}
	}
	return n, err
}

// needs reads of every backup what it needs.
func (l *look) needs(ctx context.Context) error {
	found, damage, err := l.conn.manifests.snapshots(ctx, l.conn)
	if err != nil {
		return err
	}
	for _, d := range damage {
		l.find(colorfast.VaultManifests, "manifests", "%v", d)
	}
	v := &Vault{opts: l.o, conn: l.conn}
	list, err := v.List(ctx)
	if err != nil {
		return err
	}
	l.rep.Backups = len(list)
	if len(list) == 0 && len(found) > 0 {
		l.find(colorfast.VaultManifests, "manifests", "none of %d can be understood", len(found))
	}
	l.what.Progress.Begin("reading maps", 0)
	for i := range list {
		n := &needed{summary: list[i]}
		n.objects, n.meta, n.lost = l.need(ctx, list[i].ID)
		var st *storageError
		if errors.As(n.lost, &st) || ctx.Err() != nil {
			return n.lost
		}
		if n.lost != nil {
			l.find(codeOf(n.lost), string(n.summary.ID), "nothing of this backup can be read: %v", n.lost)
		}
		l.backups = append(l.backups, n)
	}
	return nil
}

// need returns the objects of one backup.
func (l *look) need(ctx context.Context, id colorfast.BackupID) (all, meta []object.ID, err error) {
	r, err := newReading(ctx, l.conn, id, l.pageKey)
	if err != nil {
		return nil, nil, err
	}
	return r.needed(ctx)
}

// needed returns all objects that a backup consists of, and which of them are needed
// to find the others.
func (r *reading) needed(ctx context.Context) (all, meta []object.ID, err error) {
	meta = []object.ID{r.tree.root}
	kept := map[string]bool{}
	err = r.tree.walk(ctx, ".", func(p string, e *snapshot.DirEntry) {
		if e.Type == snapshot.EntryTypeDirectory || p == manifestName || p == mapName {
			meta = append(meta, e.ObjectID)
			return
		}
		all = append(all, e.ObjectID)
		kept[e.ObjectID.String()] = true
	})
	if err != nil {
		return nil, nil, err
	}
	if r.m != nil {
		for _, o := range r.m.Objects {
			if !kept[o.ID] { // Kopia's collector of garbage does not know that it is needed
				return nil, nil, fmt.Errorf("the map names object %s, and the directory does not", o.ID)
			}
		}
	}
	return append(all, meta...), meta, nil
}

// codeOf says whether an error tells of a loss or of a difference.
func codeOf(err error) colorfast.Code {
	if isMissing(err) {
		return colorfast.StoredMissing
	}
	return colorfast.StoredDiffers
}

// objects looks for every object that some backup needs, once.
func (l *look) objects(ctx context.Context) error {
	l.bad = map[object.ID]error{}
	seen := map[object.ID]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(checkers)
	l.what.Progress.Begin("looking for objects", 0)
	for _, b := range l.backups {
		for _, id := range b.objects {
			if seen[id] || gctx.Err() != nil {
				continue
			}
			seen[id] = true
			g.Go(func() error {
				_, err := l.stock.holds(gctx, l.conn, id)
				var st *storageError
				if err == nil || gctx.Err() != nil || errors.As(err, &st) {
					return err
				}
				l.find(codeOf(err), id.String(), "an object of backups: %v", err)
				l.mu.Lock()
				defer l.mu.Unlock()
				l.bad[id] = err
				return nil
			})
		}
	}
	l.rep.Objects = len(seen)
	return errors.Join(g.Wait(), ctx.Err())
}

// chosen reports whether a pack is in the sample: by its name, which is random.
func (l *look) chosen(id blob.ID) bool {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])%uint64(l.rep.Slices) == uint64(l.rep.Slice)
}

// bytes reads every piece of the chosen packs, and what they say of themselves.
func (l *look) bytes(ctx context.Context) error {
	var total int64
	each := func(parallel int, fn func(content.Info) error) error {
		return l.conn.ContentReader().IterateContents(ctx, content.IterateOptions{Range: allContents, IncludeDeleted: true, Parallel: parallel}, func(i content.Info) error {
			if l.chosen(i.PackBlobID) && l.packs[i.PackBlobID] >= int64(i.PackOffset+i.PackedLength) {
				return fn(i)
			}
			return ctx.Err()
		})
	}
	if err := each(0, func(i content.Info) error { total += int64(i.PackedLength); return nil }); err != nil {
		return err
	}
	l.what.Progress.Begin("reading", total)
	var read atomic.Int64
	err := each(min(checkers, runtime.GOMAXPROCS(0)), func(i content.Info) error {
		_, err := l.conn.ContentReader().GetContent(ctx, i.ContentID)
		read.Add(int64(i.PackedLength))
		l.what.Progress.Advance(int64(i.PackedLength))
		var st *storageError
		switch {
		case err == nil, errors.Is(err, content.ErrContentNotFound): // deleted since
			return ctx.Err()
		case errors.As(err, &st), ctx.Err() != nil:
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rep.broken[i.ContentID] = i.PackBlobID
		return nil
	})
	if err != nil {
		return err
	}
	n, err := l.tails(ctx)
	l.rep.Read = read.Load() + n
	return err
}

// tails reads what packs say of themselves at their ends, which only a repair needs.
func (l *look) tails(ctx context.Context) (read int64, err error) {
	_, w, err := l.conn.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "verify"})
	if err != nil {
		return 0, err
	}
	defer func() { _ = w.Close(ctx) }() // nothing was written
	for _, id := range sortedKeys(l.packs) {
		n := l.packs[id]
		if n < 0 || !l.chosen(id) {
			continue
		}
		entries, err := w.ContentManager().RecoverIndexFromPackBlob(ctx, id, n, false)
		var st *storageError
		if errors.As(err, &st) || ctx.Err() != nil {
			return read, err
		}
		if errors.Is(err, blob.ErrBlobNotFound) {
			continue // removed since
		}
		if err == nil && len(entries) == 0 {
			err = fmt.Errorf("it lists nothing")
		}
		if err != nil {
			l.find(colorfast.VaultUnused, string(id), "the list of its own pieces, from which a lost index is made again, cannot be read: %v", err)
		}
	}
	return read, nil
}
