// Package copies keeps the same backups in several vaults: Copy.Run brings those
// that are missing from one into another, each encrypted under its own key, and
// Several reads from the first vault that gives good bytes. It knows the ports
// colorfast.Vault and colorfast.Replica and no storage.
//
// A copy is a backup like any other; its Origin says which one it is. So what is
// there already, and what has to move, is told by the vaults themselves: there is
// no list to lose, and a run that was killed is simply run again.
//
// Start reading at Copy.Run, or at Several.
package copies

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"colorfast"
)

// Vault is a vault whose backups can be copied.
type Vault interface {
	colorfast.Vault
	colorfast.Replica
}

// Copy brings backups of one vault into another.
type Copy struct {
	From, To Vault
	Backups  []colorfast.BackupID // of From; nil means all
	Source   string               // only backups whose source matches; "" means all
	// Again copies what To has already too, as a backup of its own: in the place of
	// one that is hurt there.
	Again bool
	// Level is how deep a look at each backup that has arrived goes: Stored, which
	// "" means, or Bytes, which reads all of it back.
	Level    colorfast.Level
	Progress colorfast.Progress // nil shows nothing
	Log      *slog.Logger       // nil is silent
	Now      func() time.Time   // nil means time.Now
}

// Report is what a run of Copy did.
type Report struct {
	Copied  []Copied  `json:"copied"`        // oldest restore point first; never nil
	Refused []Refused `json:"refused"`       // never nil
	There   int       `json:"already_there"` // asked for, and not copied again
	Left    int       `json:"left"`          // asked for, and not reached because of an error
	Read    int64     `json:"read_bytes"`    // of files, out of From; as they are in the files
	Stored  int64     `json:"stored_bytes"`  // added to To, after compression and encryption
	Seconds float64   `json:"duration_seconds"`
}

// Copied is one backup that has arrived.
type Copied struct {
	Backup       colorfast.BackupID  `json:"backup"` // its ID in From
	Copy         colorfast.BackupID  `json:"copy"`   // its ID in To
	Source       colorfast.Source    `json:"source"`
	RestorePoint time.Time           `json:"restore_point"`
	Damaged      bool                `json:"damaged"`                 // as its source was: copied as it is
	Against      colorfast.BackupID  `json:"compared_with,omitempty"` // of To; "" for nothing
	Bytes        int64               `json:"original_bytes"`          // sum of the files' sizes
	Read         int64               `json:"read_bytes"`              // of these, read out of From; the rest is as in Against
	Stored       int64               `json:"stored_bytes"`            // added to To
	Verified     colorfast.Outcome   `json:"verified"`                // of the look after its arrival
	Findings     []colorfast.Finding `json:"findings"`                // of that look; never nil
	Seconds      float64             `json:"duration_seconds"`
}

// Refused is one backup that was not copied, because it cannot be.
type Refused struct {
	Backup       colorfast.BackupID `json:"backup"`
	RestorePoint time.Time          `json:"restore_point"`
	Kind         string             `json:"kind"` // of the error
	Reason       string             `json:"reason"`
}

