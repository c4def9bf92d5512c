// Command bench measures two things on a real Chroma. Suite "freeze": for how
// long a capture makes writers wait, against the size of chroma.sqlite3, its
// journal mode and the load, with what a stop-copy-start of the same directory
// takes beside it. Suite "storage": what repeated backups cost, beside other
// tools. "make bench" runs both; docs/benchmarks.md holds what they measured.
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
	"syscall"

	"colorfast/internal/bench/storage"
	"colorfast/internal/chromatest"
	"colorfast/internal/program"
)

// The suites.
const (
	freezeSuite  = "freeze"
	storageSuite = "storage"
)

// options are the flags.
type options struct {
	json      bool
	suite     string // "" means all
	only      string
	captures  int
	rounds    int
	scale     float64
	colorfast string
	child     string // set in the process that captures: the source
	staging   string // likewise
	meter     string // set in the process that runs a measured program: where its cost goes
}

func main() {
	var o options
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.StringVar(&o.suite, "suite", "", "run only this suite, freeze or storage")
	flag.StringVar(&o.only, "only", "", "measure only cases whose name contains this, such as \"large wal\" or \"chain\"")
	flag.IntVar(&o.captures, "captures", 10, "freeze: captures in each case")
	flag.IntVar(&o.rounds, "rounds", 3, "storage: fresh repositories for each tool; 0 only makes what is measured and the tools")
	flag.Float64Var(&o.scale, "scale", 1, "storage: size of the corpus, against 200,000 records")
	flag.StringVar(&o.colorfast, "colorfast", "", "storage: measure this program instead of building one")
	flag.StringVar(&o.child, "child", "", "capture this directory once; the benchmark calls itself so")
	flag.StringVar(&o.staging, "staging", "", "with -child: where the copy goes")
	flag.StringVar(&o.meter, "meter", "", "run the arguments and write their cost to this file; the benchmark calls itself so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, o options, args []string) error {
	switch {
	case o.child != "":
		return child(ctx, o.child, o.staging)
	case o.meter != "":
		return storage.Meter(o.meter, args)
	case o.suite != "" && o.suite != freezeSuite && o.suite != storageSuite:
		return fmt.Errorf("there is no suite %q", o.suite)
	}
	r, err := run(ctx, o)
	if r == nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = errors.Join(err, enc.Encode(r))
	} else {
		err = errors.Join(err, r.table(os.Stdout))
	}
	return errors.Join(err, r.broken())
}

// run measures what the options choose. Beside an error it returns what it has
// measured until then: a run takes long.
func run(ctx context.Context, o options) (_ *report, err error) {
	b := &bench{options: o, version: chromatest.Versions()[0]}
	if _, err := chromatest.Install(ctx, b.version, say); err != nil {
		return nil, err
	}
	if b.cache, err = program.CacheDir("bench"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, err
	}
	// Beside the cache, so that copies and sources share a file system.
	if b.work, err = os.MkdirTemp(b.cache, "run-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()

	r := &report{Machine: describe(b.work), Chroma: b.version}
	if o.suite != storageSuite {
		if err := b.freezes(ctx, r); err != nil {
			return r, err
		}
	}
	if o.suite != freezeSuite {
		s := storage.Suite{
			Version: b.version, Cache: b.cache, Work: b.work,
			Rounds: o.rounds, Scale: o.scale, Colorfast: o.colorfast, Only: o.only, Say: say,
		}
		if r.Storage, err = s.Run(ctx); err != nil {
			return r, err
		}
	}
	r.Machine.LoadAfter = loadAverage()
	return r, nil
}

// say tells on standard error what is going on.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
