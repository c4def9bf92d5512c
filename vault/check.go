package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"colorfast"
	"colorfast/pages"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sync/errgroup"
)

// Check implements colorfast.Vault. It opens the vault anew,
// so that it sees what somebody would see who comes to the vault on a
// new machine; level Records is for verify, and is the same as Bytes here.
func (v *Vault) Check(ctx context.Context, m *colorfast.Manifest, level colorfast.Level, p colorfast.Progress) ([]colorfast.Finding, error) {
	if p == nil {
		p = colorfast.Quiet{}
	}
	bytes := level == colorfast.Bytes || level == colorfast.Records
	if !bytes && level != colorfast.Stored {
		return nil, colorfast.Errorf(colorfast.Usage, "check backup %q: level %q is not known", m.ID, level)
	}
	ctx = v.ctx(ctx)
	bare := v.opts
	bare.uncached = true
	conn, err := connect(ctx, bare)
	if err == nil {
		defer func() {
			if cerr := conn.close(ctx); cerr != nil {
				v.warn(ctx, "vault not closed after a check", cerr)
			}
		}()
		c := &check{conn: conn, m: m, bytes: bytes, p: p, stock: newStock(conn.BlobReader())}
		err = c.run(ctx, v.pageKey)
		if err == nil {
			return c.sorted(), nil
		}
	}
	switch colorfast.KindOf(err) {
	case colorfast.Corrupt: // looked, and not even the way to the files is good
		return []colorfast.Finding{colorfast.NewFinding(colorfast.StoredDiffers, ".", 0, "%v", err)}, nil
	}
	return nil, fail(err, colorfast.Internal, "check backup %q", m.ID)
}

// check is one Check under way.
type check struct {
	conn  *connection
	m     *colorfast.Manifest
	bytes bool
	p     colorfast.Progress
	stock *stock

	mu       sync.Mutex
	findings []colorfast.Finding
}

func (c *check) run(ctx context.Context, pageKey []byte) error {
	from, err := newReading(ctx, c.conn, c.m.ID, pageKey)
	if err != nil {
		return err
	}
	var total int64
	if c.bytes {
		total = totalSize(c.m.FileList)
	}
	c.p.Begin("checking", total)
	if err := c.judge(manifestName, c.sealed(ctx, from)); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(checkers, runtime.GOMAXPROCS(0)))
	for i := range c.m.FileList {
		f := &c.m.FileList[i]
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return c.judge(f.Path, c.file(gctx, from, f)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// sealed checks that manifest.json can be read and says what the caller's
// manifest says.
func (c *check) sealed(ctx context.Context, from *reading) error {
	m, err := readSealed(ctx, from.tree)
	if err != nil {
		return err
	}
	names := []string{manifestName}
	if from.m != nil {
		names = append(names, mapName, pagesName)
	}
	for _, name := range names {
		e, err := from.tree.find(ctx, name)
		if err != nil {
			return err
		}
		if err := c.holds(ctx, e.ObjectID); err != nil {
			return err
		}
	}
	if !slices.EqualFunc(m.FileList, c.m.FileList, sameFile) || !reflect.DeepEqual(m.Inventory.Collections, c.m.Inventory.Collections) &&
		len(m.Inventory.Collections)+len(c.m.Inventory.Collections) > 0 {
		return errors.New("it does not say what the manifest says that was given to check")
	}
	return c.kept(ctx, from)
}

// kept checks that the directory which keeps the objects of the pages from
// Kopia's collector of garbage names all that the map does.
func (c *check) kept(ctx context.Context, from *reading) error {
	if from.m == nil {
		return nil
	}
	for i, o := range from.m.Objects {
		e, err := from.tree.find(ctx, pagesName+"/"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		if e.ObjectID.String() != o.ID {
			return fmt.Errorf("the map names object %s, where the directory has %s", o.ID, e.ObjectID)
		}
	}
	return nil
}

func (c *check) holds(ctx context.Context, id object.ID) error {
	_, err := c.stock.holds(ctx, c.conn, id)
	return err
}

func sameFile(a, b colorfast.File) bool {
	return a.Path == b.Path && a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID &&
		a.Size == b.Size && a.ModTime.Equal(b.ModTime) && a.Target == b.Target && a.SHA256 == b.SHA256 &&
		(a.Layout == b.Layout || a.Layout != nil && b.Layout != nil && *a.Layout == *b.Layout)
}

func (c *check) file(ctx context.Context, from *reading, f *colorfast.File) error {
	var err error
	if from.m == nil {
		err = c.objectOf(ctx, from.tree, f)
	} else if f.Type == colorfast.Regular {
		err = c.pagesOf(ctx, from, f)
	}
	if err != nil || !c.bytes || f.Type != colorfast.Regular {
		return err
	}
	r, err := from.open(ctx, f, nil)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.CopyBuffer(progressWriter{c.p}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return err
}

// pagesOf checks that everything which a file of format 2 needs is there.
func (c *check) pagesOf(ctx context.Context, from *reading, f *colorfast.File) error {
	file, ok := from.files[f.Path]
	if !ok {
		return fmt.Errorf("%q: %w", f.Path, object.ErrObjectNotFound)
	}
	if file.file.Size != f.Size {
		return errors.New("its size in the vault is not the recorded one")
	}
	seen := map[int]bool{pages.Zeros: true}
	for _, s := range file.streams {
		for _, r := range s.Runs() {
			for _, i := range []int{r.Object, r.Base} {
				if seen[i] {
					continue
				}
				seen[i] = true
				id, err := object.ParseID(from.m.Objects[i].ID)
				if err != nil {
					return err
				}
				if err := c.holds(ctx, id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// objectOf checks the same for an entry of format 1.
func (c *check) objectOf(ctx context.Context, t *tree, f *colorfast.File) error {
	if f.Path == "." {
		_, err := t.find(ctx, dataName)
		return err
	}
	e, err := t.find(ctx, dataName+"/"+f.Path)
	if err != nil {
		return err
	}
	if err := c.holds(ctx, e.ObjectID); err != nil {
		return err
	}
	if e.FileSize != f.Size {
		return errors.New("its size in the vault is not the recorded one")
	}
	if !c.bytes || f.Type != colorfast.Symlink {
		return nil
	}
	r, err := c.conn.OpenObject(ctx, e.ObjectID)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err == nil && string(b) != f.Target {
		err = errors.New("its target in the vault is not the recorded one")
	}
	return err
}

// progressWriter tells how much was written to it.
type progressWriter struct{ p colorfast.Progress }

// Write implements io.Writer.
func (w progressWriter) Write(p []byte) (int, error) { w.p.Advance(int64(len(p))); return len(p), nil }

// judge makes a finding of err if it says that something is bad, and returns
// it if it says that it could not be looked at.
func (c *check) judge(object string, err error) error {
	var f colorfast.Finding
	var st *storageError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &st):
		return err
	case errors.Is(err, blob.ErrInvalidRange):
		f = colorfast.NewFinding(colorfast.StoredDiffers, object, 0, "%v", err)
	case isMissing(err):
		f = colorfast.NewFinding(colorfast.StoredMissing, object, 0, "%v", err)
	default:
		f = colorfast.NewFinding(colorfast.StoredDiffers, object, 0, "%v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.findings = append(c.findings, f)
	return nil
}

func (c *check) sorted() []colorfast.Finding {
	slices.SortFunc(c.findings, func(a, b colorfast.Finding) int { return strings.Compare(a.Object, b.Object) })
	return c.findings
}
