package fake

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
)

// content is what the tests store.
var content = fstest.MapFS{"a": {Data: []byte("hello")}, "d/b": {Data: []byte("world!")}, "d/c": {Data: []byte("hello")}}

// manifest lists content.
func manifest(point time.Time) *colorfast.Manifest {
	m := &colorfast.Manifest{FileList: []colorfast.File{
		{Path: ".", Type: colorfast.Directory}, {Path: "a", Type: colorfast.Regular, Size: 5},
		{Path: "d", Type: colorfast.Directory}, {Path: "d/b", Type: colorfast.Regular, Size: 6}, {Path: "d/c", Type: colorfast.Regular, Size: 5},
	}}
	m.Consistency.FrozenAt = point
	m.Summarize()
	return m
}

func TestVault(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	v, err := NewVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	older, newer := manifest(now.Add(-time.Hour)), manifest(now)
	for _, m := range []*colorfast.Manifest{newer, older} {
		if err := v.Put(ctx, m, content, nil); err != nil {
			t.Fatal(err)
		}
	}
	if newer.StoredBytes != 11 || older.StoredBytes != 0 || newer.ID == older.ID || newer.FinishedAt.IsZero() {
		t.Errorf("stored %+v and %+v", newer.Backup, older.Backup)
	}
	v, err = NewVault(dir) // another process
	if err != nil {
		t.Fatal(err)
	}
	list, err := v.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != newer.ID || list[1].ID != older.ID {
		t.Fatalf("list %+v, %v", list, err)
	}
	m, err := v.Manifest(ctx, newer.ID)
	if err != nil || m.FileList[3].SHA256 != newer.FileList[3].SHA256 {
		t.Fatalf("manifest %+v, %v", m, err)
	}
	r, err := v.Open(ctx, m, "d/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); string(b) != "world!" || err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
	r.Close()
	for _, level := range []colorfast.Level{colorfast.Stored, colorfast.Bytes} {
		if f, err := v.Check(ctx, m, level, nil); err != nil || len(f) != 0 {
			t.Errorf("check %s: %v, %v", level, f, err)
		}
	}
	if err := os.WriteFile(v.Blob(&m.FileList[3]), []byte("wOrld!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := v.Check(ctx, m, colorfast.Bytes, nil); err != nil || len(f) != 1 || f[0].Code != colorfast.StoredDiffers {
		t.Errorf("check of damage: %v, %v", f, err)
	}
	r, err = v.Open(ctx, m, "d/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); colorfast.KindOf(err) != colorfast.Corrupt {
		t.Errorf("damage reads as %v", err)
	}
	r.Close()
	if err := os.Remove(v.Blob(&m.FileList[3])); err != nil {
		t.Fatal(err)
	}
	if f, err := v.Check(ctx, m, colorfast.Stored, nil); err != nil || len(f) != 1 || f[0].Code != colorfast.StoredMissing {
		t.Errorf("check of loss: %v, %v", f, err)
	}
}

func TestVaultRefuses(t *testing.T) {
	ctx := context.Background()
	v, err := NewVault(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := manifest(time.Now())
	m.FileList[1].Size = 4
	if err := v.Put(ctx, m, content, nil); colorfast.KindOf(err) != colorfast.Corrupt || m.ID != "" {
		t.Errorf("another size: %v, ID %q", err, m.ID)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := v.Put(gone, manifest(time.Now()), content, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if list, err := v.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := v.Manifest(ctx, "none"); colorfast.KindOf(err) != colorfast.NotFound {
		t.Errorf("no such backup: %v", err)
	}
	m = manifest(time.Now())
	if err := v.Put(ctx, m, content, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Open(ctx, m, "d", nil); colorfast.KindOf(err) != colorfast.NotFound {
		t.Errorf("a directory as a file: %v", err)
	}
}
