//go:build linux

package test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/bench/measure"
	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/transfer"
)

// An end is one madang send or madang receive, started as a user would.
type end struct {
	t       testing.TB
	process *lab.Process
	args    []string
	lines   chan map[string]any // closed at the end of its output
	log     *lab.Tail
	ready   map[string]any
}

// startEnd starts a command with --json. home keeps what it remembers between runs.
func startEnd(t testing.TB, home string, args ...string) *end {
	t.Helper()
	return startEndOn(t, nil, nil, home, args...)
}

// startEndOn does so in a namespace, with more environment.
func startEndOn(t testing.TB, ns *lab.Namespace, env []string, home string, args ...string) *end {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	e := &end{t: t, args: args, lines: make(chan map[string]any, 4096), log: &lab.Tail{}}
	cmd := exec.Command(path, append(args, "--json")...)
	cmd.Env = append(append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+home), env...)
	cmd.Stderr = e.log
	// A pipe of our own: exec's is closed by Wait, which would cut the last lines off.
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	e.process, err = ns.Start(cmd)
	w.Close()
	if err != nil {
		out.Close()
		t.Fatal(err)
	}
	go func() {
		defer out.Close()
		in := bufio.NewScanner(out)
		for in.Scan() {
			var v map[string]any
			if json.Unmarshal(in.Bytes(), &v) == nil {
				select {
				case e.lines <- v:
				default: // nobody reads any more
				}
			}
		}
		close(e.lines)
	}()
	t.Cleanup(e.kill)
	return e
}

// kill ends it without warning, and waits until it is gone.
func (e *end) kill() { e.process.Kill() }

// send starts a sender and waits for its link.
func send(t testing.TB, home, server string, args ...string) *end {
	t.Helper()
	e := startEnd(t, home, append([]string{"send", "--server", server}, args...)...)
	e.ready = e.until("ready")
	return e
}

func (e *end) link() string { return e.ready["link"].(string) }

// until reads on to an event.
func (e *end) until(event string) map[string]any {
	e.t.Helper()
	return e.where(event, func(v map[string]any) bool { return v["event"] == event })
}

func (e *end) where(what string, found func(map[string]any) bool) map[string]any {
	e.t.Helper()
	deadline := time.After(2 * patience)
	for {
		select {
		case v, ok := <-e.lines:
			if !ok {
				e.t.Fatalf("%v ended without %s\n%s", e.args, what, e.log)
			}
			if found(v) {
				return v
			}
		case <-deadline:
			e.t.Fatalf("%v: no %s\n%s", e.args, what, e.log)
		}
	}
}

// at waits until this share of the bytes has arrived.
func (e *end) at(share float64) {
	e.t.Helper()
	e.where(fmt.Sprintf("progress of %g", share), func(v map[string]any) bool {
		total, _ := v["total"].(float64)
		return v["event"] == "progress" && total > 0 && v["bytes"].(float64) >= share*total
	})
}

// watch looks at what a process uses until it ends; then the answer has its CPU time, and the most memory that was seen.
func watch(p *lab.Process) func() measure.Usage {
	var most measure.Usage
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			if u, err := measure.Process(p.Cmd.Process.Pid).Usage(); err == nil {
				most.CPU, most.RSS = u.CPU, max(most.RSS, u.RSS)
			}
			select {
			case <-ticker.C:
			case <-p.Done():
				return
			}
		}
	})
	return func() measure.Usage { watching.Wait(); return most }
}

// wait waits for the end, and returns the last line and the exit code.
func (e *end) wait() (last map[string]any, code int) {
	e.t.Helper()
	deadline := time.After(2 * patience)
	for {
		select {
		case v, ok := <-e.lines:
			if ok {
				last = v
				continue
			}
			var status *exec.ExitError
			if errors.As(e.process.Err(), &status) {
				return last, status.ExitCode()
			}
			return last, 0
		case <-deadline:
			e.t.Fatalf("%v does not end; last %v\n%s", e.args, last, e.log)
		}
	}
}

func (e *end) succeeds() map[string]any {
	e.t.Helper()
	last, code := e.wait()
	if code != 0 || last["event"] != "done" {
		e.t.Fatalf("%v: exit code %d, last line %v\n%s", e.args, code, last, e.log)
	}
	return last
}

// fails waits for the end with this code.
func (e *end) fails(code refusal.Code) {
	e.t.Helper()
	if _, exit := e.wait(); exit != 1 || !strings.Contains(e.log.String(), "error: "+string(code)) {
		e.t.Errorf("%v: exit code %d, want 1 with %s\n%s", e.args, exit, code, e.log)
	}
}

