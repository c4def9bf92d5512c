package copies

import (
	"context"
	"time"

	"colorfast"
)

// Status is how far a copy is behind the vault that it is a copy of.
type Status struct {
	Backups  int        `json:"backups"`                 // of the vault that the copy has
	Newest   *time.Time `json:"newest_restore_point"`    // of these; nil for none
	Behind   int        `json:"behind_backups"`          // of the vault that the copy has not got
	Seconds  float64    `json:"behind_seconds"`          // between the newest restore points of vault and copy, of the source for which that is longest
	Damaged  int        `json:"damaged_backups"`         // of those that the copy has, as their sources were
	LastCopy *time.Time `json:"last_copied_at"`          // when the newest copy was begun; nil for none
	Others   int        `json:"other_backups,omitempty"` // that the vault has not got, or not any more
}

// StatusOf compares a vault with a copy of it. Errors: those of Vault.List.
func StatusOf(ctx context.Context, vault, copy Vault) (*Status, error) {
	mine, err := vault.List(ctx)
	if err != nil {
		return nil, err
	}
	theirs, err := copy.List(ctx)
	if err != nil {
		return nil, err
	}
	s := &Status{}
	has, counted := held(theirs, copy.Fingerprint()), map[colorfast.Identity]bool{}
	type lag struct{ oldest, newest, copied time.Time }
	sources := map[colorfast.Source]*lag{}
	for i := range mine { // newest first
		b := &mine[i]
		l := sources[b.Source]
		if l == nil {
			l = &lag{newest: b.RestorePoint}
			sources[b.Source] = l
		}
		l.oldest = b.RestorePoint
		id := b.Identity(vault.Fingerprint())
		if has[id] == "" {
			s.Behind++
			continue
		}
		counted[id] = true
		s.Backups++
		if b.Damaged() {
			s.Damaged++
		}
		if l.copied.IsZero() {
			l.copied = b.RestorePoint
		}
		if s.Newest == nil {
			s.Newest = &b.RestorePoint
		}
	}
	for _, l := range sources {
		from := l.copied
		if from.IsZero() {
			from = l.oldest
		}
		s.Seconds = max(s.Seconds, l.newest.Sub(from).Seconds())
	}
	for i := range theirs {
		b := &theirs[i]
		if !counted[b.Identity(copy.Fingerprint())] {
			s.Others++
		}
		if b.Origin != nil && (s.LastCopy == nil || b.Origin.CopiedAt.After(*s.LastCopy)) {
			s.LastCopy = &b.Origin.CopiedAt
		}
	}
	return s, nil
}
