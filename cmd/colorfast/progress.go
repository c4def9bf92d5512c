package main

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"colorfast"
)

// progress returns a bar on a terminal, and nothing elsewhere. done removes it.
func (a *app) progress() (p colorfast.Progress, done func()) {
	if !a.terminal || a.json {
		return colorfast.Quiet{}, func() {}
	}
	b := &bars{out: a.stderr}
	return b, b.end
}

// bars shows one bar a stage, with rate and remaining time.
type bars struct {
	out io.Writer
	mu  sync.Mutex // guards bar
	bar *progressbar.ProgressBar
}

// Begin implements colorfast.Progress.
func (b *bars) Begin(stage string, total int64) {
	b.end()
	if total <= 0 {
		total = -1 // a spinner
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(b.out),
		progressbar.OptionSetDescription(stage),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

// Advance implements colorfast.Progress.
func (b *bars) Advance(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Add64(n) // a bar that cannot be drawn hinders nobody
	}
}

func (b *bars) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}
