package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"colorfast/chroma"
	"colorfast/internal/chromatest"
	"colorfast/internal/torture"
	"colorfast/vault"
)

// series is some trials on one Chroma that is written to all the time.
type series struct {
	number  int
	setting setting
	random  *rand.Rand
	result  *result

	dir     string // of all that the series makes
	live    string // the persist directory
	vault   *vault.Vault
	options vault.Options

	history    *torture.History
	workload   torture.Workload
	generation int // of the workload: one more after each crash
	chroma     running
	pid        int          // of chroma
	stop       func() error // ends the workload
}

// running is a Chroma that can be killed.
type running interface{ Kill() }

func (s *series) run(ctx context.Context, trials int) (err error) {
	if s.dir, err = os.MkdirTemp("", "colorfast-torture-"); err != nil {
		return err
	}
	s.live = filepath.Join(s.dir, "chroma")
	defer func() { err = errors.Join(err, s.end()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	for n := range trials {
		if err := sleep(ctx, time.Duration(200+s.random.IntN(900))*time.Millisecond); err != nil {
			return err
		}
		before := len(s.result.failures)
		err := s.trial(ctx, s.result.trials)
		if ctx.Err() != nil {
			s.result.failures = s.result.failures[:before] // interrupted, not wrong
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("trial %d: %w", n, err)
		}
		s.result.trials++
	}
	return nil
}

// open makes the vault and starts Chroma with its workload.
func (s *series) open(ctx context.Context) error {
	s.options = vault.Options{URL: "file://" + filepath.Join(s.dir, "vault"), Password: vault.NewSecret("torture")}
	if err := vault.Create(ctx, s.options); err != nil {
		return err
	}
	var err error
	if s.vault, err = vault.Open(ctx, s.options); err != nil {
		return err
	}
	s.history = &torture.History{}
	s.workload = torture.Workload{
		Seed: s.random.Uint64(), Writers: 3, Dimension: 64, MaxRecords: 300, MaxBatch: 500, Queries: true,
		// Python-era Chroma creates a collection in several transactions and cannot
		// read one that it has half made, with or without a backup.
		OwnCollections: s.setting.version >= "1",
		Shared:         torture.DefaultCollections(s.setting.version >= "1"), Pause: time.Millisecond,
	}.For(s.setting.version)
	c, err := s.start(ctx)
	if err != nil {
		return err
	}
	if err := s.workload.Setup(ctx, c, s.history); err != nil {
		return err
	}
	if s.setting.wal {
		s.chroma.Kill()
		if err := switchToWAL(ctx, filepath.Join(s.live, chroma.SQLiteFile)); err != nil {
			return err
		}
		if c, err = s.start(ctx); err != nil {
			return err
		}
	}
	s.write(ctx, c)
	return nil
}

func switchToWAL(ctx context.Context, path string) (err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(ctx.Done())
	return sqlitex.ExecuteTransient(conn, "PRAGMA journal_mode=wal", nil)
}

// start starts the Chroma of the series on its directory.
func (s *series) start(ctx context.Context) (chromatest.Chroma, error) {
	o := chromatest.Options{Version: s.setting.version, Dir: s.live}
	if s.setting.embedded {
		e, err := chromatest.LaunchEmbedded(ctx, o)
		if err != nil {
			return nil, err
		}
		s.chroma, s.pid = e, e.PID
		return e, nil
	}
	srv, err := chromatest.Launch(ctx, o)
	if err != nil {
		return nil, err
	}
	s.chroma, s.pid = srv, srv.PID
	return srv.Connect(ctx)
}

// write starts the workload; s.stop ends it.
func (s *series) write(ctx context.Context, c chromatest.Chroma) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	generation := s.generation
	go func() { ended <- s.workload.Run(ctx, c, s.history, generation, 0) }()
	s.stop = func() error {
		cancel()
		return <-ended
	}
}

func (s *series) end() error {
	var errs []error
	if s.stop != nil {
		errs = append(errs, s.stop())
	}
	if s.chroma != nil {
		s.chroma.Kill()
	}
	s.countRequests()
	if s.vault != nil {
		errs = append(errs, s.vault.Close(context.Background()))
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// countRequests adds what the present history holds to the result.
func (s *series) countRequests() {
	if s.history != nil {
		st := s.history.Stats()
		s.result.requests += st.Ops + st.Queries
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
