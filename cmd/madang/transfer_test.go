//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/transfer"
)

const patience = time.Minute

// startNode runs a node of this test's own, and returns its URL.
func startNode(t *testing.T) string {
	t.Helper()
	return startNodeIn(t, t.TempDir())
}

func startNodeIn(t *testing.T, data string) string {
	t.Helper()
	cmd := exec.Command("madang", "serve", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--log-format", "json", "--data", data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var ready struct{ Msg, HTTP string }
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if json.Unmarshal(lines.Bytes(), &ready) == nil && ready.Msg == "ready" {
			return ready.HTTP
		}
	}
	t.Fatal("the node did not get ready")
	return ""
}

// A running is a command whose output can be waited for.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended and all of its output is here
	copied chan struct{} // of a terminal; nil: there is none
	mu     sync.Mutex
	cond   *sync.Cond
	stdout bytes.Buffer
	stderr bytes.Buffer
}

type into struct {
	r *running
	b *bytes.Buffer
}

func (w into) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.cond.Broadcast()
	return w.b.Write(p)
}

func start(t *testing.T, stdin io.Reader, args ...string) *running {
	t.Helper()
	return startIn(t, t.TempDir(), stdin, args...)
}

func startIn(t *testing.T, home string, stdin io.Reader, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command("madang", args...), ended: make(chan struct{})}
	r.cond = sync.NewCond(&r.mu)
	r.cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+home)
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = stdin, into{r, &r.stdout}, into{r, &r.stderr}
	r.begin()
	return r
}

func (r *running) begin() {
	r.t.Helper()
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		r.cmd.Wait()
		if r.copied != nil {
			<-r.copied
		}
		close(r.ended)
		r.cond.Broadcast()
	}()
	r.t.Cleanup(func() { r.cmd.Process.Kill(); <-r.ended })
}

// await waits until what was written matches, and returns the first group.
func (r *running) await(b *bytes.Buffer, pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	timer := time.AfterFunc(patience, r.cond.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if m := re.FindSubmatch(b.Bytes()); m != nil {
			return string(m[len(m)-1])
		}
		over := false
		select {
		case <-r.ended:
			over = true
		default:
		}
		if over || time.Now().After(deadline) {
			r.t.Fatalf("%v: nothing matches %s\nstdout: %s\nstderr: %s", r.cmd.Args, pattern, &r.stdout, &r.stderr)
		}
		r.cond.Wait()
	}
}

