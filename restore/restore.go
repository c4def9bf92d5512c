// Package restore brings a backup back as a directory that Chroma can serve.
//
// It stages the files beside the target, proves them, and then swaps them in
// with one rename, so that the target's name never shows half a restore. What
// was there before is kept aside and never deleted. A restore that was killed
// is finished, continued or undone by the next one with the same target.
//
// A target that is mounted (a container's volume) cannot be renamed. There the
// entries are moved one by one, under a journal; that is not atomic, but the
// next restore finishes it.
//
// Start reading at Restore.Run; the states between which it may be killed are
// listed at phase.
package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"colorfast"
	"colorfast/internal/openfiles"
)

// Restore brings a backup back.
type Restore struct {
	// Vault holds the backup.
	Vault colorfast.Vault
	// VaultDir is the folder of a vault on a local disk, which the target must
	// keep clear of; "" means that the vault lies elsewhere.
	VaultDir string
	// Manifest is the backup, as Vault.Manifest gives it.
	Manifest *colorfast.Manifest
	// Target is the directory to make. Its parent must exist. Symbolic links
	// are followed: what the link leads to is replaced, not the link.
	Target string
	// Replace allows a target that holds something, which is kept aside. Chroma
	// must not be running on it.
	Replace bool
	// AssumeStopped says that the user knows that nobody has the target open. It
	// is asked for where that cannot be looked up, as in a container. A process
	// that is seen to have the target open is in the way all the same.
	AssumeStopped bool
	// AllowDamaged restores a backup with fatal findings too.
	AllowDamaged bool
	// Basis is a directory with an older copy of the source; "" takes what the
	// target holds. A file's bytes that are the same in the file of that path
	// there are taken from it, and only the others moved out of the vault. It is
	// read and never written, may hold anything, and must not change meanwhile.
	Basis string
	// NoBasis moves every byte out of the vault.
	NoBasis bool
	// DryRun makes all checks and reports the plan, and writes nothing.
	DryRun bool
	// Parallel is how many files are written at the same time; 0 means 4.
	Parallel int
	// Verify proves the staged directory, record by record, before it is swapped
	// in. It must not change it. nil means that only bytes are proven.
	Verify func(ctx context.Context, dir string, want *colorfast.Manifest) ([]colorfast.Finding, error)
	// Progress is told of the one stage "restoring", whose total is the size of
	// all files; nil means none.
	Progress colorfast.Progress
	// Log, nil means silent.
	Log *slog.Logger
	// Now is the clock for the name of what is kept aside; nil means time.Now.
	Now func() time.Time

	at         func(step string)                              // tests: told of every step, may end it all by panic
	look       func(dir string) (openfiles.Report, error)     // tests: in place of openfiles.Under
	free       func(dir string) (bytes, files int64, _ error) // tests: in place of statfs
	noExchange bool                                           // tests: as on a file system that cannot exchange
}

// Report is what a restore did, or with DryRun would do.
type Report struct {
	Backup      colorfast.BackupID  `json:"backup"`
	Target      string              `json:"target"`               // absolute, symbolic links resolved
	KeptAside   string              `json:"kept_aside,omitempty"` // where the old directory is now; "" if there was none
	Basis       string              `json:"basis,omitempty"`      // where older copies were looked for, absolute, symbolic links resolved; "" if nowhere
	DryRun      bool                `json:"dry_run"`
	Files       int                 `json:"files"`            // regular files
	Bytes       int64               `json:"restored_bytes"`   // sum of their sizes
	BytesReused int64               `json:"reused_bytes"`     // of these, in files found complete from an interrupted restore
	BytesMoved  int64               `json:"moved_bytes"`      // of these, out of the vault; the rest was reused, is the same in Basis, or is zeros that nobody stored; 0 in a dry run
	Seconds     float64             `json:"duration_seconds"` // from start to end
	Verified    colorfast.Outcome   `json:"verified"`         // what Verify found; unknown without it
	Findings    []colorfast.Finding `json:"findings"`         // of the backup, then of Verify; never nil
	Notes       []string            `json:"notes"`            // what the user should know; never nil
}

