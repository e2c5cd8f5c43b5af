//go:build linux

package test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/lab"
)

// wantRefusal checks what a person reads when the program does not start: one line with the reason, and one with what to do.
func wantRefusal(t *testing.T, code int, log string, words ...string) {
	t.Helper()
	if code != 1 && code != 2 {
		t.Errorf("got exit code %d, want 1 or 2", code)
	}
	if strings.Contains(log, "goroutine ") || strings.Contains(log, "panic") {
		t.Errorf("it crashed:\n%s", log)
	}
	for _, word := range append([]string{"error:", "hint:"}, words...) {
		if !strings.Contains(log, word) {
			t.Errorf("it does not say %q:\n%s", word, log)
		}
	}
}

func TestPortInUse(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	code, log := serveRefused(t, lab.NodeConfig{Listen: tcp.Addr().String()})
	wantRefusal(t, code, log, tcp.Addr().String(), "in use")
	code, log = serveRefused(t, lab.NodeConfig{UDP: udp.LocalAddr().String()})
	wantRefusal(t, code, log, udp.LocalAddr().String(), "in use")
}

func TestWrongConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "madang.yaml")
	for name, test := range map[string]struct {
		file string
		args []string
		want []string
	}{
		"unknown key":      {"log-level: info\nlissten: :80\n", nil, []string{"lissten"}},
		"not YAML":         {"listen: [\n", nil, []string{"madang.yaml"}},
		"wrong type":       {"resume-window: often\n", nil, []string{"resume-window"}},
		"unknown flag":     {"", []string{"--lissten", ":80"}, []string{"lissten"}},
		"impossible value": {"", []string{"--public-url", "example.com"}, []string{"public-url"}},
		"half a pair":      {"", []string{"--tls-cert", "/nowhere.pem"}, []string{"tls-key"}},
		"missing file":     {"", []string{"--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"}, []string{"/nowhere.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := test.args
			if test.file != "" {
				if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--config", file)
			}
			code, log := serveRefused(t, lab.NodeConfig{Args: args})
			wantRefusal(t, code, log, test.want...)
			if code != 2 {
				t.Errorf("got exit code %d, want 2", code)
			}
		})
	}
}

func TestDataFolderInUse(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	code, log := serveRefused(t, lab.NodeConfig{Data: node.Data})
	wantRefusal(t, code, log, node.Data)
}

