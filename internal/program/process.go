package program

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

// stopBound is how long a program may take to end when asked to.
const stopBound = 5 * time.Second

// Process is a running program with its own working directory, which also
// holds its log and goes with it.
type Process struct {
	PID  int
	Dir  string          // its working directory
	Done <-chan struct{} // closed when the program has ended

	cmd *exec.Cmd
	log *os.File
	err error // how it ended; valid once Done is closed

	mu   sync.Mutex
	gone bool   // the working directory
	last string // the end of the log, once it is gone
}

// Launch starts cmd in a working directory of its own; what it writes to stderr,
// and to stdout unless cmd has that set, goes to the log. The program dies with
// this one, however that ends (on Linux).
func Launch(cmd *exec.Cmd) (*Process, error) {
	dir, err := os.MkdirTemp("", "colorfast-program-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	done := make(chan struct{})
	p := &Process{cmd: cmd, Dir: dir, log: log, Done: done}
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
			close(done)
		}
	}()
	if err := <-started; err != nil {
		p.discard()
		return nil, err
	}
	p.PID = cmd.Process.Pid
	return p, nil
}

// Err returns how the program ended; it waits for its end.
func (p *Process) Err() error {
	<-p.Done
	return p.err
}

// Kill ends the program with SIGKILL and waits for its end. It does nothing to
// one that has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.Done
	p.discard()
}

// Stop asks the program to end, and kills it if it does not.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	p.Await()
}

// Await waits for the program to end by itself, and kills it if it does not.
func (p *Process) Await() {
	select {
	case <-p.Done:
		p.discard()
	case <-time.After(stopBound):
		p.Kill()
	}
}

// Ended reports whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Words returns the end of the log, also after the end of the program.
func (p *Process) Words() string {
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
func (p *Process) discard() {
	last := p.Words()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		p.gone, p.last = true, last
		_ = p.log.Close()
		_ = os.RemoveAll(p.Dir) // in the system's temporary directory anyway
	}
}
