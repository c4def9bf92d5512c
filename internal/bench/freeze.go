package main

import (
	"context"
	"fmt"
	"strings"
)

// bench is one run of the suite "freeze".
type bench struct {
	options
	version string
	cache   string // of built directories
	work    string // of this run, goes at its end
}

// freezes measures every chosen case.
func (b *bench) freezes(ctx context.Context, r *report) error {
	for _, d := range datasets {
		for _, journal := range d.journals {
			loads := b.chosen(d, journal)
			if len(loads) == 0 {
				continue
			}
			if err := b.measure(ctx, r, d, journal, loads); err != nil {
				return fmt.Errorf("%s, %s: %w", d.name, journal, err)
			}
		}
	}
	return nil
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
