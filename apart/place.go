package apart

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// DefaultPatience is how long a Prober waits for each name and for the metadata
// service.
const DefaultPatience = time.Second

// Prober gathers facts on Linux; elsewhere most of them stay unknown. The zero
// value is ready for use. It never fails: what it cannot find out is in
// Place.Doubts. It opens no connection but to resolve the names of hosts and, where
// Metadata is to be asked, to that.
type Prober struct {
	// Offline keeps it from resolving names and from asking for metadata.
	Offline bool
	// Patience is DefaultPatience if it is 0.
	Patience time.Duration
	// Metadata is the address of the cloud's metadata service, "" for the one that
	// all clouds document. It is asked only if the machine says by its DMI that it
	// is in AWS, GCP or Azure.
	Metadata string

	root    fs.FS // nil: the real one
	locate  func(path string) (location, error)
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	own     func() ([]network, error)
	name    func() (string, error)
}

// location is where a path lies.
type location struct {
	path   string // without links; of what does not exist, the nearest folder that does
	device string // major:minor
	mount  int    // the kernel's number of the mount, 0 for not known
}

// network is what an interface is connected to.
type network struct {
	name   string
	prefix netip.Prefix // with the own address
}

func (p *Prober) fill() *Prober {
	q := *p
	if q.Patience == 0 {
		q.Patience = DefaultPatience
	}
	if q.root == nil {
		q.root = os.DirFS("/")
	}
	if q.locate == nil {
		q.locate = locate
	}
	if q.resolve == nil {
		q.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if q.own == nil {
		q.own = interfaces
	}
	if q.name == nil {
		q.name = os.Hostname
	}
	return &q
}

// Places gathers facts of paths and URLs, in their order. Whether this host is in
// a cloud is asked only if one of them is not surely on this host.
func (p *Prober) Places(ctx context.Context, names ...string) []Place {
	q := p.fill()
	out := make([]Place, len(names))
	away := false
	for i, n := range names {
		if strings.Contains(n, "://") && !strings.HasPrefix(n, "file://") {
			out[i] = q.url(ctx, n)
		} else {
			out[i] = q.path(ctx, strings.TrimPrefix(n, "file://"))
		}
		away = away || out[i].Host.Here != Yes
	}
	if !away {
		return out
	}
	site := q.site(ctx)
	for i := range out {
		if out[i].Host.Here == Yes {
			out[i].Site = site
		}
	}
	return out
}

// path gathers the facts of a path.
func (p *Prober) path(ctx context.Context, name string) Place {
	out := Place{Name: name, Kind: "path", Host: p.host(), Open: true}
	at, err := p.locate(name)
	if err != nil {
		out.doubt(fmt.Sprintf("where %q lies: %v", name, err))
		return out
	}
	all, err := mounts(p.root)
	if err != nil {
		out.doubt(fmt.Sprintf("the mounts: %v", err))
		out.FileSystems = []FileSystem{{ID: at.device}}
		return out
	}
	out.Open = false
	p.descend(ctx, &out, all, at, maxDepth)
	return out
}

// descend adds the file system at a location, and all below it.
func (p *Prober) descend(ctx context.Context, out *Place, all []mount, at location, depth int) {
	m := mountOf(all, at)
	if m == nil || depth == 0 {
		out.Open = true
		out.doubt(fmt.Sprintf("the mount of %q", at.path))
		return
	}
	fsys := FileSystem{ID: at.device, Type: m.kind, Mount: m.point}
	if host, ok := m.server(); ok {
		p.served(ctx, out, m, host)
		return
	}
	var s stack
	switch {
	case inMemory[m.kind]:
		out.Volatile = "it is in memory (" + m.kind + "), which a restart empties"
		s = stack{disks: []Disk{{ID: memory}}}
	case m.kind == "overlay":
		out.FileSystems = append(out.FileSystems, fsys)
		p.layers(ctx, out, all, m, depth)
		return
	case m.kind == "zfs":
		pool, _, _ := strings.Cut(m.source, "/")
		fsys.ID = "zfs " + m.source
		s = unknownStack("the disks of the ZFS pool %s", pool)
		s.disks = []Disk{{ID: zpool + pool}}
	case m.kind == "btrfs":
		fsys.ID, s = poolOfBtrfs(p.root, m.source)
	case !virtual(m.device):
		fsys.ID = m.device
		s = below(p.root, m.device)
	default:
		s = unknownStack("what is behind the file system %s at %s", m.kind, m.point)
	}
	out.FileSystems = append(out.FileSystems, fsys)
	p.onto(ctx, out, all, s, depth)
}

// onto adds what lies below a block device.
func (p *Prober) onto(ctx context.Context, out *Place, all []mount, s stack, depth int) {
	for _, d := range s.disks {
		if slices.ContainsFunc(out.Disks, func(x Disk) bool { return x.ID == d.ID }) {
			continue
		}
		out.Disks = append(out.Disks, d)
		if d.Network {
			out.Host = Host{}
			out.Open = true
			out.doubt("who serves the disk " + d.ID)
		}
	}
	out.Open = out.Open || s.open
	for _, d := range s.doubts {
		out.doubt(d)
	}
	for _, file := range s.files {
		at, err := p.locate(file)
		if err != nil || at.path != path.Clean(file) {
			out.Open = true
			out.doubt(fmt.Sprintf("where %q, the file behind the loop device, lies", file))
			continue
		}
		p.descend(ctx, out, all, at, depth-1)
	}
}

// layers adds what lies below an overlay: the folder that takes the writes. In a
// container its path means nothing, for it is the host's.
func (p *Prober) layers(ctx context.Context, out *Place, all []mount, m *mount, depth int) {
	if m.point == "/" {
		out.Volatile = "it is in the layer of a container, which goes with the container"
	}
	upper := m.options["upperdir"]
	if upper == "" {
		out.Open = true
		out.doubt("the layers of the overlay at " + m.point)
		return
	}
	at, err := p.locate(upper)
	if err != nil || at.path != path.Clean(upper) {
		out.Open = true
		out.doubt(fmt.Sprintf("where %q, the upper layer of the overlay at %s, lies", upper, m.point))
		return
	}
	p.descend(ctx, out, all, at, depth-1)
}

// served adds a file system that a server has.
func (p *Prober) served(ctx context.Context, out *Place, m *mount, host string) {
	out.FileSystems = append(out.FileSystems, FileSystem{ID: m.kind + " " + m.shown(), Type: m.kind, Mount: m.point})
	out.Open = true
	out.doubt(fmt.Sprintf("on which disks the server of %s keeps %s", m.kind, m.shown()))
	if addr := m.options["addr"]; addr != "" {
		named := host
		if host = addr; named == "" {
			named = addr
		}
		out.Host = p.judgeHost(ctx, host, out)
		out.Host.Name = named
		return
	}
	if host == "" {
		out.Host = Host{}
		out.doubt(fmt.Sprintf("who serves %s at %s", m.kind, m.point))
		return
	}
	out.Host = p.judgeHost(ctx, host, out)
}

// host identifies the one that we run on. Its machine-id is not shown: machine-id(5)
// asks to keep it and to use what is derived from it.
func (p *Prober) host() Host {
	h := Host{Here: Yes}
	h.Name, _ = p.name()
	if id := firstLine(p.root, "etc/machine-id"); id != "" {
		mac := hmac.New(sha256.New, []byte(id))
		mac.Write([]byte("colorfast host"))
		h.ID = hex.EncodeToString(mac.Sum(nil)[:8])
	}
	return h
}

// nearest returns a path without links; what does not exist is left out from the
// end.
func nearest(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	for {
		real, err := filepath.EvalSymlinks(abs)
		if err == nil {
			return real, nil
		}
		up := filepath.Dir(abs)
		if up == abs {
			return "", err
		}
		abs = up
	}
}
