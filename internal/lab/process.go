//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Process is a started program with all its children. Its methods may be called concurrently.
type Process struct {
	Cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read after done
}

// Start starts cmd inside the namespace, in a process group of its own. The kernel kills it when this process dies, however it dies
// (PR_SET_PDEATHSIG). The caller must call Stop or Kill, or wait for Done.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{Cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal comes when the *thread* that started the process ends (prctl(2)), so this one waits for it.
		runtime.LockOSThread()
		if n == nil {
			defer runtime.UnlockOSThread()
		}
		if err := n.enterAnd(cmd.Start); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Done is closed when the process has ended and been waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is the result of exec.Cmd.Wait. It waits for the end of the process.
func (p *Process) Err() error { <-p.done; return p.err }

// Signal sends a signal to the process alone. It is no error if it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil // reaped: the pid may be another's
	default:
	}
	if err := p.Cmd.Process.Signal(sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		select {
		case <-p.done:
			return nil
		default:
			return err
		}
	}
	return nil
}

// Sleep stops the process and all of its group, as when a lid is closed, until Wake.
func (p *Process) Sleep() error { return p.signalGroup(syscall.SIGSTOP) }

// Wake lets it go on.
func (p *Process) Wake() error { return p.signalGroup(syscall.SIGCONT) }

func (p *Process) signalGroup(sig syscall.Signal) error {
	select {
	case <-p.done:
		return errors.New("the process has ended")
	default:
		return syscall.Kill(-p.Cmd.Process.Pid, sig)
	}
}

// Kill kills the process and all of its group, and waits for it.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		// The leader has not been waited for, so its number still names our group.
		_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.done
}

// Stop asks the process to end with SIGTERM and waits; after grace it is killed, which is an error.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Cmd.Path, grace)
	}
}

// Tail keeps the last bytes that were written to it, for error messages. The zero value keeps 64 KiB; safe for concurrent use.
type Tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 64 << 10

// Write implements io.Writer and never fails.
func (w *Tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if over := len(w.buf) - tailBytes; over > 0 {
		w.buf = bytes.Clone(w.buf[over:])
	}
	return len(p), nil
}

func (w *Tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.buf)
}
