package vault

import (
	"net"
	"net/http"
	"sync"
	"testing"

	"colorfast/internal/servers"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

var fullSafety = maintenance.SafetyFull

func credentialsOf(u servers.User) *credentials.Credentials {
	return credentials.NewStaticV4(u.AccessKey, u.SecretKey, u.SessionToken)
}

func blobID(name string) blob.ID { return blob.ID(name) }

func allBlobs(t *testing.T, st blob.Storage) []blob.ID {
	t.Helper()
	all, err := blob.ListAllBlobs(t.Context(), st, "")
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]blob.ID, len(all))
	for i, b := range all {
		ids[i] = b.BlobID
	}
	return ids
}

// serve has a handler answer on the loopback address, until the test ends.
func serve(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return l.Addr().String()
}
