// Command install installs the Chromas that the tests run, for "make chroma".
// Without arguments it installs all versions, else the named ones. It exits
// with 1 if one could not be had.
package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"colorfast/internal/chromatest"
)

// parallel is how many are installed at the same time.
const parallel = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, versions []string, w io.Writer) bool {
	if len(versions) == 0 {
		versions = chromatest.Versions()
	}
	var mu sync.Mutex
	log := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, format+"\n", args...)
	}
	failed := make([]bool, len(versions))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, v := range versions {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			start := time.Now()
			in, err := chromatest.Install(ctx, v, log)
			if err != nil {
				failed[i] = true
				log("chroma %s: NOT INSTALLED: %v", v, err)
				return
			}
			log("chroma %s: ready from %s (%.1f s, %d MiB)", v, in.Source, time.Since(start).Seconds(), size(in.Dir)>>20)
		})
	}
	wg.Wait()
	all := true
	for i, f := range failed {
		if f {
			all = false
			log("chroma %s: tests with it will not run", versions[i])
		}
	}
	return all
}

// size returns the bytes of all files in dir, as far as they can be seen.
func size(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}
