package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"colorfast/internal/servers"
)

// Far is what backups cost over a line to a server that speaks S3.
type Far struct {
	Server  string       `json:"server"`
	Tools   []Tool       `json:"tools"`
	Figures []FarFigure  `json:"figures"`
	rounds  []*farRecord // by figure
}

// FarFigure is what one action has cost one tool over the line.
type FarFigure struct {
	Action   string  `json:"action"`
	Tool     string  `json:"tool"`
	Original int64   `json:"original_bytes"`
	Median   FarCost `json:"median"` // of each field by itself
}

// FarCost is what one run of a program has cost, with what went over the line.
type FarCost struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"` // of the program; server and line take their own
	Sent       int64   `json:"sent_bytes"`
	Received   int64   `json:"received_bytes"`
	Share      float64 `json:"share_of_line"` // of what the line could have carried in that time, in the busier direction
}

type farRecord struct {
	key   FarFigure
	costs []FarCost
}

// farActions in their order.
const (
	farFirst   = "first backup"
	farNext    = "backup of +1.7 %"
	farRestore = "restore newest"
)

// far measures backups to, and restores from, a server behind a line.
func (s *Suite) far(ctx context.Context) (_ *Far, err error) {
	c := newCorpus(s.Cache, s.Version, int(fullSize*s.Scale), s.Say)
	if err := c.make(ctx, 3); err != nil {
		return nil, err
	}
	if s.Rounds == 0 {
		return nil, nil
	}
	gateway, err := startGateway(ctx, filepath.Join(s.Work, "s3"), s.Say)
	if err != nil {
		return nil, err
	}
	line, err := newLine(ctx, gateway.addr)
	if err != nil {
		return nil, errors.Join(err, gateway.Close())
	}
	defer func() { err = errors.Join(err, closeAll(line, gateway)) }()
	f := &Far{Server: servers.VersityGW.Name}
	if f.Tools, err = s.farTools(ctx, gateway, line.addr()); err != nil {
		return nil, err
	}
	for n := range s.Rounds {
		s.Say("over the line: round %d of %d", n+1, s.Rounds)
		if err := s.farRound(ctx, n, c, f, line); err != nil {
			return f, err
		}
	}
	f.summarize()
	return f, nil
}

// farTools are those that speak S3. Each round has buckets of its own.
func (s *Suite) farTools(ctx context.Context, g *gateway, addr string) ([]Tool, error) {
	dir := filepath.Join(s.Cache, "tools")
	rclone, err := s.debian("rclone")(ctx, dir)
	if err != nil {
		return nil, err
	}
	restic, err := s.debian("restic")(ctx, dir)
	if err != nil {
		return nil, err
	}
	own, err := s.colorfast(ctx, dir)
	if err != nil {
		return nil, err
	}
	keys := []string{"AWS_ACCESS_KEY_ID=" + g.access, "AWS_SECRET_ACCESS_KEY=" + g.secret, "AWS_DEFAULT_REGION=us-east-1"}
	bucket := func(ctx context.Context, home, tool string) (string, error) {
		name := fmt.Sprintf("%s-%d", tool, time.Now().UnixNano())
		return name, os.MkdirAll(filepath.Join(g.dir, name), 0o755) // the gateway's buckets are folders
	}
	var tools []Tool
	t, err := colorfastTool(ctx, own)
	if err != nil {
		return nil, err
	}
	local := t.open
	t.open = func(ctx context.Context, home string) (repository, error) {
		name, err := bucket(ctx, home, "colorfast")
		if err != nil {
			return nil, err
		}
		r, err := local(ctx, home) // for its folders; its vault is not used
		if err != nil {
			return nil, err
		}
		far := r.(*colorfastRepository)
		far.env = append(append(far.env, keys...), fmt.Sprintf("COLORFAST_VAULT=s3://%s/vault?endpoint=http://%s&path_style=true", name, addr))
		_, _, err = output(ctx, far.run("init"))
		return far, err
	}
	tools = append(tools, t)
	if t, err = resticTool(ctx, restic); err != nil {
		return nil, err
	}
	t.open = func(ctx context.Context, home string) (repository, error) {
		name, err := bucket(ctx, home, "restic")
		if err != nil {
			return nil, err
		}
		r := &resticRepository{program: restic, home: home, env: append(keys[:len(keys):len(keys)],
			"RESTIC_REPOSITORY=s3:http://"+addr+"/"+name, "RESTIC_PASSWORD="+password, "RESTIC_CACHE_DIR="+filepath.Join(home, "cache"))}
		_, _, err = output(ctx, r.run("init"))
		return r, err
	}
	tools = append(tools, t)
	if t, err = rcloneTool(ctx, rclone); err != nil {
		return nil, err
	}
	t.open = func(ctx context.Context, home string) (repository, error) {
		name, err := bucket(ctx, home, "rclone")
		return &rcloneRepository{program: rclone, bucket: name, env: []string{
			"RCLONE_CONFIG=" + os.DevNull, "AWS_CA_BUNDLE=", "RCLONE_S3_PROVIDER=Other", "RCLONE_S3_ENDPOINT=http://" + addr, "RCLONE_S3_REGION=us-east-1",
			"RCLONE_S3_ACCESS_KEY_ID=" + g.access, "RCLONE_S3_SECRET_ACCESS_KEY=" + g.secret, "RCLONE_S3_NO_CHECK_BUCKET=true",
		}}, err
	}
	return append(tools, t), nil
}

