//go:build linux

package test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/refusal"
)

// A foreignEnd is foreign/transfer_peer.py, the client that was written from the documents.
type foreignEnd struct {
	t    *testing.T
	cmd  *exec.Cmd
	says *bufio.Scanner
	log  lab.Tail
}

// startForeign starts it. patch is Python that makes it misbehave; p is the module.
func startForeign(t *testing.T, patch string, args ...string) *foreignEnd {
	t.Helper()
	script := "import asyncio, sys; sys.path.insert(0, 'foreign'); import transfer_peer as p\n" + patch + "\nasyncio.run(p.main())"
	e := &foreignEnd{t: t, cmd: exec.CommandContext(within(t, 2*patience), "/usr/bin/python3", append([]string{"-B", "-c", script}, args...)...)}
	e.cmd.Stdin = strings.NewReader("y\n")
	e.cmd.Stderr = &e.log
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.says = bufio.NewScanner(out)
	t.Cleanup(func() {
		e.cmd.Process.Kill()
		e.cmd.Wait()
	})
	return e
}

// foreignSend starts one that sends, and returns its link.
func foreignSend(t *testing.T, patch, server, path string) (*foreignEnd, string) {
	t.Helper()
	e := startForeign(t, patch, "send", "--server", server, path)
	if !e.says.Scan() {
		t.Fatalf("no link\n%s", &e.log)
	}
	return e, e.says.Text()
}

// wait returns its exit code.
func (e *foreignEnd) wait() int {
	e.t.Helper()
	for e.says.Scan() {
	}
	err := e.cmd.Wait()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) || errors.Is(err, context.DeadlineExceeded) {
		e.t.Fatalf("%v\n%s", err, &e.log)
	}
	return e.cmd.ProcessState.ExitCode()
}

// TestAForeignClientFromTheDocuments exchanges files with a client that shares no code with ours: what docs/transfer.md and docs/protocol.md say is enough to write one.
func TestAForeignClientFromTheDocuments(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import aiortc, websockets, ctypes; ctypes.CDLL('libsodium.so.23')").CombinedOutput(); err != nil {
		lab.Missing(t, "needs python3-aiortc, python3-websockets and libsodium23: %s", out)
	}
	node := serve(t, lab.NodeConfig{})
	src := filepath.Join(t.TempDir(), "src")
	for name, size := range map[string]int64{"several blocks": 3<<20 + 5, "deep/er/empty": 0, "바다 🌊\n.jpg": 7, "a whole block": 256 << 10} {
		randomFile(t, filepath.Join(src, name), size, uint64(size))
	}
	if err := os.MkdirAll(filepath.Join(src, "no", "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	same := func(t *testing.T, out string) {
		t.Helper()
		if got, want := tree(t, filepath.Join(out, "src")), tree(t, src); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}

	t.Run("receives, by code", func(t *testing.T) {
		t.Parallel()
		s, out := send(t, t.TempDir(), node.HTTP, src), t.TempDir()
		r := startForeign(t, "", "receive", "--server", node.HTTP, s.ready["code"].(string), out)
		if code := r.wait(); code != 0 {
			t.Fatalf("exit code %d\n%s", code, &r.log)
		}
		s.succeeds()
		same(t, out)
		if left, _ := filepath.Glob(filepath.Join(out, ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("sends, but not to a wrong secret", func(t *testing.T) {
		t.Parallel()
		s, link := foreignSend(t, "", node.HTTP, src)
		at := strings.Index(link, "#") + 1
		damaged := link[:at] + strings.Repeat("A", len(link)-at)
		startEnd(t, t.TempDir(), "receive", damaged, t.TempDir()).fails(refusal.NotAuthentic)
		out := t.TempDir()
		startEnd(t, t.TempDir(), "receive", link, out).succeeds()
		if code := s.wait(); code != 0 || !strings.Contains(s.log.String(), "not_authentic") {
			t.Errorf("exit code %d, and no word of the wrong secret, perhaps\n%s", code, &s.log)
		}
		same(t, out)
	})
	t.Run("does not receive from who does not know the secret", func(t *testing.T) {
		t.Parallel()
		_, link := foreignSend(t, "p.hmac.compare_digest = lambda *_: True\nmac = p.mac\np.mac = lambda key, data: mac(bytes(32), data)", node.HTTP, src)
		r := startForeign(t, "", "receive", link, t.TempDir())
		if code := r.wait(); code != 1 || !strings.Contains(r.log.String(), "error: not_authentic") {
			t.Errorf("exit code %d\n%s", code, &r.log)
		}
	})
	t.Run("does not get a flipped byte through", func(t *testing.T) {
		t.Parallel()
		for what, patch := range map[string]string{
			"a block": "content, hash = read(self, block)\n  return bytes([content[0] ^ 1]) + content[1:], hash",
			// The block has the hash that goes with it, and only the file's root tells.
			"a block and its hash": "content, hash = read(self, block)\n  content = bytes([content[0] ^ 1]) + content[1:]\n  return content, p.sha256(content)",
		} {
			_, link := foreignSend(t, "read = p.Outgoing.read\ndef lie(self, block):\n  "+patch+"\np.Outgoing.read = lie", node.HTTP, filepath.Join(src, "a whole block"))
			out := t.TempDir()
			startEnd(t, t.TempDir(), "receive", link, out).fails(refusal.Corrupt)
			if got := tree(t, out); strings.Contains(got, `"a whole block`) {
				t.Errorf("%s is flipped, and there is\n%s", what, got)
			}
		}
	})
}
