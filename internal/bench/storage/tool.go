package storage

import (
	"context"
	"os"
	"path/filepath"
)

// Tool is one of the programs that are measured.
type Tool struct {
	Name     string `json:"name"`
	Version  string `json:"version"`  // as the program says
	Settings string `json:"settings"` // other than its defaults

	// open makes a fresh repository, and whatever else the program keeps, in
	// home, which exists and is empty.
	open func(ctx context.Context, home string) (repository, error)
}

// repository is where a tool keeps backups. Its methods run nothing: they say
// what to run.
type repository interface {
	// dir is what grows with a backup.
	dir() string
	backup(source string) command
	// stored says how the backup is called, from what the command printed.
	stored(stdout []byte) (id string, err error)
	// restore restores into the directory to, whose parent exists.
	restore(id, to string) command
	// restored is where the source's content is then.
	restored(to, source string) string
	// verify reads all bytes of the backup, or of all backups where there is no
	// other way.
	verify(id string) command
}

// folders makes folders in home.
func folders(home string, names ...string) error {
	for _, n := range names {
		if err := os.Mkdir(filepath.Join(home, n), 0o755); err != nil {
			return err
		}
	}
	return nil
}
