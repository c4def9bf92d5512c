package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Cost is what one run of a program has cost.
type Cost struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`           // user and system, of all its processes
	PeakRSS    int64   `json:"peak_rss_bytes"`        // of the largest of its processes
	Added      int64   `json:"added_bytes,omitempty"` // to the repository; of backups only
	Stages     []Stage `json:"stages,omitempty"`      // as far as the program tells; of backups only
}

// Stage is a part of a run.
type Stage struct {
	Until   string  `json:"until"` // what the program said at its end
	Seconds float64 `json:"seconds"`
}

// command is a program to run.
type command struct {
	args []string
	env  []string // beside that of this process
}

// Meter runs a program and writes its Cost to the file. The benchmark calls
// itself for this: the kernel counts to a program's peak what the process that
// started it had, so that one should be small and do nothing else.
func Meter(file string, args []string) error {
	runtime.LockOSThread() // the kernel takes the end of the starting thread for that of the parent
	defer runtime.UnlockOSThread()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := time.Now()
	err := cmd.Run()
	c := Cost{Seconds: time.Since(begun).Seconds()}
	if err != nil {
		return err
	}
	c.CPUSeconds = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the system does not tell what a process has used")
	}
	c.PeakRSS = usage.Maxrss << 10 // KiB on Linux
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// metered runs the command through Meter and returns what it wrote.
func (s *Suite) metered(ctx context.Context, c command) (cost Cost, stdout, stderr []byte, err error) {
	self, err := os.Executable()
	if err != nil {
		return cost, nil, nil, err
	}
	file := filepath.Join(s.Work, "cost")
	if stdout, stderr, err = output(ctx, command{append([]string{self, "-meter", file}, c.args...), c.env}); err != nil {
		return cost, nil, nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return cost, nil, nil, err
	}
	return cost, stdout, stderr, errors.Join(json.Unmarshal(b, &cost), os.Remove(file))
}

// output runs the command; if that fails, the error has what it said.
func output(ctx context.Context, c command) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("run %q: %w; it said:\n%s%s", c.args, err, end(out.Bytes()), end(said.Bytes()))
	}
	return out.Bytes(), said.Bytes(), nil
}

func end(b []byte) []byte { return b[max(0, len(b)-2000):] }
