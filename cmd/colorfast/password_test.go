package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"colorfast"
)

func commandApp(t *testing.T, limit time.Duration) (*app, *bytes.Buffer) {
	t.Helper()
	var stderr bytes.Buffer
	return &app{stderr: &stderr, getenv: os.Getenv, ctx: t.Context(), commandTime: limit}, &stderr
}

func TestCommandIsTimeBoxed(t *testing.T) {
	a, _ := commandApp(t, 50*time.Millisecond)
	start := time.Now()
	// The shell's child keeps the pipes open when the shell is killed.
	_, err := a.commandPassword("X", `sh -c "sleep 60; echo late"`)
	if colorfast.KindOf(err) != colorfast.Unreachable || !strings.Contains(err.Error(), "longer than 50ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.ctx = ctx
	if _, err := a.commandPassword("X", "sleep 60"); err == nil || ctx.Err() == nil {
		t.Errorf("interrupted: %v", err)
	}
}

func TestCommandIsBounded(t *testing.T) {
	a, stderr := commandApp(t, time.Minute)
	g, err := a.commandPassword("X", `sh -c "head -c 1000000 /dev/zero >&2; printf '%s\\r\\n' 'it is'"`)
	if err != nil || g.Password.Reveal() != "it is" {
		t.Errorf("%v, %v", g, err)
	}
	if stderr.Len() != commandStderr {
		t.Errorf("%d bytes of its standard error are shown", stderr.Len())
	}
	g, err = a.commandPassword("X", fmt.Sprintf("head -c %d /dev/zero", mostPassword+1))
	if colorfast.KindOf(err) != colorfast.Usage || !g.Password.IsZero() {
		t.Errorf("too much: %v", err)
	}
}

func TestGivenHidesItself(t *testing.T) {
	a, _ := commandApp(t, time.Minute)
	g, err := a.commandPassword("X", "echo hunter2")
	if err != nil || g.Password.Reveal() != "hunter2" {
		t.Fatal(g, err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", g, g, g, g.from); strings.Contains(shown, "hunter2") {
		t.Errorf("shown: %s", shown)
	}
}
