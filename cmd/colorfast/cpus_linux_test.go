package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOneCPU demands of a real backup that it never had more than one core:
// every thread is bound to it while it runs, and its time says so too.
func TestOneCPU(t *testing.T) {
	var had unix.CPUSet
	if err := unix.SchedGetaffinity(0, &had); err != nil || had.Count() < 2 || runtime.NumCPU() < 2 {
		t.Skipf("needs two cores, %v", err)
	}
	p, src := newProgram(t), bigSource(t, 150)
	p.run("init")
	c, out := p.command("backup", src, "--cpus", "1")
	begun := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	looks, tasks, most := 0, 0, 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			running = false
		case <-tick.C:
			if time.Since(begun) < time.Second/2 {
				continue // flags are being read
			}
			n, cores := allowed(t, c.Process.Pid)
			looks, tasks, most = looks+1, max(tasks, n), max(most, cores)
		}
	}
	wall := time.Since(begun).Seconds()
	used := (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	t.Logf("%.2f s of CPU in %.2f s; %d looks at up to %d threads", used, wall, looks, tasks)
	if used > 1.15*wall {
		t.Errorf("%.2f s of CPU in %.2f s", used, wall)
	}
	if looks == 0 || tasks < 3 || most != 1 {
		t.Errorf("%d looks at up to %d threads, one may use %d cores", looks, tasks, most)
	}
}

var listLine = regexp.MustCompile(`(?m)^Cpus_allowed_list:\s+(\S+)$`)

// allowed returns how many threads a process has, and on how many cores any of
// them may run.
func allowed(t *testing.T, pid int) (threads, cores int) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		m := listLine.FindSubmatch(b)
		if err != nil || m == nil {
			continue // it has ended
		}
		threads++
		n := 0
		for part := range strings.SplitSeq(string(m[1]), ",") {
			from, to, span := strings.Cut(part, "-")
			a, errA := strconv.Atoi(from)
			z := a
			if span {
				z, err = strconv.Atoi(to)
			}
			if errA != nil || err != nil {
				t.Fatalf("%s: %s", f, m[0])
			}
			n += z - a + 1
		}
		cores = max(cores, n)
	}
	return threads, cores
}
