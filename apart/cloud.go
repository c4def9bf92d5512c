package apart

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// metadataURL is where AWS, Google Cloud and Azure document their metadata service.
const metadataURL = "http://169.254.169.254"

// exists reports whether there is such a file.
func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}

func readAll(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// vendors tells the provider by what the firmware says of itself (DMI).
var vendors = []struct{ file, has, provider string }{
	{"sys_vendor", "Amazon EC2", "aws"},
	{"board_vendor", "Amazon EC2", "aws"},
	{"bios_version", "amazon", "aws"}, // Xen instances
	{"product_name", "Google Compute Engine", "gcp"},
	{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"}, // Azure's mark; other virtual machines of Microsoft lack it
	{"sys_vendor", "DigitalOcean", "digitalocean"},
	{"sys_vendor", "Hetzner", "hetzner"},
	{"sys_vendor", "Scaleway", "scaleway"},
	{"sys_vendor", "Alibaba Cloud", "alibaba"},
	{"chassis_asset_tag", "OracleCloud.com", "oracle"},
	{"sys_vendor", "Vultr", "vultr"},
	{"sys_vendor", "Linode", "linode"},
	{"sys_vendor", "Akamai", "linode"},
	{"product_name", "OpenStack", "openstack"},
	{"sys_vendor", "OpenStack", "openstack"},
	{"sys_vendor", "UpCloud", "upcloud"},
	{"sys_vendor", "Exoscale", "exoscale"},
}

// virtualVendors make machines that stand anywhere, also in clouds that put no name
// of their own into the DMI.
var virtualVendors = []string{"QEMU", "Xen", "Red Hat", "VMware", "innotek", "Microsoft", "Bochs", "Parallels", "KVM", "oVirt", "Nutanix"}

// provider tells in which cloud this host is: None if the firmware names a maker of
// hardware, "" if that says nothing.
func provider(root fs.FS) string {
	dmi := func(file string) string { return firstLine(root, "sys/class/dmi/id/"+file) }
	for _, v := range vendors {
		if strings.Contains(dmi(v.file), v.has) {
			return v.provider
		}
	}
	vendor := dmi("sys_vendor")
	if vendor == "" {
		return ""
	}
	for _, v := range virtualVendors {
		if strings.Contains(vendor, v) || strings.Contains(dmi("product_name"), v) {
			return ""
		}
	}
	return None
}

// site tells where this host stands.
func (p *Prober) site(ctx context.Context) Site {
	s := Site{Provider: provider(p.root)}
	switch s.Provider {
	case "aws", "gcp", "azure":
	case None:
		return s
	case "":
		s.Doubt = "whether this host is in a cloud, and where it stands"
		return s
	default:
		s.Doubt = "in which region of " + s.Provider + " this host is"
		return s
	}
	if p.Offline {
		s.Doubt = "in which zone of " + s.Provider + " this host is: it was not asked"
		return s
	}
	m := metadata{base: p.Metadata, client: &http.Client{
		Timeout:       p.Patience,
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true}, // it is never behind a proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if m.base == "" {
		m.base = metadataURL
	}
	ctx, cancel := context.WithTimeout(ctx, 2*p.Patience+time.Millisecond)
	defer cancel()
	err := map[string]func(context.Context, *Site) error{"aws": m.aws, "gcp": m.gcp, "azure": m.azure}[s.Provider](ctx, &s)
	if err != nil {
		return Site{Provider: s.Provider, Doubt: fmt.Sprintf("in which zone of %s this host is: its metadata service does not say", s.Provider)}
	}
	return s
}

// metadata asks the metadata service of a cloud.
type metadata struct {
	base   string
	client *http.Client
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 10

func (m *metadata) ask(ctx context.Context, method, path, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.base+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(header, value)
	resp, err := m.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", path, resp.Status)
	}
	return strings.TrimSpace(string(b)), nil
}

// aws asks as version 2 of the service demands: with a token.
func (m *metadata) aws(ctx context.Context, s *Site) error {
	token, err := m.ask(ctx, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil {
		return err
	}
	for path, to := range map[string]*string{"region": &s.Region, "availability-zone": &s.Zone, "availability-zone-id": &s.ZoneID} {
		if *to, err = m.ask(ctx, http.MethodGet, "/latest/meta-data/placement/"+path, "X-aws-ec2-metadata-token", token); err != nil {
			return err
		}
	}
	return nil
}

// gcp gets "projects/NUMBER/zones/us-central1-a".
func (m *metadata) gcp(ctx context.Context, s *Site) error {
	zone, err := m.ask(ctx, http.MethodGet, "/computeMetadata/v1/instance/zone", "Metadata-Flavor", "Google")
	if err != nil {
		return err
	}
	s.Zone = path.Base(zone)
	dash := strings.LastIndex(s.Zone, "-")
	if dash < 0 {
		return fmt.Errorf("no zone: %q", zone)
	}
	s.Region = s.Zone[:dash]
	return nil
}

// azure gets JSON; the zone is empty where the machine was put into none.
func (m *metadata) azure(ctx context.Context, s *Site) error {
	text, err := m.ask(ctx, http.MethodGet, "/metadata/instance/compute?api-version=2021-02-01", "Metadata", "true")
	if err != nil {
		return err
	}
	var compute struct {
		Location string `json:"location"`
		Zone     string `json:"zone"`
	}
	if err := json.Unmarshal([]byte(text), &compute); err != nil {
		return err
	}
	if compute.Location == "" {
		return fmt.Errorf("no location")
	}
	s.Region = compute.Location
	if compute.Zone != "" {
		s.Zone = compute.Location + "-" + compute.Zone
	}
	return nil
}
