package copies_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"colorfast"
	"colorfast/copies"
	"colorfast/internal/contract"
	"colorfast/internal/fake"
)

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || at >= len(b) {
		t.Fatalf("%q: %d bytes, %v", path, len(b), err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralKeepsTheContract(t *testing.T) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			contract.Vault(t, func(t *testing.T) colorfast.Vault {
				dir := t.TempDir()
				return several(t, open(t, filepath.Join(dir, "a")), open(t, filepath.Join(dir, "b")))
			})
		})
		if testing.Short() {
			break
		}
	}
}

// several closes its vaults only with the test.
func several(_ *testing.T, vaults ...copies.Vault) *copies.Several {
	var members []copies.Member
	for i, v := range vaults {
		members = append(members, copies.Member{Name: string(rune('a' + i)), Vault: open{v}})
	}
	return copies.NewSeveral(members...)
}

// open is a vault that Close leaves open.
type open struct{ copies.Vault }

func (open) Close(context.Context) error { return nil }

// damagedPair returns two fake vaults with the same two backups.
func damagedPair(t *testing.T) (a, b *fake.Vault, all []*colorfast.Manifest, files []fstest.MapFS) {
	t.Helper()
	var err error
	if a, err = fake.NewVault(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if b, err = fake.NewVault(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	all, files = history(t, a, 2)
	run(t, copies.Copy{From: a, To: b})
	return a, b, all, files
}

func readAll(v colorfast.Vault, m *colorfast.Manifest, path string) ([]byte, error) {
	in, err := v.Open(context.Background(), m, path, nil)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(in)
	return out, errors.Join(err, in.Close())
}

func TestSeveralGoesOnInACopy(t *testing.T) {
	const path = "seg/data_level0.bin"
	broken := errors.New("input/output error")
	for name, c := range map[string]struct {
		spoil func(a *fake.Vault)
		taken int // files
	}{
		"whole":         {func(*fake.Vault) {}, 0},
		"cannot open":   {func(a *fake.Vault) { a.OnOpen = func(string) error { return broken } }, 1},
		"fails at once": {func(a *fake.Vault) { a.OnRead = func(string, []byte) error { return broken } }, 1},
		"fails in the middle": {func(a *fake.Vault) {
			n := 0
			a.OnRead = func(_ string, b []byte) error {
				if n += len(b); n > 400_000 {
					return broken
				}
				return nil
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, all, files := damagedPair(t)
			v := several(t, a, b)
			m, err := v.Manifest(t.Context(), all[1].ID)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(a)
			got, err := readAll(v, m, path)
			if err != nil || !bytes.Equal(got, files[1][path].Data) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			taken := v.Taken()
			if c.taken == 0 {
				if len(taken) != 0 {
					t.Errorf("taken %+v", taken)
				}
				return
			}
			if len(taken) != 1 || taken[0].Vault != "b" || len(taken[0].Files) != c.taken || taken[0].Files[0] != path || taken[0].Reason == "" {
				t.Errorf("taken %+v", taken)
			}
		})
	}
}

// TestSeveralNeverMixesOtherBytes: bytes given out that turn out to be wrong are
// not completed with right ones.
func TestSeveralNeverMixesOtherBytes(t *testing.T) {
	const path = "seg/data_level0.bin"
	a, b, all, _ := damagedPair(t)
	n := 0
	a.OnRead = func(_ string, b []byte) error {
		if n == 0 {
			b[0] ^= 1 // given out
		}
		if n += len(b); n > 400_000 {
			return errors.New("input/output error")
		}
		return nil
	}
	if got, err := readAll(several(t, a, b), all[1], path); err == nil {
		t.Errorf("%d bytes with a wrong one among them", len(got))
	}
}

func TestSeveralWithoutTheFirst(t *testing.T) {
	a, b, all, files := damagedPair(t)
	lost := colorfast.Errorf(colorfast.Corrupt, "open vault: it is damaged")
	v := copies.NewSeveral(copies.Member{Name: "a", Err: lost}, copies.Member{Name: "b", Vault: open{b}})
	l := list(t, v, 2)
	found, err := colorfast.ResolveBackup(l, string(all[0].ID), "")
	if err != nil {
		t.Fatal(err)
	}
	contract.Whole(t, v, found.ID, files[0])
	// By the ID that it had in the lost vault, too.
	m, err := v.Manifest(t.Context(), all[1].ID)
	if err != nil || m.ID != all[1].ID {
		t.Fatalf("%v, %v", m, err)
	}
	for _, taken := range v.Taken() {
		if taken.Vault != "b" || taken.Reason != lost.Error() {
			t.Errorf("taken %+v", taken)
		}
	}
	if len(v.Taken()) == 0 {
		t.Error("nothing is told")
	}
	if err := v.Put(t.Context(), m, files[1], nil); !errors.Is(err, lost) {
		t.Errorf("put: %v", err)
	}
	// All are lost: the first error counts.
	none := copies.NewSeveral(copies.Member{Name: "a", Err: lost}, copies.Member{Name: "b", Err: errors.New("other")})
	if _, err := none.List(t.Context()); !errors.Is(err, lost) {
		t.Errorf("list: %v", err)
	}
	_ = a
}

func TestSeveralListsEachBackupOnce(t *testing.T) {
	a, b, all, files := damagedPair(t)
	m, more := contract.Next(all[1], files[1], 9)
	m.Parent = ""
	if err := b.Put(t.Context(), m, more, nil); err != nil {
		t.Fatal(err)
	}
	v := several(t, a, b)
	l := list(t, v, 3)
	if l[0].ID != m.ID || l[1].ID != all[1].ID || l[2].ID != all[0].ID {
		t.Errorf("listed %v, %v, %v", l[0].ID, l[1].ID, l[2].ID)
	}
	contract.Whole(t, v, m.ID, more)
	if taken := v.Taken(); len(taken) != 1 || taken[0].Vault != "b" {
		t.Errorf("taken %+v", taken)
	}
}
