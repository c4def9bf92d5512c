package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/contract"

	"github.com/kopia/kopia/repo/blob"
)

var password = NewSecret("correct horse battery staple")

// newVault makes a vault in a folder of the test and opens it.
func newVault(t *testing.T, dir string) *Vault {
	t.Helper()
	if err := Create(t.Context(), Options{URL: dir, Password: password}); err != nil {
		t.Fatal(err)
	}
	return reopen(t, Options{URL: dir})
}

func reopen(t *testing.T, o Options) *Vault {
	t.Helper()
	o.Password = password
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return v
}

func wantKind(t *testing.T, err error, kind colorfast.Kind, hint string) {
	t.Helper()
	if err == nil || colorfast.KindOf(err) != kind || !strings.Contains(colorfast.HintOf(err), hint) {
		t.Errorf("got %v, kind %v, hint %q; want kind %v, hint %q", err, colorfast.KindOf(err), colorfast.HintOf(err), kind, hint)
	}
}

func TestContract(t *testing.T) {
	contract.Vault(t, func(t *testing.T) colorfast.Vault { return newVault(t, filepath.Join(t.TempDir(), "new", "vault")) })
}

func TestCreate(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "vault")
	o := Options{URL: dir, Password: password}
	_, err := Open(ctx, o)
	wantKind(t, err, colorfast.NotFound, "colorfast init")
	wantKind(t, Create(ctx, Options{URL: dir}), colorfast.Usage, "")
	wantKind(t, Create(ctx, Options{URL: "ftp://host/x", Password: password}), colorfast.Unsupported, "file:///")
	wantKind(t, Create(ctx, Options{URL: "file://relative", Password: password}), colorfast.Usage, "three slashes")
	if err := Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", fi.Mode(), err)
	}
	wantKind(t, Create(ctx, o), colorfast.Usage, "")
	_, err = Open(ctx, Options{URL: dir, Password: NewSecret("wrong")})
	wantKind(t, err, colorfast.Denied, "")
	_, err = Open(ctx, Options{URL: "ftp://host/x", Password: password})
	wantKind(t, err, colorfast.Unsupported, "")

	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantKind(t, Create(ctx, Options{URL: other, Password: password}), colorfast.Usage, "empty")
	_, err = Open(ctx, Options{URL: other, Password: password})
	wantKind(t, err, colorfast.NotFound, "")
}

// stopStorage stands for a process that dies at its n-th write.
type stopStorage struct {
	blob.Storage
	left int
	kept bool // the write at which it dies is done
}

func (s *stopStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	s.left--
	if s.left < 0 && !(s.kept && s.left == -1) {
		return fmt.Errorf("dead")
	}
	err := s.Storage.PutBlob(ctx, id, data, opts)
	if s.left < 0 {
		return fmt.Errorf("dead")
	}
	return err
}

func TestCreateDiesAtAnyWrite(t *testing.T) {
	for n := range 3 {
		for _, kept := range []bool{false, true} {
			dir := t.TempDir()
			o := Options{URL: dir, Password: password}
			broken := o
			broken.wrap = func(st blob.Storage) blob.Storage { return &stopStorage{st, n, kept} }
			if err := Create(t.Context(), broken); err == nil {
				t.Fatalf("write %d: no error", n)
			}
			if n == 2 && kept { // the write that makes it a vault
				wantKind(t, Create(t.Context(), o), colorfast.Usage, "")
			} else {
				_, err := Open(t.Context(), o)
				wantKind(t, err, colorfast.NotFound, "")
				if err := Create(t.Context(), o); err != nil {
					t.Fatalf("write %d, kept %v: second Create: %v", n, kept, err)
				}
			}
			v := reopen(t, o)
			m, files := contract.Sample(1)
			if err := v.Put(t.Context(), m, files, nil); err != nil {
				t.Fatal(err)
			}
			contract.Whole(t, v, m.ID, files)
		}
	}
}

