package apart

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// layouts are machines with two places and how far apart these are.
var layouts = map[string]struct {
	make     func(m *machine)
	source   string // "" is /srv/chroma
	vault    string
	distance Distance
	disks    string // of the vault, by ID
	open     bool   // whether more may lie below the vault
	says     string // in the verdict's sentence or doubts
}{
	"two folders of one partition": {
		make:  func(m *machine) { m.disk("sda", 0); m.mount("8:1", "/", "ext4", "/dev/sda1", "") },
		vault: "/home/ada/vault", distance: SameFileSystem, disks: "sda", says: "a broken or wiped file system /, or the loss of the disk sda, takes both",
	},
	"a bind mount of the same": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:1", "/mnt/other", "ext4", "/dev/sda1", "")
		},
		vault: "/mnt/other/vault", distance: SameFileSystem, disks: "sda",
	},
	"two partitions of one disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("8:2", "pci0000:00/ata1/block/sda/sda2", nil, "partition=2")
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:2", "/mnt/b", "xfs", "/dev/sda2", "")
		},
		vault: "/mnt/b/vault", distance: SameDisk, disks: "sda", says: "the loss of the disk sda takes both",
	},
	"two disks": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:17", "/mnt/b\\040c", "ext4", "/dev/sdb1", "")
		},
		vault: "/mnt/b c/vault", distance: SameHost, disks: "sdb", says: "the loss of the host box",
	},
	"two namespaces of one NVMe disk": {
		make: func(m *machine) {
			m.block("259:0", "pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", nil)
			m.block("259:1", "pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n2", nil)
			m.mount("259:0", "/", "ext4", "/dev/nvme0n1", "")
			m.mount("259:1", "/mnt/b", "ext4", "/dev/nvme0n2", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "nvme0",
	},
	"LVM over encryption on one disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("8:2", "pci0000:00/ata1/block/sda/sda2", nil, "partition=2")
			m.block("254:0", "virtual/block/dm-0", []string{"sda2"}, "dm/uuid=CRYPT-LUKS2-1", "dm/name=crypt")
			m.block("254:1", "virtual/block/dm-1", []string{"dm-0"}, "dm/uuid=LVM-1", "dm/name=vg-lv")
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("254:1", "/mnt/b", "xfs", "/dev/mapper/vg-lv", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "sda",
	},
	"LVM over two disks, of which one is the source's": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("254:1", "virtual/block/dm-1", []string{"sda1", "sdb1"}, "dm/uuid=LVM-1", "dm/name=vg-lv")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("254:1", "/mnt/b", "xfs", "/dev/mapper/vg-lv", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "sda sdb",
	},
	"a device of dm that shows nothing": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("254:1", "virtual/block/dm-1", nil, "dm/uuid=thing", "dm/name=thing")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("254:1", "/mnt/b", "xfs", "/dev/mapper/thing", "")
		},
		vault: "/mnt/b", distance: SameHost, open: true, says: "whether they share a disk is not known",
	},
	"a disk by two ways": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.disk("sdc", 32)
			m.block("254:1", "virtual/block/dm-1", []string{"sdb", "sdc"}, "dm/uuid=mpath-3600", "dm/name=mpatha")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("254:1", "/mnt/b", "xfs", "/dev/mapper/mpatha", "")
		},
		vault: "/mnt/b", distance: SameHost, disks: "mpath-3600",
	},
	"a mirror of which the source's disk is one half": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("9:0", "virtual/block/md0", []string{"sda1", "sdb1"}, "md/level=raid1", "md/degraded=0")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("9:0", "/mnt/b", "ext4", "/dev/md0", "")
		},
		vault: "/mnt/b", distance: SameHost, disks: "md0",
	},
	"the same mirror, which has lost a disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("9:0", "virtual/block/md0", []string{"sda1", "sdb1"}, "md/level=raid1", "md/degraded=1")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("9:0", "/mnt/b", "ext4", "/dev/md0", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "sda sdb",
	},
	"two volumes on one mirror": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("9:0", "virtual/block/md0", []string{"sda1", "sdb1"}, "md/level=raid1", "md/degraded=0")
			m.block("254:1", "virtual/block/dm-1", []string{"md0"}, "dm/uuid=LVM-1", "dm/name=vg-a")
			m.block("254:2", "virtual/block/dm-2", []string{"md0"}, "dm/uuid=LVM-2", "dm/name=vg-b")
			m.mount("254:1", "/", "ext4", "/dev/mapper/vg-a", "")
			m.mount("254:2", "/mnt/b", "ext4", "/dev/mapper/vg-b", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "md0", says: "the array md0 (raid1 of sda, sdb)",
	},
	"raid5 with two members on the source's disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("8:2", "pci0000:00/ata1/block/sda/sda2", nil, "partition=2")
			m.disk("sdb", 16)
			m.block("9:0", "virtual/block/md0", []string{"sda1", "sda2", "sdb1"}, "md/level=raid5", "md/degraded=0")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("9:0", "/mnt/b", "ext4", "/dev/md0", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "md0 sda",
	},
	"raid0": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("9:0", "virtual/block/md0", []string{"sda1", "sdb1"}, "md/level=raid0")
			m.mount("8:0", "/", "ext4", "/dev/sda", "")
			m.mount("9:0", "/mnt/b", "ext4", "/dev/md0", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "sda sdb",
	},
	"a loop file on the source's file system": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("7:0", "virtual/block/loop0", nil, "loop/backing_file=/images/vault.img")
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("7:0", "/mnt/b", "ext4", "/dev/loop0", "")
		},
		vault: "/mnt/b", distance: SameFileSystem, disks: "sda",
	},
	"a loop file on another disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("7:0", "virtual/block/loop0", nil, "loop/backing_file=/mnt/usb/vault.img")
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:17", "/mnt/usb", "ext4", "/dev/sdb1", "")
			m.mount("7:0", "/mnt/b", "ext4", "/dev/loop0", "")
		},
		vault: "/mnt/b", distance: SameHost, disks: "sdb",
	},
	"a loop file that this namespace does not see": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("7:0", "virtual/block/loop0", nil, "loop/backing_file=/nowhere/vault.img")
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("7:0", "/mnt/b", "ext4", "/dev/loop0", "")
		},
		vault: "/mnt/b", distance: SameHost, open: true, says: "the file behind the loop device",
	},
	"a loop that goes round": {
		make: func(m *machine) {
			m.block("7:0", "virtual/block/loop0", nil, "loop/backing_file=/mnt/b/itself.img")
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("7:0", "/mnt/b", "ext4", "/dev/loop0", "")
		},
		vault: "/mnt/b", distance: SameHost, open: true,
	},
	"subvolumes of btrfs": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.link("sys/fs/btrfs/u-u-i-d/devices/sda1", "../../../../devices/pci0000:00/ata1/block/sda/sda1")
			m.file("sys/fs/btrfs/features/x", "")
			m.file("sys/fs/btrfs/u-u-i-d/allocation/data/single/used_bytes", "1")
			m.mount("0:40", "/", "btrfs", "/dev/sda1", ",subvol=/root")
			m.mount("0:41", "/mnt/b", "btrfs", "/dev/sda1", ",subvol=/b")
			m.at["/mnt/b"] = "0:55"
		},
		vault: "/mnt/b", distance: SameFileSystem, disks: "sda",
	},
	"a mirror of btrfs beside one of its disks": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.block("8:2", "pci0000:00/ata1/block/sda/sda2", nil, "partition=2")
			m.link("sys/fs/btrfs/u/devices/sda2", "../../../../devices/pci0000:00/ata1/block/sda/sda2")
			m.link("sys/fs/btrfs/u/devices/sdb1", "../../../../devices/pci0000:00/ata1/block/sdb/sdb1")
			m.file("sys/fs/btrfs/u/allocation/data/raid1/used_bytes", "1")
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:41", "/mnt/b", "btrfs", "/dev/sdb1", "")
		},
		vault: "/mnt/b", distance: SameHost, disks: "btrfs u",
	},
	"two datasets of one ZFS pool": {
		make: func(m *machine) {
			m.mount("0:30", "/", "zfs", "tank/root", "")
			m.mount("0:31", "/mnt/b", "zfs", "tank/b", "")
		},
		vault: "/mnt/b", distance: SameDisk, disks: "zfs pool tank", open: true, says: "the loss of the zfs pool tank takes both",
	},
	"ZFS beside a disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:31", "/mnt/b", "zfs", "tank/b", "")
		},
		vault: "/mnt/b", distance: SameHost, disks: "zfs pool tank", open: true, says: "whether they share a disk is not known",
	},
	"memory": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:25", "/tmp", "tmpfs", "tmpfs", "")
		},
		vault: "/tmp/vault", distance: SameHost, disks: "memory",
	},
	"both in memory": {
		make: func(m *machine) {
			m.mount("0:24", "/srv", "tmpfs", "tmpfs", "")
			m.mount("0:25", "/tmp", "tmpfs", "tmpfs", "")
		},
		vault: "/tmp/vault", distance: SameDisk, disks: "memory", says: "the memory, as at a restart",
	},
	"the layer of a container beside a volume": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("0:50", "/", "overlay", "overlay", ",lowerdir=/nowhere/l,upperdir=/nowhere/u,workdir=/nowhere/w")
			m.mount("8:1", "/srv", "ext4", "/dev/sda1", "")
		},
		vault: "/vault", distance: SameHost, open: true, says: "the upper layer of the overlay at /",
	},
	"two volumes of a container on one disk": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("0:50", "/", "overlay", "overlay", ",upperdir=/nowhere/u")
			m.mount("8:1", "/srv", "ext4", "/dev/sda1", "")
			m.mount("8:1", "/vault", "ext4", "/dev/sda1", "")
		},
		vault: "/vault", distance: SameFileSystem, disks: "sda",
	},
	"an overlay whose upper layer is the source's file system": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:50", "/mnt/b", "overlay", "overlay", ",lowerdir=/l,upperdir=/u,workdir=/w")
		},
		vault: "/mnt/b", distance: SameFileSystem, disks: "sda",
	},
	"NFS from elsewhere": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:60", "/mnt/nas", "nfs4", "nas:/export/vault", ",vers=4.2,addr=10.9.9.9")
		},
		vault: "/mnt/nas", distance: Unknown, open: true, says: "they are on different hosts",
	},
	"NFS from this very host": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:60", "/mnt/nas", "nfs4", "box:/export/vault", ",addr=10.1.2.3")
		},
		vault: "/mnt/nas", distance: SameHost, open: true, says: "the loss of the host box",
	},
	"both on one share": {
		make: func(m *machine) {
			m.mount("0:60", "/", "nfs4", "nas:/export", ",addr=10.9.9.9")
			m.mount("0:61", "/mnt/b", "nfs4", "nas:/export", ",addr=10.9.9.9")
		},
		vault: "/mnt/b", distance: SameFileSystem, open: true,
	},
	"two shares of one server": {
		make: func(m *machine) {
			m.mount("0:60", "/", "nfs4", "nas:/one", ",addr=10.9.9.9")
			m.mount("0:61", "/mnt/b", "cifs", "//NAS/two", ",addr=10.9.9.9")
		},
		vault: "/mnt/b", distance: SameHost, open: true,
	},
	"CIFS whose server does not resolve": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:60", "/mnt/nas", "cifs", "//nas/share\\040one", "")
		},
		vault: "/mnt/nas", distance: Unknown, open: true, says: "whether nas is this host",
	},
	"sshfs": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.hosts["far.example"] = []netip.Addr{netip.MustParseAddr("203.0.113.5")}
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:60", "/mnt/far", "fuse.sshfs", "ada@far.example:/vault", "")
		},
		vault: "/mnt/far", distance: Unknown, open: true, says: "they are on different hosts",
	},
	"a folder that a hypervisor lends": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("0:60", "/mnt/b", "virtiofs", "tag", "")
		},
		vault: "/mnt/b", distance: Unknown, open: true, says: "who serves virtiofs",
	},
	"a disk over iSCSI": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.block("8:16", "platform/host3/session1/target3:0:0/3:0:0:1/block/sdb", nil)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:16", "/mnt/b", "ext4", "/dev/sdb", "")
		},
		vault: "/mnt/b", distance: Unknown, disks: "sdb", open: true, says: "who serves the disk sdb",
	},
	"a mount over another": {
		make: func(m *machine) {
			m.disk("sda", 0)
			m.disk("sdb", 16)
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:1", "/mnt/b", "ext4", "/dev/sda1", "")
			m.mount("8:17", "/mnt/b", "ext4", "/dev/sdb1", "")
		},
		vault: "/mnt/b/vault", distance: SameHost, disks: "sdb",
	},
	"no sysfs": {
		make: func(m *machine) {
			m.mount("8:1", "/", "ext4", "/dev/sda1", "")
			m.mount("8:17", "/mnt/b", "ext4", "/dev/sdb1", "")
		},
		vault: "/mnt/b/vault", distance: SameHost, open: true, says: "sysfs does not show block device 8:17",
	},
	"no sysfs, one device": {
		make:  func(m *machine) { m.mount("8:1", "/", "ext4", "/dev/sda1", "") },
		vault: "/mnt/b/vault", distance: SameFileSystem, open: true,
	},
	"a path that cannot be looked at": {
		make:  func(m *machine) { m.disk("sda", 0); m.mount("8:1", "/", "ext4", "/dev/sda1", "") },
		vault: "/nowhere/vault", distance: SameHost, open: true, says: "where \"/nowhere/vault\" lies",
	},
}

