package reader

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/vault"
)

// odd are files at the edges of "Pages, parts and streams".
var odd = map[string]struct {
	size   int
	layout *colorfast.Layout
}{
	"odd/no page":           {0, &colorfast.Layout{PageBytes: 4000, UnitBytes: 1000, ColumnFrom: 10, ColumnTo: 990}},
	"odd/no unit":           {999, &colorfast.Layout{PageBytes: 4000, UnitBytes: 1000, ColumnFrom: 10, ColumnTo: 990}},
	"odd/a long last part":  {3*4000 + 3999, &colorfast.Layout{PageBytes: 4000, UnitBytes: 1000, ColumnFrom: 10, ColumnTo: 990}},
	"odd/all column":        {3*4000 + 1999, &colorfast.Layout{PageBytes: 4000, UnitBytes: 1000, ColumnTo: 1000}},
	"odd/one unit a page":   {70_000, &colorfast.Layout{PageBytes: 1000, UnitBytes: 1000, ColumnFrom: 999, ColumnTo: 1000}},
	"odd/pages of one byte": {300, &colorfast.Layout{PageBytes: 1}},
	"odd/a whole page":      {65536, nil},
	"odd/zeros":             {200_000, nil},
}

// putChain stores a chain of backups, each the parent of the next, and returns
// what they hold by their IDs, and the IDs in order.
func putChain(t *testing.T, dir string, length int) (all map[string]fstest.MapFS, ids []string) {
	t.Helper()
	all = map[string]fstest.MapFS{}
	m, files := contract.Sample(1)
	dirEntry := colorfast.File{Path: "odd", Type: colorfast.Directory, Mode: 0o700}
	m.FileList = append(m.FileList, dirEntry)
	for _, p := range slices.Sorted(maps.Keys(odd)) {
		b := make([]byte, odd[p].size)
		for i := range b {
			if p != "odd/zeros" {
				b[i] = byte(i*i>>8 + i)
			}
		}
		files[p] = &fstest.MapFile{Data: b}
		m.FileList = append(m.FileList, colorfast.File{Path: p, Type: colorfast.Regular, Size: int64(len(b)), Layout: odd[p].layout})
	}
	m.Summarize()
	with(t, dir, newPassword, func(ctx context.Context, v *vault.Vault) error {
		for i := range length {
			if i > 0 {
				m, files = contract.Next(m, files, uint64(i))
				for p := range odd {
					if b := files[p].Data; len(b) > 0 && i%2 == 0 {
						b[i*977%len(b)] ^= byte(i)
					}
				}
			}
			if err := v.Put(ctx, m, files, nil); err != nil {
				return err
			}
			all[string(m.ID)] = files
			ids = append(ids, string(m.ID))
		}
		return nil
	})
	return all, ids
}

// exactly fails the test unless the vault has these backups, byte for byte, and
// no others.
func exactly(t *testing.T, v *Vault, want map[string]fstest.MapFS) {
	t.Helper()
	list, err := v.Backups()
	if err != nil || len(list) != len(want) {
		t.Fatalf("%d backups, want %d: %v", len(list), len(want), err)
	}
	for _, b := range list {
		whole, files, err := v.Manifest(b)
		if err != nil || want[b.ID] == nil || b.Format != 2 {
			t.Fatalf("backup %s of format %d: %v\n%s", b.ID, b.Format, err, whole)
		}
		for _, f := range files {
			if f.Type != "file" {
				continue
			}
			var got bytes.Buffer
			if err := v.Read(&got, b, f); err != nil || !bytes.Equal(got.Bytes(), want[b.ID][f.Path].Data) {
				t.Errorf("backup %s, %q: %d bytes, %v", b.ID, f.Path, got.Len(), err)
			}
		}
	}
}

func TestFormat2(t *testing.T) {
	dir := newVault(t)
	all, ids := putChain(t, dir, 6)
	v := open(t, dir, newPassword)
	exactly(t, v, all)
	t.Run("sums", func(t *testing.T) { testSums(t, v, all) })
	t.Run("wrong maps", func(t *testing.T) { testWrongMaps(t, v, ids[4], all[ids[4]]) })

	age(t, dir, newPassword)
	for _, id := range []string{ids[0], ids[2], ids[5]} {
		deleteBackups(t, dir, newPassword, id)
		delete(all, id)
	}
	exactly(t, open(t, dir, newPassword), all)
	maintain(t, dir, newPassword)
	v = open(t, dir, newPassword)
	exactly(t, v, all)
	garbage := 0
	maps.DeleteFunc(v.index, func(_ string, e entry) bool {
		if e.deleted {
			garbage++
		}
		return e.deleted
	})
	if garbage < 6 {
		t.Errorf("maintenance found only %d contents that nothing needs", garbage)
	}
	exactly(t, v, all)
	write(t, folder(dir).path(fmt.Sprintf("xw%d", time.Now().Unix()+1)), []byte("deletion-watermark"))
	sameAsColorfast(t, dir, newPassword, len(all))
}

