package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/kopia/kopia/repo/blob"
)

// davFiles keeps blobs as files on a WebDAV server.
//
// Kopia's own (repo/blob/webdav, v0.22.3) is not used: its client takes no
// context and has no time-outs, takes every failed write for a missing folder,
// and has no exclusive write. WebDAV is seven requests.
type davFiles struct {
	base     url.URL // without a path
	user     string
	password Secret
	link     *link
}

// openWebDAV returns the storage of a webdav or webdavs URL, without connecting.
func openWebDAV(p *place, env environment, pat patience) (*patient, *folders, error) {
	l, err := newLink(p, env, pat.stall)
	if err != nil {
		return nil, nil, err
	}
	d := &davFiles{base: url.URL{Scheme: "https", Host: p.host}, user: p.user, link: l}
	if p.scheme == "webdav" {
		d.base.Scheme = "http"
	}
	if d.user == "" {
		d.user = env.get("COLORFAST_WEBDAV_USER")
	}
	if d.password, err = env.secret("COLORFAST_WEBDAV_PASSWORD"); err != nil {
		return nil, nil, err
	}
	f := newFolders(d, p.path)
	return &patient{
		Storage: f, patience: pat, name: p.short(), clock: l.clock,
		access: "look at the user in the URL and at COLORFAST_WEBDAV_PASSWORD_FILE, and at who may write to the folder",
	}, f, nil
}

// do sends a request. Answers that are no success come as errors, but for those
// that are listed in fine.
func (d *davFiles) do(ctx context.Context, method, file string, content io.Reader, prepare func(*http.Request), fine ...int) (*http.Response, error) {
	u := d.base
	u.Path = file
	r, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, err
	}
	if d.user != "" || !d.password.IsZero() {
		r.SetBasicAuth(d.user, d.password.text)
	}
	if prepare != nil {
		prepare(r)
	}
	resp, err := d.link.client.Do(r)
	if err != nil {
		return nil, interrupted(ctx, bare(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	for _, s := range fine {
		if resp.StatusCode == s {
			return resp, nil
		}
	}
	defer drop(resp)
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return nil, blob.ErrBlobNotFound
	case http.StatusRequestedRangeNotSatisfiable:
		return nil, blob.ErrInvalidRange
	}
	f := &fault{class: byStatus(resp.StatusCode), after: retryAfter(resp.Header), err: fmt.Errorf("the storage answers %s", resp.Status)}
	if resp.StatusCode == http.StatusMethodNotAllowed {
		f.hint = "this seems to be no WebDAV server, or no folder of one: look at the URL"
	}
	return nil, f
}

// GetBlobFromPath implements sharded.Impl.
func (d *davFiles) GetBlobFromPath(ctx context.Context, dir, file string, offset, length int64, out blob.OutputBuffer) error {
	out.Reset()
	if offset < 0 {
		return blob.ErrInvalidRange
	}
	if length == 0 {
		m, err := d.GetMetadataFromPath(ctx, dir, file)
		if err == nil && offset > m.Length {
			err = blob.ErrInvalidRange
		}
		return err
	}
	resp, err := d.do(ctx, http.MethodGet, file, nil, func(r *http.Request) { setRange(r.Header, offset, length) })
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	r := io.Reader(resp.Body)
	if resp.StatusCode != http.StatusPartialContent { // all of it, for there are servers without ranges
		if _, err := io.CopyN(io.Discard, r, offset); isEOF(err) {
			return blob.ErrInvalidRange
		} else if err != nil {
			return interrupted(ctx, err)
		}
		if length > 0 {
			r = io.LimitReader(r, length)
		}
	}
	if _, err := copyTo(out, io.NopCloser(r)); err != nil {
		return interrupted(ctx, err)
	}
	return blob.EnsureLengthExactly(out.Length(), length)
}

// GetMetadataFromPath implements sharded.Impl.
func (d *davFiles) GetMetadataFromPath(ctx context.Context, _, file string) (blob.Metadata, error) {
	list, err := d.properties(ctx, file, "0")
	if err != nil {
		return blob.Metadata{}, err
	}
	if len(list) != 1 || list[0].dir {
		return blob.Metadata{}, blob.ErrBlobNotFound
	}
	return blob.Metadata{Length: list[0].size, Timestamp: list[0].time}, nil
}

// PutBlobInPath implements sharded.Impl. The file is sent under another name, since
// a server may show what it has of a file while it comes in.
func (d *davFiles) PutBlobInPath(ctx context.Context, dir, file string, data blob.Bytes, opts blob.PutOptions) error {
	switch {
	case opts.HasRetentionOptions():
		return blob.ErrUnsupportedPutBlobOption
	case !opts.SetModTime.IsZero():
		return blob.ErrSetTimeUnsupported
	}
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return err
	}
	temp := file + ".tmp." + hex.EncodeToString(r[:]) // as durable names them
	err := d.send(ctx, temp, data)
	if errors.Is(err, blob.ErrBlobNotFound) || errors.Is(err, errNoFolder) {
		if err = d.mkdir(ctx, dir); err == nil {
			err = d.send(ctx, temp, data)
		}
	}
	var m blob.Metadata
	if err == nil {
		if m, err = d.GetMetadataFromPath(ctx, dir, temp); err == nil && m.Length != int64(data.Length()) {
			err = &fault{err: fmt.Errorf("%d of %d bytes have arrived", m.Length, data.Length())}
		}
	}
	if err == nil {
		err = d.move(ctx, temp, file, !opts.DoNotRecreate)
	}
	if err != nil {
		_ = d.DeleteBlobInPath(context.WithoutCancel(ctx), dir, temp) // or the sweep does it
		return err
	}
	if opts.GetModTime != nil {
		m, err := d.GetMetadataFromPath(ctx, dir, file)
		*opts.GetModTime = m.Timestamp
		return err
	}
	return nil
}

