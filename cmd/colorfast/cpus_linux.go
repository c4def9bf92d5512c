package main

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// confine binds the process to n of the cores that it may use, if these are
// more. runtime.GOMAXPROCS alone is not enough: it counts threads that run Go,
// and a thread that copies a file's bytes inside the kernel is none (measured:
// 1.4 to 1.5 runnable threads on average in a backup under GOMAXPROCS=1).
func confine(n int) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return err
	}
	// The last ones: interrupts prefer the first.
	for cpu := 0; set.Count() > n; cpu++ {
		set.Clear(cpu)
	}
	// A thread inherits from the one that makes it: when a look finds no new
	// one, all are bound and all to come will be.
	bound := map[int]bool{}
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		before := len(bound)
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil || bound[id] {
				continue
			}
			if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			bound[id] = true
		}
		if len(bound) == before {
			return nil
		}
	}
}
