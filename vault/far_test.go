package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"
)

// storage is a real storage that vaults can be made on.
type storage struct {
	name string
	// start starts its server and returns how to name places there.
	start func(t *testing.T) *remote
}

// remote is a running storage. Its places are empty.
type remote struct {
	addr  string                             // of the server
	url   func(addr, place string) string    // of a place, by way of an address
	env   map[string]string                  // with which it lets us in
	place func(t *testing.T) (name string)   // makes a new one
	dir   func(place string) (string, error) // where its blobs lie as files, if they do
	kill  func()                             // the server
	s3    *servers.S3                        // nil where nothing can be locked
}

var hasty = patience{tries: 8, early: 8, first: 20 * time.Millisecond, most: 200 * time.Millisecond, total: 20 * time.Second, stall: 2 * time.Second}

// options name a place on the storage.
func (r *remote) options(place string) Options { return r.through(r.addr, place) }

// through is options by way of another address.
func (r *remote) through(addr, place string) Options {
	return Options{URL: r.url(addr, place), Password: password, patience: hasty, Environment: func(name string) string { return r.env[name] }}
}

// storages are all that there are, but for a folder of this host.
func storages() []storage {
	return []storage{
		{"s3", func(t *testing.T) *remote { return s3Remote(t, servers.StartS3(t, servers.Options{})) }},
		{"s3 tls", func(t *testing.T) *remote { return s3Remote(t, servers.StartS3(t, servers.Options{TLS: true})) }},
		{"minio", func(t *testing.T) *remote { return s3Remote(t, servers.StartMinIO(t, servers.Options{})) }},
		{"gs", gcsRemote},
		{"azblob", azureRemote},
		{"sftp", sftpRemote},
		{"webdav", davRemote},
	}
}

func counted(prefix string) func() string {
	n := 0
	return func() string {
		n++
		return fmt.Sprintf("%s%03d", prefix, n)
	}
}

func s3Remote(t *testing.T, s *servers.S3) *remote {
	t.Helper()
	next := counted("colorfast-")
	scheme := "http"
	if s.CAFile != "" {
		scheme = "https"
	}
	return &remote{
		addr: s.Addr, kill: s.Kill, s3: s,
		url: func(addr, place string) string {
			u := "s3://" + place + "/a/vault?endpoint=" + scheme + "://" + addr + "&region=" + s.Region
			if s.CAFile != "" {
				u += "&ca_file=" + s.CAFile
			}
			return u
		},
		env: map[string]string{"AWS_ACCESS_KEY_ID": s.AccessKey, "AWS_SECRET_ACCESS_KEY": s.SecretKey},
		place: func(t *testing.T) string {
			name := next()
			s.MakeBucket(t, name, servers.Plain)
			return name
		},
	}
}

func gcsRemote(t *testing.T) *remote {
	t.Helper()
	s := servers.StartGCS(t)
	next := counted("colorfast-")
	return &remote{
		addr: s.Addr, kill: s.Kill,
		url: func(addr, place string) string { return "gs://" + place + "/a/vault?endpoint=http://" + addr },
		env: map[string]string{"STORAGE_EMULATOR_HOST": s.Addr},
		place: func(t *testing.T) string {
			name := next()
			s.MakeBucket(t, name, servers.Plain)
			return name
		},
	}
}

func azureRemote(t *testing.T) *remote {
	t.Helper()
	s := servers.StartAzure(t)
	next := counted("colorfast-")
	return &remote{
		addr: s.Addr, kill: s.Kill,
		url: func(addr, place string) string {
			return "azblob://" + place + "/a/vault?account=" + s.Account + "&endpoint=http://" + addr + "/" + s.Account
		},
		env: map[string]string{"AZURE_STORAGE_KEY": s.Key},
		place: func(t *testing.T) string {
			name := next()
			s.MakeContainer(t, name)
			return name
		},
	}
}

func sftpRemote(t *testing.T) *remote {
	t.Helper()
	s := servers.StartSFTP(t, servers.Options{})
	next := counted("")
	public, err := os.ReadFile(s.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(public), " ")
	return &remote{
		addr: s.Addr, kill: s.Kill,
		url: func(addr, place string) string {
			hosts := filepath.Join(t.TempDir(), "known_hosts") // by whichever way one comes
			host, port, _ := strings.Cut(addr, ":")
			if err := os.WriteFile(hosts, []byte(fmt.Sprintf("[%s]:%s %s", host, port, key)), 0o600); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("sftp://%s@%s%s/new/vault?key_file=%s&known_hosts=%s", s.User, addr, filepath.Join(s.Dir, place), s.KeyFile, hosts)
		},
		env:   map[string]string{},
		place: func(*testing.T) string { return next() },
		dir:   func(place string) (string, error) { return filepath.Join(s.Dir, place, "new/vault"), nil },
	}
}

func davRemote(t *testing.T) *remote {
	t.Helper()
	s := servers.StartWebDAV(t, servers.Options{})
	next := counted("")
	return &remote{
		addr: s.Addr, kill: s.Kill,
		url: func(addr, place string) string {
			return fmt.Sprintf("webdav://%s@%s/%s/new/vault", s.User, addr, place)
		},
		env:   map[string]string{"COLORFAST_WEBDAV_PASSWORD": s.Password},
		place: func(*testing.T) string { return next() },
		dir:   func(place string) (string, error) { return filepath.Join(s.Dir, place, "new/vault"), nil },
	}
}

// made makes a vault on a new place and opens it.
func (r *remote) made(t *testing.T) (*Vault, Options) {
	t.Helper()
	o := r.options(r.place(t))
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return reopen(t, o), o
}

// TestContractFar runs the one suite for all storages on each real one.
func TestContractFar(t *testing.T) {
	for _, s := range storages() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // most of it waits for answers
			r := s.start(t)
			contract.Vault(t, func(t *testing.T) colorfast.Vault {
				v, _ := r.made(t)
				return v
			})
		})
	}
}