// exits waits for the end with this code.
func (r *running) exits(code int) {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("%v does not end\nstdout: %s\nstderr: %s", r.cmd.Args, &r.stdout, &r.stderr)
	}
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Errorf("%v: got exit code %d, want %d\nstdout: %s\nstderr: %s", r.cmd.Args, got, code, &r.stdout, &r.stderr)
	}
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSendAndReceiveAsTheirUsersDo(t *testing.T) {
	node := startNode(t)
	folder := filepath.Join(t.TempDir(), "여름 사진")
	write(t, filepath.Join(folder, "바다.jpg"), strings.Repeat("sea", 1000))
	write(t, filepath.Join(folder, "산.jpg"), "mountain")
	write(t, filepath.Join(folder, "memo.txt"), "memo")

	// Text, without a terminal: no escape codes, no bar; the link on standard output, all else beside it.
	sender := start(t, nil, "send", folder, "--server", node, "--receivers", "2", "--name", "Mina")
	link := sender.await(&sender.stdout, `(http://\S+/f/\S+#\S+)`)
	code := sender.await(&sender.stdout, `(\d+-[a-z]+-[a-z]+)`)
	only := t.TempDir()
	one := start(t, nil, "receive", link, only, "--only", "*.jpg")
	one.exits(0)
	if got := tree(t, only); got != "여름 사진/바다.jpg 여름 사진/산.jpg" {
		t.Errorf("--only: got %s", got)
	}
	all := t.TempDir()
	two := start(t, nil, "receive", code, all, "--server", node)
	two.exits(0)
	if got := tree(t, all); got != "여름 사진/memo.txt 여름 사진/바다.jpg 여름 사진/산.jpg" {
		t.Errorf("by code: got %s", got)
	}
	sender.exits(0)
	for _, r := range []*running{sender, one, two} {
		if text := r.stdout.String() + r.stderr.String(); strings.ContainsAny(text, "\x1b\r") || !utf8.ValidString(text) {
			t.Errorf("%v: control codes without a terminal: %q", r.cmd.Args, text)
		}
	}
	if !strings.Contains(two.stderr.String(), "Received 3 files, 2.9 KiB, verified: "+filepath.Join(all, "여름 사진")) && !strings.Contains(two.stderr.String(), "Received 3 files, 2.9 KiB, verified: "+all) {
		t.Errorf("got %s", two.stderr.String())
	}
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// The same files to two people at once are two transfers; later the first one's link goes on.
func TestSendTheSameTwiceAtOnce(t *testing.T) {
	node, home := startNode(t), t.TempDir()
	film := write(t, filepath.Join(t.TempDir(), "film.mkv"), "film")
	link := func(s *running) string { return s.await(&s.stdout, `(http://\S+/f/\S+#\S+)`) }
	send := func() *running { return startIn(t, home, nil, "send", film, "--server", node, "--no-code") }
	first := send()
	one := link(first)
	second := send()
	if two := link(second); two == one {
		t.Errorf("both have the link %s", one)
	}
	start(t, nil, "receive", link(second), t.TempDir()).exits(0)
	second.exits(0)
	first.cmd.Process.Kill()
	<-first.ended
	third := send()
	if again := link(third); again != one {
		t.Errorf("the first one's link was %s, and is %s now", one, again)
	}
	start(t, nil, "receive", one, t.TempDir()).exits(0)
	third.exits(0)
	if next := link(send()); next == one {
		t.Error("a link that has been used is used again")
	}
}

// A link is good without a code: here the sender may join its own channel alone.
func TestSendWithoutACode(t *testing.T) {
	data := t.TempDir()
	node, ticket := startNodeIn(t, data), transfer.NewTicket()
	token, err := exec.Command("madang", "token", "create", "--data", data, "--channel", ticket.Channel(), "--grant", "create").Output()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	noCode := false
	err = transfer.Send(ctx, transfer.SendConfig{
		Server: transfer.Server{URL: node, Token: strings.TrimSpace(string(token))}, Ticket: ticket, Paths: []string{write(t, filepath.Join(t.TempDir(), "a"), "a")},
		OnEvent: func(e transfer.Event) { noCode = noCode || e.Code == "no_code" },
		OnReady: func(link, code string) {
			if code != "" {
				t.Errorf("got the code %s", code)
			}
			cancel()
		},
	})
	if !noCode || !errors.Is(err, refusal.New(refusal.Cancelled)) {
		t.Errorf("no_code was said: %t; got %v", noCode, err)
	}
}

// What a code's user can do is said, in their language.
func TestACodeAtWhichNobodyWaits(t *testing.T) {
	node := startNode(t)
	for lang, want := range map[string]string{
		"en": "error: code_spent: Nobody waits at the code 417.\nhint:  Check the number and --server.",
		"ko": "안내: 번호와 --server를 확인하세요.",
	} {
		r := start(t, nil, "receive", "417-maple-otter", t.TempDir(), "--server", node, "--lang", lang)
		r.exits(1)
		if !strings.Contains(r.stderr.String(), want) {
			t.Errorf("%s: got %s", lang, r.stderr.String())
		}
	}
}

// Programs get one object a line, the link first, and at last how it went.
func TestSendAndReceiveAsProgramsDo(t *testing.T) {
	node := startNode(t)
	sender := start(t, strings.NewReader("a stream"), "send", "-", "--as", "이름.txt", "--server", node, "--json", "--no-code")
	link := sender.await(&sender.stdout, `"link":"([^"]+)"`)
	receiver := start(t, nil, "receive", link, "-", "--json")
	receiver.exits(0)
	sender.exits(0)
	if got := receiver.stdout.String(); got != "a stream" {
		t.Errorf("the standard output is not the file alone: %q", got)
	}
	for name, c := range map[string]struct {
		output string
		first  string
	}{"send": {sender.stdout.String(), "ready"}, "receive": {receiver.stderr.String(), ""}} {
		var last map[string]any
		for i, line := range strings.Split(strings.TrimSuffix(c.output, "\n"), "\n") {
			last = nil
			if err := json.Unmarshal([]byte(line), &last); err != nil || last["event"] == nil {
				t.Errorf("%s: line %d is no event: %q", name, i+1, line)
			}
			if i == 0 && c.first != "" && last["event"] != c.first {
				t.Errorf("%s: the first line is %q", name, line)
			}
		}
		if last["event"] != "done" {
			t.Errorf("%s: the last line is %v", name, last)
		}
	}
}

func TestSendAndReceiveSayWhatIsWrong(t *testing.T) {
	node := startNode(t)
	here := t.TempDir()
	write(t, filepath.Join(here, "a"), "a")
	huge := make([]string, 5)
	for i := range huge { // with holes
		huge[i] = write(t, filepath.Join(here, "huge", fmt.Sprint(i)), "")
		if err := os.Truncate(huge[i], 15<<40); err != nil {
			t.Fatal(err)
		}
	}
	nobody := transfer.NewTicket().Link(node)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no file":               {[]string{"send", filepath.Join(here, "nothing"), "--server", node}, 1, "There is no file"},
		"standard input beside": {[]string{"send", "-", filepath.Join(here, "a"), "--server", node}, 2, "The standard input is sent alone"},
		"no link":               {[]string{"receive", "https://call.example.com/", here}, 2, "neither a link nor a code"},
		"half a link":           {[]string{"receive", strings.Split(nobody, "#")[0], here}, 2, "what follows the #"},
		"no pattern":            {[]string{"receive", nobody, here, "--only", "[a"}, 2, "is not a pattern"},
		"no server":             {[]string{"receive", transfer.NewTicket().Link("http://127.0.0.1:1"), here}, 1, "No Madang server answers"},
		"no code":               {[]string{"receive", "1-no-code", here, "--server", node}, 1, "code_spent"},
		"too much":              {append([]string{"send", "--server", node}, huge...), 1, "16 TiB in a file, 64 TiB in all"},
		"a stream's name":       {[]string{"send", "-", "--as", "a/../b", "--server", node}, 1, "cannot be the name of a file"},
		"unknown flag":          {[]string{"send", here, "--form", "x"}, 2, "unknown flag"},
	} {
		r := start(t, nil, c.args...)
		r.exits(c.code)
		if !strings.Contains(r.stderr.String(), c.want) || r.stdout.Len() > 0 {
			t.Errorf("%s: got %q and %q, want %q on standard error alone", name, r.stdout.String(), r.stderr.String(), c.want)
		}
	}
	r := start(t, nil, "receive", "--help")
	r.exits(0)
	if help := r.stdout.String(); !strings.Contains(help, transfer.PartSuffix) || !strings.Contains(help, ".journal") {
		t.Errorf("--help does not explain what is left of a transfer: %q", help)
	}
	for code, args := range map[refusal.Code][]string{
		refusal.CodeSpent:        {"1-no-code", here},
		refusal.FolderUnwritable: {nobody, filepath.Join(here, "a", "folder")}, // a is a file
	} {
		r := start(t, nil, append([]string{"receive", "--server", node, "--json"}, args...)...)
		r.exits(1)
		if !strings.Contains(r.stdout.String(), `"code":"`+string(code)+`","event":"failed"`) {
			t.Errorf("--json: got %q, want %s", r.stdout.String(), code)
		}
	}
}

