package recovery

import (
	"time"

	"colorfast"
)

// How long things may stay as they are before they are a finding, or a warning.
const (
	// Stale is the age of a proof of a copy of the password at which it says too
	// little: papers move, people leave.
	Stale = 180 * day
	// Grace is how long a password may be the vault's before a backup warns that no
	// copy of it was ever proven: long enough to do it without being told.
	Grace = 7 * day
)

// KeyFacts are what is known of the key of a vault, as seen from one host.
type KeyFacts struct {
	Events    []colorfast.KeyEvent // of the vault
	KeyID     string               // of the password that is in use
	Since     time.Time            // when that became the vault's, at the latest; zero: not known
	Host      string               // from which this is seen
	Source    string               // where that host takes the password from, in words
	MadeUp    bool                 // it was made up and stored in a file on this host
	OnHost    bool                 // the host keeps it, so that it is lost with the host
	VaultDisk bool                 // it is in a file on the file system or the disk of the vault
}

// Verified returns the newest proof that a copy of the password in use opens the
// vault; nil if there is none. Proofs of earlier passwords say nothing.
func (f *KeyFacts) Verified() *colorfast.KeyEvent {
	var last *colorfast.KeyEvent
	for i := range f.Events {
		e := &f.Events[i]
		if e.Kind == colorfast.KeyVerified && e.KeyID == f.KeyID && (last == nil || !e.At.Before(last.At)) {
			last = e
		}
	}
	return last
}

// Judge says how the password could get lost, as findings, the gravest first; none
// if a copy of it was proven not long ago. Where it lies on this host is of no
// matter then.
func Judge(f KeyFacts, now time.Time) []colorfast.Finding {
	found := []colorfast.Finding{}
	if e := f.Verified(); e != nil {
		if age := now.Sub(e.At); age > Stale {
			found = append(found, colorfast.NewFinding(colorfast.KeyStale, f.Host, 0,
				"a copy was last proven on %s by %s, %d days ago", date(e.At), e.By, int(age/day)))
		}
		return found
	}
	switch {
	case f.VaultDisk:
		found = append(found, colorfast.NewFinding(colorfast.KeyOnVaultDisk, f.Host, 0, "it is %s, on the disk of the vault", f.Source))
	case f.OnHost:
		found = append(found, colorfast.NewFinding(colorfast.KeyOnOneHost, f.Host, 0, "it is %s", f.Source))
	}
	if f.MadeUp {
		found = append(found, colorfast.NewFinding(colorfast.KeyMadeUp, f.Host, 0, "colorfast made it up, so nobody knows it by heart"))
	}
	detail := "nobody has shown that a copy of it opens the vault"
	if !f.Since.IsZero() {
		detail += ", since " + date(f.Since)
	}
	return append(found, colorfast.NewFinding(colorfast.KeyNeverVerified, f.Host, 0, "%s", detail))
}

// Warn reports whether a backup should say a word: no copy of the password was ever
// proven, and there was time enough to do it.
func Warn(f KeyFacts, now time.Time) bool {
	return f.Verified() == nil && !f.Since.IsZero() && now.Sub(f.Since) > Grace
}
