package reader

import (
	"archive/tar"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/scrypt"
)

const fixturePassword = "format one"

// fixture unpacks the vault that a colorfast of format 1 made.
func fixture(t *testing.T) (dir string) {
	t.Helper()
	return unpack(t, "../../vault/testdata/format1.tar.gz")
}

// unpack unpacks a file and returns the folder "vault" in it.
func unpack(t *testing.T, name string) (dir string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, "vault")
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, h.Name), b)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// keys are those of format blobs that were opened before, by blob and password:
// scrypt takes most of the time of a test.
var keys sync.Map

// open opens a vault that must open.
func open(t *testing.T, dir, password string) *Vault {
	t.Helper()
	blob, err := folder(dir).read("kopia.repository")
	if err != nil {
		t.Fatal(err)
	}
	name := password + "\x00" + string(blob)
	if key, ok := keys.Load(name); ok {
		v := &Vault{blobs: folder(dir), key: key.([]byte)}
		if err := v.Refresh(); err != nil {
			t.Fatal(err)
		}
		return v
	}
	v, err := Open(dir, password)
	if err != nil {
		t.Fatal(err)
	}
	keys.Store(name, v.key)
	return v
}

// readEverything reads all objects and all files of all backups, and returns how
// many backups and files there are.
func readEverything(t *testing.T, v *Vault) (backups, files int) {
	t.Helper()
	list, err := v.Backups()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		_, fileList, err := v.Manifest(b)
		if err != nil {
			t.Fatalf("backup %s: %v", b.ID, err)
		}
		for _, f := range fileList {
			if f.Type != "file" {
				continue
			}
			files++
			if err := v.Read(io.Discard, b, f); err != nil {
				t.Errorf("backup %s: %v", b.ID, err)
			}
		}
		if n := readTree(t, v, b.root, "d"); n < 2 {
			t.Errorf("backup %s: %d objects", b.ID, n)
		}
	}
	return len(list), files
}

// readTree reads all objects of a directory and returns their number.
func readTree(t *testing.T, v *Vault, id, typ string) int {
	t.Helper()
	n := 1
	if typ != "d" {
		if _, err := v.readAll(id); err != nil {
			t.Error(err)
		}
		return n
	}
	list, err := v.directory(id)
	if err != nil {
		t.Error(err)
	}
	for _, e := range list {
		n += readTree(t, v, e.Object, e.Type)
	}
	return n
}

func TestFixture(t *testing.T) {
	v := open(t, fixture(t), fixturePassword)
	backups, files := readEverything(t, v)
	if backups != 2 || files < 12 {
		t.Errorf("%d backups with %d files", backups, files)
	}
	list, err := v.Backups()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		whole, fileList, err := v.Manifest(b)
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			Format    int
			Source    struct{ Path string }
			Inventory struct{ Collections []any }
			Files     int
		}
		if err := json.Unmarshal(whole, &m); err != nil {
			t.Fatal(err)
		}
		n := len(slices.DeleteFunc(fileList, func(f File) bool { return f.Type != "file" }))
		if b.Format != 1 || m.Format != 1 || m.Source.Path != "/srv/chroma" || b.Source.Path != "/srv/chroma" || len(m.Inventory.Collections) == 0 || m.Files != n {
			t.Errorf("backup %+v, manifest %+v, %d files", b, m, n)
		}
		if _, err := v.find(b, "data/chroma.sqlite3/x", "f"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("below a file: %v", err)
		}
		f := File{Path: "chroma.sqlite3", Type: "file", Size: 1, SHA256: strings.Repeat("0", 64)}
		if err := v.Read(io.Discard, b, f); err == nil || !strings.Contains(err.Error(), "records") {
			t.Errorf("wrong hash: %v", err)
		}
		b.Format = 99
		if err := v.Read(io.Discard, b, f); err == nil || !strings.Contains(err.Error(), "not known") {
			t.Errorf("format 99: %v", err)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	dir := fixture(t)
	for _, p := range []string{"", "format on", "format one\n", "Format one"} {
		if _, err := Open(dir, p); !errors.Is(err, ErrPassword) {
			t.Errorf("password %q: %v", p, err)
		}
	}
	if _, err := Open(t.TempDir(), fixturePassword); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no vault: %v", err)
	}
}

// TestFlippedBits changes one bit in every blob: nothing wrong is ever read.
func TestFlippedBits(t *testing.T) {
	v := open(t, fixture(t), fixturePassword)
	names, err := v.blobs.list("")
	if err != nil {
		t.Fatal(err)
	}
	harmed := 0
	for _, name := range names {
		if !strings.ContainsAny(name[:1], "pqx") || len(name) <= longestFlat {
			continue
		}
		p := v.blobs.path(name)
		good, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		bad[100] ^= 4
		write(t, p, bad)
		if everythingReads(v) == nil {
			t.Errorf("blob %s: a flipped bit was not found", name)
		}
		write(t, p, good)
		harmed++
	}
	if err := everythingReads(v); err != nil || harmed < 10 {
		t.Errorf("%d blobs were harmed; afterwards: %v", harmed, err)
	}
}

func everythingReads(v *Vault) error {
	if err := v.Refresh(); err != nil {
		return err
	}
	list, err := v.Backups()
	for _, b := range list {
		_, files, merr := v.Manifest(b)
		err = errors.Join(err, merr)
		for _, f := range files {
			if f.Type == "file" {
				err = errors.Join(err, v.Read(io.Discard, b, f))
			}
		}
	}
	return err
}

// TestExample holds the example in the document to what the reader computes.
func TestExample(t *testing.T) {
	b, err := os.ReadFile("../../docs/formats/repository.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `?([^`|]+)`? \\| `([0-9a-f]{32,})` \\|$").FindAllStringSubmatch(string(b), -1) {
		got[m[1]] = m[2]
	}
	dir := fixture(t)
	v := open(t, dir, fixturePassword)
	raw, err := v.blobs.read("kopia.repository")
	if err != nil {
		t.Fatal(err)
	}
	var blob struct {
		UniqueID []byte `json:"uniqueID"`
	}
	if err := json.Unmarshal(raw, &blob); err != nil {
		t.Fatal(err)
	}
	p, err := scrypt.Key([]byte(fixturePassword), blob.UniqueID, 65536, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	key, data, err := passwordKeys(fixturePassword, blob.UniqueID)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := blobIV(exampleBlob)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"uniqueID": hex.EncodeToString(blob.UniqueID)}
	for name, value := range map[string][]byte{"P": p, "key of the format blob": key, "data": data, "K": v.key, "IV of the index blob": iv, "key of the index blob": pieceKey(v.key, iv)} {
		want[name] = hex.EncodeToString(value)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the document says %v, the reader %v", got, want)
	}
	if !strings.Contains(string(b), exampleBlob) || !strings.Contains(string(b), "`"+fixturePassword+"`") {
		t.Error("the document does not name the blob or the password")
	}
	if _, err := v.blobs.read(exampleBlob); err != nil {
		t.Error(err)
	}
}

const exampleBlob = "xn0_0fb6e94a5c2ca0fbd3e4730ded8463aafbf6532f8b5e2975410b0f9b6bc7f8d4-s419a4355387eeffc147-c1"
