package servers

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"colorfast/internal/program"
)

const words = "kept bytes"

// kinds are the servers with what each must at least be able to do.
var kinds = map[string]func(t *testing.T) *Server{
	"versitygw":     func(t *testing.T) *Server { return useS3(t, StartS3(t, Options{})) },
	"versitygw tls": func(t *testing.T) *Server { return useS3(t, StartS3(t, Options{TLS: true})) },
	"minio":         func(t *testing.T) *Server { return useS3(t, StartMinIO(t, Options{})) },
	"minio tls":     func(t *testing.T) *Server { return useS3(t, StartMinIO(t, Options{TLS: true})) },
	"gcs": func(t *testing.T) *Server {
		s := StartGCS(t)
		s.MakeBucket(t, "bucket", Versioned)
		ask(t, nil, http.MethodPost, s.URL+"/upload/storage/v1/b/bucket/o?uploadType=media&name=a%2Fb", words)
		if got := ask(t, nil, http.MethodGet, s.URL+"/storage/v1/b/bucket/o/a%2Fb?alt=media", ""); got != words {
			t.Errorf("read %q", got)
		}
		return &s.Server
	},
	"azurite": func(t *testing.T) *Server {
		s := StartAzure(t)
		s.MakeContainer(t, "container")
		c := s.Client(t)
		if _, err := c.UploadBuffer(t.Context(), "container", "a/b", []byte(words), nil); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(words))
		if _, err := c.DownloadBuffer(t.Context(), "container", "a/b", got, nil); err != nil || string(got) != words {
			t.Errorf("read %q, %v", got, err)
		}
		return &s.Server
	},
	"sshd": func(t *testing.T) *Server {
		s := StartSFTP(t, Options{})
		useSFTP(t, s)
		return &s.Server
	},
	"webdav":     func(t *testing.T) *Server { return useWebDAV(t, StartWebDAV(t, Options{})) },
	"webdav tls": func(t *testing.T) *Server { return useWebDAV(t, StartWebDAV(t, Options{TLS: true})) },
	"toxiproxy": func(t *testing.T) *Server {
		s := StartToxiproxy(t)
		useToxiproxy(t, s)
		return &s.Server
	},
}

func TestServers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	for name, use := range kinds {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			s := use(t)
			t.Logf("started and used in %s", time.Since(began))
			work := s.p.Dir
			if _, err := os.Stat(work); err != nil {
				t.Error(err)
			}
			began = time.Now()
			s.Stop()
			t.Logf("stopped in %s", time.Since(began))
			if err := syscall.Kill(s.PID, 0); err == nil || !s.Ended() {
				t.Error("the server is still there")
			}
			if _, err := os.Stat(work); err == nil {
				t.Errorf("left %s", work)
			}
			l, err := net.Listen("tcp", s.Addr)
			if err != nil {
				t.Fatalf("its port is taken: %v", err)
			}
			_ = l.Close()
		})
	}
}

