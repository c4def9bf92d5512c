// Command bench measures for how long a capture makes writers wait: against the
// size of chroma.sqlite3, its journal mode and the load, on a real Chroma, with
// what a stop-copy-start of the same directory takes beside it. "make bench"
// runs it; docs/benchmarks.md holds what it measured.
//
// Start reading at run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"colorfast/internal/chromatest"
)

// options are the flags.
type options struct {
	json     bool
	captures int
	only     string
	child    string // set in the process that captures: the source
	staging  string // likewise
}

func main() {
	var o options
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.IntVar(&o.captures, "captures", 10, "captures in each case")
	flag.StringVar(&o.only, "only", "", "measure only cases whose name contains this, such as \"large wal\"")
	flag.StringVar(&o.child, "child", "", "capture this directory once; the benchmark calls itself so")
	flag.StringVar(&o.staging, "staging", "", "with -child: where the copy goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, o options) error {
	if o.child != "" {
		return child(ctx, o.child, o.staging)
	}
	r, err := run(ctx, o)
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.table(os.Stdout)
	}
	return errors.Join(err, r.broken())
}

// bench is one run of the benchmark.
type bench struct {
	options
	version string
	cache   string // of built directories
	work    string // of this run, goes at its end
}

// run measures everything.
func run(ctx context.Context, o options) (_ *report, err error) {
	b := &bench{options: o, version: chromatest.Versions()[0]}
	if _, err := chromatest.Install(ctx, b.version, say); err != nil {
		return nil, err
	}
	installed, err := chromatest.CacheDir()
	if err != nil {
		return nil, err
	}
	b.cache = filepath.Join(filepath.Dir(installed), "bench")
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, err
	}
	// Beside the cache, so that copies and sources share a file system.
	if b.work, err = os.MkdirTemp(b.cache, "run-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()

	r := &report{Machine: describe(b.work), Chroma: b.version}
	for _, d := range datasets {
		for _, journal := range d.journals {
			loads := b.chosen(d, journal)
			if len(loads) == 0 {
				continue
			}
			if err := b.measure(ctx, r, d, journal, loads); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", d.name, journal, err)
			}
		}
	}
	r.Machine.LoadAfter = loadAverage()
	return r, nil
}

// chosen returns the loads to measure a directory under.
func (b *bench) chosen(d dataset, journal string) []load {
	var out []load
	for _, l := range loads {
		if strings.Contains(d.name+" "+journal+" "+l.name, b.only) {
			out = append(out, l)
		}
	}
	return out
}

// say tells on standard error what is going on.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
