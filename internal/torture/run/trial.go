package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"colorfast"
	"colorfast/backup"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/internal/torture"
	"colorfast/restore"
)

// trial makes one backup, in one of the ways, and judges it.
func (s *series) trial(ctx context.Context, n int) error {
	before := s.history.Stats().Failed
	kind := "under load"
	var err error
	switch {
	case n%5 == 3:
		kind = "after a killed backup"
		if err = s.killedBackup(ctx); err == nil {
			err = s.underLoad(ctx)
		}
	case n%5 == 4:
		kind = "after a killed Chroma"
		err = s.afterCrash(ctx)
	default:
		if n%5 < 2 {
			err = s.naiveCopies(ctx)
		}
		if err == nil {
			err = s.underLoad(ctx)
		}
	}
	s.result.kinds[kind]++
	if kind != "after a killed Chroma" {
		s.result.failedRequests += s.history.Stats().Failed - before
	}
	return err
}

// underLoad backs up while the workload goes on.
func (s *series) underLoad(ctx context.Context) error {
	m, err := s.backUp(ctx)
	if err != nil {
		s.result.fail(s, "backup under load: %v", err)
		return nil
	}
	s.result.freezes = append(s.result.freezes, m.FreezeSeconds)
	s.result.attempts += m.Consistency.Attempts
	if m.Damaged() {
		s.result.fail(s, "a healthy source was called damaged: %+v; notes %q", m.FindingList, m.Consistency.Notes)
		return nil
	}
	ours, theirs, err := s.judgeTwice(ctx, m)
	if err != nil {
		s.result.fail(s, "judge: %v", err)
		return nil
	}
	for name, v := range map[string]*torture.Verdict{"colorfast's readers": ours, "a real Chroma": theirs} {
		if !v.Good() {
			s.result.fail(s, "judged by %s (%s, %d attempts, notes %q): %s", name, m.Consistency.Mode, m.Consistency.Attempts, m.Consistency.Notes, v)
		}
	}
	s.result.records += ours.Checked
	return nil
}

func (s *series) backUp(ctx context.Context) (*colorfast.Manifest, error) {
	b := backup.Backup{Source: s.live, Vault: s.vault, Staging: filepath.Join(s.dir, "staging")}
	return b.Run(ctx)
}

// judgeTwice restores a backup and judges it by colorfast's readers, and by what
// a real Chroma reads from it.
func (s *series) judgeTwice(ctx context.Context, m *colorfast.Manifest) (ours, theirs *torture.Verdict, err error) {
	// The source rests meanwhile, lest it takes the processors from the judges.
	if s.stop != nil {
		if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
			return nil, nil, err
		}
		defer func() { err = errors.Join(err, syscall.Kill(s.pid, syscall.SIGCONT)) }()
	}
	dir := filepath.Join(s.dir, "restored")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := restore.Restore{Vault: s.vault, Manifest: m, Target: dir, AllowDamaged: true}
	if _, err := r.Run(ctx); err != nil {
		return nil, nil, err
	}
	got, err := readState(ctx, dir, s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read with colorfast: %w", err)
	}
	c := &m.Consistency
	ours = torture.Judge(s.history, c.FrozenAt, c.ReleasedAt, got)
	got, err = s.chromaReads(ctx, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read with a real Chroma: %w", err)
	}
	return ours, torture.Judge(s.history, c.FrozenAt, c.ReleasedAt, got), nil
}

// chromaReads starts a real Chroma on dir and reads all that it holds.
func (s *series) chromaReads(ctx context.Context, dir string) (torture.State, error) {
	srv, err := chromatest.Launch(ctx, chromatest.Options{Version: s.setting.version, Dir: dir})
	if err != nil {
		return nil, err
	}
	defer srv.Kill()
	c, err := srv.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return torture.Read(ctx, c)
}

// killedBackup runs the built program and kills it at a random moment. Whatever
// it leaves, the vault must list whole backups only.
func (s *series) killedBackup(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join("bin", "colorfast"), "backup", s.live)
	cmd.Env = append(os.Environ(), "COLORFAST_VAULT="+s.options.URL, "COLORFAST_PASSWORD=torture",
		"COLORFAST_PASSWORD_FILE=", "COLORFAST_STAGING="+filepath.Join(s.dir, "staging"), "HOME="+s.dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the built program (make build): %w", err)
	}
	if err := sleep(ctx, time.Duration(s.random.IntN(1500))*time.Millisecond); err != nil {
		return err
	}
	_ = cmd.Process.Kill()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return fmt.Errorf("backup to be killed: %w: %s", err, said.String())
	}
	if err != nil {
		s.result.killedBackups++
	}
	list, err := s.vault.List(ctx)
	if err != nil {
		return err
	}
	for _, b := range list {
		m, err := s.vault.Manifest(ctx, b.ID)
		if err != nil {
			s.result.fail(s, "after a killed backup, backup %s: %v", b.ID, err)
			continue
		}
		if found, err := s.vault.Check(ctx, m, colorfast.Stored, colorfast.Quiet{}); err != nil || len(found) > 0 {
			s.result.fail(s, "after a killed backup, backup %s: %v, %v", b.ID, found, err)
		}
	}
	return nil
}

