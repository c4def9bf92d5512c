package servers

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"colorfast/internal/program"
)

// Program is a server's program, of a pinned version.
type Program struct {
	Name string
	Word string // for it in COLORFAST_REQUIRE
	Dear bool   // has a target of its own in the Makefile

	module, sum, command string // a Go module at a version, its checksum, and its command
	npm                  string // a folder embedded here, with a package and its lock file
	script               string // of the npm package
	debian               string // a package of Debian's, from which the system has the program
}

// The programs, in the order in which they are installed.
var (
	VersityGW = Program{Name: "versitygw", Word: "s3",
		module: "github.com/versity/versitygw@v1.8.0", sum: "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=", command: "cmd/versitygw"}
	FakeGCS = Program{Name: "fake-gcs-server", Word: "gcs",
		module: "github.com/fsouza/fake-gcs-server@v1.56.1", sum: "h1:K03sAvbLvDz4hAynpCCUqnNRp+ik9JFSvHbkD/wTPOU="}
	Toxiproxy = Program{Name: "toxiproxy", Word: "toxiproxy",
		module: "github.com/Shopify/toxiproxy/v2@v2.12.0", sum: "h1:d1x++lYZg/zijXPPcv7PH0MvHMzEI5aX/YuUi/Sw+yg=", command: "cmd/server"}
	Azurite = Program{Name: "azurite", Word: "azure",
		npm: "azurite", script: "node_modules/azurite/dist/src/blob/main.js"}
	SSHD   = Program{Name: "sshd", Word: "sftp", debian: "openssh-server"}
	Rclone = Program{Name: "rclone", Word: "webdav", debian: "rclone"}
	MinIO  = Program{Name: "minio", Word: "minio", Dear: true,
		module: "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c", sum: "h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA="}
)

// Programs returns all programs, in the order in which they are installed.
func Programs() []Program {
	return []Program{VersityGW, FakeGCS, Toxiproxy, Azurite, SSHD, Rclone, MinIO}
}

//go:embed azurite/package.json azurite/package-lock.json
var npmFolders embed.FS

// ErrNotInstalled says that a program is neither in the cache nor, if it is the
// system's, where the system has its programs.
var ErrNotInstalled = errors.New("not installed")

// Lookup finds the program's file, or its script. Errors: ErrNotInstalled, also
// where another version is installed.
func (p Program) Lookup() (string, error) {
	if p.debian != "" {
		for _, dir := range []string{"", "/usr/sbin", "/usr/local/sbin"} { // sshd wants its full path, and is not on everybody's PATH
			if file, err := exec.LookPath(filepath.Join(dir, p.Name)); err == nil {
				return filepath.Abs(file)
			}
		}
		return "", fmt.Errorf("%s: %w", p.Name, ErrNotInstalled)
	}
	dir, err := p.dir()
	if err != nil {
		return "", err
	}
	mark, err := program.Marker(dir)
	if err != nil {
		return "", err
	}
	if want := p.marker(); mark != want {
		return "", fmt.Errorf("%s: %w", p.Name, ErrNotInstalled)
	}
	if p.npm != "" {
		return filepath.Join(dir, filepath.FromSlash(p.script)), nil
	}
	return filepath.Join(dir, path.Base(p.goPackage())), nil
}

// goPackage returns the import path of the command.
func (p Program) goPackage() string {
	module, _, _ := strings.Cut(p.module, "@")
	return path.Join(module, p.command)
}

func (p Program) dir() (string, error) {
	cache, err := program.CacheDir("servers")
	return filepath.Join(cache, p.Word), err
}

// marker returns what a good installation says it is.
func (p Program) marker() string {
	if p.npm != "" {
		return string(p.file("package-lock.json"))
	}
	return p.module + " " + p.sum + "\n"
}

func (p Program) file(name string) []byte {
	b, err := npmFolders.ReadFile(p.npm + "/" + name)
	if err != nil {
		panic(err) // embedded; a test reads all
	}
	return b
}

// hint says how to install the program.
func (p Program) hint() string {
	switch {
	case p.debian != "":
		return fmt.Sprintf("run \"apt-get install --no-install-recommends %s\"", p.debian)
	case p.Dear:
		return fmt.Sprintf("run \"make %s\"", p.Word)
	}
	return "run \"make servers\""
}

// Require skips the test unless the program is installed, and says how to
// install it. Where the environment's COLORFAST_REQUIRE, a list with commas, has
// the program's word, as in CI, it fails instead.
func (p Program) Require(tb testing.TB) string {
	tb.Helper()
	file, err := p.Lookup()
	switch {
	case errors.Is(err, ErrNotInstalled):
		program.Missing(tb, p.Word, p.Name+" is not installed: "+p.hint())
	case err != nil:
		tb.Fatal(err)
	}
	return file
}

// Install installs the program unless it is there. log is told each step.
// Several processes may call it at the same time. What the system has to have,
// from Debian's packages, it only looks for.
func (p Program) Install(ctx context.Context, log func(format string, args ...any)) (string, error) {
	file, err := p.Lookup()
	if !errors.Is(err, ErrNotInstalled) {
		return file, err
	}
	if p.debian != "" {
		return "", fmt.Errorf("%w: %s", err, p.hint())
	}
	dir, err := p.dir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unlock, err := program.Lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if file, err := p.Lookup(); !errors.Is(err, ErrNotInstalled) { // somebody else just did
		return file, err
	}
	fill := p.goInstall
	if p.npm != "" {
		fill = p.npmInstall
	}
	log("%s: installing", p.Name)
	if err := program.Install(ctx, dir, p.marker(), fill); err != nil {
		return "", err
	}
	return p.Lookup()
}

// goInstall builds the command of a Go module outside of any module of ours.
func (p Program) goInstall(ctx context.Context, dir string) error {
	env := []string{"GOBIN=" + dir, "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="}
	said, err := program.Run(ctx, dir, append(env, "GO111MODULE=on"), "go", "mod", "download", "-json", p.module)
	if err != nil {
		return err
	}
	if !strings.Contains(said, fmt.Sprintf("\"Sum\": %q", p.sum)) {
		return fmt.Errorf("%s: its checksum is not %s", p.module, p.sum)
	}
	_, version, _ := strings.Cut(p.module, "@")
	_, err = program.Run(ctx, dir, env, "go", "install", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", p.goPackage()+"@"+version)
	return err
}

// npmInstall puts a package of npm's and all that it needs into dir, as the
// lock file has them; no script of theirs is run.
func (p Program) npmInstall(ctx context.Context, dir string) error {
	for _, name := range []string{"package.json", "package-lock.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), p.file(name), 0o644); err != nil {
			return err
		}
	}
	if _, err := program.Run(ctx, dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(p.script)))
	return err
}