// Run copies what To has not got, the oldest restore point first. A backup that
// cannot be read out of From is refused and is not listed in To, and the others go
// on; any other error ends the run. A report comes with the error then.
//
// Each copy keeps its restore point and all its evidence, and what it says of
// being damaged. Of a file, only the pages are read that differ from those of a
// backup which both vaults have. What is proven when a backup is listed in To:
// every byte that was read came authenticated out of From; a file that was read as
// a whole has its recorded SHA-256; a page that was not read lies in From at the
// place where the earlier backup has it, whose copy To has; and all that it needs
// was found in To's storage. Level Bytes reads every file back out of To.
//
// Errors: those of Vault.List and Vault.Put; NotFound for a backup that is asked
// for and not there; Usage for one vault as both.
func (c *Copy) Run(ctx context.Context) (*Report, error) {
	begun := time.Now()
	j, err := c.plan(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { j.rep.Seconds = time.Since(begun).Seconds() }()
	for i := range j.todo {
		b := &j.todo[i]
		j.rep.Left = len(j.todo) - i
		done, err := j.copy(ctx, b)
		switch {
		case err == nil:
			j.rep.Copied = append(j.rep.Copied, *done)
			j.log.Info("backup copied", "backup", b.ID, "copy", done.Copy, "bytes", done.Stored)
		case refusable(ctx, err):
			j.rep.Refused = append(j.rep.Refused, Refused{b.ID, b.RestorePoint, colorfast.KindOf(err).String(), err.Error()})
			j.log.Warn("backup not copied", "backup", b.ID, "err", err)
		default:
			return j.rep, err
		}
	}
	j.rep.Left = 0
	return j.rep, nil
}

// refusable reports whether an error says that this one backup cannot be copied,
// and nothing about the others.
func refusable(ctx context.Context, err error) bool {
	var from *sourceError
	if ctx.Err() != nil || !errors.As(err, &from) {
		return false
	}
	switch colorfast.KindOf(err) {
	case colorfast.Corrupt, colorfast.NotFound, colorfast.Unsupported:
		return true
	}
	return false
}

// sourceError marks an error of the vault that is copied from.
type sourceError struct{ err error }

// Error returns the message of the vault.
func (e *sourceError) Error() string { return e.err.Error() }

// Unwrap returns the error of the vault.
func (e *sourceError) Unwrap() error { return e.err }

func fromSource(err error) error {
	if err == nil {
		return nil
	}
	return &sourceError{err}
}

// job is one Run.
type job struct {
	*Copy
	log  *slog.Logger
	p    colorfast.Progress
	todo []colorfast.Backup                        // oldest first
	all  []colorfast.Backup                        // of From, newest first
	has  map[colorfast.Identity]colorfast.BackupID // of To: its ID there
	rep  *Report
}

// plan looks into both vaults and says what is to do.
func (c *Copy) plan(ctx context.Context) (*job, error) {
	j := &job{Copy: c, log: c.Log, p: c.Progress, rep: &Report{Copied: []Copied{}, Refused: []Refused{}}}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.p == nil {
		j.p = colorfast.Quiet{}
	}
	if c.From.Fingerprint() == c.To.Fingerprint() {
		return nil, colorfast.Errorf(colorfast.Usage, "copy backups: both are the same vault, or one is a copy of the other's storage").
			WithHint("make another vault with \"colorfast init --vault URL\"")
	}
	there, err := c.To.List(ctx)
	if err != nil {
		return nil, err
	}
	if j.all, err = c.From.List(ctx); err != nil {
		return nil, err
	}
	j.has = held(there, c.To.Fingerprint())
	for _, id := range c.Backups {
		if !slices.ContainsFunc(j.all, func(b colorfast.Backup) bool { return b.ID == id }) {
			return nil, colorfast.Errorf(colorfast.NotFound, "copy backup %q: the vault holds no such backup", id)
		}
	}
	for _, b := range slices.Backward(j.all) {
		switch {
		case !b.Source.Matches(c.Source), c.Backups != nil && !slices.Contains(c.Backups, b.ID):
		case !c.Again && j.has[b.Identity(c.From.Fingerprint())] != "":
			j.rep.There++
		default:
			j.todo = append(j.todo, b)
		}
	}
	return j, nil
}

// held returns what a vault has, whatever it is called there.
func held(list []colorfast.Backup, vault colorfast.Fingerprint) map[colorfast.Identity]colorfast.BackupID {
	out := make(map[colorfast.Identity]colorfast.BackupID, len(list))
	for i := range list {
		if id := list[i].Identity(vault); out[id] == "" { // the newest copy comes first
			out[id] = list[i].ID
		}
	}
	return out
}

func (c *Copy) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}
