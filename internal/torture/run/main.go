// Command run tortures captures: random workloads write to real Chromas while
// they are backed up; every backup is restored and judged twice, by colorfast's
// readers and by a real Chroma that reads every record back. Beside it, the
// copies that people make today are judged by the same judge. "make torture"
// runs it. It ends with a non-zero code if one backup of ours was wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"time"

	"colorfast/internal/chromatest"
)

func main() {
	trials := flag.Int("trials", 20, "how many captures to judge")
	seed := flag.Uint64("seed", 1, "what the workloads follow from")
	only := flag.Int("only", -1, "only the series with this number, to try a failure again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	t := &campaign{seed: *seed, result: newResult()}
	err := t.run(ctx, *trials, *only)
	t.result.print(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
	if !t.result.good() {
		os.Exit(1)
	}
}

// campaign is one run: series of trials, each series on one Chroma.
type campaign struct {
	seed   uint64
	result *result
}

// A series is a few captures of one Chroma; then the next one is started, for
// variety.
const leastPerSeries, mostPerSeries = 2, 10

// setting is how the Chroma of a series runs.
type setting struct {
	version  string
	embedded bool // in a Python program, not a server
	wal      bool // write-ahead log, which its operator switched on
}

func (s setting) String() string {
	how, journal := "server", "rollback journal"
	if s.embedded {
		how = "embedded"
	}
	if s.wal {
		journal = "wal"
	}
	return fmt.Sprintf("%s %s, %s", s.version, how, journal)
}

// settings are gone through in turn: most of the time the newest, as its users do.
func settings() []setting {
	v := chromatest.Versions()
	return []setting{
		{version: v[0]},
		{version: v[0], wal: true},
		{version: v[0], embedded: true},
		{version: v[2]},
		{version: v[0]},
		{version: v[1]},
		{version: v[0], embedded: true, wal: true},
		{version: v[2], embedded: true},
	}
}

func (t *campaign) run(ctx context.Context, trials, only int) error {
	all := settings()
	each := max(leastPerSeries, min(mostPerSeries, trials/len(all)))
	for n := 0; t.result.trials < trials; n++ {
		if only >= 0 {
			n = only
		}
		s := &series{
			number: n, setting: all[n%len(all)], result: t.result,
			random: rand.New(rand.NewPCG(t.seed, uint64(n))),
		}
		fmt.Printf("series %d of seed %d: Chroma %s\n", n, t.seed, s.setting)
		begun := time.Now()
		if err := s.run(ctx, min(each, trials-t.result.trials)); err != nil {
			return fmt.Errorf("series %d (again with -seed %d -only %d): %w", n, t.seed, n, err)
		}
		fmt.Printf("  %d trials in %.0f s; %d so far, %d of them wrong; %d failed requests\n",
			each, time.Since(begun).Seconds(), t.result.trials, len(t.result.failures), t.result.failedRequests)
		if only >= 0 {
			return nil
		}
	}
	return nil
}

// median returns the middle of what it sorts, 0 for nothing.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}
