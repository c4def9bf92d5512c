package storage

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// TestLineCarries: what goes into a line comes out of it, both ways, not sooner
// than a line would let it; and the end of one way is not that of the other.
func TestLineCarries(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // it answers when it has everything
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		got, _ := io.ReadAll(c)
		_, _ = c.Write(got)
	}()
	l, err := newLine(t.Context(), server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	begun := time.Now()
	c, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
	if up, down := l.up.bytes.Load(), l.down.bytes.Load(); up != int64(len(sent)) || down != up {
		t.Errorf("it counted %d bytes to the server and %d back", up, down)
	}
	// A handshake, a way there, a way back, and twice the bytes: less cannot be.
	seconds := 2 * float64(len(sent)) / lineRate
	if least := 4*lineDelay + time.Duration(seconds*float64(time.Second)); time.Since(begun) < least {
		t.Errorf("it took %s, less than %s", time.Since(begun), least)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestLineEnds: Close ends connections under way.
func TestLineEnds(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l, err := newLine(t.Context(), server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(c); err != nil && !bytes.Contains([]byte(err.Error()), []byte("reset")) {
		t.Errorf("the connection ended with %v", err)
	}
}
