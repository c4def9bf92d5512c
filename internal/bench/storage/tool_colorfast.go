package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"
)

// colorfastRepository implements repository.
type colorfastRepository struct {
	program, home string
	env           []string
}

func colorfastTool(ctx context.Context, program string) (Tool, error) {
	out, _, err := output(ctx, command{args: []string{program, "version"}})
	t := Tool{Name: "colorfast", Version: firstLine(out), Settings: "none; a backup is proven record by record before it is stored, and a restore before it gets its name"}
	t.open = func(ctx context.Context, home string) (repository, error) {
		r := &colorfastRepository{program: program, home: home, env: []string{
			"COLORFAST_VAULT=file://" + filepath.Join(home, "vault"), "COLORFAST_PASSWORD=" + password,
			"COLORFAST_STAGING=" + filepath.Join(home, "staging"),
			"XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "XDG_DATA_HOME=" + filepath.Join(home, "data"),
		}}
		if err := folders(home, "vault", "staging", "cache", "data"); err != nil {
			return nil, err
		}
		_, _, err := output(ctx, r.run("init"))
		return r, err
	}
	return t, err
}

func (r *colorfastRepository) run(args ...string) command {
	return command{args: append([]string{r.program}, args...), env: r.env}
}

func (r *colorfastRepository) dir() string { return filepath.Join(r.home, "vault") }

func (r *colorfastRepository) backup(source string) command {
	return r.run("backup", source, "--json", "-v")
}

func (r *colorfastRepository) stored(stdout []byte) (string, error) {
	var b struct{ ID string }
	err := json.Unmarshal(stdout, &b)
	return b.ID, err
}

func (r *colorfastRepository) restore(id, to string) command { return r.run("restore", id, "--to", to) }

func (r *colorfastRepository) restored(to, _ string) string { return to }

func (r *colorfastRepository) verify(id string) command {
	return r.run("verify", id, "--level", "bytes")
}

// stages reads the log that colorfast writes with -v: each line ends a stage.
// What follows the last line, up to the end of the program, is a stage as well.
func stages(log []byte, begun time.Time, whole float64) []Stage {
	var out []Stage
	last := begun
	for line := range bytes.Lines(log) {
		at, msg := field(string(line), "time="), field(string(line), "msg=")
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil || msg == "" {
			continue
		}
		out = append(out, Stage{Until: msg, Seconds: t.Sub(last).Seconds()})
		last = t
	}
	if len(out) > 0 {
		out = append(out, Stage{Until: "end", Seconds: whole - last.Sub(begun).Seconds()})
	}
	return out
}

// field returns the value that follows key in a line of log/slog.
func field(line, key string) string {
	_, rest, _ := strings.Cut(line, key)
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		rest, _, _ = strings.Cut(quoted, `"`)
		return rest
	}
	rest, _, _ = strings.Cut(rest, " ")
	return strings.TrimSpace(rest)
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}
