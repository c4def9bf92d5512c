// Command install installs the storage servers that the tests run, for "make
// servers". Its argument is a list with commas, as COLORFAST_REQUIRE has; words
// that are no server's are others' business. It exits with 1 if one could not be
// had, and says of each that is not there that tests with it do not run.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"colorfast/internal/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok := run(ctx, strings.Split(strings.Join(os.Args[1:], ","), ","), os.Stderr)
	stop()
	if !ok {
		os.Exit(1)
	}
}

// run installs one after the other, for Go builds with all processors; what
// mostly waits for the network goes along.
func run(ctx context.Context, words []string, w io.Writer) bool {
	var mu sync.Mutex
	log := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, format+"\n", args...)
	}
	var failed atomic.Bool
	var wg sync.WaitGroup
	begun := time.Now()
	for _, p := range servers.Programs() {
		if !slices.Contains(words, p.Word) {
			continue
		}
		install := func() {
			start := time.Now()
			file, err := p.Install(ctx, log)
			if err != nil {
				failed.Store(true)
				log("%s: NOT INSTALLED: %v", p.Name, err)
				return
			}
			log("%s: ready, %s (%.1f s)", p.Name, file, time.Since(start).Seconds())
		}
		if p.Waits() {
			wg.Go(install)
		} else {
			install()
		}
	}
	wg.Wait()
	log("servers: %.0f s, %.0f s of processors", time.Since(begun).Seconds(), childSeconds())
	for _, p := range servers.Programs() {
		if _, err := p.Lookup(); err != nil {
			log("storage %s (%s): *not run*", p.Word, p.Name)
		}
	}
	return !failed.Load()
}

// childSeconds returns the processor's time that ended children have used.
func childSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