// A pty is a terminal of so many columns.
func pty(t *testing.T, columns uint16) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

// onTerminal starts a command on one; what it shows is in stdout.
func onTerminal(t *testing.T, columns uint16, args ...string) (r *running, keyboard io.Writer) {
	t.Helper()
	master, terminal := pty(t, columns)
	r = &running{t: t, cmd: exec.Command("madang", args...), ended: make(chan struct{})}
	r.cond = sync.NewCond(&r.mu)
	home := t.TempDir()
	r.cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+home, "TERM=xterm")
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = terminal, terminal, terminal
	r.copied = make(chan struct{})
	go func() {
		io.Copy(into{r, &r.stdout}, master) // ends when nobody has the terminal any more
		close(r.copied)
	}()
	r.begin()
	terminal.Close()
	return r, master
}

// On a terminal there is a bar that never wraps; Enter pauses the sender and goes on, and the receiver is told.
func TestSendOnATerminal(t *testing.T) {
	node := startNode(t)
	film := write(t, filepath.Join(t.TempDir(), "영화 "+strings.Repeat("긴이름", 20)+".mkv"), strings.Repeat("0123456789abcdef", 1<<17))
	for _, columns := range []uint16{100, 30} {
		sender, keyboard := onTerminal(t, columns, "send", film, "--server", node, "--no-code", "--limit", "20")
		link := sender.await(&sender.stdout, `(http://\S+/f/\S+#\S+)`)
		receiver := start(t, nil, "receive", link, t.TempDir(), "--json", "--lanes", "webrtc")
		sender.await(&sender.stdout, `\d+%.* of 2\.0 MiB`)
		keyboard.Write([]byte("\n"))
		sender.await(&sender.stdout, `Paused\. Enter goes on`)
		receiver.await(&receiver.stdout, `"event":"paused"`)
		keyboard.Write([]byte("\n"))
		sender.await(&sender.stdout, `Goes on\.`)
		receiver.await(&receiver.stdout, `"event":"resumed"`)
		receiver.exits(0)
		sender.exits(0)
		sender.await(&sender.stdout, `Everything has arrived`)
		for _, shown := range regexp.MustCompile(`\r(?:\x1b\[K)?([^\r\n]*%[^\r\n\x1b]*)`).FindAllStringSubmatch(sender.stdout.String(), -1) {
			if n := len(shown[1]); n >= int(columns) {
				t.Errorf("%d columns do not hold %q", columns, shown[1])
			}
		}
	}
}

