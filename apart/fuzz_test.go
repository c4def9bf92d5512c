package apart

import (
	"os"
	"strings"
	"testing"
)

// FuzzMount: a line of mountinfo is the kernel's, but what is in it is made by
// whoever may mount. The seeds are the lines of this machine, and hard ones.
func FuzzMount(f *testing.F) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			f.Add(line)
		}
	}
	for _, line := range []string{
		`36 35 98:0 /a /mnt\040x rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue`,
		`1 1 0:1 / / rw - nfs4 [fe80::1]:/x rw,addr=fe80::1`, `1 1 0:1 / / rw - cifs \134\134s\134x rw`, `1 1 0:1 / / rw - ceph a:6789,b:6789:/ rw`,
		`1 1 0:1 / / rw - davfs https://u:p@h/x rw`, `1 1 0:1 / / rw -`, `1 1 0:1 / / rw - x`, `a b c d e f - x y`, `\`, `1 1 0:1 / \9 rw - a b\777 c`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := parseMount(line)
		if !ok {
			return
		}
		if host, _ := m.server(); strings.ContainsAny(host, "@/") {
			t.Errorf("host %q of %q", host, m.source)
		}
		mountOf([]mount{m}, location{path: "/x/y"})
		_ = m.shown()
	})
}

func TestServers(t *testing.T) {
	for line, want := range map[string]string{
		`1 1 0:1 / / rw - nfs4 [fe80::1]:/x rw`:              "fe80::1",
		`1 1 0:1 / / rw - nfs nas.example:/export/a:b rw`:    "nas.example",
		`1 1 0:1 / / rw - ceph 10.0.0.1:6789,10.0.0.2:/ rw`:  "10.0.0.1",
		`1 1 0:1 / / rw - cifs //nas/share rw`:               "nas",
		`1 1 0:1 / / rw - fuse.sshfs ada@far:/x rw`:          "far",
		`1 1 0:1 / / rw - davfs https://u:p@dav.example/x x`: "dav.example",
		`1 1 0:1 / / rw - fuse https://dav.example/x rw`:     "dav.example",
	} {
		m, ok := parseMount(line)
		host, away := m.server()
		if !ok || !away || host != want {
			t.Errorf("%s: %q, %v", line, host, away)
		}
	}
	for _, line := range []string{`1 1 8:1 / / rw - ext4 /dev/sda1 rw`, `1 1 8:1 / / rw - fuseblk /dev/sda1 rw`} {
		if m, _ := parseMount(line); m.kind == "" {
			t.Errorf("%s: not parsed", line)
		} else if _, away := m.server(); away {
			t.Errorf("%s: taken for a network file system", line)
		}
	}
}
