package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast"
	"colorfast/capture"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
)

// A capture runs in a process of its own, as colorfast does beside Chroma: so
// its memory can be told from that of the clients.

// captured is what the process says at its end.
type captured struct {
	Consistency colorfast.Consistency `json:"consistency"`
	Seconds     float64               `json:"seconds"`
	PeakRSS     int64                 `json:"peak_rss"`
}

// child captures once and prints a captured. Nothing is proven: proving comes
// after the freeze and does not lengthen it.
func child(ctx context.Context, source, staging string) error {
	begun := time.Now()
	c := capture.Capture{Source: source, Staging: staging, Prove: func(context.Context, string) ([]colorfast.Finding, error) { return nil, nil }}
	cut, err := c.Run(ctx)
	if err != nil {
		return err
	}
	took := time.Since(begun).Seconds()
	peak, err := peakRSS()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(captured{Consistency: cut.Consistency, Seconds: took, PeakRSS: peak})
}

// capture takes one capture of dir and throws the copy away.
func (b *bench) capture(ctx context.Context, dir string) (captured, error) {
	var c captured
	staging, err := os.MkdirTemp(b.work, "staging-")
	if err != nil {
		return c, err
	}
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	cmd := exec.CommandContext(ctx, self, "-child", dir, "-staging", staging)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err := errors.Join(err, os.RemoveAll(staging)); err != nil {
		return c, fmt.Errorf("capture: %w", err)
	}
	return c, json.Unmarshal(out, &c)
}

// measure measures one directory in one journal mode under some loads.
func (b *bench) measure(ctx context.Context, r *report, d dataset, journal string, chosen []load) error {
	dir, err := b.source(ctx, d, journal)
	if err != nil {
		return err
	}
	s, err := chromatest.Launch(ctx, chromatest.Options{Version: b.version, Dir: dir})
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	if err := firstAnswer(ctx, s); err != nil {
		return err
	}
	place := &placeResult{Directory: d.name, Journal: journal}
	for _, l := range chosen {
		say("%s, %s, %s", d.name, journal, l.name)
		c, err := b.measureLoad(ctx, s, d, l)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		c.Directory, c.Journal, c.Load = d.name, journal, l.name
		r.Cases = append(r.Cases, *c)
		say("  freeze median %.0f ms, max %.0f ms", ms(c.FreezeMedian), ms(c.FreezeMax))
	}
	say("%s, %s, stop-copy-start", d.name, journal)
	if place.SQLiteBytes, place.VectorBytes, err = sizes(dir); err != nil {
		return err
	}
	if place.ReadSeconds, err = readOnce(filepath.Join(dir, chroma.SQLiteFile)); err != nil {
		return err
	}
	if err := b.stopCopyStart(ctx, &s, place); err != nil {
		return err
	}
	r.Places = append(r.Places, *place)
	return nil
}

// measureLoad takes captures under a load, and looks at the clients as long
// without any before.
func (b *bench) measureLoad(ctx context.Context, s *chromatest.Server, d dataset, l load) (*caseResult, error) {
	clients, err := l.begin(ctx, s, d)
	if err != nil {
		return nil, err
	}
	var runs []captured
	begun := time.Now()
	if l.writers > 0 {
		time.Sleep(alone)
	}
	first := time.Now()
	for range b.captures {
		if l.writers > 0 { // anywhere in what the writers do, saves among it
			time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
		}
		c, err := b.capture(ctx, s.Dir)
		if err != nil {
			clients.stop()
			return nil, err
		}
		runs = append(runs, c)
	}
	end := time.Now()
	clients.stop()

	c := summarize(runs)
	c.AloneLongest = longest(clients.between(begun, first)).Seconds()
	during := clients.between(first, end)
	c.Requests, c.Longest = len(during), longest(during).Seconds()
	for _, r := range clients.between(begun, time.Now()) {
		if r.err != nil {
			say("  a request failed: %v", r.err)
			c.Errors++
		}
	}
	for _, run := range runs {
		waited := clients.between(run.Consistency.FrozenAt, run.Consistency.ReleasedAt)
		c.LongestFrozen = max(c.LongestFrozen, longest(waited).Seconds())
	}
	return c, nil
}

// alone is for how long the clients are looked at before the first capture.
const alone = 5 * time.Second

// stopCopyStart measures what a copy of the stopped Chroma takes, from the stop
// to the first answer.
func (b *bench) stopCopyStart(ctx context.Context, s **chromatest.Server, p *placeResult) error {
	var stops, copies, starts, totals []float64
	for range 3 {
		dir, to := (*s).Dir, filepath.Join(b.work, "copy")
		begun := time.Now()
		(*s).Stop()
		stopped := time.Now()
		if err := copyAll(ctx, dir, to); err != nil {
			return err
		}
		copied := time.Now()
		again, err := chromatest.Launch(ctx, chromatest.Options{Version: b.version, Dir: dir})
		if err != nil {
			return err
		}
		*s = again
		if err := firstAnswer(ctx, again); err != nil {
			return err
		}
		end := time.Now()
		stops = append(stops, stopped.Sub(begun).Seconds())
		copies = append(copies, copied.Sub(stopped).Seconds())
		starts = append(starts, end.Sub(copied).Seconds())
		totals = append(totals, end.Sub(begun).Seconds())
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	p.StopSeconds, p.CopySeconds, p.StartSeconds, p.DownSeconds = median(stops), median(copies), median(starts), median(totals)
	return nil
}

// firstAnswer asks for the number of records: Chroma reads the log for that,
// so it is back only then.
func firstAnswer(ctx context.Context, s *chromatest.Server) error {
	h, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer h.Client.Close()
	_, err = h.Count(ctx, collectionName)
	return err
}

// readOnce returns the seconds that one reader needs for a file that the page
// cache holds; no copy that looks at all of it can be faster on one core.
func readOnce(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var took []float64
	for range 6 { // the first one fills the cache
		begun := time.Now()
		if _, err := io.CopyBuffer(onlyWriter{io.Discard}, io.NewSectionReader(f, 0, 1<<62), make([]byte, 256<<10)); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun).Seconds())
	}
	return median(took[1:]), nil
}

// onlyWriter hides ReadFrom, whose buffer is small.
type onlyWriter struct{ io.Writer }

// setJournalMode switches the database of a stopped Chroma.
func setJournalMode(path, mode string) (err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	got, err := sqlitex.ResultText(conn.Prep("PRAGMA journal_mode=" + mode))
	if err == nil && got != mode {
		err = fmt.Errorf("journal mode is %s, not %s", got, mode)
	}
	return err
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
