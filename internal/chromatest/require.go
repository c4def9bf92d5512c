package chromatest

import (
	"errors"
	"testing"

	"colorfast/internal/program"
)

// makeTarget installs what Require asks for.
const makeTarget = "make chroma"

// Require skips the test unless this version of Chroma is installed, and says
// how to install it. Where the environment's COLORFAST_REQUIRE has the word
// chroma, as in CI, it fails instead.
func Require(tb testing.TB, version string) *Installation {
	tb.Helper()
	in, err := Lookup(version)
	switch {
	case errors.Is(err, ErrNotInstalled):
		missing(tb, "chroma "+version+" is not installed: run \""+makeTarget+"\"")
	case err != nil:
		tb.Fatal(err)
	}
	return in
}

// RequireEmbedded is Require for tests that use Embed, which only a Chroma from
// Python's package index can do.
func RequireEmbedded(tb testing.TB, version string) *Installation {
	tb.Helper()
	in := Require(tb, version)
	if in.Source != PyPI {
		missing(tb, "chroma "+version+" is from "+string(in.Source)+", which has no embedded client: run \""+makeTarget+"\" where pip reaches an index")
	}
	return in
}

func missing(tb testing.TB, why string) {
	tb.Helper()
	program.Missing(tb, "chroma", why)
}
