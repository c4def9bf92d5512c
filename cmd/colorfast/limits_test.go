package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/chromatest"
	"colorfast/vault"
)

func TestLimitsAreRead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		args []string
		env  map[string]string
		want vault.Limits
		err  string // of the message
	}{
		{},
		{args: []string{"--limit-upload", "10MiB"}, want: vault.Limits{Upload: 10 << 20}},
		{args: []string{"--limit-download=1.5 kB", "--limit-upload=0"}, want: vault.Limits{Download: 1500}},
		{env: map[string]string{"COLORFAST_LIMIT_UPLOAD": "2M", "COLORFAST_LIMIT_DOWNLOAD": "1000"}, want: vault.Limits{Upload: 2e6, Download: 1000}},
		{args: []string{"--limit-upload=0"}, env: map[string]string{"COLORFAST_LIMIT_UPLOAD": "2M"}},
		{args: []string{"--limit-upload=fast"}, err: `read --limit-upload "fast": not a size`},
		{args: []string{"--limit-upload=-1"}, err: `read --limit-upload "-1": not a size`},
		{args: []string{"--limit-download=9EiB"}, err: `read --limit-download "9EiB": not a size`},
		{args: []string{"--limit-upload=10"}, err: `read --limit-upload "10": 10 bytes a second are too few`},
		{env: map[string]string{"COLORFAST_LIMIT_DOWNLOAD": "10MiB/s"}, err: `read COLORFAST_LIMIT_DOWNLOAD "10MiB/s": not a size`},
		{args: []string{"--cpus=1"}},
		{args: []string{"--cpus=0"}, env: map[string]string{"COLORFAST_CPUS": "none"}},
		{args: []string{"--cpus=0.5"}, err: `read --cpus "0.5": not a number of cores`},
		{args: []string{"--cpus=-1"}, err: `read --cpus "-1": not a number of cores`},
		{env: map[string]string{"COLORFAST_CPUS": "two"}, err: `read COLORFAST_CPUS "two": not a number of cores`},
	} {
		var stderr bytes.Buffer
		a := &app{stdout: io.Discard, stderr: &stderr, getenv: func(k string) string { return c.env[k] }}
		code := a.run(append([]string{"version"}, c.args...))
		if c.err != "" {
			if code != exitUsage || !strings.Contains(stderr.String(), c.err) || !strings.Contains(stderr.String(), "hint: write") {
				t.Errorf("%v %v ends with %d: %s", c.args, c.env, code, &stderr)
			}
			continue
		}
		if got, err := a.limits(); err != nil || got != c.want || code != exitDone {
			t.Errorf("%v %v: %+v, %v, ends with %d: %s", c.args, c.env, got, err, code, &stderr)
		}
	}
}

func TestCPUsAreOnlyTakenAway(t *testing.T) {
	before := runtime.GOMAXPROCS(2)
	defer runtime.GOMAXPROCS(before)
	for _, c := range []struct {
		cpus string
		want int
	}{{"", 2}, {"0", 2}, {"1000", 2}, {"1", 1}} {
		a := &app{stdout: io.Discard, stderr: os.Stderr, getenv: func(string) string { return "" }}
		if code := a.run([]string{"version", "--cpus", c.cpus}); code != exitDone || runtime.GOMAXPROCS(0) != c.want {
			t.Errorf("--cpus %q: %d cores, ends with %d", c.cpus, runtime.GOMAXPROCS(0), code)
		}
	}
}

// bigSource is a persist directory with a file of so many random MiB beside it.
func bigSource(t *testing.T, mib int) string {
	t.Helper()
	dir, _ := chromatest.Fixture(t, "1.5.9")
	f, err := os.Create(filepath.Join(dir, "big.bin"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), int64(mib)<<20)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// program runs the test binary as colorfast, with a vault of its own.
type program struct {
	t   *testing.T
	env []string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	home := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(home, "colorfast") // testscript.Main goes by the name
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return &program{t: t, env: []string{"PATH=" + home, "HOME=" + home, "TMPDIR=" + t.TempDir(), "COLORFAST_VAULT=" + filepath.Join(home, "vault"), "COLORFAST_PASSWORD=secret"}}
}

// command returns a process that is not started.
func (p *program) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	path := strings.TrimPrefix(p.env[0], "PATH=")
	c := exec.Command(filepath.Join(path, "colorfast"), args...)
	c.Env = p.env
	var out bytes.Buffer
	c.Stderr = &out
	return c, &out
}

// run runs to the end, and returns what it used.
func (p *program) run(args ...string) *syscall.Rusage {
	p.t.Helper()
	c, out := p.command(args...)
	if err := c.Run(); err != nil {
		p.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return c.ProcessState.SysUsage().(*syscall.Rusage)
}

// TestMemoryIsBounded runs everything that moves many bytes, as processes.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("writes 2 GB")
	}
	const most = 256 << 10 // KiB
	p, src := newProgram(t), bigSource(t, 400)
	p.run("init")
	for _, args := range [][]string{
		{"backup", src, "--limit-upload", "100MiB"}, {"backup", src}, {"verify", "latest", "--level", "bytes"},
		{"restore", "latest", "--to", filepath.Join(t.TempDir(), "restored")},
	} {
		peak := p.run(args...).Maxrss
		t.Logf("%s: peak %d KiB", args[0], peak)
		if peak > most {
			t.Errorf("%v: %d KiB of memory; at most %d", args, peak, most)
		}
	}
}

// TestInterruptUnderALimit demands that a signal ends a run that would take
// hours, with nothing listed.
func TestInterruptUnderALimit(t *testing.T) {
	p, src := newProgram(t), bigSource(t, 30)
	p.run("init")
	c, out := p.command("backup", src, "--limit-upload", "1kB")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*time.Second, func() { _ = c.Process.Signal(os.Interrupt) })
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = c.Process.Kill() })
	err := c.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("ended after %v: %v: %s", time.Since(begun), err, out)
	}
	a := &app{stdout: io.Discard, stderr: os.Stderr, getenv: func(k string) string {
		for _, e := range p.env {
			if v, ok := strings.CutPrefix(e, k+"="); ok {
				return v
			}
		}
		return ""
	}}
	err = a.withVault(t.Context(), func(v *vault.Vault, _ string) error {
		l, err := v.List(t.Context())
		if len(l) != 0 {
			t.Errorf("%d backups are listed", len(l))
		}
		return err
	})
	if err != nil {
		t.Error(err, colorfast.HintOf(err))
	}
}
