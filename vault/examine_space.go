package vault

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/sharded"
	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"
)

// lowSpace is how little room is too little: a full pack of each of a few writers.
const lowSpace = 512 << 20

// spacious is a storage that knows how much room it has.
type spacious interface {
	space(ctx context.Context) (free, total uint64, err error)
}

// space implements spacious.
func (d *diskStorage) space(context.Context) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.root, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// space implements spacious. FreeSpace of the client is what root may use.
func (s *sftpFiles) spaceOf(ctx context.Context, dir string) (free, total uint64, err error) {
	err = s.use(ctx, func(c *sftp.Client) error {
		v, err := c.StatVFS(dir)
		if err == nil {
			free, total = v.Bavail*v.Frsize, v.Blocks*v.Frsize
		}
		return err
	})
	return free, total, err
}

// space implements spacious.
func (f *folders) space(ctx context.Context) (free, total uint64, err error) {
	if s, ok := f.files.(*sftpFiles); ok {
		return s.spaceOf(ctx, f.root)
	}
	return 0, 0, blob.ErrNotAVolume
}

// space looks how much room there is.
func (e *examiner) space(ctx context.Context) {
	l := Looked{Name: "space", Outcome: colorfast.Passed}
	st := e.raw
	if far, ok := st.(*patient); ok {
		st = far.Storage
	}
	s, ok := st.(spacious)
	if !ok {
		l.Outcome, l.Detail = colorfast.Unknown, "an object storage has no end that it tells of"
		e.add(l)
		return
	}
	free, total, err := s.space(ctx)
	switch {
	case err != nil:
		l.Outcome, l.Detail = colorfast.Unknown, "the storage does not tell"
	case free < lowSpace:
		l.Outcome, l.Remedy = colorfast.Failed, "make room where the vault lies"
		fallthrough
	default:
		l.Detail = fmt.Sprintf("%.1f of %.1f GiB are free", float64(free)/(1<<30), float64(total)/(1<<30))
	}
	e.add(l)
}

// unfold removes the folders of a blob that was deleted, if they are empty, and
// what says how folders are laid out, if there is no blob at all: so that there
// is nothing where there is no vault yet.
func (d *diskStorage) unfold(id blob.ID) {
	top := filepath.Join(d.root, string(id[:shards[0]]))
	_ = os.Remove(filepath.Join(top, string(id[shards[0]:shards[0]+shards[1]]))) // fails unless it is empty
	_ = os.Remove(top)
	if names, err := os.ReadDir(d.root); err == nil && len(names) == 1 {
		_ = os.Remove(filepath.Join(d.root, sharded.ParametersFile))
	}
}

// folderMode looks whether others on this host can read or change a folder.
func (e *examiner) folderMode() {
	l := Looked{Name: "public access", Outcome: colorfast.Passed, Detail: "the folder is for its owner only"}
	fi, err := os.Stat(e.p.path)
	switch {
	case err != nil:
		l.Outcome, l.Detail = colorfast.Unknown, err.Error()
	case fi.Mode().Perm()&0o077 != 0:
		l.Outcome, l.Detail = colorfast.Failed, fmt.Sprintf("others on this host have rights on the folder: mode %s", fs.FileMode.String(fi.Mode().Perm()))
		l.Remedy = fmt.Sprintf("run \"chmod 700 %s\"", e.p.path)
	}
	e.add(l)
}

// address implements addressed.
func (s *s3Objects) address(name string) (*http.Client, string) {
	return s.link.client, s.core.EndpointURL().JoinPath(s.bucket, name).String()
}

// address implements addressed.
func (g *gcsObjects) address(name string) (*http.Client, string) {
	return g.link.client, g.object(name) + "?alt=media"
}

// address implements addressed. A signature is no part of it.
func (a *azureObjects) address(name string) (*http.Client, string) {
	at, _, _ := strings.Cut(a.container.NewBlobClient(name).URL(), "?")
	return a.link.client, at
}
