package capture

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernelNow tells what the stamps of source depend on. What cannot be told is
// left out, and then no two looks are alike.
func kernelNow(source string) kernel {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return kernel{}
	}
	// Two clocks cannot be read at once. On a busy machine this takes some tries.
	for range 20 {
		before := time.Now()
		// This one goes on while the machine sleeps, and nobody can set it.
		var since unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
			return kernel{}
		}
		if time.Since(before) < clockSlack/10 {
			return kernel{Boot: strings.TrimSpace(string(boot)), Born: before.UnixNano() - since.Nano(), FS: fileSystemName(source)}
		}
	}
	return kernel{}
}