func TestBarFitsItsTerminal(t *testing.T) {
	p := transfer.Progress{Files: 12, FilesDone: 3, Bytes: 512 << 20, Total: 50 << 30, Lanes: 1}
	for width, want := range map[int]string{
		100: "  1% [........................]  512.0 MiB of 50.0 GiB  10.0 MiB/s  1h24m29s left  3/12 files",
		70:  "  1%  512.0 MiB of 50.0 GiB  10.0 MiB/s  1h24m29s left  3/12 files",
		40:  "  1%  512.0 MiB of 50.0 GiB  10.0 MiB/s",
		29:  "  1%  512.0 MiB of 50.0 GiB",
		20:  "  1% [.............]",
		5:   "  1%",
	} {
		got := bar(p, receiving, 10<<20, width)
		if len(got) > width && width > 5 {
			t.Errorf("%d columns: %q has %d", width, got, len(got))
		}
		if got != want {
			t.Errorf("%d columns: got\n%q, want\n%q", width, got, want)
		}
	}
	two := transfer.Progress{Bytes: 3 << 20, Total: 2 << 20, Receivers: 2}
	if got := bar(two, sending, 0, 80); !strings.HasPrefix(got, " 75% [##################......]  3.0 MiB of 4.0 MiB") {
		t.Errorf("two receivers: got %q", got)
	}
}

// Paths are somebody else's words.
func TestTerminalIsNotWrittenByOthers(t *testing.T) {
	if got := printable("한글 👩‍💻\x1b]0;title\x07\u202egpj.exe\r\n"); got != "한글 👩‍💻\ufffd]0;title\ufffd\ufffdgpj.exe\ufffd\ufffd" {
		t.Errorf("got %q", got)
	}
}

// A camera reads the code from a terminal, dark or light: zbar is one.
func TestQRCodeCanBeScanned(t *testing.T) {
	if _, err := exec.LookPath("zbarimg"); err != nil {
		lab.Missing(t, "scanning needs the program %q of zbar-tools: %v", "zbarimg", err)
	}
	link := transfer.NewTicket().Link("https://call.example.com:8443")
	for _, colors := range []bool{true, false} {
		drawing, columns, err := terminalQR(link, colors)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(drawing, "\n"), "\n")
		const module = 4
		img := image.NewGray(image.Rect(0, 0, columns*module, 2*len(lines)*module))
		for y, line := range lines {
			if had := strings.HasPrefix(line, "\x1b[30;107m") && strings.HasSuffix(line, "\x1b[0m"); had != colors {
				t.Fatalf("colors %v: line %q", colors, line)
			}
			line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;107m"), "\x1b[0m")
			if n := utf8.RuneCountInString(line); n != columns {
				t.Fatalf("a line of %d columns, want %d", n, columns)
			}
			x := 0
			for _, r := range line {
				for half, dark := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
					for i := range module * module {
						shade := color.Gray{255}
						if dark {
							shade.Y = 0
						}
						img.SetGray(x*module+i%module, (2*y+half)*module+i/module, shade)
					}
				}
				x++
			}
		}
		path := filepath.Join(t.TempDir(), "qr.png")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		f.Close()
		out, err := exec.Command("zbarimg", "--quiet", "--raw", path).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != link {
			t.Errorf("got %q, %v, want %q", got, err, link)
		}
	}
}

