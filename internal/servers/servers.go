// Package servers gives tests real storage servers: it installs pinned versions,
// starts them on the loopback address with credentials that nobody could guess,
// and ends them with the test. Nothing here is shipped.
//
// Start reading at StartS3. The servers' own data lie in a directory of the
// test; what they said is shown where a test failed.
package servers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"colorfast/internal/program"
)

// startBound is how long a server may take to start. Azurite reads several
// thousand files of JavaScript first.
const startBound = time.Minute

// Options says how to start a server; the zero value does for most tests.
type Options struct {
	Dir string // its data; "" means a new directory that goes with the test
	TLS bool   // https, with a certificate that only CAFile vouches for; S3 and WebDAV can
}

// Server is a running server, on 127.0.0.1 only.
type Server struct {
	Name   string // of the program
	Addr   string // host:port
	URL    string // http or https, without a slash at the end
	PID    int
	Dir    string // its data
	CAFile string // what vouches for its certificate; "" without TLS

	p    *program.Process
	port *program.Port
}

// start runs the command that makes returns for an address, until ready gives
// no error; then it ends it with the test.
func (s *Server) start(tb testing.TB, o Options, makes func(addr string) *exec.Cmd, ready func(ctx context.Context) error) {
	tb.Helper()
	s.Dir = o.Dir
	if s.Dir == "" {
		s.Dir = tb.TempDir()
	}
	port, err := program.LeasePort()
	if err != nil {
		tb.Fatal(err)
	}
	s.port = port
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port.Number))
	s.URL = "http://" + s.Addr
	if o.TLS {
		s.URL = "https://" + s.Addr
	}
	if s.p, err = program.Launch(makes(s.Addr)); err != nil {
		port.GiveBack()
		tb.Fatal(fmt.Errorf("start %s: %w", s.Name, err))
	}
	s.PID = s.p.PID
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%s on %s said:\n%s", s.Name, s.Addr, s.Log())
		}
		s.Kill()
	})
	ctx, cancel := context.WithTimeout(tb.Context(), startBound)
	defer cancel()
	if err := s.await(ctx, ready); err != nil {
		tb.Fatalf("start %s: %v", s.Name, err)
	}
}

// await waits until the server answers.
func (s *Server) await(ctx context.Context, ready func(ctx context.Context) error) error {
	for {
		err := ready(ctx)
		if s.p.Ended() { // whoever answered, it was not this one
			return fmt.Errorf("it ended: %w", s.p.Err())
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		case <-s.p.Done:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop asks the server to end, kills it if it does not within five seconds, and
// waits for its end.
func (s *Server) Stop() {
	s.p.Stop()
	s.port.GiveBack()
}

// Kill ends the server with SIGKILL and waits for its end.
func (s *Server) Kill() {
	s.p.Kill()
	s.port.GiveBack()
}

// Ended reports whether the server has ended, by itself or otherwise.
func (s *Server) Ended() bool { return s.p.Ended() }

// Log returns the end of what the server said.
func (s *Server) Log() string { return s.p.Words() }

// listens is ready when something takes connections at the address.
func (s *Server) listens(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// answers is ready when a GET of the path is answered with the status.
func (s *Server) answers(path string, status int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			return err
		}
		transport, err := s.transport()
		if err != nil {
			return err
		}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // nothing of it is wanted
		if resp.StatusCode != status {
			return fmt.Errorf("GET %s: %s", path, resp.Status)
		}
		return nil
	}
}

// secret returns n random bytes in hexadecimal.
func secret(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, it says
	return hex.EncodeToString(b)
}
