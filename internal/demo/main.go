// Command demo shows the main job on a real Chroma, from nothing: it fills a
// server, keeps writing to it, backs it up with the built program, destroys its
// directory, restores, and compares every acknowledged record. It ends with a
// non-zero code if anything differs. "make demo" runs it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"colorfast"
	"colorfast/chroma"
	"colorfast/internal/chromatest"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo FAILED: %v\n", err)
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	dir     string // of everything the demo makes
	live    string // the persist directory
	version string
	began   time.Time
	server  *chromatest.Server
}

func run(ctx context.Context) (err error) {
	d := &demo{version: chromatest.Versions()[0], began: time.Now()}
	if d.dir, err = os.MkdirTemp("", "colorfast-demo-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.dir)
	d.live = filepath.Join(d.dir, "chroma")

	d.say("install and start a real Chroma %s", d.version)
	if _, err := chromatest.Install(ctx, d.version, func(format string, args ...any) { d.say("  "+format, args...) }); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	defer func() { d.server.Kill() }()

	s := &shop{}
	if err := s.open(ctx, d.server.URL); err != nil {
		return err
	}
	d.say("write records in %d collections of two databases", len(s.shelves))
	if err := s.fill(ctx); err != nil {
		return err
	}
	d.say("keep %d writers writing from now on", len(s.shelves))
	stop := s.keepWriting(ctx)
	m, err := d.backUp(ctx)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	if err := d.refusesLive(ctx); err != nil {
		return err
	}
	if err := d.wreck(ctx); err != nil {
		return err
	}
	restoreSeconds, err := d.restore(ctx)
	if err != nil {
		return err
	}
	d.say("start Chroma on the restored directory and read every record back")
	if err := d.start(ctx); err != nil {
		return fmt.Errorf("restored Chroma does not start: %w", err)
	}
	if err := s.open(ctx, d.server.URL); err != nil {
		return err
	}
	v, err := s.judge(ctx, m.Consistency.FrozenAt, m.Consistency.ReleasedAt)
	if err != nil {
		return err
	}
	if err := s.stillWorks(ctx); err != nil {
		return err
	}
	return d.summary(m, v, restoreSeconds)
}

func (d *demo) say(format string, args ...any) {
	fmt.Printf("[%5.1f s] %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) start(ctx context.Context) (err error) {
	d.server, err = chromatest.Launch(ctx, chromatest.Options{Version: d.version, Dir: d.live})
	return err
}

// colorfast runs the built program, shows how it was called and what it said,
// and returns what it printed.
func (d *demo) colorfast(ctx context.Context, args ...string) ([]byte, error) {
	fmt.Printf("          $ colorfast %s\n", strings.ReplaceAll(strings.Join(args, " "), d.dir+string(filepath.Separator), ""))
	cmd := exec.CommandContext(ctx, filepath.Join("bin", "colorfast"), args...)
	cmd.Env = append(os.Environ(),
		"HOME="+filepath.Join(d.dir, "home"), "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=",
		"COLORFAST_VAULT=file://"+filepath.Join(d.dir, "vault"), "COLORFAST_PASSWORD=", "COLORFAST_PASSWORD_FILE=", "COLORFAST_STAGING=")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	for line := range strings.Lines(said.String()) {
		fmt.Printf("            %s", strings.ReplaceAll(line, d.dir+string(filepath.Separator), ""))
	}
	return out.Bytes(), err
}

// backUp makes a vault and a backup while the writers write, and proves it.
func (d *demo) backUp(ctx context.Context) (*colorfast.Manifest, error) {
	d.say("make a vault, back up while Chroma serves, and prove the backup")
	if _, err := d.colorfast(ctx, "init"); err != nil {
		return nil, fmt.Errorf("colorfast init: %w", err)
	}
	out, err := d.colorfast(ctx, "backup", d.live, "--json")
	if err != nil {
		return nil, fmt.Errorf("colorfast backup: %w", err)
	}
	m := &colorfast.Manifest{}
	if err := json.Unmarshal(out, m); err != nil {
		return nil, err
	}
	out, err = d.colorfast(ctx, "verify", "latest")
	fmt.Printf("            %s", bytes.ReplaceAll(out, []byte(d.dir+"/"), nil))
	return m, err
}

// refusesLive shows that a directory is not restored under a running Chroma.
func (d *demo) refusesLive(ctx context.Context) error {
	d.say("try to restore over the running Chroma: it must be refused")
	_, err := d.colorfast(ctx, "restore", "latest", "--to", d.live, "--replace")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 11 {
		return fmt.Errorf("restore over a running Chroma ended with %v, not with exit code 11", err)
	}
	return nil
}

// wreck destroys the persist directory so that Chroma cannot use it.
func (d *demo) wreck(ctx context.Context) error {
	d.say("disaster: kill Chroma, overwrite the head of its database, cut its vector files in half")
	d.server.Kill()
	db, err := os.OpenFile(filepath.Join(d.live, chroma.SQLiteFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = db.WriteAt(bytes.Repeat([]byte("gone"), 4<<10), 0)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(d.live, "*", "*"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("found no vector files to destroy: %v", err)
	}
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			return err
		}
		if err := os.Truncate(f, fi.Size()/2); err != nil {
			return err
		}
	}
	err = d.start(ctx)
	if err == nil {
		d.server.Kill()
		return errors.New("a Chroma started on the wrecked directory: the demo shows nothing")
	}
	d.say("Chroma cannot start any more: %s", reason(err.Error()))
	return nil
}

// reason picks the line of Chroma's log that says why it ended: the one after
// "panicked at", which only names a place in its source.
func reason(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i, l := range lines[:len(lines)-1] {
		if strings.Contains(l, "panicked at") {
			return strings.TrimSpace(lines[i+1])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

func (d *demo) restore(ctx context.Context) (float64, error) {
	d.say("restore in place; the wrecked directory is kept aside")
	out, err := d.colorfast(ctx, "restore", "latest", "--to", d.live, "--replace", "--json")
	if err != nil {
		return 0, fmt.Errorf("colorfast restore: %w", err)
	}
	var report struct {
		Seconds float64 `json:"duration_seconds"`
	}
	return report.Seconds, json.Unmarshal(out, &report)
}

func (d *demo) summary(m *colorfast.Manifest, v verdict, restoreSeconds float64) error {
	mib := func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	fmt.Println()
	for _, row := range [][2]string{
		{"records in the backup", fmt.Sprintf("%d in %d collections of %d databases", m.Records, m.Collections, len(m.Inventory.Databases))},
		{"size of the source", mib(m.OriginalBytes)},
		{"size in the vault", mib(m.StoredBytes) + ", compressed and encrypted"},
		{"time to back up", fmt.Sprintf("%.1f s, proof included", m.FinishedAt.Sub(m.StartedAt).Seconds())},
		{"writers had to wait", fmt.Sprintf("%.0f ms (%d attempt)", m.FreezeSeconds*1000, m.Consistency.Attempts)},
		{"requests during backup", fmt.Sprintf("%d, client errors: %d", v.requests, v.clientErrors)},
		{"time to restore", fmt.Sprintf("%.1f s, proof included", restoreSeconds)},
		{"records compared", fmt.Sprintf("%d acknowledged before the freeze: id, vector, document, metadata", v.compared)},
		{"  missing or different", fmt.Sprint(v.wrong)},
		{"written after the freeze", fmt.Sprintf("%d records, %d of them in the restored Chroma", v.later, v.leaked)},
	} {
		fmt.Printf("  %-25s %s\n", row[0], row[1])
	}
	fmt.Println()
	if v.wrong+v.leaked+v.clientErrors > 0 || v.compared < atLeast {
		return fmt.Errorf("%d wrong, %d leaked, %d client errors, %d compared", v.wrong, v.leaked, v.clientErrors, v.compared)
	}
	d.say("demo passed: everything that Chroma had acknowledged is back")
	return nil
}