// job is one Run.
type job struct {
	*Restore
	log   *slog.Logger
	tree  *tree
	to    *place
	stage *stage
	basis *basis // nil for none
	rep   *Report
	seen  openfiles.Report
	blind error // why seen is empty

	foreign atomic.Bool  // some owner could not be restored
	moved   atomic.Int64 // Report.BytesMoved
}

// Run restores. On return without an error the target holds exactly the files
// of the backup, durably, each with its recorded hash. On an error, and when
// ctx ends, the target is as it was and nothing is left beside it; where that
// cannot be had, the error says what to do. A report comes with the error if
// Verify found something.
//
// Errors: Usage for a target that will not do or lacks space, NotFound when
// its parent or the basis is missing, Locked while somebody has the target open,
// Corrupt for a damaged backup and for a basis that changes meanwhile, Denied,
// and what the vault gives.
func (r *Restore) Run(ctx context.Context) (*Report, error) {
	start := time.Now()
	j, err := r.plan()
	if err != nil {
		return nil, err
	}
	defer j.close()
	defer func() { j.rep.Seconds = time.Since(start).Seconds() }()
	finished, err := j.prepare(ctx)
	if err != nil {
		return nil, err
	}
	if finished || j.DryRun {
		return j.rep, nil
	}
	err = j.fill(ctx)
	j.closeBasis()
	if err != nil {
		return nil, j.abandon(ctx, err)
	}
	if err := j.prove(ctx); err != nil {
		if err = j.abandon(ctx, err); j.rep.Verified != colorfast.Failed {
			return nil, err // could not look: nothing was found, and nothing proven
		}
		return j.rep, err
	}
	if j.foreign.Load() {
		j.note("the recorded owners could not be set; Chroma must be run as the owner of these files, or they be given to it with chown")
	}
	if err := j.swap(ctx); err != nil {
		return nil, err
	}
	j.log.Info("backup restored", "backup", string(j.Manifest.ID), "target", j.to.path, "bytes", j.rep.Bytes)
	return j.rep, nil
}

// plan checks all that can be checked without looking at the target.
func (r *Restore) plan() (*job, error) {
	j := &job{Restore: r, log: r.Log}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if r.Vault == nil || r.Manifest == nil {
		return nil, colorfast.Errorf(colorfast.Internal, "restore: no vault or no backup is given")
	}
	var err error
	if j.tree, err = newTree(r.Manifest); err != nil {
		return nil, err
	}
	if j.to, err = locate(r.Target, r.VaultDir); err != nil {
		return nil, err
	}
	if foldsCase(j.to.parent) {
		if err := j.tree.checkCase(); err != nil {
			return nil, err
		}
	}
	j.rep = &Report{
		Backup: r.Manifest.ID, Target: j.to.path, DryRun: r.DryRun,
		Files: len(j.tree.files), Bytes: j.tree.bytes,
		Findings: append([]colorfast.Finding{}, r.Manifest.FindingList...), Notes: []string{},
	}
	if j.to.link != "" {
		j.note("%q is a symbolic link; what it leads to is restored", j.to.link)
	}
	if err := j.checkDamage(); err != nil {
		return nil, err
	}
	return j, j.nameBasis()
}

// checkDamage refuses a damaged backup unless that is what the user wants.
func (j *job) checkDamage() error {
	if !j.Manifest.Damaged() || j.AllowDamaged {
		return nil
	}
	if j.DryRun {
		j.note("the backup is damaged; it is restored only when damaged ones are allowed")
		return nil
	}
	return colorfast.Errorf(colorfast.Corrupt, "restore backup %q: it is damaged (%s)", j.Manifest.ID.Short(), fatal(j.Manifest.FindingList)).
		WithHint("see \"colorfast show %s\", restore an earlier backup, or take this one with --allow-damaged", j.Manifest.ID.Short())
}

// fatal names the fatal findings of a list.
func fatal(list []colorfast.Finding) string {
	var words []string
	for i := range list {
		if f := &list[i]; f.Severity == colorfast.Fatal {
			words = append(words, fmt.Sprintf("%s in %q", f.Code, f.Object))
		}
	}
	if len(words) > 3 {
		words = append(words[:3], fmt.Sprintf("%d more", len(words)-3))
	}
	if len(words) == 0 {
		return "it says so"
	}
	return strings.Join(words, ", ")
}

