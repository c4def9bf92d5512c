package servers

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"colorfast/internal/program"
)

// SFTP is a running sshd of OpenSSH's that lets one user in, with a key, and
// gives them SFTP alone. They see the whole file system; Dir is for their files.
type SFTP struct {
	Server // its URL begins with sftp
	User   string
	// KeyFile has the user's private key, KnownHostsFile the server's public one.
	KeyFile, KnownHostsFile string
}

// StartSFTP starts sshd, ready to answer, and ends it with the test.
func StartSFTP(tb testing.TB, o Options) *SFTP {
	tb.Helper()
	file := SSHD.Require(tb)
	me, err := user.Current()
	if err != nil {
		tb.Fatal(err)
	}
	if me.Uid == "0" { // where it separates its privileges; the package makes it at boot
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	dir := tb.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, key := range []string{"host", "user"} {
		if _, err := program.Run(tb.Context(), dir, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "colorfast test", "-f", at(key)); err != nil {
			tb.Fatal(err)
		}
	}
	s := &SFTP{Server: Server{Name: SSHD.Name}, User: me.Username, KeyFile: at("user"), KnownHostsFile: at("known_hosts")}
	s.start(tb, o, func(addr string) *exec.Cmd {
		host, port, _ := strings.Cut(addr, ":")
		public, err := os.ReadFile(at("host.pub"))
		if err != nil {
			tb.Fatal(err)
		}
		config := fmt.Sprintf(`ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
ForceCommand internal-sftp
AllowTcpForwarding no
MaxStartups 100
`, addr, at("host"), at("user.pub"))
		for name, text := range map[string]string{"config": config, "known_hosts": fmt.Sprintf("[%s]:%s %s", host, port, public)} {
			if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
				tb.Fatal(err)
			}
		}
		return exec.Command(file, "-D", "-e", "-f", at("config"))
	}, s.listens)
	s.URL = "sftp://" + s.Addr
	return s
}