// mount puts a file system of its own on a fresh folder.
func mount(t *testing.T, flags uintptr, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		lab.Missing(t, "mounting needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		lab.Missing(t, "mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestReadOnlyDataFolder(t *testing.T) {
	dir := mount(t, syscall.MS_RDONLY, "size=1m")
	code, log := serveRefused(t, lab.NodeConfig{Data: dir})
	wantRefusal(t, code, log, dir)
	code, log = serveRefused(t, lab.NodeConfig{Data: filepath.Join(dir, "below")})
	wantRefusal(t, code, log, dir)
}

// fill writes until the disk is full.
func fill(t *testing.T, dir string) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for {
			if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	return filler
}

func TestDiskFull(t *testing.T) {
	t.Run("at the start", func(t *testing.T) {
		dir := mount(t, 0, "size=256k")
		fill(t, dir)
		code, log := serveRefused(t, lab.NodeConfig{Data: dir})
		wantRefusal(t, code, log, dir)
	})
	t.Run("while running", func(t *testing.T) {
		dir := mount(t, 0, "size=16m")
		node := serve(t, lab.NodeConfig{Data: dir})
		filler := fill(t, dir)
		ctx := within(t, patience)
		// Calls need no disk.
		a := joinWire(ctx, t, node.HTTP, "full", "a")
		b := joinWire(ctx, t, node.HTTP, "full", "b")
		a.send(ctx, message{"type": "command", "seq": 1, "name": "madang.chat", "data": message{"text": "hello"}, "reply": true})
		if m := b.await(ctx, "command"); m["from"] != a.peer {
			t.Errorf("got %v", m)
		}
		// What has to be written is refused with the reason, until there is room again.
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		create := func(name string) (string, error) {
			cmd := exec.CommandContext(ctx, path, "project", "create", name, "--data", dir)
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		refused := ""
		for i := range 400 { // pages that are free already take some
			out, err := create(fmt.Sprintf("p%d-%s", i, strings.Repeat("x", 60)))
			if err != nil {
				refused = out
				break
			}
		}
		if !strings.Contains(refused, "error:") || !strings.Contains(refused, "storage") && !strings.Contains(refused, "disk") {
			t.Errorf("got %q, want an error that speaks of the disk", refused)
		}
		if status, body := get(t, node.HTTP+"/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "database") {
			t.Errorf("with a full disk /readyz says %d %q, want 503", status, body)
		}
		if status, _ := get(t, node.HTTP+"/healthz", nil); status != http.StatusOK {
			t.Errorf("with a full disk /healthz says %d, want 200: a restart would end the calls", status)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if out, err := create("room-again"); err != nil {
			t.Errorf("after there was room again: %v: %s", err, out)
		}
		for { // an answer is kept for a second
			if status, _ := get(t, node.HTTP+"/readyz", nil); status == http.StatusOK {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("/readyz stays 503 when there is room again")
			}
		}
		wantHealthy(t, node)
	})
}

// wantHealthy asks a node whether it is well, and takes five seconds for an illness.
func wantHealthy(t *testing.T, node *lab.Node) {
	t.Helper()
	for _, path := range []string{"/healthz", "/readyz"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "GET", node.HTTP+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s", path, response.Status)
		}
	}
}

// TestHalfOpenSockets: ten thousand connections that begin something and do not go on, of five sorts. The node serves others meanwhile, and
// lets go of those in the end.
func TestHalfOpenSockets(t *testing.T) {
	t.Parallel()
	sockets := 10_000
	if testing.Short() {
		sockets = 1000
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(sockets)+500 {
		lab.Missing(t, "%d open files are allowed, the test needs %d (%v)", limit.Cur, sockets+500, err)
	}
	node := serve(t, lab.NodeConfig{})
	address := strings.TrimPrefix(node.HTTP, "http://")
	before := openFiles(t, node)
	hello := clientHello(t)
	beginnings := [][]byte{
		nil,
		[]byte("GET / HT"),
		[]byte("POST /v1/signal HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: 500\r\n\r\n{\"messages\":["),
		hello[:len(hello)/2],
		{0x00, 0x03, 0x00, 0x10, 0x21, 0x12, 0xa4, 0x42}, // the first half of a STUN header: Allocate, 16 bytes
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	refused := 0
	for i := range sockets {
		// From many addresses, as an attack would be: 127.0.0.0/8 is all ours.
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}, Timeout: 5 * time.Second}
		c, err := dialer.DialContext(t.Context(), "tcp4", address)
		if err != nil {
			refused++
			continue
		}
		conns = append(conns, c)
		if _, err := c.Write(beginnings[i%len(beginnings)]); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			wantHealthy(t, node)
		}
	}
	t.Logf("%d half-open sockets, %d refused; the node has %d files open and %d MiB resident", len(conns), refused, openFiles(t, node), residentMiB(t, node))
	ctx := within(t, patience)
	a := joinWire(ctx, t, node.HTTP, "busy", "a")
	b := joinWire(ctx, t, node.HTTP, "busy", "b")
	a.send(ctx, message{"type": "command", "seq": 1, "name": "x"})
	b.await(ctx, "command")
	wantHealthy(t, node)
	if mib := residentMiB(t, node); mib > 1024 {
		t.Errorf("the node takes %d MiB", mib)
	}
	// The node gives up on them by itself: none is closed from this side.
	deadline := time.Now().Add(90 * time.Second)
	for openFiles(t, node) > before+50 {
		if time.Now().After(deadline) {
			t.Fatalf("the node still has %d files open, %d before", openFiles(t, node), before)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	wantHealthy(t, node)
}

// clientHello is the first flight of a TLS client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() { _ = tls.Client(client, &tls.Config{ServerName: "localhost"}).Handshake(); client.Close() }()
	buf := make([]byte, 4096)
	n, err := server.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func openFiles(t *testing.T, node *lab.Node) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", node.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func residentMiB(t *testing.T, node *lab.Node) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", node.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize() >> 20
}

// TestClientThatNeverReads: one member of a channel stops reading, while another sends to all. A third gets everything without delay, and
// the node ends the link or the session of the first, with a code.
func TestClientThatNeverReads(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	ctx := within(t, 2*time.Minute)
	deaf := joinWire(ctx, t, node.HTTP, "deaf", "deaf")
	good := joinWire(ctx, t, node.HTTP, "deaf", "good")
	sender := joinWire(ctx, t, node.HTTP, "deaf", "sender")

	var worst time.Duration
	began := time.Now()
	text := strings.Repeat("x", 16<<10)
	gone := false
	seq := 0
	for !gone {
		seq++
		if seq > 3000 {
			t.Fatal("after 3,000 messages of 16 KiB the deaf client is still a member")
		}
		started := time.Now()
		sender.send(ctx, message{"type": "command", "seq": seq, "name": "x", "data": message{"text": text, "n": seq}})
		for got := false; !got; {
			m, err := good.next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			switch m.kind() {
			case "command":
				got = true
			case "peer-left":
				gone = gone || m["peer"] == deaf.peer
			case "error", "bye":
				t.Fatalf("got %v", m)
			}
			if s, ok := m["seq"].(float64); ok && int(s)%16 == 0 {
				good.send(ctx, message{"type": "ack", "seq": int(s)})
			}
		}
		worst = max(worst, time.Since(started))
		if seq%16 == 0 {
			sender.drain(ctx)
		}
		if pause := time.Second/90 - time.Since(started); pause > 0 { // below the rate limit of 100 a second (docs/protocol.md §7)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
	t.Logf("ended after %d messages of 16 KiB; the slowest took %v to the one who reads", seq, worst)
	if worst > 2*time.Second {
		t.Errorf("a message took %v to a client that reads", worst)
	}
	// What the deaf one finds when it reads at last ends with the reason. On a machine that is so busy that a write has been stuck for ten seconds before the mailbox was full, that is another
	// one, or it comes too late to hear it.
	inTime := time.Since(began) < 10*time.Second
	for {
		m, err := deaf.next(ctx)
		if err != nil && inTime {
			t.Errorf("no reason: %v", err)
		}
		if m.kind() == "bye" && m.code() != "mailbox_full" && (inTime || m.code() != "slow_client") {
			t.Errorf("got %v, want mailbox_full", m)
		}
		if err != nil || m.kind() == "bye" {
			break
		}
	}
	wantHealthy(t, node)
}

// TestSlowClientIsToldAndComesBack: two members acknowledge what they do not read, over WebSocket and over SSE. When a write to them has been stuck for ten seconds their links
// end; reading on, they find slow_client, and resume.
func TestSlowClientIsToldAndComesBack(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	ctx := within(t, 2*time.Minute)
	good, sender := joinWire(ctx, t, node.HTTP, "slow", "good"), joinWire(ctx, t, node.HTTP, "slow", "sender")
	socket, stream := dialWire(ctx, t, node.HTTP), dialSSE(ctx, t, node.HTTP, joinMessage("slow", "stream"))
	socket.send(ctx, joinMessage("slow", "socket"))
	type member struct {
		next     func(context.Context) (message, error)
		send     func(context.Context, message) message // returns what the answer to a refused POST says
		peer     string
		secret   string
		received int
	}
	members := []*member{
		{next: socket.next, send: func(ctx context.Context, m message) message { socket.send(ctx, m); return nil }},
		{next: stream.next, send: stream.send},
	}
	await := func(m *member, kind string) message {
		t.Helper()
		for {
			got, err := m.next(ctx)
			if err != nil {
				t.Fatalf("waiting for %s: %v", kind, err)
			}
			if seq, ok := got["seq"].(float64); ok {
				m.received = max(m.received, int(seq))
			}
			if got.kind() == kind {
				return got
			}
		}
	}
	for _, m := range members {
		joined := await(m, "joined")
		m.peer, _ = joined["peer"].(string)
		m.secret, _ = joined["resume"].(map[string]any)["secret"].(string)
	}
	command := func(seq int, text string) {
		t.Helper()
		sender.send(ctx, message{"type": "command", "seq": seq, "name": "x", "data": text})
		good.send(ctx, message{"type": "ack", "seq": good.await(ctx, "command")["seq"]})
	}
	command(1, "the last that they read")
	for _, m := range members {
		await(m, "command")
	}
	text := strings.Repeat("x", 60<<10)
	const last = 110 // more than the buffers of the networks take, less than a link's queue
	for seq := 2; seq <= last; seq++ {
		command(seq, text)
		for _, m := range members {
			m.send(ctx, message{"type": "ack", "seq": m.received + seq - 1})
		}
	}
	for {
		_, metrics := get(t, node.HTTP+"/metrics", nil)
		if strings.Contains(metrics, `madang_links_total{outcome="slow"} 2`) {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("both read nothing, and keep their links")
		}
	}
	if problem := members[1].send(ctx, message{"type": "ping", "t": 1}); problem["code"] != "slow_client" || problem["retry"] != "resume" {
		t.Errorf("a POST to the link got %v", problem)
	}
	for i, m := range members {
		acknowledged := m.received + last - 1
		if bye := await(m, "bye"); bye.code() != "slow_client" || bye["retry"] != "resume" {
			t.Errorf("member %d: got %v, want slow_client", i, bye)
		}
		again := dialWire(ctx, t, node.HTTP)
		again.send(ctx, message{"type": "resume", "peer": m.peer, "secret": m.secret, "received": acknowledged})
		if got := again.await(ctx, "resumed", "bye"); got.kind() != "resumed" {
			t.Errorf("member %d: got %v, want resumed", i, got)
		}
	}
	wantHealthy(t, node)
}

// drain acknowledges what has come for a client that is not interested in it.
func (w *wire) drain(ctx context.Context) {
	w.t.Helper()
	w.send(ctx, message{"type": "ping", "t": 1})
	for {
		m := w.await(ctx, "pong", "peer-left", "error", "bye")
		switch m.kind() {
		case "pong":
			return
		case "error", "bye":
			w.t.Fatalf("got %v", m)
		}
	}
}

// TestMessagesNobodyShouldSend: each is refused with its code, and the node lives.
func TestMessagesNobodyShouldSend(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	first := func(text string) func(context.Context, *wire) {
		return func(ctx context.Context, w *wire) {
			if err := w.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	join := func(change message) func(context.Context, *wire) {
		m := message{"type": "join", "version": 1, "channel": "x", "key": sandboxKey, "instance": "0123456789012345678901"}
		for k, v := range change {
			m[k] = v
		}
		return func(ctx context.Context, w *wire) { w.send(ctx, m) }
	}
	for name, test := range map[string]struct {
		send func(context.Context, *wire)
		code string
	}{
		"not JSON":         {first("hello"), "malformed"},
		"half of JSON":     {first(`{"type":"join"`), "malformed"},
		"an array":         {first(`[]`), "malformed"},
		"deep nesting":     {first(strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000)), "malformed"},
		"no type":          {first(`{}`), ""},
		"something else":   {first(`{"type":"command","seq":1,"name":"x"}`), "join_first"},
		"unknown version":  {join(message{"version": 99}), "version_unsupported"},
		"no credentials":   {join(message{"key": ""}), "credentials_missing"},
		"unknown key":      {join(message{"key": "00000000-0000-0000-0000-000000000000"}), "key_unknown"},
		"not a token":      {join(message{"key": "", "token": "abc"}), "token_malformed"},
		"bad channel name": {join(message{"channel": "a b"}), "invalid_field"},
		"short instance":   {join(message{"instance": "short"}), "invalid_field"},
		"resume of nobody": {first(`{"type":"resume","peer":"p1","secret":"x","received":0}`), "resume_unknown"},
		"too big":          {first(`{"type":"join","channel":"` + strings.Repeat("x", 70<<10) + `"}`), "message_too_big"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, patience)
			w := dialWire(ctx, t, node.HTTP)
			test.send(ctx, w)
			m := w.await(ctx, "bye")
			if test.code != "" && m.code() != test.code {
				t.Errorf("got %v, want the code %s", m, test.code)
			}
			if text, _ := m["message"].(string); text == "" {
				t.Errorf("no sentence in %v", m)
			}
			if _, err := w.next(ctx); err == nil {
				t.Error("something came after bye")
			}
		})
	}
	wantHealthy(t, node)
}

// TestStopDrains: SIGTERM says goodbye to all, and the program ends in time with nothing but success.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{Args: []string{"--drain-timeout", "5s"}})
	ctx := within(t, patience)
	var members []*wire
	for i := range 20 {
		members = append(members, joinWire(ctx, t, node.HTTP, "drain", fmt.Sprint(i)))
	}
	if err := node.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, w := range members {
		if m := w.await(ctx, "bye"); m.code() != "server_draining" {
			t.Errorf("got %v, want server_draining", m)
		}
	}
	select {
	case <-node.Done():
	case <-ctx.Done():
		t.Fatal("the node did not end")
	}
	if err := node.Stop(); err != nil {
		t.Error(err)
	}
	if c, err := net.DialTimeout("tcp4", strings.TrimPrefix(node.HTTP, "http://"), time.Second); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
}
