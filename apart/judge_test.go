package apart

import (
	"encoding/json"
	"strings"
	"testing"

	"colorfast"
)

func bucketIn(provider, region, zoneID string) Place {
	return Place{
		Name: "s3://b", Kind: "s3", FileSystems: []FileSystem{{ID: "s3 /b"}}, Disks: []Disk{{ID: "s3 /b"}},
		Host: Host{Here: No, Service: true}, Site: Site{Provider: provider, Region: region, ZoneID: zoneID, Zones: zoneID == ""},
	}
}

func machineIn(provider, region, zone, zoneID string) Place {
	return Place{
		Name: "/srv", Kind: "path", FileSystems: []FileSystem{{ID: "8:1"}}, Disks: []Disk{{ID: "sda"}},
		Host: Host{Here: Yes, Name: "box"}, Site: Site{Provider: provider, Region: region, Zone: zone, ZoneID: zoneID},
	}
}

func TestBuckets(t *testing.T) {
	aws := machineIn("aws", "eu-west-1", "eu-west-1a", "euw1-az3")
	other := bucketIn("aws", "eu-west-1", "")
	other.FileSystems[0].ID, other.Disks[0].ID = "s3 /another", "s3 /another"
	for name, c := range map[string]struct {
		a, b     Place
		distance Distance
		says     string
	}{
		"the same region":        {aws, bucketIn("aws", "eu-west-1", ""), SameRegion, "an outage of the region eu-west-1 of aws"},
		"another region":         {aws, bucketIn("aws", "us-east-1", ""), Apart, "nothing in one place"},
		"another cloud":          {aws, bucketIn("gcp", "", ""), Apart, ""},
		"the same zone":          {aws, bucketIn("aws", "eu-west-1", "euw1-az3"), SameZone, "an outage of the zone eu-west-1a of aws"},
		"another zone":           {aws, bucketIn("aws", "eu-west-1", "euw1-az1"), SameRegion, ""},
		"a region not known":     {aws, bucketIn("aws", "", ""), Unknown, "different hosts"},
		"a machine in no cloud":  {machineIn(None, "", "", ""), bucketIn("aws", "eu-west-1", ""), Apart, ""},
		"a machine not known":    {machineIn("", "", "", ""), bucketIn("aws", "eu-west-1", ""), Unknown, "different hosts"},
		"one bucket":             {bucketIn("aws", "eu-west-1", ""), bucketIn("aws", "eu-west-1", ""), SameFileSystem, "whatever empties the bucket"},
		"two buckets, a region":  {other, bucketIn("aws", "eu-west-1", ""), SameRegion, ""},
		"nothing known, of both": {Place{}, Place{}, Unknown, "not known"},
		"nothing known, of one":  {aws, Place{}, Unknown, "they may share the file system, disk, host, zone, region"},
	} {
		v := Between(&c.a, &c.b)
		if v.Distance != c.distance || !strings.Contains(v.Destroys, c.says) {
			t.Errorf("%s: %s, %q; want %s, %q", name, v.Distance, v.Destroys, c.distance, c.says)
		}
	}
}

// TestJudgementIsMonotone tries all answers of the rungs that places can have: a
// verdict never says that two share something and not what lies above it, and less
// knowledge never makes it better.
func TestJudgementIsMonotone(t *testing.T) {
	rank := map[Distance]int{SameFileSystem: 0, SameDisk: 1, SameHost: 2, SameZone: 3, SameRegion: 4, Unknown: 5, Apart: 6}
	var places []Place
	for _, fs := range []string{"", "8:1", "8:2"} {
		for _, disk := range []string{"", "sda", "sdb"} {
			for _, here := range []Answer{NotKnown, Yes, No} {
				for _, site := range []Site{{}, {Provider: None}, {Provider: "aws"}, {Provider: "aws", Region: "r"}, {Provider: "aws", Region: "r", Zone: "z"}, {Provider: "aws", Region: "s", Zone: "z"}} {
					p := Place{Kind: "path", Host: Host{Here: here}, Site: site}
					if fs != "" {
						p.FileSystems = []FileSystem{{ID: fs}}
					}
					if disk != "" {
						p.Disks = []Disk{{ID: disk}}
					}
					places = append(places, p)
				}
			}
		}
	}
	for i := range places {
		for j := range places {
			a, b := places[i], places[j]
			if (commonDisk(&a, &b) != nil || commonFS(&a, &b) != nil) && (oneRegion(&a.Site, &b.Site) == No || oneHost(&a.Host, &b.Host) == No) {
				continue // no such places can be
			}
			v := Between(&a, &b)
			s := v.Shared
			rungs := []Answer{s.FileSystem, s.Disk, s.Host, s.Zone, s.Region}
			for k := 1; k < len(rungs); k++ {
				if rungs[k-1] == Yes && rungs[k] != Yes {
					t.Fatalf("%+v and %+v: %+v", a, b, s)
				}
			}
			if v.Distance == Apart && strings.Contains(v.Destroys, "not known") || v.Destroys == "" {
				t.Fatalf("%s: %q", v.Distance, v.Destroys)
			}
			for name, less := range map[string]func(*Place){
				"disks": func(p *Place) { p.Disks = nil }, "file systems": func(p *Place) { p.FileSystems = nil },
				"site": func(p *Place) { p.Site = Site{} }, "open": func(p *Place) { p.Open = true },
			} {
				c := b
				less(&c)
				if got := Between(&a, &c).Distance; got == Apart && v.Distance != Apart || v.Distance == Unknown && rank[got] < rank[Unknown] {
					t.Fatalf("without its %s: %s, with them %s: %+v and %+v", name, got, v.Distance, a, b)
				}
			}
		}
	}
}

