package apart

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"
)

// clouded is a machine whose firmware says in which cloud it is.
func clouded(t *testing.T, file, text, service string) (site Site, doubts string) {
	t.Helper()
	m := newMachine()
	m.disk("sda", 0)
	m.mount("8:1", "/", "ext4", "/dev/sda1", "")
	if file != "" {
		m.file("sys/class/dmi/id/"+file, text+"\n")
	}
	p := m.prober()
	p.Metadata, p.Patience = service, 300*time.Millisecond
	got := p.Places(t.Context(), "/srv", "s3://bucket?region=eu-west-1")[0]
	doubts = got.Site.Doubt
	got.Site.Doubt = ""
	return got.Site, doubts
}

// service answers as the metadata services document it, and refuses whoever asks
// otherwise.
func service(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	give := func(pattern, header, value, answer string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(header) != value {
				http.Error(w, "refused", http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte(answer))
		})
	}
	give("PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60", "a-token")
	for name, answer := range map[string]string{"region": "eu-west-1", "availability-zone": "eu-west-1a", "availability-zone-id": "euw1-az3"} {
		give("GET /latest/meta-data/placement/"+name, "X-aws-ec2-metadata-token", "a-token", answer)
	}
	give("GET /computeMetadata/v1/instance/zone", "Metadata-Flavor", "Google", "projects/1234/zones/us-central1-a\n")
	give("GET /metadata/instance/compute", "Metadata", "true", `{"location":"westeurope","zone":"2","name":"x"}`)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

const azureTag = "7783-7084-3265-9085-8269-3286-77"

func TestClouds(t *testing.T) {
	s := service(t)
	for name, c := range map[string]struct {
		file, text string
		want       Site
		doubt      string
	}{
		"aws":          {"sys_vendor", "Amazon EC2", Site{Provider: "aws", Region: "eu-west-1", Zone: "eu-west-1a", ZoneID: "euw1-az3"}, ""},
		"aws on Xen":   {"bios_version", "4.11.amazon", Site{Provider: "aws", Region: "eu-west-1", Zone: "eu-west-1a", ZoneID: "euw1-az3"}, ""},
		"gcp":          {"product_name", "Google Compute Engine", Site{Provider: "gcp", Region: "us-central1", Zone: "us-central1-a"}, ""},
		"azure":        {"chassis_asset_tag", azureTag, Site{Provider: "azure", Region: "westeurope", Zone: "westeurope-2"}, ""},
		"hetzner":      {"sys_vendor", "Hetzner", Site{Provider: "hetzner"}, "in which region of hetzner"},
		"a real one":   {"sys_vendor", "Dell Inc.", Site{Provider: None}, ""},
		"a virtual":    {"sys_vendor", "QEMU", Site{}, "whether this host is in a cloud"},
		"no firmware":  {"", "", Site{}, "whether this host is in a cloud"},
		"Hyper-V here": {"sys_vendor", "Microsoft Corporation", Site{}, "whether this host is in a cloud"},
	} {
		site, doubts := clouded(t, c.file, c.text, s.URL)
		if site != c.want || !strings.Contains(doubts, c.doubt) || c.doubt == "" && doubts != "" {
			t.Errorf("%s: %+v, %q; want %+v, %q", name, site, doubts, c.want, c.doubt)
		}
	}
}

// TestMetadataAnswersBadly: whatever the service does, it costs a moment and is
// said.
func TestMetadataAnswersBadly(t *testing.T) {
	release := make(chan struct{})
	for name, handler := range map[string]http.HandlerFunc{
		"nothing": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"nonsense": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{")) },
		"without end": func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 20 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		},
	} {
		s := httptest.NewServer(handler)
		for _, vendor := range [][2]string{{"product_name", "Google Compute Engine"}, {"chassis_asset_tag", azureTag}} {
			began := time.Now()
			site, doubts := clouded(t, vendor[0], vendor[1], s.URL)
			if site.Region != "" || !strings.Contains(doubts, "its metadata service does not say") {
				t.Errorf("%s: %+v, %q", name, site, doubts)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
		}
		s.CloseClientConnections()
		s.Close()
	}
	close(release)
}

// TestMetadataIsAskedOnlyInItsCloud: elsewhere, and where everything is on this
// host, nobody is asked.
func TestMetadataIsAskedOnlyInItsCloud(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	for _, vendor := range []string{"", "QEMU", "Dell Inc.", "Hetzner"} {
		clouded(t, "sys_vendor", vendor, s.URL)
	}
	m := newMachine()
	m.disk("sda", 0)
	m.mount("8:1", "/", "ext4", "/dev/sda1", "")
	m.file("sys/class/dmi/id/sys_vendor", "Amazon EC2")
	p := m.prober()
	p.Metadata = s.URL
	p.Places(t.Context(), "/srv", "/vault", "sftp://localhost/x")
	if n := asked.Load(); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestProviderOfNothing(t *testing.T) {
	if got := provider(fstest.MapFS{}); got != "" {
		t.Errorf("%q", got)
	}
}
