package servers

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"testing"
)

// Faults is a running Toxiproxy: connections through it can be made slow, cut or
// mute.
type Faults struct{ Server }

// StartToxiproxy starts Toxiproxy, ready to answer, and ends it with the test.
func StartToxiproxy(tb testing.TB) *Faults {
	tb.Helper()
	file := Toxiproxy.Require(tb)
	s := &Faults{Server{Name: Toxiproxy.Name}}
	s.start(tb, Options{}, func(addr string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr) // made by ourselves
		return exec.Command(file, "-host", host, "-port", port)
	}, s.answers("/version", http.StatusOK))
	return s
}

// Proxy is a way to a server through Toxiproxy.
type Proxy struct {
	Addr string // host:port, to be used instead of the server's
	name string
	s    *Faults
}

// Proxy makes a way to the server at addr.
func (s *Faults) Proxy(tb testing.TB, addr string) *Proxy {
	tb.Helper()
	p := &Proxy{name: secret(4), s: s}
	var made struct{ Listen string }
	s.call(tb, http.MethodPost, "/proxies", map[string]any{"name": p.name, "listen": "127.0.0.1:0", "upstream": addr, "enabled": true}, &made)
	p.Addr = made.Listen
	return p
}

// Toxic is one of Toxiproxy's faults, such as {"latency", false, {"latency":
// 50}} (milliseconds), "bandwidth" ("rate", KB a second), "timeout" ("timeout",
// milliseconds; 0 never answers), "reset_peer", "limit_data" ("bytes").
type Toxic struct {
	Type       string
	Upstream   bool // on the way to the server, not back from it
	Attributes map[string]any
}

// Add lets the fault loose on connections old and new, and returns what ends it.
func (p *Proxy) Add(tb testing.TB, t Toxic) (remove func()) {
	tb.Helper()
	stream, name := "downstream", secret(4)
	if t.Upstream {
		stream = "upstream"
	}
	p.s.call(tb, http.MethodPost, "/proxies/"+p.name+"/toxics",
		map[string]any{"name": name, "type": t.Type, "stream": stream, "toxicity": 1.0, "attributes": t.Attributes}, nil)
	return func() { p.s.call(tb, http.MethodDelete, "/proxies/"+p.name+"/toxics/"+name, nil, nil) }
}

// Enable lets connections through, or cuts all and takes no new ones.
func (p *Proxy) Enable(tb testing.TB, on bool) {
	tb.Helper()
	p.s.call(tb, http.MethodPost, "/proxies/"+p.name, map[string]any{"enabled": on}, nil)
}

// call asks Toxiproxy for something, and fails the test unless it does it.
func (s *Faults) call(tb testing.TB, method, path string, in, out any) {
	tb.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		tb.Fatal(err)
	}
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(b))
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read below
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		tb.Fatalf("toxiproxy: %s %s: %s %s %v", method, path, resp.Status, said, err)
	}
	if out != nil {
		if err := json.Unmarshal(said, out); err != nil {
			tb.Fatalf("toxiproxy: %s %s: %v", method, path, err)
		}
	}
}