// randomFile makes a file that cannot be compressed or guessed.
func randomFile(t testing.TB, path string, size int64, seed uint64) [32]byte {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8(key), size); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func hashFile(t testing.TB, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// tree lists what is below a folder: names, permissions, times and hashes.
func tree(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			fmt.Fprintf(&b, "%q\n", rel)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q %o %d %x\n", rel, info.Mode(), info.ModTime().UnixMilli(), hashFile(t, p))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFoldersWithOddNamesArriveByCode(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	for i, name := range []string{
		"plain.txt", "바다 🌊.jpg", " spaces ", "-rf", "back\\slash", "new\nline", "CON", "dot.", "a:b", strings.Repeat("x", 240), ".hidden", "deep/er/and/deeper/file", "case", "Case",
	} {
		randomFile(t, filepath.Join(dir, "src", name), int64(i)*50_000, uint64(i))
	}
	if err := os.MkdirAll(filepath.Join(dir, "src", "empty", "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "src", "plain.txt"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "src", "link")); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"auto", "quic", "webrtc"} {
		t.Run(mode, func(t *testing.T) {
			s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "src"), "--lanes", mode)
			out := t.TempDir()
			r := startEnd(t, t.TempDir(), "receive", "--server", node.HTTP, s.ready["code"].(string), out, "--lanes", mode)
			kind := map[string]string{"auto": "tcp"}[mode]
			if path := r.until("connected")["path"].(string); !strings.HasPrefix(path, cmp.Or(kind, mode)) {
				t.Errorf("got a lane over %s", path)
			}
			r.succeeds()
			s.succeeds()
			got := tree(t, filepath.Join(out, "src"))
			want := regexp.MustCompile(`(?m)^"link".*\n`).ReplaceAllString(tree(t, filepath.Join(dir, "src")), "")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if left, _ := filepath.Glob(filepath.Join(out, ".madang*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestTenThousandSmallFiles(t *testing.T) {
	t.Parallel()
	files := 2000
	if os.Getenv("MADANG_TEST_LONG") != "" {
		files = 10_000
	}
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	odd := []string{"%d é.txt", "바다 %d", "-%d", "%d.", " %d ", "a\\%d", "new\nline %d", "..%d", "%d:%%s", "CON.%d"}
	for i := range files {
		p := filepath.Join(dir, "src", strconv.Itoa(i%7), "..."+strconv.Itoa(i%31), fmt.Sprintf(odd[i%len(odd)], i))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, fmt.Appendf(nil, "%d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "src"))
	out := t.TempDir()
	started := time.Now()
	startEnd(t, t.TempDir(), "receive", s.link(), out).succeeds()
	took := time.Since(started)
	s.succeeds()
	if got, want := tree(t, out), tree(t, dir); got != want { // of all that is in the folder, so that nothing is beside
		t.Error("the folders differ")
	}
	if rate := float64(files) / took.Seconds(); files == 10_000 && rate < 300 {
		t.Errorf("%.0f files/s, want 300", rate)
	}
	t.Logf("%d files in %v: %.0f files/s", files, took, float64(files)/took.Seconds())
}

// TestTransferSurvivesKills kills each part at several moments. What was sent twice is what was not flushed, or on its way.
func TestTransferSurvivesKills(t *testing.T) {
	t.Parallel()
	size, mbit, allowed := int64(24<<20), 80.0, int64(20<<20)
	if mib, err := strconv.Atoi(os.Getenv("MADANG_TRANSFER_MIB")); err == nil {
		size, mbit, allowed = int64(mib)<<20, 0, 50<<20
		if mib >= 4096 {
			allowed = size / 200
		}
	}
	dir := t.TempDir()
	want := randomFile(t, filepath.Join(dir, "file"), size, 7)
	for _, victim := range []string{"sender", "receiver", "server"} {
		for _, share := range []float64{0.1, 0.5, 0.9} {
			t.Run(fmt.Sprintf("%s at %g", victim, share), func(t *testing.T) {
				if size < 100<<20 {
					t.Parallel()
				}
				node := serve(t, lab.NodeConfig{Args: []string{"--resume-window", "2s"}})
				home, out := t.TempDir(), t.TempDir()
				args := []string{filepath.Join(dir, "file"), "--limit", fmt.Sprint(mbit * (1.4 - share))} // near the end slowly, so that it is seen
				s := send(t, home, node.HTTP, args...)
				link := s.link()
				r := startEnd(t, home, "receive", link, out)
				r.at(share)
				var twice int64
				few := min(allowed, int64(share*float64(size)/2)) // who begins anew gets more than that again
				switch victim {
				case "sender":
					s.kill()
					s = send(t, home, node.HTTP, args...)
					if s.link() != link {
						t.Fatalf("the link is %s now, was %s", s.link(), link)
					}
					twice = int64(r.succeeds()["arrived"].(float64)) - size
					s.succeeds()
				case "receiver":
					r.kill()
					r = startEnd(t, home, "receive", link, out)
					// A block is in the journal before it counts: none of those comes again.
					if arrived := int64(r.succeeds()["arrived"].(float64)); arrived > size-int64(share*float64(size)) {
						t.Errorf("%d bytes of %d came after the kill", arrived, size)
					}
					twice, few = int64(s.succeeds()["sent"].(float64))-size, allowed // with what was on its way
				case "server":
					node.Kill()
					if err := node.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					r.succeeds()
					twice = int64(s.succeeds()["sent"].(float64)) - size
				}
				if got := hashFile(t, filepath.Join(out, "file")); got != want {
					t.Error("another file has arrived")
				}
				if twice > few {
					t.Errorf("%d bytes were sent twice, of %d", twice, size)
				}
				t.Logf("sent twice: %d bytes of %d", twice, size)
			})
		}
	}
}

func TestALinkIsForOneReceiver(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	randomFile(t, filepath.Join(dir, "file"), 4<<20, 1)
	s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "file"), "--limit", "16")
	first := startEnd(t, t.TempDir(), "receive", s.link(), t.TempDir())
	first.at(0.1)
	startEnd(t, t.TempDir(), "receive", s.link(), t.TempDir()).fails(refusal.TransferTaken)
	first.succeeds()
	s.succeeds()
}

// TestTenReceiversServeEachOther: the sender's way carries each block about once.
func TestTenReceiversServeEachOther(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	const size, receivers = 52 << 20, 10 // 208 blocks
	want := randomFile(t, filepath.Join(dir, "file"), size, 11)
	s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "file"), "--limit", "160", "--receivers", strconv.Itoa(receivers))
	started := time.Now()
	var ends []*end
	var outs []string
	for range receivers {
		outs = append(outs, t.TempDir())
		ends = append(ends, startEnd(t, t.TempDir(), "receive", s.link(), outs[len(outs)-1]))
	}
	for i, e := range ends {
		e.succeeds()
		if hashFile(t, filepath.Join(outs[i], "file")) != want {
			t.Error("another file has arrived")
		}
	}
	sent := s.succeeds()["sent"].(float64) / size
	t.Logf("the sender sent %.2f copies for %d receivers in %v", sent, receivers, time.Since(started))
	if sent > 1.3 {
		t.Errorf("the sender sent %.2f copies for %d receivers", sent, receivers)
	}
}

func TestFiveWrongCodesEndACode(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	randomFile(t, filepath.Join(dir, "file"), 1000, 1)
	s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "file"))
	right := s.ready["code"].(string)
	wrong := right[:strings.Index(right, "-")] + "-wrong-words"
	for n := range 5 {
		want := refusal.CodeWrong
		if n == 4 {
			want = refusal.CodeSpent
		}
		startEnd(t, t.TempDir(), "receive", "--server", node.HTTP, wrong, t.TempDir()).fails(want)
	}
	startEnd(t, t.TempDir(), "receive", "--server", node.HTTP, right, t.TempDir()).fails(refusal.CodeSpent)
	startEnd(t, t.TempDir(), "receive", s.link(), t.TempDir()).succeeds() // the link is another secret
	s.succeeds()
}

