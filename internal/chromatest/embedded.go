package chromatest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"colorfast/chroma/client"
	"colorfast/internal/program"
)

//go:embed embedded.py
var embeddedProgram string

// Embedded is a Chroma embedded in a Python program of its own
// (PersistentClient), as applications embed it.
type Embedded struct {
	PID     int
	Dir     string // its persist directory
	Version string

	p    *program.Process
	in   io.WriteCloser
	mu   sync.Mutex // guards writes to in, and the fields below
	last int64
	wait map[int64]chan<- embeddedAnswer
	dead error // why there will be no more answers
}

var _ Chroma = (*Embedded)(nil)

type embeddedAnswer struct {
	ID     int64           `json:"id"`
	Error  *string         `json:"error"`
	Result json.RawMessage `json:"result"`
}

type embeddedRequest struct {
	ID     int64     `json:"id"`
	Op     string    `json:"op"`
	Name   string    `json:"name,omitempty"`
	N      int       `json:"n,omitempty"`
	Vector []float32 `json:"vector,omitempty"`

	Metadata      client.Metadata `json:"metadata,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`

	Verb client.Verb `json:"verb,omitempty"`
	client.Columns
}

// Embed starts an embedded Chroma and ends it with the test; else as Start.
func Embed(tb testing.TB, o Options) *Embedded {
	tb.Helper()
	RequireEmbedded(tb, o.Version)
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	e, err := LaunchEmbedded(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("embedded chroma %s on %s said:\n%s", e.Version, e.Dir, e.p.Words())
		}
		e.Kill()
	})
	return e
}

// LaunchEmbedded is Embed outside a test: the caller ends it.
func LaunchEmbedded(ctx context.Context, o Options) (*Embedded, error) {
	in, err := Lookup(o.Version)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil || o.Dir == "" || in.Source != PyPI {
		return nil, errors.Join(fmt.Errorf("embed chroma %s: no directory, or not from pip", o.Version), err)
	}
	cmd := in.command(in.python(), o.Env, "-c", embeddedProgram, dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdoutR, stdoutW := io.Pipe()
	cmd.Stdout = stdoutW
	e := &Embedded{Dir: dir, Version: o.Version, in: stdin, wait: map[int64]chan<- embeddedAnswer{}}
	ready := make(chan embeddedAnswer, 1)
	e.wait[0] = ready
	if e.p, err = program.Launch(cmd); err != nil {
		return nil, fmt.Errorf("embed chroma %s: %w", o.Version, err)
	}
	e.PID = e.p.PID
	go func() {
		<-e.p.Done
		_ = stdoutW.Close() // never fails
	}()
	go e.read(stdoutR)
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	if _, err := e.receive(ctx, ready); err != nil {
		e.Kill()
		err = fmt.Errorf("embed chroma %s: %w; it said:\n%s", o.Version, err, e.p.Words())
		return nil, err
	}
	return e, nil
}

// read hands the answers to those who wait for them, until there are no more.
func (e *Embedded) read(r *io.PipeReader) {
	d := json.NewDecoder(r)
	for {
		var a embeddedAnswer
		err := d.Decode(&a)
		e.mu.Lock()
		if err != nil {
			e.dead = fmt.Errorf("embedded chroma %s ended: %w", e.Version, err)
			for id, c := range e.wait {
				close(c)
				delete(e.wait, id)
			}
			e.mu.Unlock()
			_ = r.Close() // never fails
			return
		}
		if c := e.wait[a.ID]; c != nil {
			c <- a // has room
			delete(e.wait, a.ID)
		}
		e.mu.Unlock()
	}
}

func (e *Embedded) receive(ctx context.Context, c <-chan embeddedAnswer) (json.RawMessage, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case a, ok := <-c:
		switch {
		case !ok:
			e.mu.Lock()
			defer e.mu.Unlock()
			return nil, e.dead
		case a.Error != nil:
			return nil, errors.New(*a.Error)
		}
		return a.Result, nil
	}
}

// call sends a request and decodes the result of its answer into out unless
// that is nil.
func (e *Embedded) call(ctx context.Context, q embeddedRequest, out any) error {
	c := make(chan embeddedAnswer, 1)
	e.mu.Lock()
	if e.dead != nil {
		e.mu.Unlock()
		return e.dead
	}
	e.last++
	q.ID = e.last
	b, err := json.Marshal(q)
	if err == nil {
		e.wait[q.ID] = c
		_, err = e.in.Write(append(b, '\n'))
	}
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", q.Op, err)
	}
	result, err := e.receive(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: %w", q.Op, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(result, out)
}

// Create implements Writer.
func (e *Embedded) Create(ctx context.Context, s Spec) error {
	n, err := s.request()
	if err != nil {
		return err
	}
	return e.call(ctx, embeddedRequest{Op: "create", Name: n.Name, Metadata: n.Metadata, Configuration: n.Configuration}, nil)
}

// Drop implements Writer.
func (e *Embedded) Drop(ctx context.Context, collection string) error {
	return e.call(ctx, embeddedRequest{Op: "drop", Name: collection}, nil)
}

// Write implements Writer.
func (e *Embedded) Write(ctx context.Context, collection string, verb client.Verb, recs []client.Record) error {
	return e.call(ctx, embeddedRequest{Op: "write", Name: collection, Verb: verb, Columns: client.ColumnsOf(verb, recs)}, nil)
}

// Collections implements Reader.
func (e *Embedded) Collections(ctx context.Context) ([]string, error) {
	var names []string
	err := e.call(ctx, embeddedRequest{Op: "collections"}, &names)
	return names, err
}

// Count implements Reader.
func (e *Embedded) Count(ctx context.Context, collection string) (int64, error) {
	var n int64
	err := e.call(ctx, embeddedRequest{Op: "count", Name: collection}, &n)
	return n, err
}

// Records implements Reader.
func (e *Embedded) Records(ctx context.Context, collection string) ([]client.Record, error) {
	var recs []client.Record
	err := e.call(ctx, embeddedRequest{Op: "records", Name: collection}, &recs)
	return recs, err
}

// Query implements Reader.
func (e *Embedded) Query(ctx context.Context, collection string, v []float32, n int) ([]string, error) {
	var ids []string
	err := e.call(ctx, embeddedRequest{Op: "query", Name: collection, Vector: v, N: n}, &ids)
	return ids, err
}

// Kill ends the program with SIGKILL and waits for its end.
func (e *Embedded) Kill() {
	e.p.Kill()
	_ = e.in.Close() // nobody reads it any more
}

// Stop lets the program end after the requests it has, kills it if it does not
// within five seconds, and waits for its end.
func (e *Embedded) Stop() {
	_ = e.in.Close() // that is the request to end
	e.p.Await()
}

// Log returns the end of what the program said.
func (e *Embedded) Log() string { return e.p.Words() }
