package vault

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"syscall"

	"colorfast"
	"github.com/kopia/kopia/repo/object"
)

func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func TestZZ(t *testing.T) {
	base := os.Getenv("ZZ")
	if base == "" { t.Skip() }
	dir := "/tmp/w/exp"
	os.RemoveAll(dir)
	os.MkdirAll(dir, 0o700)
	ctx := context.Background()
	pw := NewSecret("x")
	o := Options{URL: "file://" + dir + "/v", Password: pw, CacheDir: dir + "/cache"}
	if err := Create(ctx, o); err != nil { t.Fatal(err) }
	var parent colorfast.BackupID
	known := map[string]bool{}
	v, err := Open(ctx, o)
	if err != nil { t.Fatal(err) }
	for _, st := range strings.Split(os.Getenv("ZZS"), ",") {
		root := filepath.Join(base, st)
		if e, _ := os.ReadDir(root); len(e) == 1 { root = filepath.Join(root, e[0].Name()) }
		m := &colorfast.Manifest{}
		m.Source = colorfast.Source{Host: "h", Path: "/s"}
		m.Parent = parent
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(root, p)
			fi, _ := d.Info()
			f := colorfast.File{Path: rel, Type: colorfast.Directory}
			if fi.Mode().IsRegular() {
				f.Type, f.Size = colorfast.Regular, fi.Size()
				if rel == "chroma.sqlite3" { f.Layout = &colorfast.Layout{PageBytes: 4096} }
				if filepath.Base(rel) == "data_level0.bin" {
					b, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "header.bin"))
					u := int(binary.LittleEndian.Uint64(b[28:]))
					f.Layout = &colorfast.Layout{UnitBytes: u, PageBytes: max(1, 65536/u) * u, ColumnFrom: int(binary.LittleEndian.Uint64(b[44:])), ColumnTo: int(binary.LittleEndian.Uint64(b[36:]))}
				}
			}
			m.FileList = append(m.FileList, f)
			return nil
		})
		t0, c0 := time.Now(), cpu()
		if err := v.Put(ctx, m, os.DirFS(root), nil); err != nil { t.Fatal(err) }
		m.Summarize()
		el, c1 := time.Since(t0), cpu()-c0
		var tot int64
		for _, f := range m.FileList { tot += f.Size }
		fmt.Printf("%s: %d MB, stored %.2f MB, %.2fs cpu %.2fs %.0f MB/s\n", st, tot>>20, float64(m.StoredBytes)/1e6, el.Seconds(), c1, float64(tot)/1e6/el.Seconds())
		r, err := newReading(ctx, v.conn, m.ID, v.pageKey)
		if err != nil { t.Fatal(err) }
		var len_, parts int64
		runs := 0
		for _, o := range r.m.Objects { len_ += o.Length; parts += o.Parts }
		for _, s := range r.m.Streams { runs += len(s.Runs()) }
		var live int64
		for _, l := range r.m.Live(cutsOf(m.FileList)) { live += l }
		seen := map[string]bool{}
		for _, o := range r.m.Objects {
			if known[o.ID] { continue }
			seen[o.ID] = true
			oid, _ := object.ParseID(o.ID)
			ids, err := v.conn.VerifyObject(ctx, oid)
			if err != nil { t.Fatal(err) }
			var packed int64
			for _, id := range ids { ci, _ := v.conn.ContentInfo(ctx, id); packed += int64(ci.PackedLength) }
			fmt.Printf("      new object %d MB -> %.2f MB, %d parts, avg %d\n", o.Length>>20, float64(packed)/1e6, o.Parts, o.Length/max(1,o.Parts))
		}
		for k := range seen { known[k] = true }
		mid, _ := r.tree.find(ctx, "map")
		fmt.Printf("   map %d bytes\n", mid.FileSize)
		fmt.Printf("   objects %d len %d MB live %d MB runs %d\n", len(r.m.Objects), len_>>20, live>>20, runs)
		t0, c0 = time.Now(), cpu()
		for _, f := range m.FileList {
			if f.Type != colorfast.Regular { continue }
			rd, err := v.Open(ctx, m, f.Path, nil)
			if err != nil { t.Fatal(err) }
			if _, err := io.Copy(io.Discard, rd); err != nil { t.Fatal(f.Path, err) }
			rd.Close()
		}
		fmt.Printf("   read %.2fs cpu %.2fs\n", time.Since(t0).Seconds(), cpu()-c0)
		parent = m.ID
	}
	v.Close(ctx)
}