func TestASourceThatChangesIsNoticed(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	for name, change := range map[string]func(path string) error{
		"written to": func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("changed"), 100)
			return err
		},
		"truncated": func(p string) error { return os.Truncate(p, 3<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			randomFile(t, file, 8<<20, 1)
			s := send(t, t.TempDir(), node.HTTP, file, "--limit", "32")
			out := t.TempDir()
			r := startEnd(t, t.TempDir(), "receive", s.link(), out)
			r.at(0.2)
			if err := change(file); err != nil {
				t.Fatal(err)
			}
			r.fails(refusal.SourceChanged)
			if _, err := os.Stat(filepath.Join(out, "file")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file has its final name: %v", err)
			}
			s.kill()
		})
	}
}

func TestAFullDiskKeepsWhatHasArrived(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	dir := t.TempDir()
	want := randomFile(t, filepath.Join(dir, "file"), 12<<20, 3)
	home := t.TempDir()
	s := send(t, home, node.HTTP, filepath.Join(dir, "file"))
	startEnd(t, home, "receive", s.link(), small).fails(refusal.DiskFull)
	if err := syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	s.until("disk_full")
	r := startEnd(t, home, "receive", s.link(), small)
	if arrived := r.succeeds()["arrived"].(float64); arrived >= 12<<20 {
		t.Errorf("%.0f bytes came: nothing was kept", arrived)
	}
	if got := hashFile(t, filepath.Join(small, "file")); got != want {
		t.Error("another file has arrived")
	}
}

