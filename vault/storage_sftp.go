package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/pkg/sftp"
)

// sftpFiles keeps blobs as files on a host with an SSH server.
//
// Kopia's own (repo/blob/sftp, v0.22.3) is on the same client and is not used: it
// never syncs a file, has no exclusive write, makes the folder on reading, sets no
// time-outs, and shows the whole SSH configuration in an error.
type sftpFiles struct {
	shown string // the URL, for errors
	dial  func(context.Context) (*sshLink, error)

	mu   sync.Mutex
	link *sshLink // nil for none
}

// openSFTP returns the storage of an sftp URL, without connecting.
func openSFTP(p *place, env environment, pat patience) (*patient, *folders, error) {
	login, err := newLogin(p, env, pat.stall)
	if err != nil {
		return nil, nil, err
	}
	f := newFolders(&sftpFiles{shown: p.short(), dial: login.dial}, p.path)
	return &patient{
		Storage: f, patience: pat, name: p.short(), clock: func() time.Duration { return 0 },
		access: "look at the key and the user, and at who may write to the folder on that host",
	}, f, nil
}

// use runs op on the connection, which is made if there is none. The end of ctx
// cuts it: op would not notice otherwise.
func (s *sftpFiles) use(ctx context.Context, op func(*sftp.Client) error) error {
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { s.cut(l) })
	err = op(l.client)
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	if isCut(err) {
		s.cut(l)
	}
	return sftpFault(err)
}

func (s *sftpFiles) connected(ctx context.Context) (*sshLink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		return s.link, nil
	}
	l, err := s.dial(ctx)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	s.link = l
	return l, nil
}

// cut gives up a connection, for all who use it.
func (s *sftpFiles) cut(l *sshLink) {
	s.mu.Lock()
	if s.link == l {
		s.link = nil
	}
	s.mu.Unlock()
	l.close()
}

func (s *sftpFiles) close() error {
	s.mu.Lock()
	l := s.link
	s.link = nil
	s.mu.Unlock()
	if l != nil {
		l.close()
	}
	return nil
}

// isCut reports whether the connection is of no more use.
func isCut(err error) bool {
	var n net.Error
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, sftp.ErrSSHFxNoConnection) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &n)
}

// sftpFault classes an error of the client.
func sftpFault(err error) error {
	if isAnswer(err) {
		return err
	}
	var f *fault
	var st *sftp.StatusError
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return blob.ErrBlobNotFound
	case errors.Is(err, fs.ErrPermission):
		return &fault{class: refused, err: err}
	case errors.As(err, &st) && st.FxCode() == sftp.ErrSSHFxOpUnsupported:
		return &fault{class: unfit, err: err}
	case isCut(err):
		return &fault{err: fmt.Errorf("the connection broke: %w", err)}
	}
	return &fault{err: err}
}

// readPortion is how much is asked for at once, in many packets under way.
const readPortion = 1 << 20

