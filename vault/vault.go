// Package vault keeps backups. It is the only package that knows Kopia, whose
// repository library does the storing: packs, deduplication, compression,
// authenticated encryption, safe concurrent writers.
//
// A backup is a tree of Kopia objects (manifest.json, a map, pages) and one Kopia
// manifest of type "snapshot" that names its root. Everything is written and
// made durable, and looked for in the storage, before the one manifest is
// written: so whoever finds a backup listed finds all of it. What a killed Put
// left belongs to no manifest, and Maintain gives its space back. Stock Kopia
// can list and verify a vault, and its garbage collection keeps our backups.
//
// Start reading at Vault.Put.
//
// BUG(colorfast): a Put that runs for more than a day while another process
// maintains the vault relies on the check before its manifest is written, which
// brings back what was marked as garbage meanwhile, or fails.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
)

// Everybody who uses a vault through colorfast is the same user to Kopia. So
// every host may maintain the vault when that is due (see Maintain), and a
// stock kopia, which is somebody else, leaves it alone.
const (
	userName = "colorfast"
	hostName = "vault"
	owner    = userName + "@" + hostName
)

// Options say which vault to use, and how.
type Options struct {
	URL      string       // see docs/storages.md; a plain path is a folder
	Password Secret       // required
	CacheDir string       // a private folder for what saves work and can be lost; "" for none
	Log      *slog.Logger // nil means silent
	Limits   Limits       // of bandwidth; zero means none
	Lock     Lock         // for Create: what the vault's storage is to hold to; zero means none
	AsOf     time.Time    // for Open: read the vault as it was then, and write nothing; zero means now

	// Environment returns a variable of the process, "" if it is not set. In the
	// standard ones, and in files that they name, storages find their credentials
	// and proxies. Nil means that none is set.
	Environment func(name string) string

	// rekeying says that this process holds the lease of a change of the password.
	rekeying bool
	// limiter enforces Limits on all connections of an open vault.
	limiter *limiter
	// uncached is for a connection that must see what is stored.
	uncached bool
	// patience is for storages that are far away.
	patience patience
	// indexAfter is indexAfter, but for tests.
	indexAfter time.Duration
	// wrap stands between Kopia and the storage; nil for nothing. For tests.
	wrap func(blob.Storage) blob.Storage
	// indexEvery, unless 0, is used in place of the constant. For tests.
	indexEvery int64
}

// wrapped puts what the options ask for between Kopia and the storage.
func (o *Options) wrapped(st blob.Storage) blob.Storage {
	if o.wrap != nil {
		st = o.wrap(st)
	}
	if o.limiter == nil {
		o.limiter = newLimiter(o.Limits)
	}
	if o.limiter != nil {
		st = &limited{Storage: st, limiter: o.limiter}
	}
	return st
}

// Vault is an open vault. It implements colorfast.Vault.
type Vault struct {
	opts Options
	conn *connection

	pageKey, sumKey []byte // of the sums of parts, and of lists of them
	fingerprint     colorfast.Fingerprint

	mu   sync.Mutex
	last *reading // of the backup that was read last
}

var _ colorfast.Vault = (*Vault)(nil)

// Open opens an existing vault. Close must be called. Errors: NotFound when
// there is none, Denied for a wrong password, Corrupt, Unreachable,
// Unsupported for a storage that is not known.
func Open(ctx context.Context, o Options) (*Vault, error) {
	p, err := parseURL(o.URL) // before it is shown in an error
	if err != nil {
		return nil, err
	}
	if o.Password.IsZero() {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: no password is given", p.short())
	}
	o.limiter = newLimiter(o.Limits)
	conn, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	v := &Vault{opts: o, conn: conn}
	var kerr error
	if v.pageKey, err = conn.DeriveKey("colorfast pages", 32); err == nil {
		v.sumKey, kerr = conn.DeriveKey("colorfast sums", 32)
	}
	if err == nil && kerr == nil {
		v.fingerprint, err = fingerprintOf(conn)
	}
	if err := errors.Join(err, kerr); err != nil {
		return nil, errors.Join(fail(err, colorfast.Internal, "open vault %q", o.URL), conn.close(ctx))
	}
	return v, nil
}

// Close implements colorfast.Vault. Nothing may be under way.
func (v *Vault) Close(ctx context.Context) error {
	if err := v.conn.close(v.ctx(ctx)); err != nil {
		return fail(err, colorfast.Internal, "close vault %q", v.opts.URL)
	}
	return nil
}

// ctx prepares a caller's context for Kopia.
func (v *Vault) ctx(ctx context.Context) context.Context {
	ctx, _ = newAttempt(ctx, v.opts.Log)
	return ctx
}

// connection is an open Kopia repository and what must go when it is closed.
type connection struct {
	repo.DirectRepository
	dir       string // private to the process, with Kopia's configuration file
	far       bool   // the storage is not a folder
	manifests catalogue

	once sync.Once
	err  error
}

