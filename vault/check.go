package vault

import (
	"context"
	"errors"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
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
	conn, err := connect(ctx, v.opts)
	if err == nil {
		defer func() {
			if cerr := conn.close(ctx); cerr != nil {
				v.warn(ctx, "vault not closed after a check", cerr)
			}
		}()
		c := &check{conn: conn, m: m, bytes: bytes, p: p, stock: newStock(conn.BlobReader())}
		err = c.run(ctx)
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

func (c *check) run(ctx context.Context) error {
	_, t, err := readSummary(ctx, c.conn, c.m.ID)
	if err != nil {
		return err
	}
	var total int64
	if c.bytes {
		total = totalSize(c.m.FileList)
	}
	c.p.Begin("checking", total)
	if err := c.judge(manifestName, c.sealed(ctx, t)); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(checkers, runtime.GOMAXPROCS(0)))
	for i := range c.m.FileList {
		f := &c.m.FileList[i]
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return c.judge(f.Path, c.file(gctx, t, f)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// sealed checks that manifest.json can be read and says what the caller's
// manifest says.
func (c *check) sealed(ctx context.Context, t *tree) error {
	m, err := readSealed(ctx, t)
	if err != nil {
		return err
	}
	e, err := t.find(ctx, manifestName)
	if err != nil {
		return err
	}
	if _, err := c.stock.holds(ctx, c.conn, e.ObjectID); err != nil {
		return err
	}
	if !slices.EqualFunc(m.FileList, c.m.FileList, sameFile) || !reflect.DeepEqual(m.Inventory.Collections, c.m.Inventory.Collections) &&
		len(m.Inventory.Collections)+len(c.m.Inventory.Collections) > 0 {
		return errors.New("it does not say what the manifest says that was given to check")
	}
	return nil
}

func sameFile(a, b colorfast.File) bool {
	ok := a.ModTime.Equal(b.ModTime)
	a.ModTime = b.ModTime
	return ok && a == b
}

func (c *check) file(ctx context.Context, t *tree, f *colorfast.File) error {
	if f.Type == colorfast.Directory && f.Path == "." {
		_, err := t.find(ctx, dataName)
		return err
	}
	e, err := t.find(ctx, dataName+"/"+f.Path)
	if err != nil {
		return err
	}
	if _, err := c.stock.holds(ctx, c.conn, e.ObjectID); err != nil {
		return err
	}
	if e.FileSize != f.Size {
		return errors.New("its size in the vault is not the recorded one")
	}
	if !c.bytes || f.Type == colorfast.Directory {
		return nil
	}
	if f.Type == colorfast.Symlink {
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
	r, err := openFile(ctx, t, f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.CopyBuffer(progressWriter{c.p}, struct{ io.Reader }{r}, make([]byte, 256<<10))
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