// prepare looks at the target, settles what an interrupted restore left, and
// takes the stage. finished means that there is nothing more to do.
func (j *job) prepare(ctx context.Context) (finished bool, err error) {
	j.seen, j.blind = j.lookAround()
	if err := j.refuseOpen(); err != nil {
		return false, err
	}
	if err := j.to.inspect(j.seen.Mounts); err != nil {
		return false, err
	}
	same, err := j.settle(ctx)
	if err != nil {
		return false, err
	}
	if same && j.matches(ctx, j.to.path) {
		j.rep.BytesReused = j.rep.Bytes
		return true, nil
	}
	j.rep.KeptAside, j.rep.Verified = "", colorfast.Unknown
	if err := j.to.inspect(j.seen.Mounts); err != nil {
		return false, err
	}
	if j.to.state == full && !j.Replace {
		return false, colorfast.Errorf(colorfast.Usage, "restore to %q: it exists and is not empty", j.to.path).
			WithHint("name a new directory, or put this one aside with --replace, with Chroma stopped")
	}
	if err := j.refuseBlind(); err != nil {
		return false, err
	}
	if j.to.state == full {
		j.rep.KeptAside = j.to.aside(j.now())
	}
	j.findBasis()
	if err := j.checkSpace(ctx); err != nil {
		return false, err
	}
	if j.to.inPlace {
		j.note("%q is mounted, so its entries are moved one by one; do not start Chroma before the restore has ended", j.to.path)
	}
	if j.DryRun {
		return false, nil
	}
	return false, j.openStage(ctx)
}

// prove has the staged directory verified, and sees that this changed nothing.
func (j *job) prove(ctx context.Context) error {
	dir := j.stage.data()
	if j.Verify != nil {
		found, err := j.Verify(ctx, dir, j.Manifest)
		if err != nil {
			return fmt.Errorf("verify the staged files: %w", err)
		}
		j.rep.Verified = colorfast.OutcomeOf(found)
		j.rep.Findings = append(j.rep.Findings, found...)
		if j.rep.Verified == colorfast.Failed && !j.AllowDamaged {
			return colorfast.Errorf(colorfast.Corrupt, "verify the staged files: %s", fatal(found)).
				WithHint("restore an earlier backup, or take this one with --allow-damaged")
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("restore to %q: %w", j.to.path, err)
	}
	if err := j.tree.compare(dir, false); err != nil {
		return colorfast.Errorf(colorfast.Internal, "verify the staged files: they were changed: %w", err)
	}
	j.step("verified")
	return j.sealDirectories()
}

// abandon removes the stage after err. Where it cannot, the next restore will.
func (j *job) abandon(ctx context.Context, err error) error {
	if e := j.stage.discard(context.WithoutCancel(ctx)); e != nil {
		return errors.Join(err, fmt.Errorf("remove stage %q: %w", j.stage.dir, e))
	}
	j.log.Warn("restore abandoned", "backup", string(j.Manifest.ID), "target", j.to.path, "err", err)
	return err
}

// close gives back what the job holds and changes nothing on disk.
func (j *job) close() {
	j.closeBasis()
	if j.stage != nil {
		j.stage.close()
	}
}

// note adds a line for the user.
func (j *job) note(format string, args ...any) {
	j.rep.Notes = append(j.rep.Notes, fmt.Sprintf(format, args...))
}

// step tells tests where we are.
func (j *job) step(name string) {
	if j.at != nil {
		j.at(name)
	}
}

// now returns the time as it is put into names.
func (j *job) now() time.Time {
	if j.Now != nil {
		return j.Now().UTC()
	}
	return time.Now().UTC()
}

// progress returns a Progress that can be called.
func (j *job) progress() colorfast.Progress {
	if j.Progress != nil {
		return j.Progress
	}
	return colorfast.Quiet{}
}

// matches reports whether dir holds the backup, byte for byte.
func (j *job) matches(ctx context.Context, dir string) bool {
	if j.tree.compare(dir, true) != nil {
		return false
	}
	for i := range j.tree.files {
		f := &j.tree.files[i]
		sum, err := hashFile(ctx, filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || sum != f.SHA256 {
			return false
		}
	}
	return true
}