func TestWhatTheReceiverDeclinesIsNotSent(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	dir := t.TempDir()
	randomFile(t, filepath.Join(dir, "file"), 1<<20, 1)
	s := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "file"))
	url, ticket, err := transfer.ParseLink(s.link())
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	_, err = transfer.Receive(within(t, patience), transfer.ReceiveConfig{
		Server: transfer.Server{URL: url}, Ticket: ticket, Dir: out, Confirm: func([]transfer.Entry, bool) bool { return false },
	})
	if !errors.Is(err, refusal.New(refusal.Declined)) {
		t.Errorf("got %v", err)
	}
	s.until(string(refusal.Declined))
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	startEnd(t, t.TempDir(), "receive", s.link(), out).succeeds() // the link is for whom it was meant
	s.succeeds()
}

func TestStreams(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{9}).Read(content)
	var log lab.Tail
	sender := exec.Command(path, "send", "-", "--server", node.HTTP, "--json")
	sender.Stdin, sender.Stderr = bytes.NewReader(content), &log
	out, err := sender.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Start(); err != nil {
		t.Fatal(err)
	}
	defer sender.Process.Kill()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready struct{ Link string }
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		t.Fatal(err)
	}
	receiver := exec.CommandContext(within(t, patience), path, "receive", ready.Link, "-")
	receiver.Stderr = &log
	if got, err := receiver.Output(); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v, want %d\n%s", len(got), err, len(content), &log)
	}
}

// lyingServer stands between clients and a node, and changes what one says to the other: the liar of docs/transfer.md §4.
func lyingServer(t *testing.T, node string, lie func(string) string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/signal" {
			resp, err := http.Get(node + r.URL.Path)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			maps.Copy(w.Header(), resp.Header)
			w.WriteHeader(resp.StatusCode)
			io.Copy(w, resp.Body)
			return
		}
		client, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"madang.v1"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer client.CloseNow()
		upstream, _, err := websocket.Dial(r.Context(), "ws"+strings.TrimPrefix(node, "http")+"/v1/signal",
			&websocket.DialOptions{Subprotocols: []string{"madang.v1"}, HTTPHeader: http.Header{"Origin": {node}}})
		if err != nil {
			return
		}
		defer upstream.CloseNow()
		client.SetReadLimit(1 << 20)
		upstream.SetReadLimit(1 << 20)
		ctx, cancel := context.WithCancel(r.Context())
		var wg sync.WaitGroup
		pipe := func(to, from *websocket.Conn, change func(string) string) {
			defer cancel()
			for {
				kind, data, err := from.Read(ctx)
				if err != nil {
					return
				}
				if err := to.Write(ctx, kind, []byte(change(string(data)))); err != nil {
					return
				}
			}
		}
		wg.Go(func() { pipe(upstream, client, lie) })
		wg.Go(func() { pipe(client, upstream, func(s string) string { return s }) })
		wg.Wait()
	}))
	t.Cleanup(s.Close)
	return s
}

// TestALyingServerIsDetected: whichever fingerprint the server swaps, no lane comes about, and the user is told.
func TestALyingServerIsDetected(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	swapSDP := regexp.MustCompile(`a=fingerprint:sha-256 [0-9A-F]{2}:`)
	swapNative := regexp.MustCompile(`\\"fingerprint\\":\\"..`)
	lies := map[string]struct {
		kind string
		lie  func(string) string
	}{
		"WebRTC offer": {"webrtc", func(s string) string {
			if strings.Contains(s, `"type":"offer"`) {
				return swapSDP.ReplaceAllString(s, "a=fingerprint:sha-256 5A:")
			}
			return s
		}},
		"WebRTC answer": {"webrtc", func(s string) string {
			if strings.Contains(s, `"type":"answer"`) {
				return swapSDP.ReplaceAllString(s, "a=fingerprint:sha-256 5A:")
			}
			return s
		}},
		"second fingerprint": {"webrtc", func(s string) string {
			return strings.ReplaceAll(s, `a=setup:`, `a=fingerprint:sha-256 `+strings.Repeat("5A:", 31)+`5A\r\na=setup:`)
		}},
		"no MAC":      {"webrtc", func(s string) string { return strings.ReplaceAll(s, `"mac":`, `"cam":`) }},
		"native":      {"auto", func(s string) string { return swapNative.ReplaceAllString(s, `\"fingerprint\":\"Zz`) }},
		"TCP address": {"auto", func(s string) string { return strings.ReplaceAll(s, `127.0.0.1`, `127.0.0.2`) }},
	}
	for name, test := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := lyingServer(t, node.HTTP, test.lie)
			dir := t.TempDir()
			randomFile(t, filepath.Join(dir, "secret plans"), 1<<20, 1)
			s := send(t, t.TempDir(), liar.URL, filepath.Join(dir, "secret plans"), "--no-code", "--lanes", test.kind)
			out := t.TempDir()
			r := startEnd(t, t.TempDir(), "receive", s.link(), out, "--lanes", test.kind)
			r.fails(refusal.NotAuthentic)
			if left, _ := os.ReadDir(out); len(left) > 1 { // the journal, which holds our name alone
				t.Errorf("written: %v", left)
			}
			s.kill()
		})
	}
}

