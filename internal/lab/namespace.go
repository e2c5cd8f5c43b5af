//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	netnsDir = "/run/netns"
	// Names are prefix-PID-START-TOKEN-NAME: PID and START (clock ticks since boot) name the process that owns the namespace, so that
	// what a killed one has left behind can be told from what is in use.
	netnsPrefix = "madang-lab-"
)

// A Namespace is a network namespace. A nil *Namespace is the one that the process started in; every method works on it.
// Methods may be called concurrently.
type Namespace struct {
	name string // below netnsDir
}

// newNamespace makes a namespace with its loopback interface up.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{name: name}
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ip netns add: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := n.ip("link set lo up"); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// close removes the name. The namespace itself ends with the last process and socket in it.
func (n *Namespace) close() error {
	if out, err := exec.Command("ip", "netns", "delete", n.name).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns delete: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// String returns the name, as "ip netns exec" takes it.
func (n *Namespace) String() string {
	if n == nil {
		return "(own)"
	}
	return n.name
}

// Do runs fn inside the namespace and returns its error. Sockets that fn opens stay in the namespace for good. fn runs on a thread of its
// own and must not start goroutines that open sockets: they would run on other threads, outside.
func (n *Namespace) Do(fn func() error) error {
	if n == nil {
		return fn()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else gets it with a foreign namespace.
		runtime.LockOSThread()
		result <- n.enterAnd(fn)
	}()
	return <-result
}

// enterAnd moves the calling thread, which must be locked, into the namespace, for good, and calls fn.
func (n *Namespace) enterAnd(fn func() error) error {
	if n != nil {
		fd, err := unix.Open(filepath.Join(netnsDir, n.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %q: %w", n.name, err)
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %q: %w", n.name, err)
		}
	}
	return fn()
}

// DialContext connects from inside the namespace. The address must be a literal: name look-ups would happen outside.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens inside the namespace, on a literal address.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket listens inside the namespace, on a literal address.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Sysctl sets a value below /proc/sys/net, for example Sysctl("ipv4/ip_forward", "1").
func (n *Namespace) Sysctl(path, value string) error {
	return n.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys/net", path), []byte(value), 0o644) })
}

// IP runs lines of ip(8), for example "addr add 10.0.0.1/24 dev eth0", in order; it stops at the first that fails.
func (n *Namespace) IP(lines ...string) error { return n.ip(lines...) }

func (n *Namespace) ip(lines ...string) error {
	return n.feed(strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
}

// NFT loads rules in the syntax of nft(8).
func (n *Namespace) NFT(rules string) error { return n.feed(rules, "nft", "-f", "-") }

// feed runs a short-lived program inside the namespace with the given standard input.
func (n *Namespace) feed(input, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Do(cmd.Start); err != nil {
		return fmt.Errorf("%s in %s: %w", program, n, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s in %s: %w: %s\ninput:\n%s", program, n, err, bytes.TrimSpace(out.Bytes()), input)
	}
	return nil
}

// removeStale ends the namespaces, and the processes in them, of labs whose process no longer lives.
func removeStale() error {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		rest, ours := strings.CutPrefix(entry.Name(), netnsPrefix)
		parts := strings.SplitN(rest, "-", 4)
		if !ours || len(parts) != 4 {
			continue
		}
		pid, err := strconv.Atoi(parts[0])
		if err != nil {
			continue
		}
		if start, err := startTicks(pid); err == nil && start == parts[1] {
			continue // its owner lives
		}
		n := &Namespace{name: entry.Name()}
		for _, pid := range n.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already: fine
		}
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// pids lists the processes inside the namespace.
func (n *Namespace) pids() []int {
	out, err := exec.Command("ip", "netns", "pids", n.name).Output()
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startTicks returns field 22 of /proc/PID/stat (proc_pid_stat(5)): with the pid it names a process for as long as the machine is up.
func startTicks(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// Field 2, the command, is in parentheses and may contain spaces: count from the last parenthesis.
	_, after, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
	fields := strings.Fields(after)
	if !found || len(fields) < 20 {
		return "", fmt.Errorf("unexpected /proc/%d/stat", pid)
	}
	return fields[19], nil
}
