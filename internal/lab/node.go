//go:build linux

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Build compiles the program into dir and returns its path. What MADANG_LAB_PROGRAM names is used instead, if set.
// The web build (make web) must have been made before; it is embedded.
func Build(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("MADANG_LAB_PROGRAM"); path != "" {
		return path, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "madang")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/madang")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// moduleRoot is the folder of go.mod: tests run in their package's.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// NodeConfig says how "madang serve" is started.
type NodeConfig struct {
	Program   string     // path, from Build
	Namespace *Namespace // where
	// Listen and UDP are the addresses of the flags of that name; default 127.0.0.1:0. A port 0 becomes the one that was given for later starts.
	Listen, UDP string
	Data        string   // folder; default: a fresh one
	Args        []string // more flags
	Env         []string // more environment
}

// A Node is the program, started as an operator would. It may be stopped, killed and started again. Its methods must be called by one
// goroutine at a time.
type Node struct {
	// HTTP is the base URL and UDP the address, from the ready line; so is Metrics, a URL, with --listen-metrics.
	HTTP, UDP, Metrics string
	// Ready is the whole line.
	Ready json.RawMessage
	// Data is the data folder.
	Data string

	config  NodeConfig
	process *Process
	log     *Tail
}

// StartNode starts a node that is stopped at the end of the test. If the test fails, the node's log is shown.
func StartNode(t testing.TB, config NodeConfig) *Node {
	t.Helper()
	if config.Listen == "" {
		config.Listen = "127.0.0.1:0"
	}
	if config.UDP == "" {
		config.UDP = "127.0.0.1:0"
	}
	if config.Data == "" {
		config.Data = t.TempDir()
	}
	n := &Node{Data: config.Data, config: config, log: &Tail{}}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() && n.HTTP != "" { // else it is in the error of Start
			t.Logf("the end of the node's log:\n%s", lastLines(n.log.String(), 40))
		}
	})
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Start starts the node, again if it was stopped, with the same addresses and data, and waits until it is ready.
func (n *Node) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.Command(n.config.Program, append([]string{"serve", "--listen", n.config.Listen, "--udp", n.config.UDP, "--data", n.Data,
		"--log-format", "json"}, n.config.Args...)...)
	cmd.Env = append(os.Environ(), n.config.Env...)
	ready := &firstLine{line: make(chan []byte, 1)}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(ready, n.log), n.log
	process, err := n.config.Namespace.Start(cmd)
	if err != nil {
		return err
	}
	n.process = process
	select {
	case n.Ready = <-ready.line:
	case <-process.Done():
		return &ExitError{Err: process.Err(), Log: n.log.String()}
	case <-ctx.Done():
		process.Kill()
		return fmt.Errorf("the node was not ready: %w\n%s", context.Cause(ctx), n.log)
	}
	var line struct{ Msg, HTTP, UDP, Metrics string }
	if err := json.Unmarshal(n.Ready, &line); err != nil || line.Msg != "ready" || line.HTTP == "" || line.UDP == "" {
		process.Kill()
		return fmt.Errorf("not a ready line: %q", n.Ready)
	}
	n.HTTP, n.UDP, n.Metrics = line.HTTP, line.UDP, line.Metrics
	n.config.Listen = samePort(n.config.Listen, line.HTTP)
	n.config.UDP = samePort(n.config.UDP, line.UDP)
	return nil
}

// ExitError says that the program ended when it should have become ready.
type ExitError struct {
	Err error  // of exec.Cmd.Wait
	Log string // what it wrote
}

func (e *ExitError) Error() string { return fmt.Sprintf("the node ended: %v\n%s", e.Err, e.Log) }
func (e *ExitError) Unwrap() error { return e.Err }

// samePort puts the port that was given in place of a port 0.
func samePort(asked, got string) string {
	host, isZero := strings.CutSuffix(asked, ":0")
	if !isZero {
		return asked
	}
	return host + got[strings.LastIndexByte(got, ':'):]
}

// Kill ends the node as a power cut would.
func (n *Node) Kill() { n.process.Kill() }

// Stop ends the node with SIGTERM. It is an error if that takes more than 20 seconds, or if the node does not end well. A node that has ended
// already is fine.
func (n *Node) Stop() error {
	if n.process == nil {
		return nil
	}
	select {
	case <-n.process.Done():
		return nil
	default:
	}
	if err := n.process.Stop(20 * time.Second); err != nil {
		return err
	}
	return n.process.Err()
}

// Signal sends a signal: SIGSTOP makes a node that is there but does not answer.
func (n *Node) Signal(sig syscall.Signal) error { return n.process.Signal(sig) }

// PID is the process's number.
func (n *Node) PID() int { return n.process.Cmd.Process.Pid }

// Done is closed when the node has ended.
func (n *Node) Done() <-chan struct{} { return n.process.Done() }

// Log returns the end of what the node has written.
func (n *Node) Log() string { return n.log.String() }

// firstLine sends the first line that is written to it.
type firstLine struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	sent bool
	line chan []byte // has room for it
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent {
		return len(p), nil
	}
	f.buf.Write(p)
	if line, err := bufio.NewReader(bytes.NewReader(f.buf.Bytes())).ReadBytes('\n'); err == nil {
		f.sent = true
		f.line <- bytes.TrimSpace(line)
	}
	return len(p), nil
}

// RunNode starts a node that is expected to end by itself, and returns its exit code and all that it wrote. The test fails if it becomes ready.
func RunNode(t testing.TB, config NodeConfig) (exitCode int, output string) {
	t.Helper()
	if config.Listen == "" {
		config.Listen = "127.0.0.1:0"
	}
	if config.UDP == "" {
		config.UDP = "127.0.0.1:0"
	}
	if config.Data == "" {
		config.Data = t.TempDir()
	}
	n := &Node{Data: config.Data, config: config, log: &Tail{}}
	err := n.Start(t.Context())
	var ended *ExitError
	if err == nil {
		n.Kill()
		t.Fatalf("the node became ready: %s", n.Ready)
	}
	if !errors.As(err, &ended) {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if !errors.As(ended.Err, &exit) {
		return 0, ended.Log
	}
	return exit.ExitCode(), ended.Log
}
