package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"colorfast/internal/bench/storage"
)

// report is what the benchmark found.
type report struct {
	Machine machine       `json:"machine"`
	Chroma  string        `json:"chroma"`
	Cases   []caseResult  `json:"cases"`
	Places  []placeResult `json:"directories"`

	Storage *storage.Report `json:"storage,omitempty"`
}

// caseResult is about the captures of one directory under one load.
type caseResult struct {
	Directory string `json:"directory"`
	Journal   string `json:"journal"`
	Load      string `json:"load"`
	Captures  int    `json:"captures"`

	FreezeMedian   float64 `json:"freeze_median_seconds"`
	FreezeMax      float64 `json:"freeze_max_seconds"`
	LockWaitMedian float64 `json:"lock_wait_median_seconds"`
	LockWaitMax    float64 `json:"lock_wait_max_seconds"`
	SettledMedian  float64 `json:"settled_median_bytes"`
	CaptureMedian  float64 `json:"capture_median_seconds"`
	AttemptsMax    int     `json:"attempts_max"`
	PeakRSS        int64   `json:"peak_rss_bytes"`

	Requests      int     `json:"requests"` // of the clients during the captures
	Errors        int     `json:"errors"`
	Longest       float64 `json:"longest_seconds"`
	LongestFrozen float64 `json:"longest_frozen_seconds"` // of those that met a freeze
	AloneLongest  float64 `json:"alone_longest_seconds"`  // of those before the first capture
}

// placeResult is about one directory in one journal mode.
type placeResult struct {
	Directory   string  `json:"directory"`
	Journal     string  `json:"journal"`
	SQLiteBytes int64   `json:"sqlite_bytes"`
	VectorBytes int64   `json:"vector_bytes"`
	ReadSeconds float64 `json:"read_sqlite_seconds"` // from the page cache, by one reader

	StopSeconds  float64 `json:"stop_seconds"`
	CopySeconds  float64 `json:"copy_seconds"`
	StartSeconds float64 `json:"start_seconds"`
	DownSeconds  float64 `json:"down_seconds"` // from the stop to the first answer
}

// summarize describes the captures of a case.
func summarize(runs []captured) *caseResult {
	c := &caseResult{Captures: len(runs)}
	var freezes, waits, settled, took []float64
	for _, r := range runs {
		freezes = append(freezes, r.Consistency.FreezeSeconds)
		waits = append(waits, r.Consistency.LockWaitSeconds)
		settled = append(settled, float64(r.Consistency.SettledBytes))
		took = append(took, r.Seconds)
		c.FreezeMax = max(c.FreezeMax, r.Consistency.FreezeSeconds)
		c.LockWaitMax = max(c.LockWaitMax, r.Consistency.LockWaitSeconds)
		c.AttemptsMax = max(c.AttemptsMax, r.Consistency.Attempts)
		c.PeakRSS = max(c.PeakRSS, r.PeakRSS)
	}
	c.FreezeMedian, c.LockWaitMedian = median(freezes), median(waits)
	c.SettledMedian, c.CaptureMedian = median(settled), median(took)
	return c
}

// broken tells what must never be, however slow the machine.
func (r *report) broken() error {
	var err error
	for _, c := range r.Cases {
		if c.Errors > 0 {
			err = errors.Join(err, fmt.Errorf("%s, %s, %s: %d of %d requests failed", c.Directory, c.Journal, c.Load, c.Errors, c.Requests))
		}
	}
	return err
}

// table prints the report for people, as Markdown that a terminal shows as well.
func (r *report) table(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "%s\n\n", r.Machine); err != nil {
		return err
	}
	if len(r.Cases) > 0 {
		if err := r.freezeTable(out); err != nil {
			return err
		}
	}
	if r.Storage == nil {
		return nil
	}
	return r.Storage.Table(out)
}

func (r *report) freezeTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| directory\t| journal\t| load\t| freeze median, max ms\t| wait for the lock ms\t| settled KiB\t| capture s\t| requests, failed\t| longest ms\t| it met a freeze\t| no capture\t| peak MiB\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, c := range r.Cases {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %.0f, %.0f\t| %.0f, %.0f\t| %.0f\t| %.1f\t| %d, %d\t| %.0f\t| %.0f\t| %.0f\t| %d\t|\n",
			c.Directory, c.Journal, c.Load, ms(c.FreezeMedian), ms(c.FreezeMax), ms(c.LockWaitMedian), ms(c.LockWaitMax),
			c.SettledMedian/1024, c.CaptureMedian, c.Requests, c.Errors, ms(c.Longest), ms(c.LongestFrozen), ms(c.AloneLongest), c.PeakRSS>>20)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "| directory\t| journal\t| SQLite MiB\t| vectors MiB\t| read SQLite once ms\t| stop s\t| copy s\t| start s\t| stop-copy-start s\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, p := range r.Places {
		fmt.Fprintf(w, "| %s\t| %s\t| %d\t| %d\t| %.0f\t| %.2f\t| %.2f\t| %.2f\t| %.2f\t|\n",
			p.Directory, p.Journal, p.SQLiteBytes>>20, p.VectorBytes>>20, ms(p.ReadSeconds), p.StopSeconds, p.CopySeconds, p.StartSeconds, p.DownSeconds)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func ms(seconds float64) float64 { return seconds * 1000 }
