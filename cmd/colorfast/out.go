package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"colorfast"
)

// printJSON prints v as the one document of a --json run.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// next tells the next step, on standard error.
func (a *app) next(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stderr, "next: "+format+"\n", args...)
	}
}

// table lays rows out in columns; the first row is the heading.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// findings prints findings with their remedies.
func printFindings(w io.Writer, list []colorfast.Finding) {
	for _, f := range list {
		lost := ""
		if f.Records > 0 {
			lost = fmt.Sprintf(" (%s)", counted(f.Records, "record"))
		}
		fmt.Fprintf(w, "  %-5s  %s  %s: %s%s\n         remedy: %s\n", f.Severity, f.Code, f.Object, f.Detail, lost, f.Remedy)
	}
}

// fatal reports whether any finding costs records.
func fatal(list []colorfast.Finding) bool { return colorfast.OutcomeOf(list) == colorfast.Failed }

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// counted returns "1 record" or "20,000 records".
func counted(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return humanize.Comma(n) + " " + noun
}

func seconds(s float64) string {
	switch {
	case s < 0.001:
		return "under 1 ms"
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 100:
		return fmt.Sprintf("%.1f s", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// when returns a time with its age, as tables show it.
func when(t time.Time) string {
	return t.Local().Format("2006-01-02 15:04:05") + " (" + humanize.Time(t) + ")"
}

func itoa(n int) string { return strconv.Itoa(n) }
