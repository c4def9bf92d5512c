package storage

import (
	"reflect"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.in, got, c.want)
		}
	}
}

func TestMedianCost(t *testing.T) {
	stages := func(a, b float64) []Stage { return []Stage{{"captured", a}, {"end", b}} }
	got := medianCost([]Cost{
		{Seconds: 3, CPUSeconds: 1, PeakRSS: 10, Added: 7, Stages: stages(1, 30)},
		{Seconds: 1, CPUSeconds: 2, PeakRSS: 30, Added: 9, Stages: stages(2, 20)},
		{Seconds: 2, CPUSeconds: 3, PeakRSS: 20, Added: 8, Stages: stages(3, 10)},
	})
	want := Cost{Seconds: 2, CPUSeconds: 2, PeakRSS: 20, Added: 8, Stages: stages(2, 20)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if m := medianCost([]Cost{{Stages: stages(1, 1)}, {Stages: []Stage{{"captured", 1}, {"stored", 1}}}}); m.Stages != nil {
		t.Errorf("stages of different runs gave %v", m.Stages)
	}
	if m := medianCost([]Cost{{Stages: stages(1, 1)}, {}}); m.Stages != nil {
		t.Errorf("stages that a run lacks gave %v", m.Stages)
	}
}

func TestTable(t *testing.T) {
	tools := []Tool{{Name: "colorfast", Version: "colorfast 1"}, {Name: "other", Version: "other 2"}}
	l := newLedger(tools)
	// In the order of a second round, and unevenly.
	l.add(1, backupAction, "first", 4e9, Cost{Seconds: 8, CPUSeconds: 3, PeakRSS: 64 << 20, Added: 3 << 20})
	l.add(0, backupAction, "first", 4e9, Cost{Seconds: 4, CPUSeconds: 2, PeakRSS: 32 << 20, Added: 2 << 20, Stages: []Stage{{"captured", 3}, {"end", 1}}})
	l.add(1, backupAction, "nothing", 4e9, Cost{Seconds: 1, Added: 0})
	l.add(0, backupAction, "nothing", 4e9, Cost{Seconds: 2, Added: 0})
	l.add(0, verifyAction, "", 4e9, Cost{Seconds: 2, CPUSeconds: 1})
	l.add(1, verifyAction, "", 4e9, Cost{Seconds: 1, CPUSeconds: 1})
	r := &Report{Tools: tools, Rounds: 1, Figures: l.list()}
	var b strings.Builder
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	squeezed := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"- other: other 2;",
		"| first | colorfast | 4.00 | 2.00 | 32 | 2.000 | 1.00 | 1.00 | 1.00 | 1.00 | | first | other | 8.00 | 3.00 | 64 | 3.000 | 0.50 | 2.00 | 1.50 | 1.50 |",
		"| nothing | other | 1.00 | 0.00 | 0 | 0.000 | 4.00 | 0.50 | - | - |",
		"| first | captured 3.00, end 1.00 |",
		"| verify newest | other | 1.00 | 1.00 | 0 | 4.00 | 0.50 | 1.00 |",
	} {
		if !strings.Contains(squeezed, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for table := range strings.SplitSeq(b.String(), "\n\n") {
		columns := 0
		for line := range strings.Lines(table) {
			n := strings.Count(line, "|")
			if columns == 0 {
				columns = n
			}
			if n != columns {
				t.Errorf("a line of another width in\n%s", table)
				break
			}
		}
	}
}
