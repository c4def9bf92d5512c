package vault

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"
)

const childEnv = "COLORFAST_VAULT_CHILD" // folder of a vault|how many backups to put[|folder of a source]

// TestMain lets the test binary be the other process of a test.
func TestMain(m *testing.M) {
	if dir, n, ok := strings.Cut(os.Getenv(childEnv), "|"); ok {
		n, source, _ := strings.Cut(n, "|")
		count, err := strconv.Atoi(n)
		switch {
		case err != nil:
		case os.Getenv(childDoes) != "":
			err = busyChild(dir, os.Getenv(childDoes), count)
		case source != "":
			err = peakChild(dir, source)
		default:
			err = child(dir, count)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child puts count backups, and prints the ID of each.
func child(dir string, count int) error {
	ctx := context.Background()
	v, err := Open(ctx, Options{URL: dir, Password: password, Environment: os.Getenv})
	if err != nil {
		return err
	}
	fmt.Println("open")
	for range count {
		m, files := bigSample(rand.Uint64())
		if err := v.Put(ctx, m, files, nil); err != nil {
			return err
		}
		fmt.Println(m.ID)
	}
	return v.Close(ctx)
}

const bigSize = 6 << 20

// bigSample is a source of bigSize incompressible bytes.
func bigSample(seed uint64) (*colorfast.Manifest, fstest.MapFS) {
	files := fstest.MapFS{}
	m := &colorfast.Manifest{}
	m.Consistency.FrozenAt = time.Now().UTC()
	for i := range uint64(4) {
		b := make([]byte, bigSize/4)
		randomBytes(seed+i, b)
		p := fmt.Sprintf("seg/%d", i)
		files[p] = &fstest.MapFile{Data: b}
		m.FileList = append(m.FileList, colorfast.File{Path: p, Type: colorfast.Regular, Size: int64(len(b))})
	}
	m.Summarize()
	return m, files
}

func randomBytes(seed uint64, b []byte) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(b)
}

func startChild(t *testing.T, dir string, n int, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), fmt.Sprintf("%s=%s|%d", childEnv, dir, n))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func TestSeveralProcessesWrite(t *testing.T) {
	dir := t.TempDir()
	watcher, other := newVault(t, dir), reopen(t, Options{URL: dir})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			cmd, lines := startChild(t, dir, 10)
			n := 0
			for lines.Scan() {
				n++
			}
			if err := cmd.Wait(); err != nil || n != 11 {
				t.Errorf("child: %d lines, %v", n, err)
			}
		})
	}
	for seed := range uint64(3) {
		for _, v := range []*Vault{watcher, other} {
			m, files := contract.Sample(seed)
			if err := v.Put(t.Context(), m, files, nil); err != nil {
				t.Fatal(err)
			}
			if l, err := watcher.List(t.Context()); err != nil || !lists(l, m.ID) {
				t.Fatalf("a new backup is not listed: %v", err)
			}
		}
	}
	wg.Wait()
	wholeVault(t, watcher, 26)
}

func lists(l []colorfast.Backup, id colorfast.BackupID) bool {
	for i := range l {
		if l[i].ID == id {
			return true
		}
	}
	return false
}

// wholeVault checks every byte of every backup; n < 0 means any number of them.
func wholeVault(t *testing.T, v *Vault, n int) int {
	t.Helper()
	l, err := v.List(t.Context())
	if err != nil || n >= 0 && len(l) != n {
		t.Fatalf("%d backups are listed, want %d; %v", len(l), n, err)
	}
	for i := range l {
		m, err := v.Manifest(t.Context(), l[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := v.Check(t.Context(), m, colorfast.Bytes, nil); err != nil || len(found) > 0 {
			t.Errorf("backup %d: %v, %v", i, found, err)
		}
	}
	return len(l)
}

func TestKilledPuts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	v := newVault(t, dir)
	told := map[string]bool{}
	for range 10 {
		cmd, lines := startChild(t, dir, 1000)
		if !lines.Scan() || lines.Text() != "open" {
			t.Fatal("the child did not open the vault")
		}
		kill := time.AfterFunc(time.Duration(50+rand.IntN(700))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			told[lines.Text()] = true
		}
		kill.Stop()
		_ = cmd.Wait() // it was killed
	}
	n := wholeVault(t, v, -1)
	l, err := v.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id := range told {
		if !lists(l, colorfast.BackupID(id)) {
			t.Errorf("backup %s was reported as stored, and is not listed", id)
		}
	}
	m, files := bigSample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal("next put:", err)
	}
	before := du(t, dir)
	reclaim(t, v)
	after, want := du(t, dir), int64(n+1)*bigSize
	t.Logf("%d backups are whole; %d bytes before maintenance, %d after, %d are in the backups", n+1, before, after, want)
	if after > want+want/20+500_000 {
		t.Errorf("the space of the dead was not given back: %d bytes, want about %d", after, want)
	}
	wholeVault(t, reopen(t, Options{URL: dir}), n+1)
}
