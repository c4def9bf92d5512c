package chromatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"colorfast/chroma/client"
	"colorfast/internal/program"
)

// startBound is how long a Chroma may take to start. The first start after an
// installation compiles a few thousand Python files.
const startBound = 2 * time.Minute

// Options says which Chroma to start on what.
type Options struct {
	Version string
	Dir     string   // the persist directory; "" in a test means a new one that goes with the test
	Port    int      // of a server; 0 means a free one
	Env     []string // added to the environment, as KEY=VALUE
}

// Server is a running Chroma server, on 127.0.0.1 only.
type Server struct {
	URL     string
	PID     int
	Dir     string // its persist directory
	Version string

	p    *program.Process
	port *program.Port // nil if the caller chose it
}

// Start starts a server, ready to answer, and ends it with the test. Where the
// version is not installed it skips the test, as Require. After a failure it
// shows the server's log.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	Require(tb, o.Version)
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	s, err := Launch(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("chroma %s on %s said:\n%s", s.Version, s.Dir, s.Log())
		}
		s.Kill()
	})
	return s
}

// Launch is Start outside a test: the caller ends the server, and o.Dir is
// needed. The context bounds the start only.
func Launch(ctx context.Context, o Options) (*Server, error) {
	in, err := Lookup(o.Version)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil || o.Dir == "" {
		return nil, errors.Join(fmt.Errorf("start chroma %s: no directory", o.Version), err)
	}
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	s := &Server{Dir: dir, Version: o.Version}
	if o.Port == 0 {
		if s.port, err = program.LeasePort(); err != nil {
			return nil, err
		}
		o.Port = s.port.Number
	}
	s.URL = "http://127.0.0.1:" + strconv.Itoa(o.Port)
	if s.p, err = program.Launch(in.serve(dir, o)); err != nil {
		s.giveBack()
		return nil, fmt.Errorf("start chroma %s: %w", o.Version, err)
	}
	s.PID = s.p.PID
	if err := s.await(ctx); err != nil {
		s.Kill()
		err = fmt.Errorf("start chroma %s on %s: %w; it said:\n%s", o.Version, dir, err, s.Log())
		return nil, err
	}
	return s, nil
}

// serve returns the command that runs the server. The Python one is what the
// package's script "chroma" does, except that the signals are the system's
// again: the 1.x server calls the handlers it replaces.
func (in *Installation) serve(dir string, o Options) *exec.Cmd {
	run := []string{"run", "--path", dir, "--host", "127.0.0.1", "--port", strconv.Itoa(o.Port)}
	if in.Source == NPM {
		return in.command("node", o.Env, append([]string{filepath.Join(in.Dir, npmServerFile)}, run...)...)
	}
	const script = "import signal, sys; sys.argv[0] = 'chroma'\n" +
		"signal.signal(signal.SIGINT, signal.SIG_DFL); signal.signal(signal.SIGTERM, signal.SIG_DFL)\n" +
		"from chromadb.cli.cli import app; app()"
	return in.command(in.python(), o.Env, append([]string{"-c", script}, run...)...)
}

func (in *Installation) python() string { return filepath.Join(in.Dir, "bin", "python") }

func (in *Installation) command(name string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(append(os.Environ(), "ANONYMIZED_TELEMETRY=False", "PYTHONUNBUFFERED=1"), env...)
	return cmd
}

// await waits until the server answers.
func (s *Server) await(ctx context.Context) error {
	for {
		c, err := s.Connect(ctx)
		if s.p.Ended() { // whoever answered, it was not this one
			return fmt.Errorf("it ended: %w", s.p.Err())
		}
		if err == nil {
			c.Client.Close()
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

// Connect returns the server as a Chroma.
func (s *Server) Connect(ctx context.Context) (*HTTP, error) {
	c, err := client.Connect(ctx, s.URL, client.Options{})
	if err != nil {
		return nil, err
	}
	return &HTTP{Client: c}, nil
}

// Chroma returns the server as a Chroma, or fails the test.
func (s *Server) Chroma(tb testing.TB) *HTTP {
	tb.Helper()
	h, err := s.Connect(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(h.Client.Close)
	return h
}

// Kill ends the server with SIGKILL and waits for its end.
func (s *Server) Kill() {
	s.p.Kill()
	s.giveBack()
}

// Stop asks the server to end, kills it if it does not within five seconds, and
// waits for its end. To Chroma that is no better than Kill: it writes nothing
// at its end.
func (s *Server) Stop() {
	s.p.Stop()
	s.giveBack()
}

// Ended reports whether the server has ended, by itself or otherwise.
func (s *Server) Ended() bool { return s.p.Ended() }

// Log returns the end of what the server said.
func (s *Server) Log() string { return s.p.Words() }

func (s *Server) giveBack() {
	if s.port != nil {
		s.port.GiveBack()
		s.port = nil
	}
}