func useS3(t *testing.T, s *S3) *Server {
	t.Helper()
	ctx, c := t.Context(), s.Client(t)
	for name, kind := range map[string]Bucket{"plain": Plain, "versioned": Versioned, "lockable": Lockable} {
		s.MakeBucket(t, name, kind)
		v, err := c.GetBucketVersioning(ctx, name)
		if err != nil || v.Enabled() != (kind != Plain) {
			t.Errorf("%s: versioning %+v, %v", name, v, err)
		}
	}
	put := func(o minio.PutObjectOptions) minio.UploadInfo {
		info, err := c.PutObject(ctx, "lockable", "a/b", strings.NewReader(words), int64(len(words)), o)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	locked := put(minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: time.Now().Add(2 * time.Second), SendContentMd5: true})
	remove := minio.RemoveObjectOptions{VersionID: locked.VersionID}
	if err := c.RemoveObject(ctx, "lockable", "a/b", remove); err == nil {
		t.Error("a locked version was deleted")
	}
	o, err := c.GetObject(ctx, "lockable", "a/b", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(o); err != nil || string(got) != words {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := s.ClientOf(t, s.AccessKey, "wrong").ListBuckets(ctx); err == nil {
		t.Error("a wrong key was let in")
	}
	return &s.Server
}

func useSFTP(t *testing.T, s *SFTP) {
	t.Helper()
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(s.Addr, ":")
	said, err := program.Run(t.Context(), t.TempDir(), nil, "sh", "-c", `printf '%s\n' "put $0 $1/x" "rename $1/x $1/y" | sftp -q -b - -P "$2" -i "$3" -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$4" -o BatchMode=yes "$5@$6"`,
		local, s.Dir, port, s.KeyFile, s.KnownHostsFile, s.User, host)
	if err != nil {
		t.Fatal(said, err)
	}
	if got, err := os.ReadFile(filepath.Join(s.Dir, "y")); err != nil || string(got) != words {
		t.Errorf("stored %q, %v", got, err)
	}
	if err := exec.CommandContext(t.Context(), "ssh", "-p", port, "-i", s.KeyFile, "-o", "UserKnownHostsFile="+s.KnownHostsFile, "-o", "BatchMode=yes", s.User+"@"+host, "true").Run(); err == nil {
		t.Error("it runs commands")
	}
}

func useWebDAV(t *testing.T, s *WebDAV) *Server {
	t.Helper()
	transport, err := s.transport()
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	url := strings.Replace(s.URL, "://", "://"+s.User+":"+s.Password+"@", 1) + "/file"
	ask(t, transport, http.MethodPut, url, words)
	if got := ask(t, transport, http.MethodGet, url, ""); got != words {
		t.Errorf("read %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(s.Dir, "file")); err != nil || string(got) != words {
		t.Errorf("stored %q, %v", got, err)
	}
	return &s.Server
}

func useToxiproxy(t *testing.T, s *Faults) {
	t.Helper()
	hosts := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, words) })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = hosts.Serve(l) })
	defer func() { _ = hosts.Close(); wg.Wait() }()
	p := s.Proxy(t, l.Addr().String())
	if got := ask(t, nil, http.MethodGet, "http://"+p.Addr, ""); got != words {
		t.Errorf("read %q", got)
	}
	remove := p.Add(t, Toxic{Type: "latency", Attributes: map[string]any{"latency": 100}})
	began := time.Now()
	if ask(t, nil, http.MethodGet, "http://"+p.Addr, ""); time.Since(began) < 100*time.Millisecond {
		t.Errorf("answered in %s", time.Since(began))
	}
	remove()
	p.Enable(t, false)
	if _, err := http.Get("http://" + p.Addr); err == nil {
		t.Error("a cut way leads somewhere")
	}
}

// ask makes a request of HTTP, which must succeed, and returns the answer.
func ask(t *testing.T, transport *http.Transport, method, url, body string) string {
	t.Helper()
	c := &http.Client{}
	if transport != nil {
		c.Transport = transport
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read below
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, req.URL.Redacted(), resp.Status, b, err)
	}
	return string(b)
}

func TestPins(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Programs() {
		switch {
		case p.npm != "":
			lock := p.file("package-lock.json")
			if n := bytes.Count(lock, []byte(`"version": `)); n < 100 || n != bytes.Count(lock, []byte(`"integrity": "sha512-`)) {
				t.Errorf("%s: %d versions, not as many checksums", p.Name, n)
			}
			if bytes.Contains(lock, []byte("://")) {
				t.Errorf("%s: the lock file names a host", p.Name)
			}
		case p.debian == "" && (!strings.HasPrefix(p.sum, "h1:") || !strings.Contains(p.module, "@v")):
			t.Errorf("%s is not pinned", p.Name)
		}
		if seen[p.Word] {
			t.Errorf("%s: two programs are called %s", p.Name, p.Word)
		}
		seen[p.Word] = true
	}
}

func TestInstallRefusesAnotherModule(t *testing.T) {
	if testing.Short() {
		t.Skip("asks for a module")
	}
	if _, err := Toxiproxy.Lookup(); err != nil {
		t.Skip("its module may not be there: ", err)
	}
	t.Setenv("COLORFAST_TEST_CACHE", t.TempDir())
	p := Toxiproxy
	p.sum = VersityGW.sum
	_, err := p.Install(context.WithoutCancel(t.Context()), t.Logf)
	if err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Fatal(err)
	}
	dir, _ := p.dir()
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); len(left) != 1 { // the lock
		t.Errorf("left %v", left)
	}
}
