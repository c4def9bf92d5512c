package storage

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A line as between two sites: 1 Gbit/s each way, 50 ms there and back.
const (
	lineRate  = 125e6 // bytes a second, each way
	lineDelay = 25 * time.Millisecond
)

// chunk is how much goes over the line at once, and underWay how many chunks of a
// connection: 8 MiB, a little more than the line holds.
const (
	chunk    = 32 << 10
	underWay = 256
)

// line carries connections to a server on this host as if it were far away. What
// it lacks of a real line: packets are never lost, and a connection does not
// begin slowly.
type line struct {
	to       string // host:port of the server
	listener net.Listener
	up, down way // to the server and back
	closing  context.CancelFunc
	wait     sync.WaitGroup
}

// way is one direction, which all connections share.
type way struct {
	bytes atomic.Int64

	mu   sync.Mutex
	free time.Time // when the next byte can begin
}

// pass takes the line for n bytes and returns when the last one arrives.
func (w *way) pass(n int) time.Time {
	w.bytes.Add(int64(n))
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(float64(n) / lineRate * float64(time.Second)))
	return w.free.Add(lineDelay)
}

// newLine lays a line to a server. Close takes it away.
func newLine(ctx context.Context, to string) (*line, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &line{to: to, listener: listener}
	ctx, l.closing = context.WithCancel(ctx)
	l.wait.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			l.wait.Go(func() { l.carry(ctx, c) })
		}
	})
	return l, nil
}

// addr is where clients find the line.
func (l *line) addr() string { return l.listener.Addr().String() }

// Close ends all connections.
func (l *line) Close() error {
	l.closing()
	err := l.listener.Close()
	l.wait.Wait()
	return err
}

// carry serves one connection.
func (l *line) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	if !sleepUntil(ctx, time.Now().Add(2*lineDelay)) { // a handshake
		return
	}
	server, err := new(net.Dialer).DialContext(ctx, "tcp", l.to)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { l.up.copy(ctx, server, client) })
	both.Go(func() { l.down.copy(ctx, client, server) })
	both.Wait()
}

// late is a chunk with the time of its arrival.
type late struct {
	b  *[chunk]byte
	n  int // bytes of it
	at time.Time
}

// copy carries bytes until one side ends.
func (w *way) copy(ctx context.Context, to, from net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks := make(chan late, underWay)
	free := sync.Pool{New: func() any { return new([chunk]byte) }}
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		defer close(chunks)
		for {
			b := free.Get().(*[chunk]byte)
			n, err := from.Read(b[:])
			if n > 0 {
				select {
				case chunks <- late{b, n, w.pass(n)}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range chunks {
		if !sleepUntil(ctx, c.at) {
			break
		}
		if _, err := to.Write(c.b[:c.n]); err != nil {
			_ = from.Close() // so that the reading ends too
			break
		}
		free.Put(c.b)
	}
	cancel()
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite() // the other way may go on
	}
}

// sleepUntil reports whether that time has come before the end of ctx.
func sleepUntil(ctx context.Context, at time.Time) bool {
	const short = time.Millisecond // for which no timer is worth it
	d := time.Until(at)
	if d < short {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// closeAll closes one after the other.
func closeAll(closers ...io.Closer) error {
	var err error
	for _, c := range closers {
		err = errors.Join(err, c.Close())
	}
	return err
}