// backup returns the backup with this ID, the bytes of its map, its regular files
// and how they are cut.
func backup(t *testing.T, v *Vault, id string) (b *Backup, raw []byte, files []File, cuts []cut) {
	t.Helper()
	list, err := v.Backups()
	i := slices.IndexFunc(list, func(b *Backup) bool { return b.ID == id })
	if i < 0 {
		t.Fatal(id, list, err)
	}
	object, err := v.find(list[i], "map", "f")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = v.readAll(object); err != nil {
		t.Fatal(err)
	}
	_, fileList, err := v.Manifest(list[i])
	if err != nil {
		t.Fatal(err)
	}
	if files, cuts, err = regular(fileList); err != nil {
		t.Fatal(err)
	}
	return list[i], raw, files, cuts
}

// streams cuts a file into the parts of its streams.
func streams(c cut, b []byte) [][][]byte {
	all := make([][][]byte, c.streams())
	for page := range slices.Chunk(b, int(c.page)) {
		parts := make([][]byte, len(all))
		for c.unit > 0 && int64(len(page)) >= c.unit {
			parts[0] = append(parts[0], page[:c.from]...)
			parts[0] = append(parts[0], page[c.to:c.unit]...)
			parts[1] = append(parts[1], page[c.from:c.to]...)
			page = page[c.unit:]
		}
		parts[0] = append(parts[0], page...)
		for i, p := range parts {
			all[i] = append(all[i], p)
		}
	}
	return all
}

// table reads a whole object of pages: its parts' sums by their offsets, and its
// first L bytes.
func table(t *testing.T, v *Vault, o mapObject) (sums map[int64]string, parts []byte) {
	t.Helper()
	b, err := v.readAll(o.id)
	if err != nil || int64(len(b)) != o.bytes+sumEntry*o.parts {
		t.Fatalf("object %+v: %d bytes, %v", o, len(b), err)
	}
	sums = map[int64]string{}
	last := int64(-1)
	for e := range slices.Chunk(b[o.bytes:], sumEntry) {
		at := int64(binary.LittleEndian.Uint32(e))
		if at <= last || last < 0 && at != 0 || at >= o.bytes {
			t.Errorf("object %s of %d bytes: a part at %d behind one at %d", o.id, o.bytes, at, last)
		}
		sums[at], last = string(e[4:]), at
	}
	return sums, b[:o.bytes]
}

// testSums holds the tables of all objects to "Objects of pages", and the maps
// to what "map" promises of bases.
func testSums(t *testing.T, v *Vault, all map[string]fstest.MapFS) {
	id, f, err := v.format(newPassword)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, f.MasterKey, id, "colorfast pages", 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(part []byte) string {
		h := sha256.Sum256(slices.Concat(key, part))
		return string(h[:16])
	}
	var zeros, whole, differences int
	for id, content := range all {
		b, raw, files, cuts := backup(t, v, id)
		m, err := parseMap(raw, cuts)
		if err != nil {
			t.Fatal(err)
		}
		sums, bytesOf := make([]map[int64]string, len(m.objects)), make([][]byte, len(m.objects))
		for i, o := range m.objects {
			sums[i], bytesOf[i] = table(t, v, o)
			if listed, err := v.find(b, fmt.Sprintf("pages/%d", i), "f"); err != nil || listed != o.id {
				t.Errorf("pages/%d is %q, the map says %q: %v", i, listed, o.id, err)
			}
		}
		next := m.streams
		for i, f := range files {
			for _, parts := range streams(cuts[i], content[f.Path].Data) {
				for _, u := range next[0] {
					at := int64(0)
					for _, part := range parts[:u.count] {
						d := u.data
						switch stored := d.object >= 0; {
						case !stored && len(bytes.Trim(part, "\x00")) > 0:
							t.Errorf("%q: bytes that are not 0 and are not stored", f.Path)
						case !stored:
							zeros++
						case sums[d.object][d.place+at] != sum(part):
							t.Errorf("%q: the sum of a part is %x, want %x", f.Path, sums[d.object][d.place+at], sum(part))
						case u.base.object < 0:
							whole++
						default:
							differences++
							from := u.base.place + at
							base := bytesOf[u.base.object][from:][:len(part)]
							if sums[u.base.object][from] != sum(base) {
								t.Errorf("%q: a base is no part, or has itself a base", f.Path)
							}
						}
						at += int64(len(part))
					}
					parts = parts[u.count:]
				}
				next = next[1:]
			}
		}
	}
	if zeros < 10 || whole < 100 || differences < 10 {
		t.Errorf("%d parts of zeros, %d stored whole, %d as differences", zeros, whole, differences)
	}
}