// afterCrash kills Chroma, often in the middle of a save, backs up what it left,
// and starts it again. What Chroma has destroyed by itself no backup can bring
// back: a backup may then be damaged, if it says so, and a real Chroma on the
// same files is the measure.
func (s *series) afterCrash(ctx context.Context) error {
	if err := s.awaitSave(ctx); err != nil {
		return err
	}
	s.chroma.Kill()
	crashed := time.Now()
	if err := s.stop(); err != nil {
		fmt.Printf("  the workload ended: %v\n", err)
	}
	s.stop = nil
	m, err := s.backUp(ctx)
	if err != nil {
		s.result.fail(s, "backup after a crash: %v", err)
		return nil
	}
	raw := filepath.Join(s.dir, "raw")
	if err := os.CopyFS(raw, os.DirFS(s.live)); err != nil {
		return err
	}
	var without *torture.Verdict // what Chroma makes of its own files; nil if nothing
	if state, err := s.chromaReads(ctx, raw); err == nil {
		without = torture.Judge(s.history, crashed, crashed, state)
	}
	if err := os.RemoveAll(raw); err != nil {
		return err
	}
	if m.Damaged() {
		s.result.damaged++
		if without != nil && without.Good() {
			s.result.falseAlarms++
		}
	} else if err := s.judgeAfterCrash(ctx, m, without); err != nil {
		return err
	}
	return s.restart(ctx)
}

// judgeAfterCrash judges a backup that claims to be whole, made of a Chroma that
// was killed. It must be no worse than what Chroma makes of the same files. What
// Chroma loses without a trace in its files, such as the half of an
// unacknowledged update that a Python-era save had written already, is counted.
func (s *series) judgeAfterCrash(ctx context.Context, m *colorfast.Manifest, without *torture.Verdict) error {
	ours, theirs, err := s.judgeTwice(ctx, m)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.result.fail(s, "judge after a crash: %v", err)
		return nil
	case without == nil:
		s.result.fail(s, "Chroma cannot use its files after a crash, and the backup does not say so")
		return nil
	}
	bad := func(v *torture.Verdict) int { return v.Lost + v.Corrupt + len(v.Discrepancies) }
	if bad(ours) > bad(without) || bad(theirs) > bad(without) {
		s.result.fail(s, "after a crash (%s), readers: %v; Chroma on the restored: %v; Chroma without a backup: %v", m.Consistency.Mode, ours, theirs, without)
	}
	if !without.Good() {
		s.result.traceless++
		fmt.Printf("  Chroma lost without a trace: %v; findings %v\n", without, m.FindingList)
	}
	s.result.records += ours.Checked
	return nil
}

// awaitSave returns at a random moment of a save of some index, or after a few
// seconds without one.
func (s *series) awaitSave(ctx context.Context) error {
	stamps := func() (newest time.Time) {
		headers, _ := filepath.Glob(filepath.Join(s.live, "*", chroma.HeaderFile))
		for _, h := range headers {
			if fi, err := os.Stat(h); err == nil && fi.ModTime().After(newest) {
				newest = fi.ModTime()
			}
		}
		return newest
	}
	was := stamps()
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline) && stamps().Equal(was); {
		if err := sleep(ctx, 200*time.Microsecond); err != nil {
			return err
		}
	}
	return sleep(ctx, time.Duration(s.random.IntN(12000))*time.Microsecond)
}

// restart goes on after a crash, on a new directory: what Chroma lost on the old
// one would count against every later backup.
func (s *series) restart(ctx context.Context) error {
	if err := os.RemoveAll(s.live); err != nil {
		return err
	}
	s.countRequests()
	s.history = &torture.History{}
	s.generation++
	c, err := s.start(ctx)
	if err != nil {
		return err
	}
	if err := s.workload.Setup(ctx, c, s.history); err != nil {
		return err
	}
	s.write(ctx, c)
	return nil
}
