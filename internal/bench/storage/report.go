package storage

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is what the suite has found.
type Report struct {
	Scale   float64  `json:"scale"`
	Records int      `json:"records"` // of the first state
	Rounds  int      `json:"rounds"`  // that came to their end
	Tools   []Tool   `json:"tools"`   // the first is colorfast
	Changes []Change `json:"changes"`
	Figures []Figure `json:"figures"`
	Limits  []Limit  `json:"limits"`
	Chain   *Chain   `json:"chain,omitempty"`
	Far     *Far     `json:"far,omitempty"`
}

// Table prints the report for people, as Markdown that a terminal shows as well.
func (r *Report) Table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	for _, t := range r.Tools {
		fmt.Fprintf(w, "- %s: %s; settings: %s\n", t.Name, t.Version, t.Settings)
	}
	if len(r.Figures) > 0 {
		fmt.Fprintf(w, "\n%d records of %d dimensions at first, in %d collections; medians of %d whole rounds.\n", r.Records, dimension, len(collections), r.Rounds)
		r.changes(w)
		r.backups(w)
		r.stages(w)
		r.afterwards(w)
		r.limits(w)
	}
	if r.Chain != nil {
		r.Chain.table(w)
	}
	if r.Far != nil {
		r.Far.table(w)
	}
	return w.Flush()
}

// head prints the title line of a table.
func head(w io.Writer, columns ...string) {
	fmt.Fprintf(w, "\n| %s\t|\n", strings.Join(columns, "\t| "))
	fmt.Fprintln(w, strings.Repeat("|---\t", len(columns))+"|")
}

func (r *Report) changes(w io.Writer) {
	head(w, "step", "directory MiB", "files changed", "blocks rewritten MiB")
	for _, c := range r.Changes {
		fmt.Fprintf(w, "| %s\t| %.1f\t| %d\t| %.3f\t|\n", c.Step, mib(c.Bytes), c.Files, mib(c.Rewritten))
	}
}

func (r *Report) backups(w io.Writer) {
	head(w, "backup", "tool", "wall s", "CPU s", "peak MiB", "added MiB", "original GB/s", "wall ×", "CPU ×", "added ×")
	for i := range r.Figures {
		f := &r.Figures[i]
		if f.Action != backupAction {
			continue
		}
		m, own := f.Median, r.own(f)
		fmt.Fprintf(w, "| %s\t| %s\t| %.2f\t| %.2f\t| %.0f\t| %.3f\t| %.2f\t| %s\t| %s\t| %s\t|\n",
			f.Step, f.Tool, m.Seconds, m.CPUSeconds, mib(m.PeakRSS), mib(m.Added), f.Speed()/1e9,
			times(m.Seconds, own.Seconds), times(m.CPUSeconds, own.CPUSeconds), times(float64(m.Added), float64(own.Added)))
	}
}

func (r *Report) afterwards(w io.Writer) {
	head(w, "action", "tool", "wall s", "CPU s", "peak MiB", "original GB/s", "wall ×", "CPU ×")
	for i := range r.Figures {
		f := &r.Figures[i]
		if f.Action == backupAction {
			continue
		}
		m, own := f.Median, r.own(f)
		fmt.Fprintf(w, "| %s\t| %s\t| %.2f\t| %.2f\t| %.0f\t| %.2f\t| %s\t| %s\t|\n",
			f.Action, f.Tool, m.Seconds, m.CPUSeconds, mib(m.PeakRSS), f.Speed()/1e9,
			times(m.Seconds, own.Seconds), times(m.CPUSeconds, own.CPUSeconds))
	}
}

// stages prints what colorfast tells of its backups.
func (r *Report) stages(w io.Writer) {
	head(w, "backup", "seconds until colorfast said")
	for _, f := range r.Figures {
		if len(f.Median.Stages) == 0 {
			continue
		}
		var parts []string
		for _, st := range f.Median.Stages {
			parts = append(parts, fmt.Sprintf("%s %.2f", st.Until, st.Seconds))
		}
		fmt.Fprintf(w, "| %s\t| %s\t|\n", f.Step, strings.Join(parts, ", "))
	}
}

func (r *Report) limits(w io.Writer) {
	head(w, "limit of this machine", "block KiB", "one core GB/s", "all cores GB/s")
	for _, l := range r.Limits {
		fmt.Fprintf(w, "| %s\t| %d\t| %.2f\t| %.2f\t|\n", l.What, l.BlockSize>>10, l.OneCore/1e9, l.AllCores/1e9)
	}
}

// own returns what the same has cost colorfast.
func (r *Report) own(f *Figure) Cost {
	i := slices.IndexFunc(r.Figures, func(g Figure) bool {
		return g.Tool == r.Tools[0].Name && g.Action == f.Action && g.Step == f.Step
	})
	if i < 0 {
		return Cost{}
	}
	return r.Figures[i].Median
}

// times says how often the own figure goes into v: above 1, colorfast needs
// less.
func times(v, own float64) string {
	if own <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v/own)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
