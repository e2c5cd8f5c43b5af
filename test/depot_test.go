//go:build linux

package test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/refusal"
)

// serveDepots starts a node where transfers may keep so many bytes.
func serveDepots(t testing.TB, most int64) *lab.Node {
	t.Helper()
	node := serve(t, lab.NodeConfig{Args: []string{"--resume-window", "2s"}})
	administer(t, node, "PATCH", "/v1/projects/home", message{"settings": message{"depotBytes": most}})
	return node
}

// kept lists what is in a node's depots: files and their sizes.
func kept(t testing.TB, node *lab.Node) (size int64) {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(node.Data, "depot", "*", "objects"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if info, err := os.Stat(o); err == nil {
			size += info.Size()
		}
	}
	return size
}

// unreadable searches all that a node has written for texts that it must not know.
func unreadable(t testing.TB, node *lab.Node, secrets ...string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(node.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		seen += len(b)
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds %q", path, s[:min(len(s), 40)])
			}
		}
		return err
	})
	if err != nil || seen < 1<<20 {
		t.Errorf("looked at %d bytes: %v", seen, err)
	}
	for _, s := range secrets {
		if strings.Contains(node.Log(), s) {
			t.Errorf("the log has %q", s[:min(len(s), 40)])
		}
	}
}

// The sender puts everything there and leaves; the receiver comes later, and takes it away. In between the server has been killed.
func TestAReceiverComesWhenTheSenderHasLeft(t *testing.T) {
	t.Parallel()
	node := serveDepots(t, 100<<20)
	dir := t.TempDir()
	src := filepath.Join(dir, "folder of secrets")
	randomFile(t, filepath.Join(src, "big"), 5<<20, 1)
	randomFile(t, filepath.Join(src, "one block"), 256<<10, 2)
	text := strings.Repeat("nobody else may read this. ", 20_000)
	for name, content := range map[string]string{"letter to Mina.txt": text, "small": text[:100], "empty": ""} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(src, "nothing in it"), 0o755); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	s := send(t, home, node.HTTP, src, "--store", "--leave", "--no-code")
	s.until("stored")
	if last, code := s.wait(); code != 0 || last["event"] != "left" {
		t.Fatalf("exit code %d, last line %v\n%s", code, last, s.log)
	}
	_, secret, _ := strings.Cut(s.link(), "#")
	big, err := os.ReadFile(filepath.Join(src, "big"))
	if err != nil {
		t.Fatal(err)
	}
	hash := hashFile(t, filepath.Join(src, "big"))
	unreadable(t, node, "folder of secrets", "letter to Mina", "nothing in it", text[:27], string(big[1<<20:1<<20+64]), string(hash[:]), secret)

	node.Kill()
	if err := node.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	r := startEnd(t, t.TempDir(), "receive", s.link(), out)
	if path := r.until("connected")["path"]; path != "server" {
		t.Errorf("connected over %v", path)
	}
	r.succeeds()
	if got, want := tree(t, filepath.Join(out, "folder of secrets")), tree(t, src); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n := kept(t, node); n != 0 {
		t.Errorf("%d bytes are kept of what has been taken away", n)
	}
	// Who comes too late is told; and the sender, that all is well.
	startEnd(t, t.TempDir(), "receive", s.link(), t.TempDir()).fails(refusal.TransferTaken)
	startEnd(t, home, "send", "--server", node.HTTP, src, "--store", "--leave", "--no-code").succeeds()
}

// The receiver begins with the sender, goes on with the server when the sender is killed, and with both when it is back.
func TestATransferMovesBetweenSenderAndServer(t *testing.T) {
	t.Parallel()
	node := serveDepots(t, 1<<30)
	dir, home, out := t.TempDir(), t.TempDir(), t.TempDir()
	want := randomFile(t, filepath.Join(dir, "file"), 32<<20, 3)
	args := []string{filepath.Join(dir, "file"), "--store", "--no-code"}
	s := send(t, home, node.HTTP, append(args, "--limit", "160")...)
	link := s.link()
	s.where("half of it on the server", func(v map[string]any) bool { n, _ := v["stored"].(float64); return n >= 16<<20 })
	r := startEnd(t, t.TempDir(), "receive", link, out)
	r.at(0.1)
	s.kill()
	r.at(0.5) // with nobody there but the server
	s = send(t, home, node.HTTP, args...)
	if s.link() != link {
		t.Fatalf("the sender came back with another link")
	}
	r.succeeds()
	s.succeeds()
	if got := hashFile(t, filepath.Join(out, "file")); got != want {
		t.Error("the file differs")
	}
	if n := kept(t, node); n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
}

