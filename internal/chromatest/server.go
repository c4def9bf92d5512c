package chromatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"colorfast/chroma/client"
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

	p    *process
	port *os.File // the lease of the port, nil if the caller chose it
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
		if o.Port, s.port, err = leasePort(); err != nil {
			return nil, err
		}
	}
	s.URL = "http://127.0.0.1:" + strconv.Itoa(o.Port)
	if s.p, err = launch(in.serve(dir, o)); err != nil {
		s.giveBack()
		return nil, fmt.Errorf("start chroma %s: %w", o.Version, err)
	}
	s.PID = s.p.cmd.Process.Pid
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
		if s.p.ended() { // whoever answered, it was not this one
			return fmt.Errorf("it ended: %w", s.p.err)
		}
		if err == nil {
			c.Client.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		case <-s.p.done:
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
	s.p.kill()
	s.giveBack()
}

// Stop asks the server to end, kills it if it does not within five seconds, and
// waits for its end. To Chroma that is no better than Kill: it writes nothing
// at its end.
func (s *Server) Stop() {
	s.p.stop()
	s.giveBack()
}

// Ended reports whether the server has ended, by itself or otherwise.
func (s *Server) Ended() bool { return s.p.ended() }

// Log returns the end of what the server said.
func (s *Server) Log() string { return s.p.words() }

func (s *Server) giveBack() {
	if s.port != nil {
		_ = s.port.Close()
		s.port = nil
	}
}

// leasePort finds a free port below those that the kernel hands out, and keeps
// other tests from taking it between now and the server's own look.
func leasePort() (int, *os.File, error) {
	dir := filepath.Join(os.TempDir(), "chromatest-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, nil, err
	}
	for range 200 {
		port := 20000 + rand.IntN(12000)
		lease, ok, err := tryLock(filepath.Join(dir, strconv.Itoa(port)))
		if err != nil {
			return 0, nil, err
		}
		if !ok {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			_ = lease.Close()
			continue
		}
		return port, lease, l.Close()
	}
	return 0, nil, errors.New("find a free port: 200 tries")
}
