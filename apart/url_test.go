package apart

import (
	"net/netip"
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for url, c := range map[string]struct {
		name     string
		here     Answer
		service  bool
		provider string
		region   string
		doubt    string
	}{
		"s3://bucket/prefix?region=eu-west-1":                                {"s3://bucket/prefix", No, true, "aws", "eu-west-1", ""},
		"s3://bucket":                                                        {"s3://bucket", No, true, "aws", "", "the region of the bucket"},
		"s3://bucket?endpoint=s3.eu-central-1.amazonaws.com":                 {"s3://bucket", No, true, "aws", "eu-central-1", ""},
		"s3://bucket?endpoint=https://s3.us-west-004.backblazeb2.com:443/":   {"s3://bucket", No, true, "backblaze", "us-west-004", ""},
		"s3://bucket?endpoint=localhost:9000":                                {"s3://bucket", Yes, false, "", "", "on which disks the server at localhost"},
		"s3://bucket?endpoint=http://127.0.0.1:9000":                         {"s3://bucket", Yes, false, "", "", ""},
		"s3://bucket?endpoint=http://[::1]:9000":                             {"s3://bucket", Yes, false, "", "", ""},
		"s3://bucket?endpoint=minio.example:9000":                            {"s3://bucket", No, false, "", "", ""},
		"s3://bucket?endpoint=me.example":                                    {"s3://bucket", Yes, false, "", "", ""},
		"s3://bucket?endpoint=neighbour.example":                             {"s3://bucket", Yes, false, "", "", ""},
		"s3://bucket?endpoint=bridged.example":                               {"s3://bucket", No, false, "", "", ""},
		"s3://bucket?endpoint=gone.example":                                  {"s3://bucket", NotKnown, false, "", "", "its name does not resolve"},
		"s3://directory--euw1-az3--x-s3?region=eu-west-1":                    {"s3://directory--euw1-az3--x-s3", No, true, "aws", "eu-west-1", ""},
		"gs://bucket/prefix":                                                 {"gs://bucket/prefix", No, true, "gcp", "", "the region"},
		"azblob://container/prefix":                                          {"azblob://container/prefix", No, true, "azure", "", "the region"},
		"azblob://container?endpoint=http://127.0.0.1:10000/devstoreaccount": {"azblob://container", Yes, false, "", "", ""},
		"sftp://ada:secret@minio.example:2222/vault":                         {"sftp://minio.example:2222/vault", No, false, "", "", "on which disks"},
		"sftp://ada@localhost/vault":                                         {"sftp://localhost/vault", Yes, false, "", "", ""},
		"webdavs://10.1.2.3/dav":                                             {"webdavs://10.1.2.3/dav", Yes, false, "", "", ""},
		"ftp://host/x":                                                       {"ftp://host/x", NotKnown, false, "", "", "where a storage \"ftp\" keeps its bytes"},
		"s3://%zz:secret@x":                                                  {"a URL that cannot be parsed", NotKnown, false, "", "", "where it leads"},
	} {
		m := newMachine()
		m.disk("sda", 0)
		m.mount("8:1", "/", "ext4", "/dev/sda1", "")
		m.nets = append(m.nets, network{"docker0", netip.MustParsePrefix("172.17.0.1/16")}, network{"br0", netip.MustParsePrefix("192.168.7.1/24")})
		m.file("sys/class/net/docker0/bridge/bridge_id", "x")
		m.file("sys/class/net/docker0/brif/veth1/port_id", "1")
		m.file("sys/class/net/br0/bridge/bridge_id", "x")
		m.file("sys/class/net/br0/brif/eth1/port_id", "1")
		m.file("sys/class/net/eth1/device/vendor", "x")
		m.hosts["minio.example"] = []netip.Addr{netip.MustParseAddr("203.0.113.7")}
		m.hosts["me.example"] = []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("::ffff:10.1.2.3")}
		m.hosts["neighbour.example"] = []netip.Addr{netip.MustParseAddr("172.17.0.9")}
		m.hosts["bridged.example"] = []netip.Addr{netip.MustParseAddr("192.168.7.9")}
		p := m.prober().Places(t.Context(), url)[0]
		if p.Name != c.name || p.Host.Here != c.here || p.Host.Service != c.service || p.Site.Provider != c.provider && c.here != Yes || p.Site.Region != c.region {
			t.Errorf("%s: %+v", url, p)
		}
		if !strings.Contains(strings.Join(append(p.Doubts, p.Site.Doubt), "\n"), c.doubt) {
			t.Errorf("%s: %q does not say %q", url, p.Doubts, c.doubt)
		}
		for _, s := range append(p.Doubts, p.Name) {
			if strings.Contains(s, "secret") {
				t.Errorf("%s shows the secret: %q", url, s)
			}
		}
	}
}

// TestInAContainer: a private address may be that of a neighbour on the same host.
func TestInAContainer(t *testing.T) {
	m := newMachine()
	m.mount("0:50", "/", "overlay", "overlay", ",upperdir=/nowhere/u")
	m.hosts["minio"] = []netip.Addr{netip.MustParseAddr("10.1.2.9")}
	p := m.prober().Places(t.Context(), "s3://b?endpoint=minio:9000", "sftp://203.0.113.9/x")
	if p[0].Host.Here != NotKnown || !strings.Contains(strings.Join(p[0].Doubts, "\n"), "from within a container") {
		t.Errorf("%+v", p[0])
	}
	if p[1].Host.Here != No {
		t.Errorf("%+v", p[1])
	}
}

// TestOffline: nothing is asked.
func TestOffline(t *testing.T) {
	m := newMachine()
	m.disk("sda", 0)
	m.mount("8:1", "/", "ext4", "/dev/sda1", "")
	m.file("sys/class/dmi/id/sys_vendor", "Amazon EC2")
	p := m.prober()
	p.Offline, p.Metadata = true, "http://127.0.0.1:1"
	got := p.Places(t.Context(), "/srv", "sftp://far.example/x")
	if len(m.asked) > 0 || got[1].Host.Here != NotKnown || !strings.Contains(got[0].Site.Doubt, "it was not asked") {
		t.Errorf("asked for %q; %+v", m.asked, got)
	}
}
