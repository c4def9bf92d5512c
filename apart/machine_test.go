package apart

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strings"
	"testing/fstest"
)

// machine is a made-up one: what its kernel shows.
type machine struct {
	files fstest.MapFS
	lines []string                // of mountinfo
	at    map[string]string       // device numbers of paths, where mountinfo does not tell
	hosts map[string][]netip.Addr // names that resolve
	nets  []network
	asked []string // names that were looked up
}

func newMachine() *machine {
	m := &machine{files: fstest.MapFS{}, at: map[string]string{}, hosts: map[string][]netip.Addr{}}
	m.file("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	m.nets = []network{{"lo", netip.MustParsePrefix("127.0.0.1/8")}, {"eth0", netip.MustParsePrefix("10.1.2.3/24")}}
	return m
}

func (m *machine) file(name, text string) { m.files[name] = &fstest.MapFile{Data: []byte(text)} }

func (m *machine) link(name, to string) {
	m.files[name] = &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink}
}

// block adds a block device: its folder in sysfs below sys/devices, and files in
// that folder, "name=content". slaves are devices below it.
func (m *machine) block(device, dir string, slaves []string, files ...string) {
	name := path.Base(dir)
	m.link("sys/dev/block/"+device, "../../devices/"+dir)
	m.link("sys/class/block/"+name, "../../devices/"+dir)
	m.file("sys/devices/"+dir+"/dev", device+"\n")
	for _, f := range files {
		file, text, _ := strings.Cut(f, "=")
		m.file("sys/devices/"+dir+"/"+file, text+"\n")
	}
	for _, s := range slaves {
		m.link("sys/devices/"+dir+"/slaves/"+s, "../../"+s)
	}
}

// disk adds a disk with one partition.
func (m *machine) disk(name string, minor int) {
	dir := "pci0000:00/ata1/block/" + name
	m.block(fmt.Sprintf("8:%d", minor), dir, nil, "device/model=MODEL OF "+name)
	m.block(fmt.Sprintf("8:%d", minor+1), dir+"/"+name+"1", nil, "partition=1")
}

// mount adds a line to mountinfo.
func (m *machine) mount(device, point, kind, source, options string) {
	m.lines = append(m.lines, fmt.Sprintf("%d 1 %s / %s rw,relatime shared:1 - %s %s rw%s", 20+len(m.lines), device, point, kind, source, options))
}

// prober gathers the facts of the machine.
func (m *machine) prober() *Prober {
	m.file("proc/self/mountinfo", strings.Join(m.lines, "\n")+"\n")
	return &Prober{
		root: m.files,
		locate: func(name string) (location, error) {
			name = path.Clean(name)
			if strings.Contains(name, "/nowhere/") {
				return location{}, errors.New("no such file")
			}
			if d := m.at[name]; d != "" {
				return location{path: name, device: d}, nil
			}
			all, err := mounts(m.files)
			if err != nil {
				return location{}, err
			}
			return location{path: name, device: mountOf(all, location{path: name}).device}, nil
		},
		resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			m.asked = append(m.asked, host)
			if a := m.hosts[host]; a != nil {
				return a, nil
			}
			return nil, errors.New("no such host")
		},
		own:  func() ([]network, error) { return m.nets, nil },
		name: func() (string, error) { return "box", nil },
	}
}
