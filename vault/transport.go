package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"colorfast"

	"golang.org/x/net/http/httpproxy"
)

const (
	dialTimeout = 15 * time.Second
	// idleTimeout is shorter than any stall, so that a connection at rest is
	// closed and not found dead.
	idleTimeout = 20 * time.Second
	// connections is how many are kept for the next request; Kopia reads and
	// writes with up to that many goroutines.
	connections = 16
)

// link is the way to an HTTP storage: its own transport, with nothing of the
// process's default one, and the difference of the clocks.
type link struct {
	client *http.Client
	ahead  atomic.Int64 // by how much the server's clock is ahead, in ns, as last seen
}

// newLink makes the way to a storage, under the parameters of its URL, and the
// proxies of the environment.
func newLink(p *place, env environment, stall time.Duration) (*link, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := p.params[paramCAFile]; file != "" {
		pem, err := readSmall(file)
		if err != nil {
			return nil, colorfast.Errorf(fileKind(err), "open vault %q: read the certificates: %w", p.short(), err).WithHint("look at %q in the URL", paramCAFile)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: %q holds no certificate in PEM", p.short(), file).WithHint("look at %q in the URL", paramCAFile)
		}
	}
	proxy := (&httpproxy.Config{
		HTTPProxy: env.first("HTTP_PROXY", "http_proxy"), HTTPSProxy: env.first("HTTPS_PROXY", "https_proxy"), NoProxy: env.first("NO_PROXY", "no_proxy"),
	}).ProxyFunc()
	l := &link{}
	l.client = &http.Client{
		Transport: &watched{link: l, base: &http.Transport{
			Proxy:               func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
			DialContext:         (&dialer{stall: stall}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: dialTimeout,
			// One connection for each transfer: a stall or a cut hits one only.
			TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{},
			MaxIdleConnsPerHost:   connections,
			IdleConnTimeout:       idleTimeout,
			ResponseHeaderTimeout: stall,
			ExpectContinueTimeout: time.Second,
			DisableCompression:    true,
			WriteBufferSize:       64 << 10,
			ReadBufferSize:        64 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return l, nil
}

// clock returns by how much the server's clock is ahead.
func (l *link) clock() time.Duration { return time.Duration(l.ahead.Load()) }

func (l *link) close() { l.client.CloseIdleConnections() }

// watched notes what the server takes the time to be.
type watched struct {
	link *link
	base *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.base.RoundTrip(r)
	if err == nil {
		if t, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil {
			w.link.ahead.Store(int64(time.Until(t)))
		}
	}
	return resp, err
}

// CloseIdleConnections is called by http.Client.CloseIdleConnections.
func (w *watched) CloseIdleConnections() { w.base.CloseIdleConnections() }

// dialer makes connections that do not hang.
type dialer struct{ stall time.Duration }

// DialContext connects as net.Dialer does.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &restless{Conn: c, stall: d.stall}, nil
}

// restless is a connection that ends with an error when nothing moves on it, in
// either direction, for the length of stall.
type restless struct {
	net.Conn
	stall time.Duration
}

// Read implements net.Conn.
func (c *restless) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn. That something can be written moves the deadline
// of a waiting Read too.
func (c *restless) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// drop ends the use of a response whose body is of no more interest. A little of
// it is read, so that the connection can be used again.
func drop(r *http.Response) {
	_, _ = io.CopyN(io.Discard, r.Body, 64<<10)
	_ = r.Body.Close()
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }
