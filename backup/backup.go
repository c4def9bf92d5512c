// Package backup is the pipeline that makes a backup: capture, prove, store. It
// is what every door calls, so that a backup made by hand and one made by a
// service are the same. Start at Backup.Run.
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"colorfast"
	"colorfast/capture"
	"colorfast/internal/openfiles"
	"colorfast/verify"
)

// Backup backs one source up.
type Backup struct {
	Source    string             // persist directory; symbolic links are followed
	Vault     colorfast.Vault    // where the backup goes
	Staging   string             // folder for the copy, made if missing; it will hold the source's data, readable by this user only
	MaxFreeze time.Duration      // 0 means capture.DefaultMaxFreeze
	Memory    string             // folder, made if missing, for what the next run is to know of this one; "" for none
	VaultKey  string             // names the vault in Memory
	Reread    bool               // read all of the source, even if by Memory it has not changed
	Progress  colorfast.Progress // nil shows nothing
	Log       *slog.Logger       // nil is silent
}

// Run makes a backup and returns it. A source that is damaged is backed up as it
// is, and the backup says so: see colorfast.Backup.Damaged. A source that has not
// changed since its newest backup is not even read, if Memory tells. On error
// there is no backup. Nothing is left in Staging, unless the log says so.
//
// Errors: those of capture.Capture.Run, Vault.List and Vault.Put; Locked when
// another run is backing the same source up.
func (b *Backup) Run(ctx context.Context) (_ *colorfast.Manifest, err error) {
	if b.Progress == nil {
		b.Progress = colorfast.Quiet{}
	}
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	if err := capture.CheckMaxFreeze(b.MaxFreeze); err != nil {
		return nil, err
	}
	m := &colorfast.Manifest{}
	m.StartedAt = time.Now().UTC()
	m.Tool = "colorfast " + colorfast.Version
	if m.Source, err = sourceAt(b.Source); err != nil {
		return nil, err
	}
	stage, unlock, err := b.stage(m.Source)
	if err != nil {
		return nil, err
	}
	defer func() {
		// The outcome of the run does not change with it, and the next one tries again.
		if err := errors.Join(os.RemoveAll(stage), unlock()); err != nil {
			b.Log.Warn("staging folder not removed, it holds data unencrypted", "path", stage, "err", err)
		}
	}()

	parent, err := b.newest(ctx, m.Source)
	if err != nil {
		return nil, err
	}
	if done, err := b.unchanged(ctx, m, parent, stage); done != nil || err != nil {
		return done, err
	}
	changes := b.counting(m.Source)
	defer changes.discard()
	inventory, cut, err := b.capture(ctx, m.Source.Path, stage, changes)
	if err != nil {
		return nil, err
	}
	m.Inventory = *inventory
	m.Consistency = cut.Consistency
	m.FindingList = append([]colorfast.Finding{}, owners(m.Source.Path)...) // [] in JSON, never null
	m.FindingList = append(m.FindingList, cut.Findings...)
	m.FileList = cut.Files
	m.Summarize()
	if parent != nil {
		m.Parent = parent.ID
	}
	changes.count(ctx, m)
	b.Log.Info("source captured", "source", m.Source.Path, "seconds", time.Since(m.StartedAt).Seconds(), "freeze", m.FreezeSeconds, "findings", len(m.FindingList))

	if err := b.Vault.Put(ctx, m, os.DirFS(cut.Dir), b.Progress); err != nil {
		return nil, err
	}
	b.Log.Info("backup stored", "source", m.Source.Path, "backup", m.ID, "bytes", m.StoredBytes)
	changes.keep()
	if m.Verified == colorfast.Passed {
		b.remember(m, cut.Look)
	}
	return m, nil
}

