package storage

import "slices"

// What tools are measured at.
const (
	backupAction  = "backup"
	restoreNewest = "restore newest"
	restoreFirst  = "restore first"
	verifyAction  = "verify newest"
)

// Figure is what one action has cost one tool.
type Figure struct {
	Action   string `json:"action"`
	Step     string `json:"step,omitempty"` // of a backup
	Tool     string `json:"tool"`
	Original int64  `json:"original_bytes"` // that it was about
	Median   Cost   `json:"median"`         // of each field by itself
	Rounds   []Cost `json:"rounds"`
}

// Speed is in original bytes a second.
func (f *Figure) Speed() float64 { return float64(f.Original) / f.Median.Seconds }

type entry struct {
	action, step string
	tool         int
}

// ledger collects costs, in the order of actions, steps and tools.
type ledger struct {
	tools   []Tool
	order   []entry // without tools
	figures map[entry]*Figure
}

func newLedger(tools []Tool) *ledger { return &ledger{tools: tools, figures: map[entry]*Figure{}} }

func (l *ledger) add(tool int, action, step string, original int64, c Cost) {
	if row := (entry{action: action, step: step}); !slices.Contains(l.order, row) {
		l.order = append(l.order, row)
	}
	key := entry{action, step, tool}
	if l.figures[key] == nil {
		l.figures[key] = &Figure{Action: action, Step: step, Tool: l.tools[tool].Name, Original: original}
	}
	l.figures[key].Rounds = append(l.figures[key].Rounds, c)
}

// list returns the figures with their medians; tools are in their order.
func (l *ledger) list() []Figure {
	var out []Figure
	for _, row := range l.order {
		for i := range l.tools {
			if f := l.figures[entry{row.action, row.step, i}]; f != nil {
				f.Median = medianCost(f.Rounds)
				out = append(out, *f)
			}
		}
	}
	return out
}

// medianCost returns the medians of each field, and of stages where all rounds
// have the same.
func medianCost(costs []Cost) Cost {
	of := func(field func(Cost) float64) float64 {
		v := make([]float64, len(costs))
		for i, c := range costs {
			v[i] = field(c)
		}
		return median(v)
	}
	m := Cost{
		Seconds:    of(func(c Cost) float64 { return c.Seconds }),
		CPUSeconds: of(func(c Cost) float64 { return c.CPUSeconds }),
		PeakRSS:    int64(of(func(c Cost) float64 { return float64(c.PeakRSS) })),
		Added:      int64(of(func(c Cost) float64 { return float64(c.Added) })),
	}
	for i, st := range costs[0].Stages {
		if slices.ContainsFunc(costs, func(c Cost) bool { return i >= len(c.Stages) || c.Stages[i].Until != st.Until }) {
			m.Stages = nil
			break
		}
		st.Seconds = of(func(c Cost) float64 { return c.Stages[i].Seconds })
		m.Stages = append(m.Stages, st)
	}
	return m
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