func TestOpenDamagedFormat(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"half":     func(dir string) error { return os.Truncate(filepath.Join(dir, formatBlob+".f"), 300) },
		"empty":    func(dir string) error { return os.Truncate(filepath.Join(dir, formatBlob+".f"), 0) },
		"gone":     func(dir string) error { return os.Remove(filepath.Join(dir, formatBlob+".f")) },
		"shards":   func(dir string) error { return os.WriteFile(filepath.Join(dir, ".shards"), []byte("{}"), 0o600) },
		"flipped":  func(dir string) error { return flip(filepath.Join(dir, formatBlob+".f"), "encryptedBlockFormat", 40) },
		"config":   func(dir string) error { return os.WriteFile(filepath.Join(dir, configBlob+".f"), []byte("x"), 0o600) },
		"saltless": func(dir string) error { return flip(filepath.Join(dir, formatBlob+".f"), "uniqueID", 15) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := newVault(t, dir)
			m, files := contract.Sample(1)
			if err := v.Put(t.Context(), m, files, nil); err != nil {
				t.Fatal(err)
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), Options{URL: dir, Password: password})
			wantKind(t, err, colorfast.Corrupt, "")
			t.Log(err)
		})
	}
}

// flip changes the byte that lies so far behind mark in a file.
func flip(path, mark string, behind int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	i := strings.Index(string(b), mark)
	if i < 0 {
		return fmt.Errorf("no %q", mark)
	}
	if b[i+behind] == 'A' {
		b[i+behind] = 'B'
	} else {
		b[i+behind] = 'A'
	}
	return os.WriteFile(path, b, 0o600)
}

func TestSecret(t *testing.T) {
	s := NewSecret("hunter2")
	js, err := json.Marshal(map[string]any{"p": s, "o": Options{Password: s}.Password})
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "p", s, "o", struct{ P Secret }{s})
	all := fmt.Sprintf("%s %v %+v %#v %x %q %d %v", s, s, s, s, s, s, s, Options{Password: s}) + string(js) + logged.String()
	if strings.Contains(all, "hunter2") || strings.Contains(all, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("shown: %s", all)
	}
	if !strings.Contains(all, redacted) {
		t.Error("not even redacted is shown")
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := t.TempDir()
	var logged strings.Builder
	log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := Create(t.Context(), Options{URL: dir, Password: password, Log: log}); err != nil {
		t.Fatal(err)
	}
	use := func() {
		v, err := Open(t.Context(), Options{URL: dir, Password: password, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		m, files := contract.Sample(1)
		if err := v.Put(t.Context(), m, files, nil); err != nil {
			t.Fatal(err)
		}
		contract.Whole(t, v, m.ID, files)
		if err := v.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		configs, _ := filepath.Glob(filepath.Join(os.TempDir(), "*", "kopia.json"))
		if len(configs) == 0 {
			t.Fatal("no configuration file was found")
		}
		for _, c := range configs {
			if b, err := os.ReadFile(c); err != nil || strings.Contains(string(b), password.text) {
				t.Errorf("configuration: %s, %v", b, err)
			}
		}
		if err := v.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	use()
	goroutines, descriptors := leaks(t)
	for range 3 {
		use()
	}
	var g, d int
	for range 50 {
		if g, d = leaks(t); g <= goroutines && d <= descriptors {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if g > goroutines || d > descriptors {
		buf := make([]byte, 1<<16)
		t.Errorf("goroutines %d to %d, descriptors %d to %d\n%s", goroutines, g, descriptors, d, buf[:runtime.Stack(buf, true)])
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("temporary files: %v", left)
	}
	if err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if strings.Contains(e.Name(), "_log") || strings.Contains(e.Name(), "lease") || strings.Contains(e.Name(), ".tmp.") {
			t.Errorf("in the vault: %s", p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged.String(), "kopia said") {
		t.Error("kopia said nothing to our log")
	}
	if strings.Contains(logged.String(), password.text) {
		t.Error("the password was logged")
	}
}

func leaks(t *testing.T) (goroutines, descriptors int) {
	runtime.GC()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return runtime.NumGoroutine(), len(fds)
}