func TestLayouts(t *testing.T) {
	if len(layouts) < 30 {
		t.Fatalf("only %d layouts", len(layouts))
	}
	for name, l := range layouts {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			l.make(m)
			places := m.prober().Places(t.Context(), "/srv/chroma", l.vault)
			v := Between(&places[0], &places[1])
			if v.Distance != l.distance {
				t.Errorf("distance %s, want %s\n%+v", v.Distance, l.distance, v)
			}
			var disks []string
			for _, d := range places[1].Disks {
				disks = append(disks, d.ID)
			}
			slices.Sort(disks)
			if got := strings.Join(disks, " "); got != l.disks || places[1].Open != l.open {
				t.Errorf("disks %q, open %v; want %q, %v", got, places[1].Open, l.disks, l.open)
			}
			if all := v.Destroys + "\n" + strings.Join(v.Doubts, "\n"); !strings.Contains(all, l.says) {
				t.Errorf("it does not say %q:\n%s", l.says, all)
			}
			if back := Between(&places[1], &places[0]); back.Distance != v.Distance || back.Shared != v.Shared {
				t.Errorf("the other way round it is %s", back.Distance)
			}
			if self := Between(&places[1], &places[1]); self.Distance != SameFileSystem && len(places[1].FileSystems) > 0 {
				t.Errorf("a place and itself: %s", self.Distance)
			}
		})
	}
}

// TestVolatile: what is lost though nothing breaks.
func TestVolatile(t *testing.T) {
	m := newMachine()
	m.disk("sda", 0)
	m.mount("0:50", "/", "overlay", "overlay", ",upperdir=/nowhere/u")
	m.mount("8:1", "/srv", "ext4", "/dev/sda1", "")
	m.mount("0:25", "/dev/shm", "tmpfs", "tmpfs", "")
	p := m.prober().Places(t.Context(), "/srv/chroma", "/vault", "/dev/shm/vault")
	for i, want := range []string{"", "the layer of a container", "in memory (tmpfs)"} {
		if got := p[i].Volatile; (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: volatile %q, want %q", p[i].Name, got, want)
		}
	}
	if w := Warning(&p[0], &p[2]); !strings.Contains(w, "does not last") {
		t.Errorf("warning %q", w)
	}
	if w := Warning(&p[0], &p[0]); !strings.Contains(w, "is not apart") {
		t.Errorf("warning %q", w)
	}
}
