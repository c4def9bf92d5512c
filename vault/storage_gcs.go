package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// gcsObjects keeps blobs in a bucket of Google Cloud Storage, by its JSON API.
//
// Kopia's own (repo/blob/gcs, v0.22.3) is not used: it cannot be given another
// endpoint or certificates, reads the environment, and stands on a client that
// brings gRPC's whole machinery along and repeats until its context ends. Five
// requests are all that a vault needs.
type gcsObjects struct {
	base   string // https://host
	bucket string
	client *http.Client // adds the token
	link   *link
}

const gcsScope = "https://www.googleapis.com/auth/devstorage.read_write"

// openGCS returns the storage of a gs URL.
func openGCS(ctx context.Context, p *place, env environment, pat patience) (*patient, error) {
	emulator := env.get("STORAGE_EMULATOR_HOST")
	usual := "https://storage.googleapis.com"
	if emulator != "" && p.params[paramEndpoint] == "" {
		if usual = emulator; !strings.Contains(usual, "://") {
			usual = "http://" + usual
		}
	}
	endpoint, err := p.endpoint(usual)
	if err != nil {
		return nil, err
	}
	l, err := newLink(p, env, pat.stall)
	if err != nil {
		return nil, err
	}
	client := l.client
	if emulator == "" {
		tokens, err := gcsTokens(context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, l.client), p, env)
		if err != nil {
			return nil, err
		}
		client = &http.Client{Transport: &oauth2.Transport{Source: tokens, Base: l.client.Transport}, CheckRedirect: l.client.CheckRedirect}
	}
	return &patient{
		Storage:  &bucket{objects: &gcsObjects{base: endpoint.String(), bucket: p.host, client: client, link: l}, prefix: prefixOf(p)},
		patience: pat, name: p.short(), clock: l.clock,
		access: "look at the credentials (" + passwordPlaces["gs"] + "), and at what they may do: docs/storages.md has the roles",
	}, nil
}

// gcsTokens finds credentials as Google's tools do: in the file that the
// environment names, in the one of gcloud, from the account of the machine.
func gcsTokens(ctx context.Context, p *place, env environment) (oauth2.TokenSource, error) {
	file := env.get("GOOGLE_APPLICATION_CREDENTIALS")
	named := file != ""
	if !named {
		if file = env.home(".config", "gcloud", "application_default_credentials.json"); file == "" {
			return google.ComputeTokenSource("", gcsScope), nil
		}
	}
	b, err := readSmall(file)
	if err != nil && !named {
		return google.ComputeTokenSource("", gcsScope), nil
	}
	if err != nil {
		return nil, colorfast.Errorf(fileKind(err), "open vault %q: read the credentials: %w", p.short(), err).WithHint("look at GOOGLE_APPLICATION_CREDENTIALS")
	}
	c, err := google.CredentialsFromJSON(ctx, b, gcsScope)
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: %q holds no credentials of Google's", p.short(), file).
			WithHint("download the key of a service account as JSON, and look at GOOGLE_APPLICATION_CREDENTIALS")
	}
	return c.TokenSource, nil
}

// object is the URL of an object.
func (g *gcsObjects) object(name string) string {
	return g.base + "/storage/v1/b/" + url.PathEscape(g.bucket) + "/o/" + url.PathEscape(name)
}

// gcsInfo is what the service says of an object.
type gcsInfo struct {
	Name    string    `json:"name"`
	Size    string    `json:"size"`
	CRC32C  string    `json:"crc32c"`
	Updated time.Time `json:"updated"`
}

func (i *gcsInfo) metadata() (blob.Metadata, error) {
	n, err := strconv.ParseInt(i.Size, 10, 64)
	if err != nil {
		err = fmt.Errorf("the storage gives no size of %q", i.Name)
	}
	return blob.Metadata{BlobID: blob.ID(i.Name), Length: n, Timestamp: i.Updated}, err
}