// GetBlobFromPath implements sharded.Impl.
func (s *sftpFiles) GetBlobFromPath(ctx context.Context, _, file string, offset, length int64, out blob.OutputBuffer) error {
	out.Reset()
	if offset < 0 {
		return blob.ErrInvalidRange
	}
	err := s.use(ctx, func(c *sftp.Client) error {
		f, err := c.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if length < 0 {
			length = max(fi.Size()-offset, 0)
		}
		if offset+length > fi.Size() {
			return fmt.Errorf("%w: %q has %d bytes, want %d at %d", blob.ErrInvalidRange, file, fi.Size(), length, offset)
		}
		buf := make([]byte, min(length, readPortion))
		for end := offset + length; offset < end; {
			n, err := f.ReadAt(buf[:min(end-offset, int64(len(buf)))], offset)
			if n == 0 && err != nil {
				return err
			}
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
			offset += int64(n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return blob.EnsureLengthExactly(out.Length(), length)
}

// GetMetadataFromPath implements sharded.Impl.
func (s *sftpFiles) GetMetadataFromPath(ctx context.Context, _, file string) (m blob.Metadata, err error) {
	err = s.use(ctx, func(c *sftp.Client) error {
		fi, err := c.Stat(file)
		if err == nil {
			m = blob.Metadata{Length: fi.Size(), Timestamp: fi.ModTime()}
		}
		return err
	})
	return m, err
}

// PutBlobInPath implements sharded.Impl. Where the server can (OpenSSH's can), the
// file is synced before it gets its name.
func (s *sftpFiles) PutBlobInPath(ctx context.Context, dir, file string, data blob.Bytes, opts blob.PutOptions) error {
	if opts.HasRetentionOptions() {
		return blob.ErrUnsupportedPutBlobOption
	}
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return err
	}
	temp := file + ".tmp." + hex.EncodeToString(r[:]) // as durable names them
	return s.use(ctx, func(c *sftp.Client) error {
		err := s.send(c, temp, data)
		if errors.Is(err, fs.ErrNotExist) {
			if err = makeFolders(c, dir); err == nil {
				err = s.send(c, temp, data)
			}
		}
		if err == nil {
			err = publish(c, temp, file, opts.DoNotRecreate)
		}
		if err != nil {
			_ = c.Remove(temp) // or the sweep does it
			return err
		}
		if !opts.SetModTime.IsZero() {
			err = c.Chtimes(file, opts.SetModTime, opts.SetModTime)
		}
		if err == nil && opts.GetModTime != nil {
			var fi os.FileInfo
			if fi, err = c.Stat(file); err == nil {
				*opts.GetModTime = fi.ModTime()
			}
		}
		return err
	})
}

// send writes a new file and looks whether all of it has arrived.
func (s *sftpFiles) send(c *sftp.Client, file string, data blob.Bytes) error {
	f, err := c.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	r := data.Reader()
	_, err = f.ReadFromWithConcurrency(r, 16)
	err = errors.Join(err, r.Close())
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err == nil {
		if err = f.Sync(); isUnsupported(err) {
			err = nil // then it is as durable as the server makes it
		}
	}
	var fi os.FileInfo
	if err == nil {
		if fi, err = f.Stat(); err == nil && fi.Size() != int64(data.Length()) {
			err = &fault{err: fmt.Errorf("%d of %d bytes have arrived", fi.Size(), data.Length())}
		}
	}
	return errors.Join(err, f.Close())
}

func isUnsupported(err error) bool {
	var st *sftp.StatusError
	return errors.As(err, &st) && st.FxCode() == sftp.ErrSSHFxOpUnsupported
}

// publish gives a file its name. A new one is linked to it, which fails if there
// is one by that name; SSH's own rename, which OpenSSH makes exclusive, is for
// servers without links.
func publish(c *sftp.Client, temp, file string, onlyNew bool) error {
	if !onlyNew {
		if _, ok := c.HasExtension("posix-rename@openssh.com"); ok {
			return c.PosixRename(temp, file)
		}
		err := c.Rename(temp, file)
		if err != nil { // the old protocol does not replace
			if rerr := c.Remove(file); rerr == nil {
				err = c.Rename(temp, file)
			}
		}
		return err
	}
	var err error
	if _, ok := c.HasExtension("hardlink@openssh.com"); ok {
		if err = c.Link(temp, file); err == nil {
			return c.Remove(temp)
		}
	} else if err = c.Rename(temp, file); err == nil {
		return nil
	}
	if _, serr := c.Stat(file); serr == nil {
		return blob.ErrBlobAlreadyExists
	}
	return err
}

// makeFolders makes a folder and those above it, for their owner only.
func makeFolders(c *sftp.Client, dir string) error {
	if fi, err := c.Stat(dir); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%q is no folder", dir)
		}
		return nil
	}
	if up := path.Dir(dir); up != dir {
		if err := makeFolders(c, up); err != nil {
			return err
		}
	}
	err := c.Mkdir(dir)
	if err != nil {
		if fi, serr := c.Stat(dir); serr == nil && fi.IsDir() {
			return nil // somebody else has just made it
		}
		return err
	}
	return c.Chmod(dir, 0o700)
}

// DeleteBlobInPath implements sharded.Impl.
func (s *sftpFiles) DeleteBlobInPath(ctx context.Context, _, file string) error {
	err := s.use(ctx, func(c *sftp.Client) error { return c.Remove(file) })
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil
	}
	return err
}

// ReadDir implements sharded.Impl. A folder that is gone is empty.
func (s *sftpFiles) ReadDir(ctx context.Context, dir string) (list []os.FileInfo, err error) {
	err = s.use(ctx, func(c *sftp.Client) error {
		list, err = c.ReadDirContext(ctx, dir)
		return err
	})
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil, nil
	}
	return slices.DeleteFunc(list, func(fi os.FileInfo) bool { return !fi.IsDir() && !fi.Mode().IsRegular() }), err
}

// mkdir makes the folder of a new vault.
func (s *sftpFiles) mkdir(ctx context.Context, dir string) error {
	return s.use(ctx, func(c *sftp.Client) error { return makeFolders(c, dir) })
}
