package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/fake"
)

// TestMemoryThatIsOfNoUse: whatever has become of it, the source is read, the
// backup is made, and the next run has a memory again.
func TestMemoryThatIsOfNoUse(t *testing.T) {
	rewrite := func(change func(b []byte) []byte) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) {
			b, err := os.ReadFile(s.memory(t))
			if err == nil {
				err = os.WriteFile(s.memory(t), change(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	amend := func(change func(m map[string]any)) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) { edit(t, s.memory(t), change) }
	}
	kernel := func(key string, value any) func(*testing.T, *scene) {
		return amend(func(m map[string]any) { m["look"].(map[string]any)["kernel"].(map[string]any)[key] = value })
	}
	born := func(by time.Duration) func(*testing.T, *scene) {
		return amend(func(m map[string]any) {
			k := m["look"].(map[string]any)["kernel"].(map[string]any)
			n, err := k["born_ns"].(json.Number).Int64()
			if err != nil {
				panic(err)
			}
			k["born_ns"] = n + int64(by)
		})
	}
	s := newScene(t)
	s.run(t, false)
	for name, spoil := range map[string]func(*testing.T, *scene){
		"gone":                      func(t *testing.T, s *scene) { must(t, os.Remove(s.memory(t))) },
		"gone with its folder":      func(t *testing.T, s *scene) { must(t, os.RemoveAll(s.b.Memory)) },
		"empty":                     rewrite(func([]byte) []byte { return nil }),
		"cut in half":               rewrite(func(b []byte) []byte { return b[:len(b)/2] }),
		"cut by a byte":             rewrite(func(b []byte) []byte { return b[:len(b)-2] }),
		"zeros":                     rewrite(func(b []byte) []byte { return make([]byte, len(b)) }),
		"null":                      rewrite(func([]byte) []byte { return []byte("null") }),
		"something else":            rewrite(func([]byte) []byte { return []byte(`[{"look": 5}]`) }),
		"without a look":            amend(func(m map[string]any) { delete(m, "look") }),
		"without entries":           amend(func(m map[string]any) { m["look"].(map[string]any)["entries"] = []any{} }),
		"with an entry less":        amend(func(m map[string]any) { l := m["look"].(map[string]any); l["entries"] = l["entries"].([]any)[1:] }),
		"with an entry twice":       amend(func(m map[string]any) { l := m["look"].(map[string]any); e := l["entries"].([]any); e[1] = e[2] }),
		"of another backup":         amend(func(m map[string]any) { m["backup"] = strings.Repeat("0", 32) }),
		"of another vault":          amend(func(m map[string]any) { m["vault_key"] = "w" }),
		"of another source":         amend(func(m map[string]any) { m["source"].(map[string]any)["path"] = "/other" }),
		"of another host":           amend(func(m map[string]any) { m["source"].(map[string]any)["host"] = "other" }),
		"of before a reboot":        kernel("boot", "7f1c0f6e-3e55-4b8e-9d0b-000000000000"),
		"of a system without boots": kernel("boot", ""),
		"of a network":              kernel("fs", "nfs"),
		"of a clock set back":       born(time.Second),
		"of a clock set forward":    born(-time.Second),
		"of the future":             amend(func(m map[string]any) { m["look"].(map[string]any)["begun"] = time.Now().Add(time.Hour) }),
		"a folder": func(t *testing.T, s *scene) {
			p := s.memory(t)
			must(t, os.Remove(p), os.Mkdir(p, 0o700), os.Mkdir(p+"/x", 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			spoil(t, s)
			s.run(t, false)
			if name == "a folder" { // which cannot be written over
				must(t, os.RemoveAll(s.b.Memory))
				s.run(t, false)
			}
			s.run(t, true)
		})
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestParentThatIsOfNoUse: the newest backup must be one that a new one may rely
// on.
func TestParentThatIsOfNoUse(t *testing.T) {
	s := newScene(t)
	last := s.run(t, false)
	for name, spoil := range map[string]func(t *testing.T, s *scene, id colorfast.BackupID){
		"it is damaged": func(t *testing.T, s *scene, id colorfast.BackupID) {
			s.amend(t, id, func(m map[string]any) { m["verified"] = "failed" })
		},
		"nobody could look at it": func(t *testing.T, s *scene, id colorfast.BackupID) {
			s.amend(t, id, func(m map[string]any) { m["verified"] = "" })
		},
		"another version made it": func(t *testing.T, s *scene, id colorfast.BackupID) {
			s.amend(t, id, func(m map[string]any) { m["tool"] = "colorfast 0.0.1" })
		},
		"it is of an older format": func(t *testing.T, s *scene, id colorfast.BackupID) {
			s.amend(t, id, func(m map[string]any) { m["format"] = 1 })
		},
		"it was deleted": func(t *testing.T, s *scene, id colorfast.BackupID) {
			must(t, os.Remove(filepath.Join(s.vaultDir, "manifests", string(id)+".json")))
		},
		"somebody else made a newer one": func(t *testing.T, s *scene, id colorfast.BackupID) {
			other := s.b
			other.Memory = ""
			if _, err := other.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spoil(t, s, last.ID)
			s.run(t, false)
			last = s.run(t, true)
		})
	}
}

// TestDamagedSourceIsReadAgain: who waits for it to be mended wants a new look.
func TestDamagedSourceIsReadAgain(t *testing.T) {
	s := newScene(t)
	found, err := filepath.Glob(s.path("*/index_metadata.pickle"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	must(t, os.Truncate(found[0], 20))
	s.rest(t)
	for range 2 {
		if m := s.run(t, false); !m.Damaged() {
			t.Errorf("%s", m.Verified)
		}
	}
	if found, err := filepath.Glob(filepath.Join(s.b.Memory, "*.json")); err != nil || len(found) > 0 {
		t.Errorf("there is a memory: %v, %v", found, err)
	}
}

// refusing is a vault that gives an error for what is marked Same.
type refusing struct {
	*fake.Vault
	err      error
	manifest bool // for reading a manifest instead
}

func (r *refusing) Put(ctx context.Context, m *colorfast.Manifest, content fs.FS, p colorfast.Progress) error {
	for i := range m.FileList {
		if m.FileList[i].Same {
			return r.err
		}
	}
	return r.Vault.Put(ctx, m, content, p)
}

func (r *refusing) Manifest(ctx context.Context, id colorfast.BackupID) (*colorfast.Manifest, error) {
	if r.manifest {
		return nil, r.err
	}
	return r.Vault.Manifest(ctx, id)
}

func TestVaultThatCannotStoreAgain(t *testing.T) {
	for name, c := range map[string]struct {
		kind     colorfast.Kind
		manifest bool
		fails    bool
	}{
		"the parent lacks a file":      {kind: colorfast.NotFound},
		"the parent is damaged":        {kind: colorfast.Corrupt},
		"its manifest is gone":         {kind: colorfast.NotFound, manifest: true},
		"its manifest is damaged":      {kind: colorfast.Corrupt, manifest: true},
		"the vault cannot be reached":  {kind: colorfast.Unreachable, fails: true},
		"the vault may not be written": {kind: colorfast.Denied, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			r := &refusing{Vault: s.b.Vault.(*fake.Vault)}
			s.b.Vault = r
			s.run(t, false)
			r.err, r.manifest = colorfast.Errorf(c.kind, "for a test"), c.manifest
			if c.fails {
				if m, err := s.b.Run(t.Context()); colorfast.KindOf(err) != c.kind || m != nil {
					t.Errorf("%v", err)
				}
			} else {
				s.run(t, false)
			}
			if list, err := r.List(t.Context()); err != nil || len(list) != 2 && !c.fails || len(list) != 1 && c.fails {
				t.Errorf("%d backups, %v", len(list), err)
			}
		})
	}
}

// TestMemoryIsOfOneSourceAndVault: neither disturbs that of another.
func TestMemoryIsOfOneSourceAndVault(t *testing.T) {
	s, other := newScene(t), newScene(t)
	other.b.Memory = s.b.Memory
	elsewhere := &scene{dir: s.dir, vaultDir: other.vaultDir, b: s.b}
	elsewhere.b.Vault, elsewhere.b.VaultKey = other.b.Vault, "another"
	for _, unchanged := range []bool{false, true, true} {
		for _, x := range []*scene{s, other, elsewhere} {
			x.run(t, unchanged)
		}
	}
	if found, err := filepath.Glob(filepath.Join(s.b.Memory, "*.json")); err != nil || len(found) != 3 {
		t.Errorf("%v, %v", found, err)
	}
}

// TestNoMemory: without a folder, or with one in the source, every run reads.
func TestNoMemory(t *testing.T) {
	for name, folder := range map[string]func(s *scene) string{
		"none":                     func(*scene) string { return "" },
		"in the source":            func(s *scene) string { return s.path("memory") },
		"the source":               func(s *scene) string { return s.dir },
		"in the source, by a link": func(s *scene) string { return filepath.Join(s.b.Memory, "link", "memory") },
		"a file":                   func(s *scene) string { return s.path("notes") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			must(t, os.MkdirAll(s.b.Memory, 0o700), os.Symlink(s.dir, filepath.Join(s.b.Memory, "link")))
			s.b.Memory = folder(s)
			before := snapshot(t, s.dir)
			s.run(t, false)
			s.run(t, false)
			if after := snapshot(t, s.dir); after != before {
				t.Errorf("the source changed:\n%s\nwas:\n%s", after, before)
			}
		})
	}
}

// TestFreezeBoundIsCheckedEvenIfNothingFreezes, so that a mistake shows at once.
func TestFreezeBoundIsCheckedEvenIfNothingFreezes(t *testing.T) {
	s := newScene(t)
	s.run(t, false)
	s.b.MaxFreeze = time.Hour
	if _, err := s.b.Run(t.Context()); colorfast.KindOf(err) != colorfast.Usage {
		t.Errorf("%v", err)
	}
}
