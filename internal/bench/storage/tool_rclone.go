package storage

import (
	"context"
	"path"
	"path/filepath"
)

// rcloneRepository implements repository. It is a plain copy of the files, in one
// bucket, over which the next one is laid.
type rcloneRepository struct {
	program, bucket string
	env             []string
}

func rcloneTool(ctx context.Context, program string) (Tool, error) {
	out, _, err := output(ctx, command{args: []string{program, "version"}})
	return Tool{Name: "rclone", Version: firstLine(out), Settings: "none; a plain copy without encryption or compression, and no older ones"}, err
}

func (r *rcloneRepository) run(args ...string) command {
	return command{args: append([]string{r.program}, args...), env: r.env}
}

func (r *rcloneRepository) dir() string { return "" }

func (r *rcloneRepository) at() string { return ":s3:" + path.Join(r.bucket, "copy") }

func (r *rcloneRepository) backup(source string) command {
	return r.run("sync", source, r.at())
}

func (r *rcloneRepository) stored([]byte) (string, error) { return "copy", nil }

func (r *rcloneRepository) restore(_, to string) command { return r.run("copy", r.at(), to) }

func (r *rcloneRepository) restored(to, _ string) string { return filepath.Clean(to) }

func (r *rcloneRepository) verify(string) command {
	return r.run("check", r.at(), r.at(), "--download")
}