// do sends a request and returns its answer if that is a success.
func (g *gcsObjects) do(ctx context.Context, method, to string, content io.Reader, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, to, content)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := g.client.Do(r)
	if err != nil {
		return nil, gcsTokenFault(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer drop(resp)
	return nil, gcsFault(resp)
}

// ask is do for an answer in JSON.
func (g *gcsObjects) ask(ctx context.Context, method, to string, answer any) error {
	resp, err := g.do(ctx, method, to, nil, nil)
	if err != nil {
		return err
	}
	defer drop(resp)
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

func (g *gcsObjects) read(ctx context.Context, name string, offset, length int64) (body, error) {
	h := http.Header{}
	setRange(h, offset, length)
	resp, err := g.do(ctx, http.MethodGet, g.object(name)+"?alt=media", nil, h)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// setRange asks for a range of an object.
func setRange(h http.Header, offset, length int64) {
	switch {
	case length > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
}

func (g *gcsObjects) stat(ctx context.Context, name string) (blob.Metadata, error) {
	var i gcsInfo
	if err := g.ask(ctx, http.MethodGet, g.object(name)+"?fields=name,size,updated", &i); err != nil {
		return blob.Metadata{}, err
	}
	return i.metadata()
}

// write sends name, checksum and bytes in one request: the service refuses what
// does not add up.
func (g *gcsObjects) write(ctx context.Context, name string, data blob.Bytes, onlyNew bool) (time.Time, error) {
	all := whole(data)
	sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli))))
	head, err := json.Marshal(map[string]string{"name": name, "crc32c": sum, "contentType": contentType})
	if err != nil {
		return time.Time{}, err
	}
	var frame bytes.Buffer
	m := multipart.NewWriter(&frame)
	w, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json; charset=UTF-8"}})
	if err == nil {
		_, err = w.Write(head)
	}
	if err == nil {
		_, err = m.CreatePart(textproto.MIMEHeader{"Content-Type": {contentType}})
	}
	if err != nil {
		return time.Time{}, err
	}
	split := frame.Len()
	if err := m.Close(); err != nil {
		return time.Time{}, err
	}
	q := url.Values{"uploadType": {"multipart"}, "name": {name}, "fields": {"name,size,crc32c,updated"}}
	if onlyNew {
		q.Set("ifGenerationMatch", "0")
	}
	content := data.Reader()
	defer func() { _ = content.Close() }()
	i, err := g.upload(ctx, q, frame.Bytes()[:split], content, frame.Bytes()[split:], int64(frame.Len()+len(all)), m.Boundary())
	if err != nil {
		return time.Time{}, err
	}
	if i.Size != strconv.Itoa(len(all)) || i.CRC32C != "" && i.CRC32C != sum {
		return time.Time{}, &fault{class: transient, err: fmt.Errorf("the storage has other bytes than were sent")}
	}
	return i.Updated, nil
}

func (g *gcsObjects) upload(ctx context.Context, q url.Values, before []byte, content io.Reader, behind []byte, length int64, boundary string) (*gcsInfo, error) {
	to := g.base + "/upload/storage/v1/b/" + url.PathEscape(g.bucket) + "/o?" + q.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, io.MultiReader(bytes.NewReader(before), content, bytes.NewReader(behind)))
	if err != nil {
		return nil, err
	}
	r.ContentLength = length
	r.Header.Set("Content-Type", "multipart/related; boundary="+boundary)
	resp, err := g.client.Do(r)
	if err != nil {
		return nil, gcsTokenFault(err)
	}
	defer drop(resp)
	if resp.StatusCode/100 != 2 {
		return nil, gcsFault(resp)
	}
	var i gcsInfo
	return &i, json.NewDecoder(resp.Body).Decode(&i)
}

func (g *gcsObjects) remove(ctx context.Context, name string) error {
	return g.ask(ctx, http.MethodDelete, g.object(name), nil)
}

func (g *gcsObjects) list(ctx context.Context, prefix string, found func(blob.Metadata) error) error {
	q := url.Values{"prefix": {prefix}, "fields": {"items(name,size,updated),nextPageToken"}}
	for {
		var page struct {
			Items         []gcsInfo `json:"items"`
			NextPageToken string    `json:"nextPageToken"`
		}
		err := g.ask(ctx, http.MethodGet, g.base+"/storage/v1/b/"+url.PathEscape(g.bucket)+"/o?"+q.Encode(), &page)
		if errors.Is(err, blob.ErrBlobNotFound) {
			return &fault{class: absent, err: errors.New("the storage has no such bucket"), hint: "make the bucket first, or look at the URL"}
		}
		if err != nil {
			return err
		}
		for i := range page.Items {
			m, err := page.Items[i].metadata()
			if err == nil {
				err = found(m)
			}
			if err != nil {
				return err
			}
		}
		if page.NextPageToken == "" {
			return nil
		}
		q.Set("pageToken", page.NextPageToken)
	}
}

func (g *gcsObjects) close() { g.link.close() }

// gcsFault classes an answer that is no success.
func gcsFault(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusNotFound:
		return blob.ErrBlobNotFound
	case http.StatusRequestedRangeNotSatisfiable:
		return blob.ErrInvalidRange
	case http.StatusPreconditionFailed:
		return blob.ErrBlobAlreadyExists
	}
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = json.Unmarshal(b, &said)
	f := &fault{class: byStatus(resp.StatusCode), after: retryAfter(resp.Header), err: fmt.Errorf("the storage answers %s", strings.TrimSpace(resp.Status+" "+said.Error.Message))}
	if resp.StatusCode == http.StatusBadRequest && strings.Contains(strings.ToLower(said.Error.Message), "crc32c") {
		f.class = transient // hurt on the way
	}
	return f
}

// gcsTokenFault classes an error of a request that got no answer, or for which
// no token was to be had.
func gcsTokenFault(err error) error {
	var t *oauth2.RetrieveError
	if errors.As(err, &t) && t.Response != nil {
		f := &fault{class: byStatus(t.Response.StatusCode), err: fmt.Errorf("fetch a token: the server answers %s %s", t.Response.Status, t.ErrorDescription)}
		if t.Response.StatusCode == http.StatusBadRequest {
			f.class = refused // invalid_grant: a key that was deleted, or a wrong clock
		}
		return f
	}
	return bare(err)
}