// capture takes a cut that is proven, and returns what is in it.
func (b *Backup) capture(ctx context.Context, source, stage string, changes *counting) (*colorfast.Inventory, *capture.Cut, error) {
	scratch := filepath.Join(stage, "scratch")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, nil, fmt.Errorf("stage the copy: %w", err)
	}
	var last *verify.Report
	c := capture.Capture{
		Source: source, Staging: stage, MaxFreeze: b.MaxFreeze, Progress: b.Progress, Log: b.Log,
		Prove: func(ctx context.Context, dir string) ([]colorfast.Finding, error) {
			changes.begin()
			v := verify.Directory{Dir: dir, Scratch: scratch, Each: changes.add, Progress: b.Progress, Log: b.Log}
			r, err := v.Run(ctx)
			if err != nil {
				return nil, err
			}
			last = r
			return r.Findings, nil
		},
	}
	cut, err := c.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &last.Inventory, cut, nil
}

// sourceAt names the source at path.
func sourceAt(path string) (colorfast.Source, error) {
	host, err := os.Hostname()
	if err != nil {
		return colorfast.Source{}, fmt.Errorf("name this host: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return colorfast.Source{}, fmt.Errorf("find %q: %w", path, err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	return colorfast.Source{Host: host, Path: abs}, capture.CheckSource(abs)
}

// stage makes an empty private folder for a capture of source, and locks out
// other runs of the same source. What a killed run has left there goes.
func (b *Backup) stage(source colorfast.Source) (dir string, unlock func() error, err error) {
	staging, err := future(b.Staging)
	if err != nil {
		return "", nil, fmt.Errorf("find the staging directory: %w", err)
	}
	if inside(source.Path, staging) {
		return "", nil, colorfast.Errorf(colorfast.Usage, "stage the copy in %q: it lies inside the source", staging).
			WithHint("name another directory with --staging; colorfast never writes into a source")
	}
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return "", nil, fmt.Errorf("make the staging directory: %w", err)
	}
	sum := sha256.Sum256([]byte(source.String()))
	dir = filepath.Join(staging, hex.EncodeToString(sum[:8]))
	unlock, err = lockFile(dir + ".lock")
	if err != nil {
		return "", nil, err
	}
	b.sweep(staging)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("make the staging directory: %w", err), unlock())
	}
	return dir, unlock, nil
}

// inside reports whether path is dir or lies in it.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// sweep removes what killed runs of any source have left in staging, such as
// those of a container whose host name was another one.
func (b *Backup) sweep(staging string) {
	locks, err := filepath.Glob(filepath.Join(staging, "*.lock"))
	if err != nil {
		return
	}
	for _, lock := range locks {
		if _, err := os.Lstat(strings.TrimSuffix(lock, ".lock")); errors.Is(err, fs.ErrNotExist) {
			continue // to take its lock would turn away a run that begins just now
		}
		unlock, err := lockFile(lock)
		if err != nil {
			continue // a living run's
		}
		if err := errors.Join(os.RemoveAll(strings.TrimSuffix(lock, ".lock")), unlock()); err != nil {
			b.Log.Warn("staging folder not removed, it holds data unencrypted", "lock", lock, "err", err)
		}
	}
}

// future returns where path leads, although its last elements may not exist yet.
func future(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
		real, err = future(filepath.Dir(path))
		return filepath.Join(real, filepath.Base(path)), err
	}
	return real, err
}

// owners warns of several processes that may write to the source: two Chromas
// on one directory destroy each other's vectors, without any error.
func owners(dir string) []colorfast.Finding {
	r, err := openfiles.Under(dir)
	if err != nil {
		return nil // cannot be told here; a capture does not depend on it
	}
	var writers []string
	for _, p := range r.Processes {
		if p.Write {
			writers = append(writers, fmt.Sprintf("%d (%s)", p.PID, p.Command))
		}
	}
	if len(writers) < 2 {
		return nil
	}
	return []colorfast.Finding{colorfast.NewFinding(colorfast.SourceOwners, dir, 0, "%d processes may write: %v", len(writers), writers)}
}