// farRound takes every tool through two backups and a restore.
func (s *Suite) farRound(ctx context.Context, n int, c *corpus, f *Far, line *line) error {
	home := filepath.Join(s.Work, "far")
	entrants, err := open(ctx, home, f.Tools)
	if err != nil {
		return err
	}
	for i, a := range []struct {
		name  string
		state int
	}{{farFirst, 0}, {farNext, 2}, {farRestore, 2}} {
		change, err := bring(s.place(), c.state(a.state))
		if err != nil {
			return err
		}
		time.Sleep(settle)
		for _, e := range rotated(entrants, n+i) {
			up, down := line.up.bytes.Load(), line.down.bytes.Load()
			var cost Cost
			if a.name == farRestore {
				cost, err = s.restore(ctx, e.repository, e.newest, c.state(a.state))
			} else {
				cost, err = s.farBackup(ctx, e)
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", e.Name, a.name, err)
			}
			far := FarCost{Seconds: cost.Seconds, CPUSeconds: cost.CPUSeconds, Sent: line.up.bytes.Load() - up, Received: line.down.bytes.Load() - down}
			far.Share = float64(max(far.Sent, far.Received)) / far.Seconds / lineRate
			s.Say("  %-17s %-10s %6.2f s, %6.2f s CPU, %8.1f MiB sent, %8.1f MiB received, %3.0f %% of the line", a.name, e.Name, far.Seconds, far.CPUSeconds, mib(far.Sent), mib(far.Received), 100*far.Share)
			f.add(FarFigure{Action: a.name, Tool: e.Name, Original: change.Bytes}, far)
		}
	}
	return os.RemoveAll(home)
}

func (s *Suite) farBackup(ctx context.Context, e *entrant) (Cost, error) {
	if _, err := warm(s.place()); err != nil {
		return Cost{}, err
	}
	cost, stdout, _, err := s.metered(ctx, e.repository.backup(s.place()))
	if err != nil {
		return Cost{}, err
	}
	if e.newest, err = e.repository.stored(stdout); err == nil && e.newest == "" {
		err = errors.New("it did not say how the backup is called")
	}
	return cost, err
}

func (f *Far) add(key FarFigure, c FarCost) {
	for _, r := range f.rounds {
		if r.key == key {
			r.costs = append(r.costs, c)
			return
		}
	}
	f.rounds = append(f.rounds, &farRecord{key, []FarCost{c}})
}

func (f *Far) summarize() {
	f.Figures = nil
	for _, r := range f.rounds {
		of := func(field func(FarCost) float64) float64 {
			v := make([]float64, len(r.costs))
			for i, c := range r.costs {
				v[i] = field(c)
			}
			return median(v)
		}
		r.key.Median = FarCost{
			Seconds:    of(func(c FarCost) float64 { return c.Seconds }),
			CPUSeconds: of(func(c FarCost) float64 { return c.CPUSeconds }),
			Sent:       int64(of(func(c FarCost) float64 { return float64(c.Sent) })),
			Received:   int64(of(func(c FarCost) float64 { return float64(c.Received) })),
			Share:      of(func(c FarCost) float64 { return c.Share }),
		}
		f.Figures = append(f.Figures, r.key)
	}
}

// table prints the figures.
func (f *Far) table(w io.Writer) {
	fmt.Fprintf(w, "\nOver a line of 1 Gbit/s and 50 ms to %s on the same host, which takes its share of the processors:\n", f.Server)
	head(w, "over the line", "tool", "wall s", "CPU s", "sent MiB", "received MiB", "share of the line", "original MB/s", "wall ×")
	for i := range f.Figures {
		g := &f.Figures[i]
		own := g
		for k := range f.Figures {
			if f.Figures[k].Action == g.Action && f.Figures[k].Tool == f.Tools[0].Name {
				own = &f.Figures[k]
			}
		}
		m := g.Median
		fmt.Fprintf(w, "| %s\t| %s\t| %.2f\t| %.2f\t| %.1f\t| %.1f\t| %.0f %%\t| %.0f\t| %.2f\t|\n", g.Action, g.Tool, m.Seconds, m.CPUSeconds,
			mib(m.Sent), mib(m.Received), 100*m.Share, float64(g.Original)/m.Seconds/1e6, m.Seconds/own.Median.Seconds)
	}
}

// gateway is versitygw on this host.
type gateway struct {
	addr, dir, access, secret string
	cmd                       *exec.Cmd
	done                      chan struct{}
}

// startGateway starts it, and waits until it answers.
func startGateway(ctx context.Context, dir string, say func(string, ...any)) (_ *gateway, err error) {
	file, err := servers.VersityGW.Install(ctx, say)
	if err != nil {
		return nil, err
	}
	free, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gateway{addr: free.Addr().String(), dir: dir, access: "bench", secret: rand.Text(), done: make(chan struct{})}
	if err := errors.Join(free.Close(), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	g.cmd = exec.CommandContext(ctx, file, "--port", g.addr, "--region", "us-east-1", "--quiet", "--health", "/health", "posix", dir)
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+g.access, "ROOT_SECRET_ACCESS_KEY="+g.secret)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait() // it is killed
		close(g.done)
	}()
	for until := time.Now().Add(time.Minute); ; {
		resp, err := http.Get("http://" + g.addr + "/health")
		if err == nil {
			_ = resp.Body.Close() // nothing of it is wanted
			return g, nil
		}
		select {
		case <-g.done:
			return nil, errors.New("versitygw has ended")
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(until) {
			return nil, errors.Join(fmt.Errorf("versitygw does not answer: %w", err), g.Close())
		}
	}
}

// Close ends it.
func (g *gateway) Close() error {
	err := g.cmd.Process.Kill()
	<-g.done
	return err
}
