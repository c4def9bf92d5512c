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

// run installs one after the other: Go builds with all processors anyway.
func run(ctx context.Context, words []string, w io.Writer) bool {
	log := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	ok := true
	for _, p := range servers.Programs() {
		if slices.Contains(words, p.Word) {
			before, start := childSeconds(), time.Now()
			file, err := p.Install(ctx, log)
			if err == nil {
				log("%s: ready, %s (%.1f s, %.0f CPU s)", p.Name, file, time.Since(start).Seconds(), childSeconds()-before)
				continue
			}
			log("%s: NOT INSTALLED: %v", p.Name, err)
			ok = false
		} else if _, err := p.Lookup(); err == nil {
			continue
		}
		log("storage %s (%s): *not run*", p.Word, p.Name)
	}
	return ok
}

// childSeconds returns the processor's time that ended children have used.
func childSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