func TestRule(t *testing.T) {
	source := machineIn("aws", "eu-west-1", "eu-west-1a", "euw1-az3")
	at := func(p Place, holds, immutable, verified Answer) Copy {
		return Copy{Place: p, Verdict: Between(&source, &p), Holds: holds, Immutable: immutable, Verified: verified}
	}
	disk := machineIn("aws", "eu-west-1", "eu-west-1a", "euw1-az3")
	disk.Name, disk.FileSystems, disk.Disks = "/mnt/vault", []FileSystem{{ID: "8:17"}}, []Disk{{ID: "sdb"}}
	same := disk
	same.Disks = source.Disks
	hidden := disk
	hidden.Disks, hidden.Open = nil, true
	far, near := bucketIn("aws", "us-east-1", ""), bucketIn("aws", "eu-west-1", "")
	away := Place{Name: "sftp://nas/", Open: true, Host: Host{Here: No, Name: "nas"}}
	for name, c := range map[string]struct {
		copies []Copy
		met    string // yes, no or ? for each digit
		says   []string
	}{
		"nothing": {nil, "no no no no no", []string{"1 copy, the source among them", "all copies are on one storage", "no vault holds", "no vault holds", "no vault holds"}},
		"all of it": {[]Copy{at(disk, Yes, No, Yes), at(far, Yes, Yes, Yes)}, "yes yes yes yes yes",
			[]string{"3 copies", "3 storages", "in no region or building", "keeps what it holds", "without an error"}},
		"one on the same disk":  {[]Copy{at(same, Yes, No, NotKnown)}, "no no no no ?", []string{"2 copies", "one storage", "every copy is on the source's host", "may delete", "was not read back"}},
		"one on another disk":   {[]Copy{at(disk, Yes, No, Yes)}, "no yes no no yes", nil},
		"disks not known":       {[]Copy{at(hidden, Yes, No, Yes)}, "no ? no no yes", []string{"", "whether the copies share a disk is not known"}},
		"a bucket nearby":       {[]Copy{at(near, Yes, NotKnown, NotKnown)}, "no yes yes ? ?", []string{"", "", "in another zone of the same region", "can be deleted is not known"}},
		"a NAS":                 {[]Copy{at(away, Yes, No, Yes)}, "no yes yes no yes", []string{"", "", "whether it is in the same building is not known"}},
		"errors":                {[]Copy{at(disk, Yes, No, No), at(far, Yes, Yes, Yes)}, "yes yes yes yes no", []string{"", "", "", "", "errors were found in the newest backup in /mnt/vault"}},
		"one is not known":      {[]Copy{at(disk, Yes, No, Yes), at(far, NotKnown, NotKnown, NotKnown)}, "? yes ? ? ?", []string{"of 1 vault it is not known"}},
		"one without a backup":  {[]Copy{at(disk, Yes, No, Yes), at(far, No, Yes, NotKnown)}, "no yes no no yes", nil},
		"two on one other disk": {[]Copy{at(disk, Yes, No, Yes), at(disk, Yes, No, Yes)}, "yes yes no no yes", []string{"", "2 storages"}},
	} {
		digits := Rule(&source, c.copies)
		want := strings.Fields(c.met)
		if len(digits) != 5 {
			t.Fatalf("%d digits", len(digits))
		}
		for i, d := range digits {
			met := d.Met.String()
			if met == "unknown" {
				met = "?"
			}
			says := ""
			if i < len(c.says) {
				says = c.says[i]
			}
			if met != want[i] || d.Reason == "" || !strings.Contains(d.Reason, says) {
				t.Errorf("%s: %s: %s, %q; want %s, %q", name, d.Rule, met, d.Reason, want[i], says)
			}
		}
	}
}

func TestFindings(t *testing.T) {
	source := machineIn("aws", "r", "z", "")
	same := source
	same.Volatile = "it is in memory"
	unknown := Place{Name: "ftp://x"}
	copies := []Copy{
		{Place: same, Verdict: Between(&source, &same), Holds: Yes, Immutable: No},
		{Place: unknown, Verdict: Between(&source, &unknown)},
	}
	want := map[colorfast.Code]int{colorfast.ApartFileSystem: 1, colorfast.ApartVolatile: 1, colorfast.ApartDeletable: 1, colorfast.ApartUnknown: 1}
	for _, f := range Findings(&source, copies) {
		want[f.Code]--
		if f.Detail == "" || f.Object == "" {
			t.Errorf("%+v", f)
		}
	}
	for code, n := range want {
		if n != 0 {
			t.Errorf("%s: %d too few", code, n)
		}
	}
	for _, c := range []struct {
		copies []Copy
		code   colorfast.Code
	}{{nil, colorfast.ApartNoBackup}, {copies[:1], colorfast.ApartOneVault}} {
		found := Findings(&source, c.copies)
		if last := found[len(found)-1]; last.Code != c.code {
			t.Errorf("%d copies: %s, want %s", len(c.copies), last.Code, c.code)
		}
	}
	for distance, code := range codes { // every distance but the best is a finding
		if distance == Apart || code == "" {
			t.Errorf("%s: %q", distance, code)
		}
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(map[string]any{"place": Place{}, "verdict": Between(&Place{}, &Place{})})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"file_systems":[]`, `"doubts":[]`, `"distance":"unknown"`, `"here":"unknown"`, `"disk":"unknown"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}
