package copies

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"

	"colorfast"
)

// Member is one of several vaults that hold the same backups.
type Member struct {
	Name  string // as users know it
	Vault Vault  // nil if it could not be opened
	Err   error  // why not
}

// Several is a vault made of several. It stores in the first one. It reads from
// the first one too, and from the next where that cannot be had, or gives other
// bytes than it should: the same backup, by its identity. What was taken from
// where, it remembers.
//
// A backup has the ID that it has in the first member that lists it; it is found by
// that which it has anywhere, and where it was made.
type Several struct {
	members []Member

	mu    sync.Mutex
	ids   []map[colorfast.Identity]colorfast.BackupID // of each member; nil: not listed yet
	named map[colorfast.BackupID]colorfast.Identity
	taken []Taken
	away  []error // of each member: why it could not be reached; it is not asked again
}

var _ colorfast.Vault = (*Several)(nil)

// Taken tells what was not taken from the first vault.
type Taken struct {
	Vault  string             `json:"vault"`  // Member.Name of that which it was taken from
	Backup colorfast.BackupID `json:"backup"` // its ID there; "" for the list of backups
	Files  []string           `json:"files"`  // that were read there; never nil
	Reason string             `json:"reason"` // why it was not to be had before
}

// NewSeveral makes one vault of several, in the order in which they are asked.
// There must be one at least. Close closes all of them.
func NewSeveral(members ...Member) *Several {
	return &Several{members: members, ids: make([]map[colorfast.Identity]colorfast.BackupID, len(members)), named: map[colorfast.BackupID]colorfast.Identity{}, away: make([]error, len(members))}
}

// Taken returns what was not taken from the first vault until now.
func (s *Several) Taken() []Taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Taken, len(s.taken))
	for i, t := range s.taken {
		t.Files = slices.Clone(t.Files)
		out[i] = t
	}
	return out
}

// took notes that a file, or with "" anything else, came from a later member.
func (s *Several) took(from int, id colorfast.BackupID, file string, reason error) {
	if from == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.members[from].Name
	i := slices.IndexFunc(s.taken, func(t Taken) bool { return t.Vault == name && t.Backup == id })
	if i < 0 {
		i = len(s.taken)
		s.taken = append(s.taken, Taken{Vault: name, Backup: id, Files: []string{}, Reason: reason.Error()})
	}
	if file != "" && !slices.Contains(s.taken[i].Files, file) {
		s.taken[i].Files = append(s.taken[i].Files, file)
	}
}

// reach returns why a member cannot be asked, nil if it can.
func (s *Several) reach(i int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.members[i].Err, s.away[i])
}

