package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
)

// resticRepository implements repository.
type resticRepository struct {
	program, home string
	env           []string
}

func resticTool(ctx context.Context, program string) (Tool, error) {
	out, _, err := output(ctx, command{args: []string{program, "version"}})
	t := Tool{Name: "restic", Version: firstLine(out), Settings: "none; verify is of all backups"}
	t.open = func(ctx context.Context, home string) (repository, error) {
		r := &resticRepository{program: program, home: home, env: []string{
			"RESTIC_REPOSITORY=" + filepath.Join(home, "repository"), "RESTIC_PASSWORD=" + password,
			"RESTIC_CACHE_DIR=" + filepath.Join(home, "cache"),
		}}
		_, _, err := output(ctx, r.run("init"))
		return r, err
	}
	return t, err
}

func (r *resticRepository) run(args ...string) command {
	return command{args: append([]string{r.program}, args...), env: r.env}
}

func (r *resticRepository) dir() string { return filepath.Join(r.home, "repository") }

func (r *resticRepository) backup(source string) command { return r.run("backup", "--json", source) }

func (r *resticRepository) stored(stdout []byte) (string, error) {
	for line := range bytes.Lines(stdout) {
		var m struct {
			Type string `json:"message_type"`
			ID   string `json:"snapshot_id"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return "", err
		}
		if m.Type == "summary" && m.ID != "" {
			return m.ID, nil
		}
	}
	return "", errors.New("restic printed no summary")
}

func (r *resticRepository) restore(id, to string) command {
	return r.run("restore", id, "--target", to)
}

// restored: restic restores with the whole path.
func (r *resticRepository) restored(to, source string) string { return filepath.Join(to, source) }

func (r *resticRepository) verify(string) command { return r.run("check", "--read-data") }