// A sender that is stopped by its user when all is there has done its work; its receiver, in the middle, does not notice.
func TestASenderMayLeaveOnceAllIsThere(t *testing.T) {
	t.Parallel()
	node := serveDepots(t, 1<<30)
	dir, out := t.TempDir(), t.TempDir()
	want := randomFile(t, filepath.Join(dir, "file"), 24<<20, 4)
	s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "file"), "--store", "--no-code")
	s.until("stored")
	r := startEnd(t, t.TempDir(), "receive", s.link(), out)
	r.until("connected")
	if err := s.process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if last, code := s.wait(); code != 0 || last["event"] != "left" && last["event"] != "done" {
		t.Errorf("exit code %d, last line %v\n%s", code, last, s.log)
	}
	r.succeeds()
	if got := hashFile(t, filepath.Join(out, "file")); got != want {
		t.Error("the file differs")
	}
}

func TestStreamsWaitOnTheServer(t *testing.T) {
	t.Parallel()
	node := serveDepots(t, 1<<30)
	dir := t.TempDir()
	for _, size := range []int64{0, 1000, 1 << 20} { // the last one ends with a block
		file := filepath.Join(dir, "file")
		want := randomFile(t, file, size, uint64(size))
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		cmd := "exec " + path + " send --json --store --leave --no-code --server " + node.HTTP + " - < " + file
		lines := output(t, dir, "", "sh", "-c", cmd)
		_, link, _ := strings.Cut(lines, `"link":"`)
		link, _, _ = strings.Cut(link, `"`)
		out := t.TempDir()
		startEnd(t, t.TempDir(), "receive", link, out).succeeds()
		if got := hashFile(t, filepath.Join(out, "stdin")); got != want {
			t.Errorf("the stream of %d bytes differs", size)
		}
	}
}

func TestWhatTheServerDoesNotKeepIsSaid(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	want := randomFile(t, file, 3<<20, 5)
	startEnd(t, t.TempDir(), "send", "--server", node.HTTP, file, "--store", "--leave", "--no-code").fails(refusal.DepotOff)

	// Without --leave the transfer goes on from end to end.
	s := send(t, t.TempDir(), node.HTTP, file, "--store", "--no-code")
	s.until(string(refusal.DepotOff))
	out := t.TempDir()
	startEnd(t, t.TempDir(), "receive", s.link(), out).succeeds()
	s.succeeds()
	if got := hashFile(t, filepath.Join(out, "file")); got != want {
		t.Error("the file differs")
	}

	administer(t, node, "PATCH", "/v1/projects/home", message{"settings": message{"depotBytes": 2 << 20}})
	startEnd(t, t.TempDir(), "send", "--server", node.HTTP, file, "--store", "--leave", "--no-code").fails(refusal.DepotFull)
	if n := kept(t, node); n != 0 {
		t.Errorf("%d bytes are kept for a sender that has given up", n)
	}
	home := t.TempDir()
	s = send(t, home, node.HTTP, file, "--store", "--no-code")
	s.until(string(refusal.DepotFull))
	administer(t, node, "PATCH", "/v1/projects/home", message{"settings": message{"depotBytes": 4 << 20}})
	s.until("stored") // it tries again

	// A file that has changed is another transfer: what waits is replaced.
	s.kill()
	want = randomFile(t, file, 1<<20, 6)
	again := send(t, home, node.HTTP, file, "--store", "--leave", "--no-code")
	if last, code := again.wait(); code != 0 || last["event"] != "left" {
		t.Fatalf("exit code %d, last line %v\n%s", code, last, again.log)
	}
	out = t.TempDir()
	startEnd(t, t.TempDir(), "receive", again.link(), out).succeeds()
	if got := hashFile(t, filepath.Join(out, "file")); got != want {
		t.Error("the file differs")
	}
}

// What docs/benchmarks.md says of depots is measured with this.
func TestDepotsAreMeasured(t *testing.T) {
	t.Parallel()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(within(t, patience), path, "bench", "transfer", "--depot", "--mib", "3", "--dir", t.TempDir(), "--json").Output()
	var r struct {
		Bytes            int64
		Upload, Download struct{ MiBPerSecond, ServerMiB float64 }
		PlainUpload      float64 `json:"plainUploadMiBPerSecond"`
		PlainDownload    float64 `json:"plainDownloadMiBPerSecond"`
	}
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.Bytes != 3<<20 || min(r.Upload.MiBPerSecond, r.Upload.ServerMiB, r.Download.MiBPerSecond, r.Download.ServerMiB, r.PlainUpload, r.PlainDownload) <= 0 {
		t.Errorf("something was not measured: %s", out)
	}
}
