package vault

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

// immutable stands before Azurite, which knows no policies, and holds to them as
// Azure's documents say: a blob with one cannot be deleted; overwritten, it becomes
// an old version. Azure itself is nowhere where the tests run.
type immutable struct {
	to *httputil.ReverseProxy

	mu    sync.Mutex
	locks map[string]retention // of the current versions, by path
	old   []string             // paths of locked versions that were overwritten
}

const azureUntil, azureMode = "X-Ms-Immutability-Policy-Until-Date", "X-Ms-Immutability-Policy-Mode"

func (f *immutable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path, q := r.URL.Path, r.URL.Query()
	was := f.locks[path]
	until, err := http.ParseTime(r.Header.Get(azureUntil))
	asked := retention{LockMode(r.Header.Get(azureMode)), until}
	holds := time.Now().Before(was.until)
	deny := func(status int, code string) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Ms-Error-Code", code)
		w.WriteHeader(status)
	}
	switch {
	case q.Get("comp") == "immutabilityPolicies" && r.Method == http.MethodDelete:
		if was.mode == "Locked" {
			deny(http.StatusConflict, "BlobImmutableDueToPolicy")
			return
		}
		delete(f.locks, path)
		w.WriteHeader(http.StatusOK)
		return
	case q.Get("comp") == "immutabilityPolicies":
		if err != nil || was.mode == "Locked" && (until.Before(was.until) || asked.mode != "Locked") {
			deny(http.StatusConflict, "ImmutabilityPolicyCannotBeShortened")
			return
		}
		f.locks[path] = asked
		w.WriteHeader(http.StatusOK)
		return
	case r.Method == http.MethodDelete && holds:
		deny(http.StatusConflict, "BlobImmutableDueToPolicy")
		return
	case r.Method == http.MethodDelete:
		delete(f.locks, path)
	case r.Method == http.MethodPut && q.Get("restype") == "":
		if r.Header.Get("If-None-Match") == "" {
			if holds {
				f.old = append(f.old, path)
			}
			delete(f.locks, path)
		}
		if err == nil {
			f.locks[path] = asked
		}
		r.Header.Del(azureUntil)
		r.Header.Del(azureMode)
	case q.Get("restype") == "container":
		w.Header().Set("X-Ms-Immutable-Storage-With-Versioning-Enabled", "true")
	case r.Method == http.MethodHead && was.mode != "":
		w.Header().Set(azureUntil, was.until.UTC().Format(http.TimeFormat))
		w.Header().Set(azureMode, string(was.mode))
	}
	f.to.ServeHTTP(w, r)
}

func TestAzureLocks(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real server")
	}
	s := servers.StartAzure(t)
	s.MakeContainer(t, "locked")
	// Signed with the URL, so that the proxy may change headers.
	signed, err := s.Client(t).ServiceClient().GetSASURL(sas.AccountResourceTypes{Service: true, Container: true, Object: true},
		sas.AccountPermissions{Read: true, Add: true, Create: true, Write: true, Delete: true, List: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, signature, _ := strings.Cut(signed, "?")
	direct := Options{
		URL: "azblob://locked/a/vault?account=" + s.Account + "&endpoint=http://" + s.Addr + "/" + s.Account, Password: password, patience: hasty,
		Environment: func(name string) string { return map[string]string{"AZURE_STORAGE_SAS_TOKEN": signature}[name] },
		Lock:        Lock{Compliance, minLock},
	}
	wantKind(t, Create(t.Context(), direct), colorfast.Unsupported, "version-level immutability")

	to, err := url.Parse("http://" + s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &immutable{to: httputil.NewSingleHostReverseProxy(to), locks: map[string]retention{}}
	o := direct
	o.URL = strings.Replace(o.URL, s.Addr, serve(t, f), 1)
	v := made(t, o)
	m, files := contract.Sample(1)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	raw, err := o.openStorage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close(t.Context()) }()
	before := untils(t, raw)
	nextSecond()
	if err := v.maintain(t.Context(), "full", fullSafety, tempAge); err != nil {
		t.Fatal(err)
	}
	extended(t, before, untils(t, raw))
	if x := examined(t, o); outcome(x, "lock") != colorfast.Passed {
		t.Errorf("%+v", x)
	}
	nothingLost(t, reopen(t, o), []kept{{m, files}})

	// What is deleted under a lock stays as an old version.
	f.mu.Lock()
	f.old = nil
	f.mu.Unlock()
	if err := raw.DeleteBlob(t.Context(), formatCopyBlob); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.GetMetadata(t.Context(), formatCopyBlob); err == nil {
		t.Error("what was deleted is still there")
	}
	if want := fmt.Sprintf("/%s/locked/a/vault/%s", s.Account, formatCopyBlob); len(f.old) != 1 || f.old[0] != want {
		t.Errorf("old versions: %v", f.old)
	}
}
