package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"colorfast/vault"
)

// moment is a flag for a time in the past; its zero value is now.
type moment struct{ time.Time }

// Set implements pflag.Value.
func (m *moment) Set(s string) error {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	if ago, err := parsePeriod(s); err == nil && ago > 0 {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	return fmt.Errorf("not a time; write it as in %q, \"2026-03-01 14:30\" or \"36h\" for so long ago", "2026-03-01T14:30:00Z")
}

// String implements pflag.Value.
func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

// Type implements pflag.Value.
func (m *moment) Type() string { return "TIME" }

// asOfFlag lets a command that only reads look at the vault as it was.
func (a *app) asOfFlag(c *cobra.Command) {
	c.Flags().Var(&a.asOf, "as-of", "read the vault as it was at this `TIME`, from the versions that its bucket keeps; such as 2026-03-01T14:30:00Z, or 36h ago as 36h")
}

// parsePeriod reads a length of time; days are 24 hours.
func parsePeriod(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.Atoi(n)
		if err != nil || days < 0 || days > 100*366 {
			return 0, fmt.Errorf("%q is no number of days", s)
		}
		return time.Duration(days) * 24 * time.Hour, nil
	}
	return time.ParseDuration(s)
}

// parseLock reads the flags for a lock.
func parseLock(period, mode string) (vault.Lock, error) {
	if period == "" {
		return vault.Lock{}, nil
	}
	d, err := parsePeriod(period)
	if err != nil || d <= 0 || d%(24*time.Hour) != 0 {
		return vault.Lock{}, fmt.Errorf("--lock %q is no number of days, such as 30d", period)
	}
	return vault.Lock{Mode: vault.LockMode(mode), Period: d}, nil
}

// locked is a vault's lock, as --json shows it.
type locked struct {
	Mode vault.LockMode `json:"mode"`
	Days int            `json:"days"`
}

func lockedOf(l vault.Lock) *locked {
	if l.IsZero() {
		return nil
	}
	return &locked{Mode: l.Mode, Days: int(l.Period / (24 * time.Hour))}
}
