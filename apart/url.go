package apart

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// clouds are services of many machines, by the end of their endpoints' names, and
// how a region is read from such a name.
var clouds = []struct {
	suffix, provider string
	region           *regexp.Regexp
}{
	{".amazonaws.com", "aws", regexp.MustCompile(`(?:^|\.)s3(?:-fips|express-[a-z0-9-]+)?[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.`)},
	{".amazonaws.com.cn", "aws", regexp.MustCompile(`(?:^|\.)s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.`)},
	{".googleapis.com", "gcp", regexp.MustCompile(`(?:^|\.)storage\.([a-z]+-[a-z]+\d+)\.`)},
	{".blob.core.windows.net", "azure", nil},
	{".r2.cloudflarestorage.com", "cloudflare", nil},
	{".backblazeb2.com", "backblaze", regexp.MustCompile(`s3\.([a-z]+-[a-z]+-\d+)\.`)},
	{".digitaloceanspaces.com", "digitalocean", regexp.MustCompile(`(?:^|\.)([a-z]{3}\d)\.`)},
	{".wasabisys.com", "wasabi", regexp.MustCompile(`s3\.([a-z]+-[a-z]+-\d+)\.`)},
	{".scw.cloud", "scaleway", regexp.MustCompile(`s3\.([a-z]+-[a-z]+)\.`)},
	{".your-objectstorage.com", "hetzner", regexp.MustCompile(`(?:^|\.)([a-z]{3}\d)\.`)},
	{".cloud.ovh.net", "ovh", regexp.MustCompile(`s3\.([a-z]+)\.`)},
}

// zonal is the end of the name of an S3 bucket that is kept in one zone (AWS's
// rules for naming directory buckets).
var zonal = regexp.MustCompile(`--([a-z0-9]+-az\d+)--x-s3$`)

// url gathers the facts of a URL.
func (p *Prober) url(ctx context.Context, raw string) Place {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		out := Place{Name: "a URL that cannot be parsed", Open: true} // it may hold a password
		out.doubt("where it leads")
		return out
	}
	out := Place{Name: u.Scheme + "://" + u.Host + u.Path, Kind: u.Scheme}
	query := u.Query()
	switch u.Scheme {
	case "s3", "gs", "azblob":
		p.bucket(ctx, &out, u, query)
	case "sftp", "webdav", "webdavs", "http", "https":
		p.hosted(ctx, &out, u.Hostname())
	default:
		out.Open = true
		out.doubt(fmt.Sprintf("where a storage %q keeps its bytes", u.Scheme))
	}
	return out
}

// bucket adds the facts of object storage.
func (p *Prober) bucket(ctx context.Context, out *Place, u *url.URL, query url.Values) {
	provider := map[string]string{"s3": "aws", "gs": "gcp", "azblob": "azure"}[u.Scheme]
	endpoint := endpointHost(query.Get("endpoint"))
	region := first(query, "region", "location")
	id := u.Scheme + " " + endpoint + "/" + u.Host
	if account := first(query, "account", "storage_account"); account != "" {
		id += " of " + account
	}
	out.FileSystems = []FileSystem{{ID: id, Type: u.Scheme}}
	if endpoint != "" {
		known := false
		for _, c := range clouds {
			if known = strings.HasSuffix(endpoint, c.suffix); known {
				provider = c.provider
				if c.region != nil && region == "" {
					if m := c.region.FindStringSubmatch(endpoint); m != nil {
						region = m[1]
					}
				}
				break
			}
		}
		if !known {
			own := out.FileSystems
			p.hosted(ctx, out, endpoint)
			out.FileSystems = own // two buckets of one server are judged by the bucket
			return
		}
	}
	out.Host = Host{Here: No, Name: first2(endpoint, provider), Service: true}
	out.Disks = []Disk{{ID: id, Detail: "bucket"}}
	out.Site = Site{Provider: provider, Region: region, Zones: true}
	if m := zonal.FindStringSubmatch(u.Host); u.Scheme == "s3" && m != nil {
		out.Site.ZoneID, out.Site.Zones = m[1], false
	}
	if region == "" {
		out.Site.Doubt = fmt.Sprintf("the region of the bucket %s", out.Name)
	}
}

