package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"colorfast/internal/torture"
)

// result is what a run has come to.
type result struct {
	trials   int
	kinds    map[string]int
	failures []string // of ours

	freezes        []float64 // seconds
	attempts       int
	records        int // judged, by each of the two judges
	requests       int
	failedRequests int
	killedBackups  int
	damaged        int // backups of a Chroma killed in a save that said so
	falseAlarms    int // of these, where a real Chroma had lost nothing
	traceless      int // crashes that cost something which no file of Chroma's shows

	naive map[string]*naiveResult
}

// naiveResult is what one of today's ways to copy has come to.
type naiveResult struct {
	copies, bad, unusable int
	lost, corrupt         int // records
}

func newResult() *result {
	return &result{kinds: map[string]int{}, naive: map[string]*naiveResult{}}
}

func (r *result) good() bool {
	return len(r.failures) == 0 && r.failedRequests == 0 && r.trials > 0 && r.records > 0
}

// fail notes a wrong backup of ours.
func (r *result) fail(s *series, format string, args ...any) {
	text := fmt.Sprintf("series %d (%s): %s", s.number, s.setting, fmt.Sprintf(format, args...))
	r.failures = append(r.failures, text)
	fmt.Println("  WRONG:", text)
}

// judged notes the verdict on a naive copy; nil means that it cannot be read.
func (r *result) judged(way string, v *torture.Verdict) {
	n := r.naive[way]
	if n == nil {
		n = &naiveResult{}
		r.naive[way] = n
	}
	n.copies++
	switch {
	case v == nil:
		n.bad++
		n.unusable++
	case !v.Good():
		n.bad++
		n.lost += v.Lost
		n.corrupt += v.Corrupt
	}
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "\ntorture: %d trials", r.trials)
	for _, k := range sortedKeys(r.kinds) {
		fmt.Fprintf(w, "; %s %d", k, r.kinds[k])
	}
	fmt.Fprintf(w, "\n  backups of ours that were wrong   %d\n", len(r.failures))
	fmt.Fprintf(w, "  records judged, by each judge     %d\n", r.records)
	fmt.Fprintf(w, "  requests meanwhile, failed        %d, %d\n", r.requests, r.failedRequests)
	longest := 0.0
	if len(r.freezes) > 0 {
		longest = slices.Max(r.freezes)
	}
	fmt.Fprintf(w, "  freeze, median and longest        %.1f ms, %.1f ms\n", median(r.freezes)*1000, longest*1000)
	fmt.Fprintf(w, "  attempts for %d cuts              %d\n", len(r.freezes), r.attempts)
	fmt.Fprintf(w, "  backups killed on the way         %d\n", r.killedBackups)
	fmt.Fprintf(w, "  damage of a killed Chroma told    %d (%d where a real Chroma then lost nothing)\n", r.damaged, r.falseAlarms)
	fmt.Fprintf(w, "  crashes that left wrong records but no trace of it %d\n", r.traceless)
	fmt.Fprintf(w, "\n  %-40s %7s %7s %9s %9s %9s\n", "copies as people make them today", "copies", "bad", "unusable", "lost", "corrupt")
	for _, way := range sortedKeys(r.naive) {
		n := r.naive[way]
		fmt.Fprintf(w, "  %-40s %7d %7d %9d %9d %9d\n", way, n.copies, n.bad, n.unusable, n.lost, n.corrupt)
	}
	for _, f := range r.failures {
		fmt.Fprintf(w, "\nWRONG %s\n", strings.TrimSpace(f))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