// A hostile sender knows the secret, speaks the protocol, and offers paths that lead out of the receiver's folder.
func TestReceiveWritesNothingOutsideOfItsFolder(t *testing.T) {
	node := startNode(t)
	for _, path := range []string{"../outside.txt", "a/../../outside.txt", "/tmp/madang-outside.txt", "a//outside.txt", "./outside.txt", "a/\x00outside.txt"} {
		around := t.TempDir()
		dir := filepath.Join(around, "dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		link := hostileSender(t, node, path)
		r := start(t, nil, "receive", link, dir, "--json", "-y")
		r.exits(1)
		if !strings.Contains(r.stderr.String(), "path_unsafe") || !strings.Contains(r.stdout.String(), `"code":"path_unsafe"`) {
			t.Errorf("%q: got %s\n%s", path, r.stdout.String(), r.stderr.String())
		}
		if got := tree(t, around); got != "" {
			t.Errorf("%q: left %s", path, got)
		}
		if _, err := os.Lstat("/tmp/madang-outside.txt"); err == nil {
			t.Fatalf("%q was written", path)
		}
	}
}

// homeKey is the key of the node's own pages.
func homeKey(t *testing.T, node string) string {
	t.Helper()
	res, err := http.Get(node + "/v1/node")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var about struct{ Key string }
	if err := json.NewDecoder(res.Body).Decode(&about); err != nil {
		t.Fatal(err)
	}
	return about.Key
}

// hostileSender waits as the sender of a new ticket and offers one file with that path. It is written from docs/transfer.md, with nothing of ours that could refuse.
func hostileSender(t *testing.T, node, path string) (link string) {
	t.Helper()
	ticket := transfer.NewTicket()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	dc, err := pc.CreateDataChannel("madang.transfer", &webrtc.DataChannelInit{Negotiated: new(true), ID: new(uint16(1))})
	if err != nil {
		t.Fatal(err)
	}
	tell := func(v any) {
		b, _ := json.Marshal(v)
		dc.SendText(string(b))
	}
	dc.OnOpen(func() {
		tell(map[string]any{"type": "hello", "version": 1, "role": "sender", "end": strings.Repeat("h", 22)})
	})
	dc.OnMessage(func(m webrtc.DataChannelMessage) {
		var got struct{ Type string }
		json.Unmarshal(m.Data, &got)
		switch got.Type {
		case "get-manifest":
			tell(map[string]any{"type": "manifest", "from": 0, "last": true, "bytes": 3, "entries": []any{map[string]any{"path": path, "size": 3}}})
		case "accept":
			tell(map[string]any{"type": "accepted"})
		case "want":
			content := []byte("bad")
			hash := sha256.Sum256(content)
			block := append([]byte{1, 0, 0, 0}, make([]byte, 16)...)
			binary.BigEndian.PutUint32(block[12:], uint32(len(content)))
			dc.Send(append(append(block, hash[:]...), content...))
		}
	})

	// docs/transfer.md §4
	key, err := hkdf.Key(sha256.New, ticket.Secret[:], []byte("madang-transfer/1"), "fingerprints", 32)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := func(sdp string) []byte {
		line := regexp.MustCompile(`a=fingerprint:sha-256 ([0-9A-Fa-f:]+)`).FindStringSubmatch(sdp)
		b, _ := hex.DecodeString(strings.ReplaceAll(line[1], ":", ""))
		return b
	}
	lp := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	signals := make(chan *signal.FromSignal, 100)
	session, err := signalclient.Join(ctx, signalclient.Config{
		URL: node + "/v1/signal", Header: http.Header{"Origin": {node}},
		Join: signal.Join{Channel: "f." + ticket.ID, Key: homeKey(t, node), Info: json.RawMessage(`{"transfer":{"version":1,"role":"sender"}}`)},
		OnMessage: func(m signal.ServerMessage) {
			if s, ok := m.(*signal.FromSignal); ok {
				signals <- s
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	go func() {
		for {
			var in *signal.FromSignal
			select {
			case in = <-signals:
			case <-ctx.Done():
				return
			}
			var d struct {
				PC          string
				Description *webrtc.SessionDescription
				Candidates  []webrtc.ICECandidateInit
			}
			json.Unmarshal(in.Data, &d)
			if d.Description != nil {
				gathered := webrtc.GatheringCompletePromise(pc)
				pc.SetRemoteDescription(*d.Description)
				answer, err := pc.CreateAnswer(nil)
				if err != nil {
					return
				}
				pc.SetLocalDescription(answer)
				<-gathered
				mac := hmac.New(sha256.New, key)
				for _, part := range [][]byte{lp("answer"), lp(ticket.ID), lp(d.PC), fingerprint(d.Description.SDP), fingerprint(answer.SDP)} {
					mac.Write(part)
				}
				data, _ := json.Marshal(map[string]any{"pc": d.PC, "description": pc.LocalDescription(), "mac": base64.RawURLEncoding.EncodeToString(mac.Sum(nil))})
				session.Send(ctx, &signal.Signal{To: in.From, Data: data})
			}
			for _, c := range d.Candidates {
				pc.AddICECandidate(c)
			}
		}
	}()
	return ticket.Link(node)
}

// Whom --to names gets the offer over a connection of their own: nothing that the server passes on has the secret.
func TestSendToTheMembersOfACall(t *testing.T) {
	node := startNode(t)
	film := write(t, filepath.Join(t.TempDir(), "은하수.mkv"), "milky way")
	mina, jun := memberOfACall(t, node, "team", "Mina"), memberOfACall(t, node, "team", "준")
	sender := start(t, nil, "send", film, "--server", node, "--to", "team", "--name", "Sora", "--json")
	link := sender.await(&sender.stdout, `"link":"([^"]+)"`)
	sender.await(&sender.stdout, `"event":"told","path":"Mina"`)
	sender.await(&sender.stdout, `"event":"told","path":"준"`)
	_, secret, _ := strings.Cut(link, "#")
	for _, m := range []*callMember{mina, jun} {
		var offer struct {
			ID, Secret string
			Names      []string
			Count      int
			Bytes      int64
			Apart      bool
		}
		select {
		case text := <-m.offers:
			if err := json.Unmarshal([]byte(text), &offer); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		case <-time.After(patience):
			t.Fatal("no offer")
		}
		if !strings.HasSuffix(link, "/f/"+offer.ID+"#"+offer.Secret) || len(offer.Names) != 1 || offer.Names[0] != "은하수.mkv" || offer.Count != 1 || offer.Bytes != 9 || !offer.Apart {
			t.Errorf("got %+v", offer)
		}
		m.mu.Lock()
		if strings.Contains(m.passed.String(), secret) || !strings.Contains(m.passed.String(), "fingerprint") {
			t.Error("the server has seen the secret, or nothing at all")
		}
		m.mu.Unlock()
	}
	start(t, nil, "receive", link, t.TempDir()).exits(0)
	sender.exits(0)

	alone := start(t, nil, "send", film, "--server", node, "--to", "empty", "--json", "--new")
	alone.await(&alone.stdout, `"event":"not_told","path":"empty"`)
}

type callMember struct {
	offers chan string
	mu     sync.Mutex
	passed strings.Builder // what the server passes on
}

// memberOfACall takes offers of files as a page does; it also offers its own camera once it is connected.
func memberOfACall(t *testing.T, node, channel, name string) *callMember {
	t.Helper()
	m := &callMember{offers: make(chan string, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(&media)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		dc.OnMessage(func(message webrtc.DataChannelMessage) {
			if dc.Label() == "madang.files" && message.IsString {
				m.offers <- string(message.Data)
				dc.Close()
			}
		})
	})
	signals := make(chan *signal.FromSignal, 100)
	session, err := signalclient.Join(ctx, signalclient.Config{
		URL: node + "/v1/signal", Join: signal.Join{Channel: channel, Key: homeKey(t, node), Name: name}, Header: http.Header{"Origin": {node}},
		OnMessage: func(message signal.ServerMessage) {
			if s, ok := message.(*signal.FromSignal); ok {
				m.mu.Lock()
				m.passed.Write(s.Data)
				m.mu.Unlock()
				signals <- s
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	go func() {
		for offered := false; ; {
			var in *signal.FromSignal
			select {
			case in = <-signals:
			case <-ctx.Done():
				return
			}
			var d struct {
				PC          string
				Description *webrtc.SessionDescription
				Candidates  []webrtc.ICECandidateInit
			}
			json.Unmarshal(in.Data, &d)
			say := func(description webrtc.SessionDescription) {
				gathered := webrtc.GatheringCompletePromise(pc)
				pc.SetLocalDescription(description)
				<-gathered
				data, _ := json.Marshal(map[string]any{"pc": d.PC, "description": pc.LocalDescription()})
				session.Send(ctx, &signal.Signal{To: in.From, Data: data})
			}
			if d.Description != nil {
				pc.SetRemoteDescription(*d.Description)
				if d.Description.Type == webrtc.SDPTypeOffer {
					if answer, err := pc.CreateAnswer(nil); err == nil {
						say(answer)
					}
				}
				if !offered {
					offered = true
					pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo)
					if offer, err := pc.CreateOffer(nil); err == nil {
						say(offer)
					}
				}
			}
			for _, c := range d.Candidates {
				pc.AddICECandidate(c)
			}
		}
	}()
	return m
}
