package colorfast_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"colorfast"
)

func TestKindOf(t *testing.T) {
	locked := colorfast.Errorf(colorfast.Locked, "lock %q: busy", "x")
	for _, c := range []struct {
		name string
		err  error
		want colorfast.Kind
	}{
		{"none", nil, colorfast.Internal},
		{"unmarked", errors.New("x"), colorfast.Internal},
		{"marked", locked, colorfast.Locked},
		{"wrapped", fmt.Errorf("back up: %w", locked), colorfast.Locked},
		{"joined", errors.Join(errors.New("x"), locked), colorfast.Locked},
		{"the outermost counts", colorfast.Errorf(colorfast.Usage, "use: %w", locked), colorfast.Usage},
		{"with a hint", locked.WithHint("wait"), colorfast.Locked},
	} {
		if got := colorfast.KindOf(c.err); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	e := colorfast.Errorf(colorfast.NotFound, "read %q: %w", "f", fs.ErrNotExist)
	if !errors.Is(e, fs.ErrNotExist) || e.Error() != `read "f": file does not exist` {
		t.Errorf("%v does not show its cause", e)
	}
}

func TestHintOf(t *testing.T) {
	plain := colorfast.Errorf(colorfast.Locked, "busy")
	hinted := plain.WithHint("wait for %d s", 5)
	if plain.Hint != "" || hinted.Error() != "busy" {
		t.Error("WithHint changed the error")
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("x"), ""},
		{plain, ""},
		{hinted, "wait for 5 s"},
		{fmt.Errorf("back up: %w", hinted), "wait for 5 s"},
		{colorfast.Errorf(colorfast.Usage, "use: %w", hinted), "wait for 5 s"}, // none of its own
		{colorfast.Errorf(colorfast.Usage, "use: %w", fmt.Errorf("x: %w", hinted)).WithHint("outer"), "outer"},
		{errors.Join(errors.New("x"), hinted), "wait for 5 s"},
	} {
		if got := colorfast.HintOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]colorfast.Kind{}
	for k := colorfast.Internal; k <= colorfast.Unsupported; k++ {
		if other, twice := seen[k.String()]; twice || k.String() == "" {
			t.Errorf("kinds %d and %d are both %q", other, k, k)
		}
		seen[k.String()] = k
	}
	for _, k := range []colorfast.Kind{-1, colorfast.Unsupported + 1} {
		if k.String() != "internal" {
			t.Errorf("kind %d is %q", k, k)
		}
	}
}
