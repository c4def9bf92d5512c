package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kopiaModule is what Kopia's command line is built from, in the version that
// go.mod names.
const kopiaModule = "github.com/kopia/kopia"

// password is that of all repositories.
const password = "storage-benchmark"

// find finds or makes the programs to measure: colorfast, and with peers also
// those beside it. They are kept in the cache, but for colorfast, which is built
// anew unless its program is given.
func (s *Suite) find(ctx context.Context, peers bool) ([]Tool, error) {
	dir := filepath.Join(s.Cache, "tools")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var tools []Tool
	for _, p := range []struct {
		find func(ctx context.Context, dir string) (string, error)
		tool func(ctx context.Context, program string) (Tool, error)
	}{
		{s.colorfast, colorfastTool}, {s.debian("restic"), resticTool}, {s.kopia, kopiaTool}, {s.debian("zstd"), tarTool},
	} {
		program, err := p.find(ctx, dir)
		if err != nil {
			return nil, err
		}
		t, err := p.tool(ctx, program)
		if err != nil {
			return nil, err
		}
		if tools = append(tools, t); !peers {
			break
		}
	}
	return tools, nil
}

// colorfast builds this repository's program.
func (s *Suite) colorfast(ctx context.Context, dir string) (string, error) {
	if s.Colorfast != "" {
		return filepath.Abs(s.Colorfast)
	}
	program := filepath.Join(dir, "colorfast")
	return program, in(ctx, ".", command{args: []string{"go", "build", "-trimpath", "-o", program, "colorfast/cmd/colorfast"}, env: []string{"CGO_ENABLED=0"}})
}

// debian returns what finds a program: installed, or unpacked from its Debian
// package, which needs no rights.
func (s *Suite) debian(name string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, dir string) (string, error) {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
		unpacked := filepath.Join(dir, name)
		program := filepath.Join(unpacked, "usr", "bin", name)
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
		s.Say("tools: unpack Debian's %s", name)
		making := unpacked + ".making"
		if err := errors.Join(os.RemoveAll(making), os.MkdirAll(making, 0o755)); err != nil {
			return "", err
		}
		if err := in(ctx, making, command{args: []string{"apt-get", "download", name}}); err != nil {
			return "", err
		}
		packages, err := filepath.Glob(filepath.Join(making, name+"_*.deb"))
		if err != nil || len(packages) != 1 {
			return "", errors.Join(err, fmt.Errorf("apt-get download %s left %d packages", name, len(packages)))
		}
		if err := in(ctx, making, command{args: []string{"dpkg-deb", "-x", packages[0], making}}); err != nil {
			return "", err
		}
		return program, os.Rename(making, unpacked)
	}
}

// kopia builds Kopia's command line from the module's own folder: it cannot be
// installed by name where a proxy does not list its versions.
func (s *Suite) kopia(ctx context.Context, dir string) (string, error) {
	out, _, err := output(ctx, command{args: []string{"go", "list", "-m", "-f", "{{.Version}}", kopiaModule}})
	if err != nil {
		return "", err
	}
	version := firstLine(out)
	program := filepath.Join(dir, "kopia-"+version)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	s.Say("tools: build Kopia %s; it is kept", version)
	if out, _, err = output(ctx, command{args: []string{"go", "mod", "download", "-json", kopiaModule + "@" + version}}); err != nil {
		return "", err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	source, making := filepath.Join(dir, "kopia-src"), program+".making"
	if err := os.RemoveAll(source); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"cp", "-r", module.Dir, source}, {"chmod", "-R", "u+w", source}} {
		if err := in(ctx, dir, command{args: args}); err != nil {
			return "", err
		}
	}
	stamp := fmt.Sprintf("-X %s/repo.BuildVersion=%s", kopiaModule, strings.TrimPrefix(version, "v"))
	build := command{args: []string{"go", "build", "-trimpath", "-ldflags", stamp, "-o", making, "."}, env: []string{"CGO_ENABLED=0"}}
	if err := in(ctx, source, build); err != nil {
		return "", err
	}
	return program, errors.Join(os.Rename(making, program), os.RemoveAll(source))
}

// in runs the command in dir.
func in(ctx context.Context, dir string, c command) error {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), c.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %q: %w; it said:\n%s", c.args, err, end(out))
	}
	return nil
}
