package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// entrant is a tool in one round.
type entrant struct {
	Tool
	at            int // its place among the tools
	repository    repository
	first, newest string // backups
}

// round takes every tool through all steps with a fresh repository, and has it
// restore and verify at the end. The order of the tools is another one in each
// step of each round.
func (s *Suite) round(ctx context.Context, n int, c *corpus, tools []Tool, l *ledger) (changes []Change, err error) {
	home := filepath.Join(s.Work, "round")
	entrants, err := open(ctx, home, tools)
	if err != nil {
		return nil, err
	}
	for at, st := range steps {
		change, err := bring(s.place(), c.state(at))
		if err != nil {
			return changes, err
		}
		change.Step = st.Name
		changes = append(changes, change)
		time.Sleep(settle)
		for _, e := range rotated(entrants, n+at) {
			cost, err := s.backUp(ctx, e)
			if err != nil {
				return changes, fmt.Errorf("%s, backup, %q: %w", e.Name, st.Name, err)
			}
			s.Say("  %-17s %-10s %6.2f s, %6.2f s CPU, %8.3f MiB added", st.Name, e.Name, cost.Seconds, cost.CPUSeconds, mib(cost.Added))
			l.add(e.at, backupAction, st.Name, change.Bytes, cost)
		}
	}
	sizes := map[string]int64{restoreFirst: changes[0].Bytes, restoreNewest: changes[len(changes)-1].Bytes, verifyAction: changes[len(changes)-1].Bytes}
	for i, action := range []string{restoreNewest, restoreFirst, verifyAction} {
		for _, e := range rotated(entrants, n+i) {
			cost, err := s.afterwards(ctx, e, action, c)
			if err != nil {
				return changes, fmt.Errorf("%s, %s: %w", e.Name, action, err)
			}
			s.Say("  %-17s %-10s %6.2f s, %6.2f s CPU", action, e.Name, cost.Seconds, cost.CPUSeconds)
			l.add(e.at, action, "", sizes[action], cost)
		}
	}
	return changes, os.RemoveAll(home)
}

// open gives every tool a fresh repository.
func open(ctx context.Context, home string, tools []Tool) ([]*entrant, error) {
	var out []*entrant
	for i, t := range tools {
		dir := filepath.Join(home, t.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		r, err := t.open(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		out = append(out, &entrant{Tool: t, at: i, repository: r})
	}
	return out, nil
}

func rotated(e []*entrant, by int) []*entrant {
	by %= len(e)
	return append(append([]*entrant{}, e[by:]...), e[:by]...)
}

// backUp measures one backup of the place, with its files in the page cache and
// nothing else waiting to be written.
func (s *Suite) backUp(ctx context.Context, e *entrant) (Cost, error) {
	if _, err := warm(s.place()); err != nil {
		return Cost{}, err
	}
	before, err := sizeOf(e.repository.dir())
	if err != nil {
		return Cost{}, err
	}
	unix.Sync()
	begun := time.Now()
	cost, stdout, stderr, err := s.metered(ctx, e.repository.backup(s.place()))
	if err != nil {
		return Cost{}, err
	}
	cost.Stages = stages(stderr, begun, cost.Seconds)
	after, err := sizeOf(e.repository.dir())
	if err != nil {
		return Cost{}, err
	}
	cost.Added = after - before
	if e.newest, err = e.repository.stored(stdout); err != nil {
		return Cost{}, err
	}
	if e.newest == "" {
		return Cost{}, errors.New("it did not say how the backup is called")
	}
	if e.first == "" {
		e.first = e.newest
	}
	return cost, nil
}

// afterwards measures a restore or a verification, with the repository in the
// page cache. What is restored is compared with the source, and an error if it
// differs.
func (s *Suite) afterwards(ctx context.Context, e *entrant, action string, c *corpus) (Cost, error) {
	if _, err := warm(e.repository.dir()); err != nil {
		return Cost{}, err
	}
	unix.Sync()
	if action == verifyAction {
		cost, _, _, err := s.metered(ctx, e.repository.verify(e.newest))
		return cost, err
	}
	id, want := e.newest, c.state(len(steps)-1)
	if action == restoreFirst {
		id, want = e.first, c.state(0)
	}
	return s.restore(ctx, e.repository, id, want)
}

// restore measures the restore of a backup of the place, compares it with the
// directory want, and removes it.
func (s *Suite) restore(ctx context.Context, r repository, id, want string) (Cost, error) {
	to := filepath.Join(s.Work, "restored")
	cost, _, _, err := s.metered(ctx, r.restore(id, to))
	if err != nil {
		return Cost{}, err
	}
	if err := compare(want, r.restored(to, s.place())); err != nil {
		return Cost{}, fmt.Errorf("WRONG RESTORE of %s: %w", id, err)
	}
	return cost, os.RemoveAll(to)
}