func (c *connection) close(ctx context.Context) error {
	c.once.Do(func() {
		c.err = errors.Join(c.DirectRepository.Close(context.WithoutCancel(ctx)), os.RemoveAll(c.dir))
	})
	return c.err
}

// connect opens the repository. Kopia wants a configuration file: it lies in a
// private folder, holds no secret and goes with the connection.
func connect(ctx context.Context, o Options) (_ *connection, err error) {
	if err := o.checkAsOf(); err != nil {
		return nil, err
	}
	storage, err := o.openStorage(ctx)
	if err != nil {
		return nil, err
	}
	pin := &pinned{Storage: o.wrapped(storage), password: o.Password}
	st := &guard{Storage: pin}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close(context.WithoutCancel(ctx)))
		}
	}()
	f, err := readFormat(ctx, st, o.URL)
	if err != nil {
		return nil, o.asOfError(err)
	}
	if _, far := storage.(*patient); far && o.CacheDir != "" && !o.uncached && o.AsOf.IsZero() {
		st.Storage = newCached(st.Storage, o.CacheDir, f.UniqueID)
	}
	dir, err := os.MkdirTemp("", "colorfast-vault-")
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Internal, "open vault %q: %w", o.URL, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	rep, err := openRepository(ctx, o, st, dir)
	if err != nil && pin.moved(ctx) { // the password was changed while it was opened
		rep, err = openRepository(ctx, o, st, dir)
	}
	if err != nil {
		return nil, diagnose(ctx, st, o, err)
	}
	_, local := storage.(*diskStorage)
	return &connection{DirectRepository: rep, dir: dir, far: !local}, nil
}

func openRepository(ctx context.Context, o Options, st *guard, dir string) (repo.DirectRepository, error) {
	info := offer(st)
	defer handles.Delete(st.number)
	config, err := json.Marshal(repo.LocalConfig{
		Storage: &info,
		// No cache of Kopia's: bytes of a backup are read from where they are kept,
		// and indexes are in ours. (With a cache folder but no room for contents,
		// v0.22.3 panics on reading.)
		Caching: &content.CachingOptions{},
		ClientOptions: repo.ClientOptions{
			Hostname: hostName, Username: userName, Description: "colorfast", ReadOnly: !o.AsOf.IsZero(),
			FormatBlobCacheDuration: -1, // do not trust a cached copy on opening
		},
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "kopia.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	// What Kopia keeps of this context lives on when ctx has ended, but opening,
	// which may be slow under a limit, ends with it.
	kept, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, cancel)
	during, attempt := newAttempt(kept, o.Log)
	rep, err := repo.Open(during, file, o.Password.text, &repo.Options{
		DisableRepositoryLog: true,           // or every process would add _log blobs to the vault
		DoNotWaitForUpgrade:  true,           // or Open would wait without end
		OnFatalError:         func(error) {}, // or Kopia would end the process; the error comes back too
	})
	attempt.over.Store(true)
	if err != nil {
		cancel()
		return nil, err
	}
	if !opening() {
		return nil, errors.Join(ctx.Err(), rep.Close(context.WithoutCancel(ctx)))
	}
	direct, ok := rep.(repo.DirectRepository)
	if !ok {
		return nil, errors.Join(errors.New("not a direct repository"), rep.Close(ctx))
	}
	return direct, nil
}

// readFormat reads the blob that makes a storage a vault, as far as that goes
// without a password.
func readFormat(ctx context.Context, st blob.Storage, url string) (*format.KopiaRepositoryJSON, error) {
	var out bytesOut
	err := st.GetBlob(ctx, formatBlob, 0, -1, &out)
	if errors.Is(err, blob.ErrBlobNotFound) {
		packs := false
		stop := errors.New("stop")
		lerr := st.ListBlobs(ctx, "q", func(blob.Metadata) error { packs = true; return stop })
		if packs {
			return nil, damaged(url, "its file "+formatBlob+" is missing")
		}
		if lerr != nil {
			return nil, fail(lerr, colorfast.Unreachable, "open vault %q", url)
		}
		return nil, noVault(url)
	}
	if err != nil {
		return nil, fail(err, colorfast.Unreachable, "open vault %q", url)
	}
	f, err := format.ParseKopiaRepositoryJSON(out.b)
	if err != nil || len(f.UniqueID) != format.UniqueIDLengthBytes || len(f.EncryptedFormatBytes) == 0 {
		return nil, damaged(url, "its file "+formatBlob+" is damaged")
	}
	return f, nil
}

func damaged(url, what string) error {
	return colorfast.Errorf(colorfast.Corrupt, "open vault %q: %s", url, what).
		WithHint("the file %q holds a copy of %q", formatCopyBlob, formatBlob)
}
