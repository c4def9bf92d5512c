package storage

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
)

// kopiaRepository implements repository.
type kopiaRepository struct {
	program, home string
}

func kopiaTool(ctx context.Context, program string) (Tool, error) {
	out, _, err := output(ctx, command{args: []string{program, "--version"}})
	version, _, _ := strings.Cut(firstLine(out), " ") // what follows is about who built it
	t := Tool{Name: "kopia", Version: "kopia " + version, Settings: "compression zstd-fastest"}
	t.open = func(ctx context.Context, home string) (repository, error) {
		r := &kopiaRepository{program: program, home: home}
		if err := folders(home, "repository"); err != nil {
			return nil, err
		}
		create := r.run("repository", "create", "filesystem", "--path", r.dir(), "--cache-directory", filepath.Join(home, "cache"))
		if _, _, err := output(ctx, create); err != nil {
			return nil, err
		}
		_, _, err := output(ctx, r.run("policy", "set", "--global", "--compression=zstd-fastest"))
		return r, err
	}
	return t, err
}

func (r *kopiaRepository) run(args ...string) command {
	args = append([]string{
		r.program, "--config-file=" + filepath.Join(r.home, "kopia.config"), "--log-dir=" + filepath.Join(r.home, "log"), "--no-progress",
	}, args...)
	return command{args: args, env: []string{"KOPIA_PASSWORD=" + password, "KOPIA_CHECK_FOR_UPDATES=false"}}
}

func (r *kopiaRepository) dir() string { return filepath.Join(r.home, "repository") }

func (r *kopiaRepository) backup(source string) command {
	return r.run("snapshot", "create", "--json", source)
}

func (r *kopiaRepository) stored(stdout []byte) (string, error) {
	var b struct{ ID string }
	err := json.Unmarshal(stdout, &b)
	return b.ID, err
}

func (r *kopiaRepository) restore(id, to string) command { return r.run("snapshot", "restore", id, to) }

func (r *kopiaRepository) restored(to, _ string) string { return to }

func (r *kopiaRepository) verify(id string) command {
	return r.run("snapshot", "verify", "--verify-files-percent=100", id)
}
