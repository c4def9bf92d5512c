package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"colorfast"
	"colorfast/copies"

	"github.com/kopia/kopia/repo/maintenance"
)

// childDoes says what a child does in place of putting backups: "maintain", or
// "copy FROM" for copying into its vault.
const childDoes = "COLORFAST_VAULT_CHILD_DOES"

// busyChild maintains a vault, or copies into it, count times.
func busyChild(dir, does string, count int) (err error) {
	ctx := context.Background()
	v, err := Open(ctx, Options{URL: dir, Password: password})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close(ctx)) }()
	for range count {
		from, copying := strings.CutPrefix(does, "copy ")
		if !copying {
			if err := v.maintain(ctx, maintenance.ModeFull, maintenance.SafetyFull, tempAge); err != nil {
				return err
			}
			continue
		}
		other, err := Open(ctx, Options{URL: from, Password: password})
		if err != nil {
			return err
		}
		rep, err := (&copies.Copy{From: other, To: v}).Run(ctx)
		if err = errors.Join(err, other.Close(ctx)); err != nil {
			return err
		}
		if len(rep.Refused) > 0 {
			return fmt.Errorf("refused: %+v", rep.Refused)
		}
	}
	return printPeak()
}

// TestProcessesWriteCopyAndMaintain: several processes, as they would run on several
// hosts, back up into one vault, copy into it and out of it, and maintain it, all at
// the same time. Then every backup is whole, in both vaults.
func TestProcessesWriteCopyAndMaintain(t *testing.T) {
	root := t.TempDir()
	dir, other := filepath.Join(root, "vault"), filepath.Join(root, "other")
	v, o := newVault(t, dir), newVault(t, other)
	for seed := range uint64(2) {
		m, files := bigSample(seed)
		m.Source = colorfast.Source{Host: "elsewhere", Path: "/srv/chroma"}
		if err := o.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
	}
	const puts = 4
	var wg sync.WaitGroup
	start := func(dir string, n int, does string) {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", childEnv, dir, n), childDoes+"="+does)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("child that does %q: %v\n%s", does, err, out)
			}
		})
	}
	start(dir, puts, "")
	start(dir, puts, "")
	start(dir, 3, "maintain")
	start(dir, 3, "maintain")
	start(dir, 2, "copy "+other)
	start(other, 3, "copy "+dir)
	wg.Wait()
	if err := v.maintain(t.Context(), maintenance.ModeFull, maintenance.SafetyFull, tempAge); err != nil {
		t.Fatal(err)
	}
	wholeVault(t, reopen(t, Options{URL: dir}), 2*puts+2)
	// The last run of the copy may have ended before the last backup was made.
	if _, err := (&copies.Copy{From: v, To: o}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	wholeVault(t, reopen(t, Options{URL: other}), 2*puts+2)
	for _, d := range []string{dir, other} {
		if rep := verifyVault(t, d, Verification{Level: colorfast.Bytes}); rep.Outcome != colorfast.Passed || rep.Backups != 2*puts+2 {
			t.Errorf("%s: %+v", d, rep)
		}
	}
}
