package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// archives implements repository by a compressed archive for each backup.
type archives struct {
	zstd, home string
	made       int
}

func tarTool(ctx context.Context, zstd string) (Tool, error) {
	tar, _, err := output(ctx, command{args: []string{"tar", "--version"}})
	if err != nil {
		return Tool{}, err
	}
	out, _, err := output(ctx, command{args: []string{zstd, "--version"}})
	t := Tool{Name: "tar+zstd", Version: firstLine(tar) + ", " + strings.Trim(firstLine(out), "* "), Settings: "zstd -3; no encryption, and each backup is a full one"}
	t.open = func(_ context.Context, home string) (repository, error) {
		return &archives{zstd: zstd, home: home}, folders(home, "archives")
	}
	return t, err
}

// pipe runs a line of shell in which $1 is zstd.
func (r *archives) pipe(line string, args ...string) command {
	return command{args: append([]string{"sh", "-c", line, "sh", r.zstd}, args...)}
}

func (r *archives) dir() string { return filepath.Join(r.home, "archives") }

func (r *archives) path(id string) string { return filepath.Join(r.dir(), id) }

func (r *archives) last() string { return fmt.Sprintf("%03d.tar.zst", r.made) }

func (r *archives) backup(source string) command {
	r.made++
	return r.pipe(`tar -C "$2" -cf - . | "$1" -3 -q -o "$3"`, source, r.path(r.last()))
}

// stored removes all archives but the first and the newest: they are large, and
// no other is looked at again.
func (r *archives) stored([]byte) (string, error) {
	for n := 2; n < r.made; n++ {
		if err := os.RemoveAll(r.path(fmt.Sprintf("%03d.tar.zst", n))); err != nil {
			return "", err
		}
	}
	return r.last(), nil
}

func (r *archives) restore(id, to string) command {
	return r.pipe(`mkdir "$3" && "$1" -dcq "$2" | tar -C "$3" -xf -`, r.path(id), to)
}

func (r *archives) restored(to, _ string) string { return to }

func (r *archives) verify(id string) command { return r.pipe(`"$1" -tq "$2"`, r.path(id)) }
