package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"colorfast"
	"colorfast/vault"
)

// softMemory is what Go's garbage collector keeps the heap below, as long as
// less than that is in use: beyond it collects more often instead of letting the
// heap grow to twice what is in use. What Go does not count (mapped indexes of
// the vault, SQLite's memory) comes on top.
const softMemory = 160 << 20

// boundMemory sets the garbage collector's limit, unless the user did by Go's
// own variable.
func (a *app) boundMemory() {
	if a.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
}

// limitFlags are the flags of limits as they were given, "" if they were not.
type limitFlags struct{ upload, download, cpus string }

func (f *limitFlags) register(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&f.upload, "limit-upload", "", "`bytes` a second that may go to the vault, such as 10MiB (default $COLORFAST_LIMIT_UPLOAD, else no limit)")
	flags.StringVar(&f.download, "limit-download", "", "`bytes` a second that may come from the vault (default $COLORFAST_LIMIT_DOWNLOAD, else no limit)")
	flags.StringVar(&f.cpus, "cpus", "", "`number` of cores to compute on (default $COLORFAST_CPUS, else all)")
}

// setting returns what a flag says, else the environment, and which of them.
func (a *app) setting(flag, value, variable string) (from, got string) {
	if value != "" {
		return "--" + flag, value
	}
	return variable, a.getenv(variable)
}

// applyLimits reads all limits, so that a mistake ends every command alike, and
// applies that of cores to the process.
func (a *app) applyLimits() error {
	if _, err := a.limits(); err != nil {
		return err
	}
	from, text := a.setting("cpus", a.limitFlags.cpus, "COLORFAST_CPUS")
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return colorfast.Errorf(colorfast.Usage, "read %s %q: not a number of cores", from, text).
			WithHint("write a whole number; 0 means all")
	}
	if n > 0 { // never more than the system gives
		runtime.GOMAXPROCS(min(n, runtime.GOMAXPROCS(0)))
		if a.confine == nil {
			return nil // in a test: the process is not ours alone
		}
		if err := a.confine(n); err != nil {
			a.log().Warn("cores not bound: copying inside the kernel may use more", "err", err)
		}
	}
	return nil
}

// limits returns the limits of bandwidth.
func (a *app) limits() (vault.Limits, error) {
	up, err := a.rate("limit-upload", a.limitFlags.upload, "COLORFAST_LIMIT_UPLOAD")
	if err != nil {
		return vault.Limits{}, err
	}
	down, err := a.rate("limit-download", a.limitFlags.download, "COLORFAST_LIMIT_DOWNLOAD")
	return vault.Limits{Upload: up, Download: down}, err
}

// slowest is the lowest limit in bytes a second. Below it somebody forgot the
// unit.
const slowest = 1000

// rate reads a limit in bytes a second; 0 is none.
func (a *app) rate(flag, value, variable string) (int64, error) {
	from, text := a.setting(flag, value, variable)
	if text == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(text)
	switch {
	case err != nil || n > math.MaxInt64:
		err = colorfast.Errorf(colorfast.Usage, "read %s %q: not a size", from, text).
			WithHint("write bytes a second, such as 10MiB or 500kB; 0 means no limit")
	case n > 0 && n < slowest:
		err = colorfast.Errorf(colorfast.Usage, "read %s %q: %d bytes a second are too few to work with", from, text, n).
			WithHint("write the unit too, as in 10MiB; 0 means no limit")
	}
	if err != nil {
		return 0, err
	}
	return int64(n), nil
}