// testWrongMaps changes a map in many ways: all are errors, or change nothing.
func testWrongMaps(t *testing.T, v *Vault, id string, content fstest.MapFS) {
	_, raw, files, cuts := backup(t, v, id)
	for i := range raw {
		if _, err := parseMap(raw[:i], cuts); err == nil {
			t.Errorf("the first %d of %d bytes are a map", i, len(raw))
		}
	}
	read := func(b []byte) error {
		m, err := parseMap(b, cuts)
		for i, f := range files {
			if err != nil {
				return err
			}
			var got bytes.Buffer
			if err = f.check(&got, m.open(v, cuts, i)); err == nil && !bytes.Equal(got.Bytes(), content[f.Path].Data) {
				t.Fatalf("%q: other bytes were read", f.Path)
			}
		}
		return err
	}
	if err := read(raw); err != nil {
		t.Fatal(err)
	}
	m, err := parseMap(raw, cuts)
	if err != nil {
		t.Fatal(err)
	}
	runs := bytes.Index(raw, []byte(m.objects[len(m.objects)-1].id)) + 70 // most before them is IDs
	parsed, tried, harmless := 0, 0, 0
	for i := range raw {
		for bit := range 8 {
			bad := slices.Clone(raw)
			bad[i] ^= 1 << bit
			if _, err := parseMap(bad, cuts); err != nil {
				continue
			}
			if parsed++; i > runs && parsed%5 == 0 || parsed%307 == 0 {
				tried++
				if read(bad) == nil {
					harmless++
				}
			}
		}
	}
	if tried < 20 || harmless > tried/5 {
		t.Errorf("of %d changed maps %d were read, and %d gave the right bytes", parsed, tried, harmless)
	}
	if _, err := parseMap([]byte(strings.Replace(string(raw), "map 2", "map 3", 1)), cuts); err == nil {
		t.Error("map 3 is read")
	}
}

func TestMadeUpMaps(t *testing.T) {
	huge := string(binary.AppendUvarint(nil, 1<<63))
	over := strings.Repeat("\xff", 10) + "\x01"
	one := []cut{{size: 100, page: 10}}
	const objects = "\x01\x01i\x64\x0a" // one of 100 bytes, 10 parts
	for b, ok := range map[string]bool{
		"\x01\x01i\x09\x0a\x01\x01\x0a\x00":                           false, // more parts than bytes
		"":                                                            false,
		objects + "\x01\x01\x0a\x00":                                  true,
		objects + "\x01\x01\x0a\x00\x00":                              false, // something behind
		objects + "\x00":                                              false, // no stream
		objects + "\x02\x01\x0a\x00\x00":                              false, // two
		objects + "\x01\x01\x09\x00":                                  false, // a part less
		objects + "\x01\x01\x0b\x00":                                  false, // a part more
		objects + "\x01\x02\x0a\x00\x00\x00":                          false, // a run of none
		objects + "\x01\x01\x0a\x01\x00\x00":                          true,
		objects + "\x01\x01\x0a\x01\x00\x01\xc7\x01":                  true,  // base: back to 0
		objects + "\x01\x01\x0a\x01\x00\x01\x00":                      false, // base behind the end
		objects + "\x01\x01\x0a\x01\x02\x00":                          false, // one byte too far
		objects + "\x01\x01\x0a\x01\x01\x00":                          false, // before the beginning
		objects + "\x01\x01\x0a\x02\x00\x00":                          false, // no such object
		objects + "\x01\x01\x0a\x01\x00\x02\x00":                      false, // no such base
		objects + "\x01\x01\x0a\x01" + over[:9] + "\x01\x00":          false, // the least distance
		objects + "\x01\x01\x0a\x01" + "\xfe" + over[:8] + "\x01\x00": false, // the greatest
		huge: false, over: false, "\x01" + huge: false, "\x01\x01i" + huge: false,
		"\x01\x01i\x64" + huge: false, "\x01\x01i\x81\x80\x80\x20\x0a": false,
		objects + huge: false, objects + "\x01" + huge: false, objects + over: false,
		objects + "\x01\x01" + huge: false, objects + "\x01\x01\x0a" + huge: false,
	} {
		if _, err := parseMap([]byte(mapMagic+b), one); (err == nil) != ok {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestLayouts(t *testing.T) {
	for l, ok := range map[Layout]bool{
		{}:                    true,
		{4096, 0, 0, 0}:       true,
		{4096, 1024, 0, 4}:    true,
		{4096, 1024, 4, 4}:    false,
		{4096, 1024, 0, 1024}: true,
		{0, 1024, 0, 4}:       false,
		{-1, 0, 0, 0}:         false,
		{4096, 1000, 0, 4}:    false,
		{4096, 1024, 8, 4}:    false,
		{4096, 1024, 8, 1025}: false,
		{4096, 1024, -1, 4}:   false,
		{4096, -1024, 0, 4}:   false,
		{4096, 0, 0, 4}:       false,
		{1 << 40, 0, 0, 0}:    false,
	} {
		if _, err := newCut(File{Layout: l}); (err == nil) != ok {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if _, err := newCut(File{Size: -1}); err == nil {
		t.Error("a size below 0")
	}
	// No size overflows.
	c, err := newCut(File{Size: 1<<63 - 1, Layout: Layout{PageBytes: 1 << 26}})
	if err != nil || c.pages() != 1<<37 || c.pageLength(1<<37-1) != 1<<26-1 {
		t.Error(c, err)
	}
	b := "\x01\x01i\x01\x01\x01\x01" + string(binary.AppendUvarint(nil, 1<<37)) + "\x01\x00\x00"
	if _, err := parseMap([]byte(mapMagic+b), []cut{c}); err == nil {
		t.Errorf("%q: all of it in one byte", b)
	}
}
