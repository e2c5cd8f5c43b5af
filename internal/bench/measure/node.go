package measure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Node is "madang serve" of this very program, on loopback, with free ports and a data folder that is removed afterwards.
type Node struct {
	Process
	HTTP  string `json:"http"` // base URLs
	HTTPS string `json:"https"`
	UDP   string `json:"udp"` // address of STUN and TURN
	Key   string `json:"key"` // a browser key

	cmd  *exec.Cmd
	log  lockedBuffer
	dir  string
	done chan struct{} // closed when the process has been waited for
	once sync.Once
}

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// StartNode starts a node, with more flags than the necessary ones, and returns when it is ready. It must be stopped.
func StartNode(ctx context.Context, args ...string) (*Node, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "madang-bench-")
	if err != nil {
		return nil, err
	}
	n := &Node{dir: dir, done: make(chan struct{})}
	n.cmd = exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--data", dir, "--log-level", "warn",
		"--log-format", "json"}, args...)...)
	n.cmd.SysProcAttr = dieWithParent()
	n.cmd.Stderr = &n.log
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	started := make(chan error)
	ready := make(chan []byte, 1)
	go func() {
		runtime.LockOSThread() // the thread that starts the child counts as its parent: it has to live as long
		defer runtime.UnlockOSThread()
		if err := n.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		lines := bufio.NewReader(out)
		line, _ := lines.ReadBytes('\n')
		ready <- line
		_, _ = lines.WriteTo(&n.log) // until the child ends; Wait tells how
		_ = n.cmd.Wait()
		close(n.done)
	}()
	if err := <-started; err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start the node: %w", err)
	}
	n.Process = Process(n.cmd.Process.Pid)
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case line := <-ready:
		if json.Unmarshal(line, n) != nil || n.HTTP == "" || n.UDP == "" {
			err = fmt.Errorf("the node did not start: %s%s", line, n.log.String())
		}
	case <-timer.C:
		err = errors.New("the node was not ready in time")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

// Stop ends the node and removes its data. Calling it again is harmless.
func (n *Node) Stop() {
	n.once.Do(func() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-n.done:
		case <-timer.C:
			_ = n.cmd.Process.Kill()
			<-n.done
		}
		os.RemoveAll(n.dir)
	})
}

// Administer runs a command of this very program on the node's data, such as "project set".
func (n *Node) Administer(ctx context.Context, args ...string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, program, append(args, "--data", n.dir)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// Log returns what the node has warned of.
func (n *Node) Log() string { return n.log.String() }

// A lockedBuffer keeps the first 64 KiB that are written to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p[:min(len(p), max(0, 64<<10-b.buf.Len()))])
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
