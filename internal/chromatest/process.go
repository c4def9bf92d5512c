package chromatest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopBound is how long a Chroma may take to end when asked to.
const stopBound = 5 * time.Second

// process is a running program with its own working directory, which also
// holds its log and goes with it.
type process struct {
	cmd  *exec.Cmd
	dir  string
	log  *os.File
	done chan struct{} // closed when the program has ended
	err  error         // how; valid once done is closed

	mu   sync.Mutex
	gone bool   // the working directory
	last string // the end of the log, once it is gone
}

// launch starts cmd; what it writes to stderr, and to stdout unless cmd has
// that set, goes to the log. The program dies with this one, however that ends
// (on Linux).
func launch(cmd *exec.Cmd) (*process, error) {
	dir, err := os.MkdirTemp("", "chromatest-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p := &process{cmd: cmd, dir: dir, log: log, done: make(chan struct{})}
	cmd.Dir, cmd.Stderr = dir, log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.SysProcAttr = dieWithParent()
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that started a program for the
		// end of its parent, so this thread waits for it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// kill ends the program with SIGKILL and waits for its end. It does nothing to
// one that has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
	p.discard()
}

// stop asks the program to end, and kills it if it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	p.await()
}

// await waits for the program to end by itself, and kills it if it does not.
func (p *process) await() {
	select {
	case <-p.done:
		p.discard()
	case <-time.After(stopBound):
		p.kill()
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// words returns the end of the log, also after the end of the program.
func (p *process) words() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return p.last
	}
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// discard removes the working directory, once, and keeps the end of the log.
func (p *process) discard() {
	last := p.words()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		p.gone, p.last = true, last
		_ = p.log.Close()
		_ = os.RemoveAll(p.dir) // in the system's temporary directory anyway
	}
}