// errNoFolder says that the folder of a file is not there.
var errNoFolder = errors.New("the folder is not there")

func (d *davFiles) send(ctx context.Context, file string, data blob.Bytes) error {
	content := data.Reader()
	defer func() { _ = content.Close() }()
	resp, err := d.do(ctx, http.MethodPut, file, io.NopCloser(content), func(r *http.Request) {
		r.ContentLength = int64(data.Length())
		if r.ContentLength == 0 {
			r.Body = http.NoBody
		}
		r.Header.Set("Content-Type", contentType)
	}, http.StatusConflict)
	if err != nil {
		return err
	}
	defer drop(resp)
	if resp.StatusCode == http.StatusConflict {
		return errNoFolder
	}
	return nil
}

// move gives a file its name; without replace, only if nobody has it.
func (d *davFiles) move(ctx context.Context, from, to string, replace bool) error {
	resp, err := d.do(ctx, "MOVE", from, nil, func(r *http.Request) {
		u := d.base
		u.Path = to
		r.Header.Set("Destination", u.String())
		r.Header.Set("Overwrite", map[bool]string{true: "T", false: "F"}[replace])
	}, http.StatusPreconditionFailed)
	if err != nil {
		return err
	}
	defer drop(resp)
	if resp.StatusCode == http.StatusPreconditionFailed {
		return blob.ErrBlobAlreadyExists
	}
	return nil
}

// mkdir makes a folder and those above it.
func (d *davFiles) mkdir(ctx context.Context, dir string) error {
	// 405: it is there; 409: the one above is not
	resp, err := d.do(ctx, "MKCOL", dir+"/", nil, nil, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusNotFound)
	if err != nil {
		return err
	}
	drop(resp)
	if resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode/100 == 2 {
		return nil
	}
	up := path.Dir(dir)
	if up == dir || up == "/" {
		return &fault{class: unfit, err: fmt.Errorf("the folder %q cannot be made: %s", dir, resp.Status)}
	}
	if err := d.mkdir(ctx, up); err != nil {
		return err
	}
	resp, err = d.do(ctx, "MKCOL", dir+"/", nil, nil, http.StatusMethodNotAllowed)
	if err == nil {
		drop(resp)
	}
	return err
}

// DeleteBlobInPath implements sharded.Impl.
func (d *davFiles) DeleteBlobInPath(ctx context.Context, _, file string) error {
	resp, err := d.do(ctx, http.MethodDelete, file, nil, nil)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil
	}
	if err == nil {
		drop(resp)
	}
	return err
}

// ReadDir implements sharded.Impl. A folder that is gone is empty.
func (d *davFiles) ReadDir(ctx context.Context, dir string) ([]os.FileInfo, error) {
	all, err := d.properties(ctx, strings.TrimSuffix(dir, "/")+"/", "1")
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil, nil
	}
	var list []os.FileInfo
	for _, i := range all {
		list = append(list, i)
	}
	return list, err
}

// propfind asks for what properties reads.
const propfind = `<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>`

// multistatus is the answer to it.
type multistatus struct {
	Responses []struct {
		Href  string `xml:"DAV: href"`
		Props []struct {
			Status string `xml:"DAV: status"`
			Prop   struct {
				Collection *struct{} `xml:"DAV: resourcetype>collection"`
				Length     string    `xml:"DAV: getcontentlength"`
				Modified   string    `xml:"DAV: getlastmodified"`
			} `xml:"DAV: prop"`
		} `xml:"DAV: propstat"`
	} `xml:"DAV: response"`
}

// properties lists what is in a folder (depth 1) or a file (depth 0).
func (d *davFiles) properties(ctx context.Context, file, depth string) ([]fileInfo, error) {
	resp, err := d.do(ctx, "PROPFIND", file, bytes.NewReader([]byte(propfind)), func(r *http.Request) {
		r.Header.Set("Depth", depth)
		r.Header.Set("Content-Type", "application/xml")
	})
	if err != nil {
		return nil, err
	}
	defer drop(resp)
	var answer multistatus
	if err := xml.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, interrupted(ctx, fmt.Errorf("the storage's list cannot be read: %w", err))
	}
	var list []fileInfo
	for _, r := range answer.Responses {
		href, err := url.Parse(r.Href)
		if err != nil {
			return nil, fmt.Errorf("the storage lists %q, which is no URL", r.Href)
		}
		if depth == "1" && strings.Trim(href.Path, "/") == strings.Trim(file, "/") {
			continue // the folder itself
		}
		i := fileInfo{name: path.Base(href.Path)}
		for _, p := range r.Props {
			if !strings.Contains(p.Status, " 200") {
				continue
			}
			i.dir = p.Prop.Collection != nil
			i.size, _ = strconv.ParseInt(p.Prop.Length, 10, 64)
			i.time, _ = http.ParseTime(p.Prop.Modified)
		}
		if !i.dir && i.time.IsZero() {
			return nil, fmt.Errorf("the storage gives no time of %q", i.name)
		}
		list = append(list, i)
	}
	return list, nil
}

func (d *davFiles) close() error {
	d.link.close()
	return nil
}
