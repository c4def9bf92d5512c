package servers

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// GCS is a running fake-gcs-server, the known emulator of Google Cloud Storage.
// It asks for no credentials, and accepts retention without holding to it.
type GCS struct{ Server }

// StartGCS starts fake-gcs-server, ready to answer, and ends it with the test.
// Its buckets are in memory: only there it keeps versions.
func StartGCS(tb testing.TB) *GCS {
	tb.Helper()
	file := FakeGCS.Require(tb)
	s := &GCS{Server{Name: FakeGCS.Name}}
	s.start(tb, Options{}, func(addr string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr) // made by ourselves
		return exec.Command(file, "-scheme", "http", "-host", host, "-port", port, "-public-host", addr, "-backend", "memory", "-log-level", "warn")
	}, s.answers("/storage/v1/b?project=colorfast", http.StatusOK))
	return s
}

// MakeBucket makes a bucket; Lockable is no kind that it has.
func (s *GCS) MakeBucket(tb testing.TB, name string, kind Bucket) {
	tb.Helper()
	b, err := json.Marshal(map[string]any{"name": name, "versioning": map[string]bool{"enabled": kind == Versioned}})
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := http.Post(s.URL+"/storage/v1/b?project=colorfast", "application/json", strings.NewReader(string(b)))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read below
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || kind == Lockable {
		tb.Fatalf("make bucket %q: %s %s %v", name, resp.Status, said, err)
	}
}
