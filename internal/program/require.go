package program

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Missing skips the test and says why; where the environment's
// COLORFAST_REQUIRE, a list with commas, has the word, as in CI, it fails
// instead.
func Missing(tb testing.TB, word, why string) {
	tb.Helper()
	words := strings.FieldsFunc(os.Getenv("COLORFAST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(words, word) {
		tb.Fatal(why)
	}
	tb.Skip(why)
}