func first(query url.Values, keys ...string) string {
	for _, k := range keys {
		if v := query.Get(k); v != "" {
			return v
		}
	}
	return ""
}

func first2(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// endpointHost returns the host of "host", "host:port" or "https://host:port/".
func endpointHost(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		endpoint = rest
	}
	if at := strings.LastIndex(endpoint, "@"); at >= 0 {
		endpoint = endpoint[at+1:]
	}
	endpoint, _, _ = strings.Cut(endpoint, "/")
	if host, _, err := net.SplitHostPort(endpoint); err == nil {
		return host
	}
	return strings.Trim(endpoint, "[]")
}

// hosted adds the facts of one server, of which only the name is known.
func (p *Prober) hosted(ctx context.Context, out *Place, host string) {
	out.Host = p.judgeHost(ctx, host, out)
	out.Open = true
	out.doubt(fmt.Sprintf("on which disks the server at %s keeps its files", host))
}

// judgeHost tells whether a name or an address leads to this host.
func (p *Prober) judgeHost(ctx context.Context, name string, out *Place) Host {
	h := Host{Name: name}
	addrs, err := p.addresses(ctx, name)
	if err != nil {
		out.doubt(fmt.Sprintf("whether %s is this host: %v", name, err))
		return h
	}
	h.Here = No
	for _, a := range addrs {
		h.Address = append(h.Address, a.String())
		switch here := p.here(a); {
		case here == Yes:
			h.Here = Yes
		case here == NotKnown && h.Here == No:
			h.Here = NotKnown
		}
	}
	if h.Here == NotKnown {
		out.doubt(fmt.Sprintf("whether %s is this host: from within a container its address does not tell", name))
	}
	return h
}

func (p *Prober) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761, 6.3
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if p.Offline {
		return nil, fmt.Errorf("its name was not looked up")
	}
	ctx, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	found, err := p.resolve(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("its name does not resolve")
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("its name has no address")
	}
	return found, nil
}

// here tells whether an address is one of this host. Containers and virtual
// machines of this host sit on bridges that have no wire. Within a container, the
// host cannot be told from its neighbours.
func (p *Prober) here(a netip.Addr) Answer {
	if a.IsLoopback() || a.IsUnspecified() {
		return Yes
	}
	own, err := p.own()
	if err != nil {
		return NotKnown
	}
	for _, n := range own {
		if n.prefix.Addr().Unmap() == a || n.prefix.Contains(a) && p.wireless(n.name) {
			return Yes
		}
	}
	if a.IsPrivate() && p.contained() {
		return NotKnown
	}
	return No
}

// wireless reports whether an interface is a bridge of which no port leads out of
// the host.
func (p *Prober) wireless(name string) bool {
	if !exists(p.root, "sys/class/net/"+name+"/bridge") {
		return false
	}
	for _, port := range names(p.root, "sys/class/net/"+name+"/brif") {
		if exists(p.root, "sys/class/net/"+port+"/device") {
			return false
		}
	}
	return true
}

// contained reports whether this process is in a container.
func (p *Prober) contained() bool {
	if exists(p.root, ".dockerenv") || exists(p.root, "run/.containerenv") {
		return true
	}
	if all, err := mounts(p.root); err == nil {
		if m := mountOf(all, location{path: "/"}); m != nil && m.kind == "overlay" {
			return true
		}
	}
	for line := range strings.Lines(readAll(p.root, "proc/self/cgroup")) {
		for _, mark := range []string{"docker", "kubepods", "containerd", "libpod", "lxc"} {
			if strings.Contains(path.Clean(line), mark) {
				return true
			}
		}
	}
	return false
}

// interfaces lists what this host is connected to.
func interfaces() ([]network, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []network
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone since
		}
		for _, a := range addrs {
			if n, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, network{name: i.Name, prefix: n})
			}
		}
	}
	return out, nil
}