// TestTransfersThroughNATs: a direct path where one exists, and the node's relay over whatever leaves the building where none does. With -short one pair of each sort.
func TestTransfersThroughNATs(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	hosts := map[string]*lab.Host{}
	host := func(k lab.Kind, side string) *lab.Host {
		name := k.String() + "-" + side
		if hosts[name] == nil {
			hosts[name] = n.Host(name, lab.HostConfig{Kind: k})
		}
		return hosts[name]
	}
	tests := []struct {
		from, to lab.Kind
		path     string
	}{
		{lab.Open, lab.PortRestricted, "^tcp "},                               // one can be reached over TCP
		{lab.PortRestricted, lab.PortRestricted, "^quic (prflx|srflx|host)-"}, // neither
		{lab.Symmetric, lab.PortRestricted, "relay"},                          // no direct path
		{lab.UDPBlocked, lab.PortRestricted, "relay"},                         // TURN over TCP
		{lab.TCP443Only, lab.Symmetric, "relay"},                              // TURN over TLS on 443
	}
	if testing.Short() {
		tests = slices.Delete(tests, 2, 3)[1:3] // one direct path, one relay
	}
	for _, test := range tests {
		from, to := host(test.from, "from"), host(test.to, "to")
		t.Run(test.from.String()+"-"+test.to.String(), func(t *testing.T) {
			t.Parallel()
			dir, out := t.TempDir(), t.TempDir()
			want := randomFile(t, filepath.Join(dir, "file"), 2<<20, 5)
			env := []string{"SSL_CERT_FILE=" + n.certificate.CertFile}
			s := startEndOn(t, from.Namespace, env, t.TempDir(), "send", filepath.Join(dir, "file"), "--server", n.site(from))
			s.ready = s.until("ready")
			started := time.Now()
			r := startEndOn(t, to.Namespace, env, t.TempDir(), "receive", s.link(), out)
			if path := r.until("connected")["path"].(string); !regexp.MustCompile(test.path).MatchString(path) {
				t.Errorf("got a lane over %s, want %s", path, test.path)
			} else {
				t.Logf("%v to %v: %s after %v", test.from, test.to, path, time.Since(started).Round(time.Millisecond))
			}
			r.succeeds()
			s.succeeds()
			t.Logf("both had ended after %v", time.Since(started).Round(time.Millisecond))
			if hashFile(t, filepath.Join(out, "file")) != want {
				t.Error("another file has arrived")
			}
		})
	}
	if testing.Short() {
		return
	}
	t.Run("page on TCP443Only", func(t *testing.T) {
		t.Parallel()
		from, to := host(lab.PortRestricted, "to"), host(lab.TCP443Only, "from")
		dir := t.TempDir()
		want := randomFile(t, filepath.Join(dir, "file"), 2<<20, 5)
		s := startEndOn(t, from.Namespace, []string{"SSL_CERT_FILE=" + n.certificate.CertFile}, t.TempDir(), "send", filepath.Join(dir, "file"), "--server", n.site(from))
		s.ready = s.until("ready")
		page := newEnd(t, n.browser(t, browser.Chromium, to), n.site(to), "page")
		page.receive(s.link())
		page.await(patience, `end.receiving.path?.path.relayProtocol === "tls"`)
		page.do(patience, "await end.receiving.accept()", nil)
		page.arrived()
		s.succeeds()
		var got [][2]string
		page.do(patience, "return end.received()", &got)
		if len(got) != 1 || got[0][1] != hex.EncodeToString(want[:]) {
			t.Errorf("got %v, want %x", got, want)
		}
	})
}
