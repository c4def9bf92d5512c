package e2e

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/internal/chromatest"
	"colorfast/vault"
)

// program is the real binary with a home of its own.
type program struct {
	path    string
	env     []string
	vault   string
	staging string
}

// build builds the program as users get it.
func build(t *testing.T) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{path: filepath.Join(dir, "colorfast"), vault: filepath.Join(dir, "vault"), staging: filepath.Join(dir, "staging")}
	cmd := exec.Command("go", "build", "-o", p.path, "./cmd/colorfast")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build colorfast: %v\n%s", err, out)
	}
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "HOME=" + filepath.Join(dir, "home"),
		"COLORFAST_VAULT=file://" + p.vault, "COLORFAST_PASSWORD=e2e", "COLORFAST_STAGING=" + p.staging,
	}
	return p
}

func (p *program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, args...)
	cmd.Env = p.env
	return cmd
}

// run runs a command that must succeed and returns what it printed.
func (p *program) run(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := p.command(args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("colorfast %s: %v\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	return out.Bytes()
}

// staged returns what lies in the staging directory beside locks.
func (p *program) staged(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(p.staging, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range all {
		if !strings.HasSuffix(path, ".lock") {
			out = append(out, path)
		}
	}
	return out
}

// TestKilledBackups kills the program with SIGKILL at random moments of backups
// of a Chroma that is written to. The vault never lists anything but whole
// backups, Chroma never notices, and the next backup works and clears away what
// was left.
func TestKilledBackups(t *testing.T) {
	realChromas(t)
	p := build(t)
	s, h, stop := loadedServer(t, "rollback")
	defer stop()
	p.run(t, "init")
	begun := time.Now()
	p.run(t, "backup", s.Dir)
	usual := time.Since(begun)
	t.Logf("a backup takes %s", usual)

	rng := rand.New(rand.NewPCG(7, 7))
	whole, killed, left := 1, 0, 0
	for killed < 8 {
		cmd := p.command("backup", s.Dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(usual))))
		if err := cmd.Process.Kill(); err != nil {
			t.Log(err) // it had ended
		}
		if err := cmd.Wait(); err == nil {
			whole++ // too late
			usual = usual * 9 / 10
		} else {
			killed++
			left += len(p.staged(t))
		}
		acked := h.Stats().Acked
		await(t, "a write after the kill: is a lock still held?", func() bool { return h.Stats().Acked > acked })
	}
	t.Logf("%d killed, %d of them left something in the staging directory", killed, left)
	if left == 0 {
		t.Error("no kill hit a backup that was staging: this test shows little")
	}

	last := &colorfast.Manifest{}
	if err := json.Unmarshal(p.run(t, "backup", s.Dir, "--json"), last); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := p.staged(t); len(got) > 0 {
		t.Errorf("left in the staging directory: %v", got)
	}
	v, err := vault.Open(t.Context(), vault.Options{URL: "file://" + p.vault, Password: vault.NewSecret("e2e")})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(t.Context())
	checkVault(t, v)
	list, err := v.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A kill after the very last step leaves a backup that nobody was told of.
	if len(list) < whole+1 || len(list) > whole+1+killed {
		t.Errorf("%d backups are listed, %d were told", len(list), whole+1)
	}
	for _, b := range list {
		if b.Damaged() {
			t.Errorf("backup %s is damaged", b.ID)
		}
		p.run(t, "verify", string(b.ID))
	}
	again := chromatest.Start(t, chromatest.Options{Version: newest, Dir: restoreTo(t, v, last)})
	judge(t, h, last.Consistency.FrozenAt, last.Consistency.ReleasedAt, read(t, again.Chroma(t)))
}
