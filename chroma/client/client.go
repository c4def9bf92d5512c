// Package client speaks Chroma's HTTP API: version 2, and version 1 with
// servers older than 0.5.16, which have no other. It reads and writes what
// a drill needs: tenants, databases, collections, records, queries.
//
// It never tries a request twice, and it trusts no response to be small. Start
// reading at Connect.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// The tenant and the database that every Chroma has.
const (
	DefaultTenant   = "default_tenant"
	DefaultDatabase = "default_database"
)

// DefaultMaxResponse is the bound on a response where Options gives none.
const DefaultMaxResponse = 512 << 20

// Options says how to reach a server. The zero value is right for one on this
// machine without authentication.
type Options struct {
	// Header is sent with every request, such as "Authorization" or
	// "X-Chroma-Token".
	Header http.Header
	// HTTP does the requests; nil means a client of our own. Deadlines come from
	// the contexts.
	HTTP *http.Client
	// Tenant and Database are where collections are looked for; "" means
	// DefaultTenant and DefaultDatabase.
	Tenant, Database string
	// MaxResponse bounds the body of a response, in bytes; 0 means
	// DefaultMaxResponse.
	MaxResponse int64
}

// Client talks to one server about one tenant and database. It is immutable,
// and safe for concurrent use.
type Client struct {
	base    string // without a slash at its end
	version int    // of the API: 1 or 2
	o       Options
}

// ErrUnsupported says that this server's API has no such call.
var ErrUnsupported = errors.New("the server's API has no such call")

// Connect returns a client of the server at base, such as
// "http://127.0.0.1:8000", once that has answered a heartbeat; the answer
// tells which version of the API it speaks.
func Connect(ctx context.Context, base string, o Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("parse server address: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server address %q is not of the form http://host:port", base)
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = DefaultMaxResponse
	}
	o.Header = o.Header.Clone()
	c := &Client{base: strings.TrimRight(base, "/"), version: 2, o: o}
	c.o.Tenant, c.o.Database = or(o.Tenant, DefaultTenant), or(o.Database, DefaultDatabase)
	err = c.Heartbeat(ctx)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		c.version = 1
		err = c.Heartbeat(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// In returns a client of the same server for another tenant and database.
func (c *Client) In(tenant, database string) *Client {
	d := *c
	d.o.Tenant, d.o.Database = tenant, database
	return &d
}

// APIVersion returns 2, or 1 with a server older than 0.5.16.
func (c *Client) APIVersion() int { return c.version }

// Heartbeat asks whether the server is there.
func (c *Client) Heartbeat(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, c.path("heartbeat"), nil, nil)
}

// Close drops idle connections.
func (c *Client) Close() { c.o.HTTP.CloseIdleConnections() }

// path returns the address of a call outside tenants and databases; the
// elements are escaped.
func (c *Client) path(elems ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/api/v%d", c.base, c.version)
	for _, e := range elems {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	return b.String()
}

// collections returns the address of a call about this database's
// collections, or with elements about one of them.
func (c *Client) collections(elems ...string) string {
	if c.version == 2 {
		return c.path(append([]string{"tenants", c.o.Tenant, "databases", c.o.Database, "collections"}, elems...)...)
	}
	return c.path(append([]string{"collections"}, elems...)...) + "?" +
		url.Values{"tenant": {c.o.Tenant}, "database": {c.o.Database}}.Encode()
}

// do sends one request, with in as its JSON body unless nil, and reads the
// JSON of the answer into out unless nil. Any status but 2xx is an *Error.
func (c *Client) do(ctx context.Context, method, address string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	for k, v := range c.o.Header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// net/http itself tries a POST again only when not one byte of it was sent.
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return newError(req, resp)
	}
	limited := &io.LimitedReader{R: resp.Body, N: c.o.MaxResponse + 1}
	if out == nil {
		_, err = io.Copy(io.Discard, limited) // so that the connection can serve again
	} else {
		err = json.NewDecoder(limited).Decode(out)
	}
	if limited.N <= 0 {
		return fmt.Errorf("%s %s: response is larger than %d bytes", method, req.URL.Path, c.o.MaxResponse)
	}
	if err != nil {
		return fmt.Errorf("%s %s: read response: %w", method, req.URL.Path, err)
	}
	return nil
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