// leave remembers that a member cannot be reached: its storage was tried for minutes,
// which a restore cannot wait for at each file.
func (s *Several) leave(i int, err error) {
	if colorfast.KindOf(err) != colorfast.Unreachable {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[i] = err
}

// each calls fn for one member after the other until one gives no error. An error
// that the next member cannot mend ends it. It returns the first error if none
// has what is wanted.
func (s *Several) each(ctx context.Context, from int, first error, fn func(i int, m *Member, before error) error) error {
	for i := from; i < len(s.members); i++ {
		m := &s.members[i]
		err := s.reach(i)
		if err == nil {
			err = fn(i, m, first)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return err
		case colorfast.KindOf(err) == colorfast.Usage && m.Vault != nil:
			return cmp.Or(first, err)
		}
		s.leave(i, err)
		// That a later one has not got it says nothing about why it is wanted there.
		first = cmp.Or(first, err)
	}
	return first
}

// Put implements colorfast.Vault: it stores in the first member.
func (s *Several) Put(ctx context.Context, m *colorfast.Manifest, content fs.FS, p colorfast.Progress) error {
	if s.members[0].Vault == nil {
		return s.members[0].Err
	}
	return s.members[0].Vault.Put(ctx, m, content, p)
}

// List implements colorfast.Vault: each backup once, whichever members have it.
// A member that cannot be listed is passed over, unless all are.
func (s *Several) List(ctx context.Context) ([]colorfast.Backup, error) {
	out := []colorfast.Backup{}
	seen := map[colorfast.Identity]bool{}
	var first error
	listed := false
	for i := range s.members {
		m := &s.members[i]
		err := m.Err
		var list []colorfast.Backup
		if m.Vault != nil {
			list, err = m.Vault.List(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			first = cmp.Or(first, err)
			continue
		}
		if !listed && first != nil {
			s.took(i, "", "", first)
		}
		listed = true
		s.learn(i, list)
		for _, b := range list {
			if id := b.Identity(m.Vault.Fingerprint()); i == 0 || !seen[id] {
				seen[id] = true
				out = append(out, b)
			}
		}
	}
	if !listed {
		return nil, first
	}
	slices.SortStableFunc(out, func(a, b colorfast.Backup) int {
		return cmp.Or(b.RestorePoint.Compare(a.RestorePoint), b.FinishedAt.Compare(a.FinishedAt), b.Copied().Compare(a.Copied()))
	})
	return out, nil
}

// learn remembers what a member calls its backups.
func (s *Several) learn(i int, list []colorfast.Backup) {
	vault := s.members[i].Vault.Fingerprint()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[i] = held(list, vault)
	for k := range list {
		id := list[k].Identity(vault)
		s.named[list[k].ID], s.named[id.Backup] = id, id
	}
}

// call returns what member i calls the backup id; "" if it has none. The first
// member is not asked for its list: that it has no such backup it says itself.
func (s *Several) call(ctx context.Context, i int, id colorfast.BackupID) (colorfast.BackupID, error) {
	known := func() (colorfast.BackupID, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		name, ok := s.named[id]
		if !ok {
			name = colorfast.Identity{Backup: id}
			if v := s.members[0].Vault; v != nil {
				name.Vault = v.Fingerprint()
			}
		}
		return s.ids[i][name], s.ids[i] != nil
	}
	if i == 0 {
		if other, ok := known(); ok && other != "" {
			return other, nil
		}
		return id, nil
	}
	if other, listed := known(); listed && other != "" {
		return other, nil
	}
	list, err := s.members[i].Vault.List(ctx)
	if err != nil {
		return "", err
	}
	s.learn(i, list)
	other, _ := known()
	if other == "" {
		return "", colorfast.Errorf(colorfast.NotFound, "find backup %q in vault %q: it holds no copy of it", id, s.members[i].Name)
	}
	return other, nil
}

// Manifest implements colorfast.Vault.
func (s *Several) Manifest(ctx context.Context, id colorfast.BackupID) (*colorfast.Manifest, error) {
	var out *colorfast.Manifest
	err := s.each(ctx, 0, nil, func(i int, m *Member, before error) error {
		there, err := s.call(ctx, i, id)
		if err != nil {
			return err
		}
		got, err := m.Vault.Manifest(ctx, there)
		if err != nil {
			return err
		}
		s.took(i, there, "", cmp.Or(before, errors.New("only there")))
		got.ID = id
		out = got
		return nil
	})
	return out, err
}

// Check implements colorfast.Vault, of the first member that can be looked at. What
// is wrong there is a finding, also if a copy is good.
func (s *Several) Check(ctx context.Context, m *colorfast.Manifest, level colorfast.Level, p colorfast.Progress) ([]colorfast.Finding, error) {
	var found []colorfast.Finding
	err := s.each(ctx, 0, nil, func(i int, member *Member, before error) error {
		c, err := s.as(ctx, i, m)
		if err != nil {
			return err
		}
		found, err = member.Vault.Check(ctx, c, level, p)
		if err == nil {
			s.took(i, c.ID, "", before)
		}
		return err
	})
	return found, err
}

// as returns a manifest under the ID that member i has for it.
func (s *Several) as(ctx context.Context, i int, m *colorfast.Manifest) (*colorfast.Manifest, error) {
	id, err := s.call(ctx, i, m.ID)
	if err != nil {
		return nil, err
	}
	c := *m
	c.ID = id
	return &c, nil
}

// Open implements colorfast.Vault. Where a member fails on the way, the next one
// goes on from there, if it has the same bytes before.
func (s *Several) Open(ctx context.Context, m *colorfast.Manifest, path string, older io.ReaderAt) (colorfast.Content, error) {
	c := newContent(ctx, s, m, path, older)
	if err := c.open(0, nil); err != nil {
		return nil, err
	}
	return c, nil
}

// Close implements colorfast.Vault.
func (s *Several) Close(ctx context.Context) error {
	var errs []error
	for i := range s.members {
		if v := s.members[i].Vault; v != nil {
			errs = append(errs, v.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
