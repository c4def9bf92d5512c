package servers

import (
	"encoding/base64"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
)

// Azure is a running Azurite, the known emulator of Azure Blob Storage. It has
// no versions and no immutability.
type Azure struct {
	Server       // its URL ends with the account's name
	Account, Key string
}

// StartAzure starts Azurite, ready to answer, and ends it with the test. It runs
// on Node.js.
func StartAzure(tb testing.TB) *Azure {
	tb.Helper()
	script := Azurite.Require(tb)
	s := &Azure{Server: Server{Name: Azurite.Name}, Account: "colorfast" + secret(4), Key: base64.StdEncoding.EncodeToString([]byte(secret(32)))}
	s.start(tb, Options{}, func(addr string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr) // made by ourselves
		cmd := exec.Command("node", script, "--blobHost", host, "--blobPort", port, "--location", s.Dir, "--silent", "--skipApiVersionCheck", "--disableTelemetry")
		cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+s.Account+":"+s.Key)
		return cmd
	}, s.answers("/", http.StatusBadRequest))
	s.URL += "/" + s.Account
	return s
}

// Client speaks to the server as the account's owner.
func (s *Azure) Client(tb testing.TB) *azblob.Client {
	tb.Helper()
	cred, err := azblob.NewSharedKeyCredential(s.Account, s.Key)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := azblob.NewClientWithSharedKeyCredential(s.URL, cred, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// MakeContainer makes a container; its name has three characters at least.
func (s *Azure) MakeContainer(tb testing.TB, name string) {
	tb.Helper()
	if _, err := s.Client(tb).CreateContainer(tb.Context(), name, nil); err != nil {
		tb.Fatalf("make container %q: %v", name, err)
	}
}
