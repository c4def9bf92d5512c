package apart

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// memory is the ID of the one disk that no file system in memory outlives.
const memory = "memory"

// zpool begins the ID of what all datasets of a pool lie on.
const zpool = "zfs pool "

// stack is what lies below a block device.
type stack struct {
	disks  []Disk
	open   bool // there may be others
	doubts []string
	files  []string // that back loop devices
}

func (s *stack) add(o stack) {
	for _, d := range o.disks {
		if !slices.ContainsFunc(s.disks, func(x Disk) bool { return x.ID == d.ID }) {
			s.disks = append(s.disks, d)
		}
	}
	s.open = s.open || o.open
	s.doubts = append(s.doubts, o.doubts...)
	s.files = append(s.files, o.files...)
}

func unknownStack(format string, args ...any) stack {
	return stack{open: true, doubts: []string{fmt.Sprintf(format, args...)}}
}

// maxDepth bounds how many devices lie on one another.
const maxDepth = 16

// below resolves a device number into what fails below it, by sysfs.
func below(root fs.FS, device string) stack {
	to, err := fs.ReadLink(root, "sys/dev/block/"+device)
	if err != nil {
		return unknownStack("sysfs does not show block device %s", device)
	}
	return belowDir(root, path.Join("sys/dev/block", to), maxDepth)
}

// byName resolves the name of a block device, such as "sda1" or what
// /dev/mapper/… is called.
func byName(root fs.FS, name string) stack {
	return byKernelName(root, name, maxDepth)
}

func byKernelName(root fs.FS, name string, depth int) stack {
	to, err := fs.ReadLink(root, "sys/class/block/"+name)
	if err != nil {
		return unknownStack("sysfs does not show block device %q", name)
	}
	return belowDir(root, path.Join("sys/class/block", to), depth)
}

var nvmeController = regexp.MustCompile(`^nvme(-subsys)?\d+$`)

// belowDir resolves the folder of a block device in sysfs.
func belowDir(root fs.FS, dir string, depth int) stack {
	name := path.Base(dir)
	if depth == 0 {
		return unknownStack("too many block devices lie on one another below %q", name)
	}
	if _, err := fs.Stat(root, dir+"/partition"); err == nil {
		return belowDir(root, path.Dir(dir), depth-1)
	}
	line := func(file string) string { return firstLine(root, dir+"/"+file) }
	switch {
	case strings.HasPrefix(name, "loop"):
		if file := line("loop/backing_file"); file != "" {
			return stack{files: []string{file}}
		}
		return unknownStack("the file behind %s is not known", name)
	case line("md/level") != "":
		return array(root, dir, name, line("md/level"), depth)
	case strings.HasPrefix(line("dm/uuid"), "mpath-"):
		return stack{disks: []Disk{{ID: line("dm/uuid"), Detail: "multipath"}}} // its slaves are ways to one disk
	case strings.HasPrefix(name, "zram"), strings.HasPrefix(name, "ram"):
		return stack{disks: []Disk{{ID: memory}}}
	}
	if under := names(root, dir+"/slaves"); len(under) > 0 {
		var all stack
		for _, s := range under {
			all.add(byKernelName(root, s, depth-1))
		}
		return all
	}
	if strings.HasPrefix(name, "dm-") || strings.HasPrefix(name, "zd") {
		return unknownStack("what lies below %s is not known", name)
	}
	d := Disk{ID: name, Detail: strings.TrimSpace(line("device/model")), Network: remote(name, dir)}
	if c := path.Base(path.Dir(dir)); nvmeController.MatchString(c) {
		d.ID = c // namespaces of one controller are one piece of hardware
	}
	return stack{disks: []Disk{d}}
}

// remote reports whether a disk is served over the network: iSCSI, Ceph and such.
func remote(name, dir string) bool {
	return strings.Contains(dir, "/session") || strings.HasPrefix(name, "rbd") ||
		strings.HasPrefix(name, "nbd") || strings.HasPrefix(name, "drbd")
}

// spares is how many members an array of md may lose.
func spares(level string, members int) int {
	switch level {
	case "raid1":
		return members - 1
	case "raid4", "raid5", "raid10": // of raid10 it depends on which: the worst case
		return 1
	case "raid6":
		return 2
	}
	return 0
}

// array resolves an array of md. One that can lose members is something of its
// own that fails; so are disks that hold more members than it can lose.
func array(root fs.FS, dir, name, level string, depth int) stack {
	members := names(root, dir+"/slaves")
	spare := spares(level, len(members))
	if n := firstLine(root, dir+"/md/degraded"); n != "" && n != "0" {
		var missing int
		_, _ = fmt.Sscan(n, &missing)
		spare = max(0, spare-missing)
	}
	under := make([]stack, len(members))
	for i, m := range members {
		under[i] = byKernelName(root, m, depth-1)
	}
	return redundant(name, level, under, spare)
}

// redundant is what fails below something that can lose so many of its members.
func redundant(name, level string, members []stack, spare int) stack {
	var all stack
	held := map[string]int{}
	for _, m := range members {
		all.add(m)
		for _, d := range m.disks {
			held[d.ID]++
		}
	}
	if len(members) == 0 {
		return unknownStack("the members of %s are not known", name)
	}
	if spare == 0 {
		return all
	}
	whole := Disk{ID: name, Detail: level}
	out := stack{open: all.open, doubts: all.doubts, files: all.files}
	for _, d := range all.disks {
		whole.Members = append(whole.Members, d.ID)
		if held[d.ID] > spare {
			out.disks = append(out.disks, d)
		}
	}
	out.disks = append([]Disk{whole}, out.disks...)
	return out
}

// names lists a folder, "" for one that is not there.
func names(root fs.FS, dir string) []string {
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}

// firstLine reads a file of sysfs, "" for one that is not there.
func firstLine(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	s, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(s)
}

// poolOfBtrfs finds the file system of btrfs that a device belongs to: its name,
// and all that lies below it.
func poolOfBtrfs(root fs.FS, device string) (id string, s stack) {
	name := path.Base(device)
	if mapped := mapper(root, device); mapped != "" {
		name = mapped
	}
	for _, uuid := range names(root, "sys/fs/btrfs") {
		devices := names(root, "sys/fs/btrfs/"+uuid+"/devices")
		if !slices.Contains(devices, name) {
			continue
		}
		under := make([]stack, len(devices))
		for i, d := range devices {
			under[i] = byName(root, d)
		}
		for profile, spare := range map[string]int{"raid1": 1, "raid1c3": 2, "raid1c4": 3, "raid10": 1, "raid5": 1, "raid6": 2} {
			if _, err := fs.Stat(root, "sys/fs/btrfs/"+uuid+"/allocation/data/"+profile); err == nil {
				return "btrfs " + uuid, redundant("btrfs "+uuid, profile, under, spare)
			}
		}
		return "btrfs " + uuid, redundant("btrfs "+uuid, "", under, 0)
	}
	return "btrfs " + device, byName(root, name)
}

// mapper returns the kernel's name of /dev/mapper/NAME, "" for none.
func mapper(root fs.FS, device string) string {
	name, ok := strings.CutPrefix(device, "/dev/mapper/")
	if !ok {
		return ""
	}
	for _, d := range names(root, "sys/class/block") {
		if strings.HasPrefix(d, "dm-") && firstLine(root, "sys/class/block/"+d+"/dm/name") == name {
			return d
		}
	}
	return ""
}
