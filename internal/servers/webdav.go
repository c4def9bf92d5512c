package servers

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// WebDAV is a running "rclone serve webdav".
type WebDAV struct {
	Server
	User, Password string
}

// StartWebDAV starts rclone, ready to answer, and ends it with the test.
func StartWebDAV(tb testing.TB, o Options) *WebDAV {
	tb.Helper()
	file := Rclone.Require(tb)
	s := &WebDAV{Server: Server{Name: Rclone.Name}, User: "colorfast", Password: secret(16)}
	none := filepath.Join(tb.TempDir(), "none") // no configuration of the user's
	s.start(tb, o, func(addr string) *exec.Cmd {
		args := []string{"serve", "webdav", "--addr", addr, "--dir-cache-time", "0s", "--config", none}
		if o.TLS {
			cert, key := certificate(tb)
			s.CAFile = cert
			args = append(args, "--cert", cert, "--key", key)
		}
		cmd := exec.Command(file, append(args, s.Dir)...)
		cmd.Env = append(os.Environ(), "RCLONE_USER="+s.User, "RCLONE_PASS="+s.Password)
		return cmd
	}, s.answers("/", http.StatusUnauthorized))
	return s
}
