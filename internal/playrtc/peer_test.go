package playrtc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/playrtc"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/signalserver"
	"github.com/madang-rtc/madang/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for something that must happen. Reaching it is a failure.
const patience = 20 * time.Second

// A server is a node's signaling part: both edges over the real channels, projects and judge, behind a real HTTP server.
type server struct {
	t        *testing.T
	url      string
	channels *channel.Service
	projects *project.Service
	stop     func()
}

func start(t *testing.T, change ...func(*playrtc.Config)) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	db, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	projects, err := project.New(ctx, project.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	authorizer, err := auth.New(auth.Config{Directory: projects.Directory(), Development: true, PublicOrigins: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	var srv *playrtc.Server
	channels, err := channel.New(channel.Config{OnPeer: func(k channel.Key, peer string) { srv.OnPeer(k, peer) }})
	if err != nil {
		t.Fatal(err)
	}
	cfg := playrtc.Config{
		Channels: channels, Look: authorizer.Look, Authorize: authorizer.Join, Project: projects.Directory().Project,
		TURN: func(project, peer string, lifetime time.Duration) (playrtc.TURN, error) {
			return playrtc.TURN{Host: "203.0.113.7", Port: 3478, Username: project + ":" + peer, Password: "secret"}, nil
		},
		// Tests come from one address, all at once.
		RequestsPerSecond: 10_000, RequestBurst: 10_000,
	}
	for _, f := range change {
		f(&cfg)
	}
	if srv, err = playrtc.New(cfg); err != nil {
		t.Fatal(err)
	}
	native, err := signalserver.New(signalserver.Config{Channels: channels, Authorize: authorizer.Join, ServerCommand: srv.ServerCommand, JoinsPerSecond: 10_000, JoinBurst: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(playrtc.Path+"/", srv)
	mux.Handle("/v1/signal", native)
	s := &server{t: t, channels: channels, projects: projects}
	h := httptest.NewServer(mux)
	s.url = h.URL
	edge, stopEdges := context.WithCancel(ctx)
	var running, edges sync.WaitGroup
	running.Go(func() { channels.Run(ctx) })
	edges.Go(func() { srv.Run(edge) })
	edges.Go(func() { native.Run(edge) })
	s.stop = sync.OnceFunc(func() {
		stopEdges()
		edges.Wait()
		cancel()
		running.Wait()
		h.Close()
		db.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// newProject makes a project that accepts PlayRTC clients, with a key for a page.
func (s *server) newProject(t *testing.T, change func(*project.Settings), origins ...string) (id, key string) {
	t.Helper()
	settings := project.DefaultSettings()
	settings.PlayRTC = true
	if change != nil {
		change(&settings)
	}
	p, err := s.projects.Create(t.Context(), "", "shop", settings)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err = s.projects.AddKey(t.Context(), p.ID, auth.BrowserKey, "page", origins)
	if err != nil {
		t.Fatal(err)
	}
	return p.ID, key
}

type object = map[string]any

// call sends a REST request as the web SDK does. header overrides.
func (s *server) call(t *testing.T, method, path string, body any, header ...string) (status int, h http.Header, answer []byte) {
	t.Helper()
	var b []byte
	switch body := body.(type) {
	case nil:
	case string:
		b = []byte(body)
	default:
		b, _ = json.Marshal(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+playrtc.Path+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json; charset=UTF-8")
	r.Header.Set("TDCProjectKey", project.SandboxKey)
	r.Header.Set("Origin", "https://page.example")
	for i := 0; i < len(header); i += 2 {
		if r.Header.Del(header[i]); header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	// No redirects: a browser would not follow one after a preflight.
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%s %s: %d without Access-Control-Allow-Origin: the page cannot read it", method, path, res.StatusCode)
	}
	return res.StatusCode, res.Header, answer
}

// must is a call that succeeds as the web SDK sees it: 200, a JSON body, no error member.
func (s *server) must(t *testing.T, method, path string, body any, header ...string) (answer object) {
	t.Helper()
	status, _, b := s.call(t, method, path, body, header...)
	if err := json.Unmarshal(b, &answer); status != 200 || err != nil || answer["error"] != nil {
		t.Fatalf("%s %s: got %d %s", method, path, status, b)
	}
	return answer
}

// fails is a call that fails with a status and a code.
func (s *server) fails(t *testing.T, status int, code, method, path string, body any, header ...string) {
	t.Helper()
	got, _, b := s.call(t, method, path, body, header...)
	var answer struct {
		Error struct{ Code, Message any }
	}
	if err := json.Unmarshal(b, &answer); err != nil || got != status || answer.Error.Code != code {
		t.Errorf("%s %s: got %d %s, want %d and the code %s", method, path, got, b, status, code)
	}
	if _, ok := answer.Error.Message.(string); !ok {
		t.Errorf("%s %s: the error has no message: %s", method, path, b)
	}
}

// at walks into an answer.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, p := range path {
		o, ok := v.(object)
		if !ok {
			t.Fatalf("no %s in %v", strings.Join(path, "."), v)
		}
		v = o[p]
	}
	return v
}

func str(t *testing.T, v any, path ...string) string {
	t.Helper()
	s, ok := at(t, v, path...).(string)
	if !ok {
		t.Fatalf("%s is not a string in %v", strings.Join(path, "."), v)
	}
	return s
}

// A kind is an old client, with its peculiarities.
type kind struct {
	android bool
	env     string
	rest    []string // headers
}

var (
	web = kind{env: `{"platformType":"mac","browser":{"name":"chrome","version":"52.0.2743.82"},"sdk":{"type":"web","version":"2.2.15"},"networkType":"wired"}`}
	// android is Android 2.2.12: it matches commands exactly, and throws where a string is missing.
	android = kind{android: true, env: `{"platformType":"android","browser":{"name":"","version":""},"sdk":{"type":"native","version":"2.2.12"},"networkType":"wf"}`,
		rest: []string{"TDCProjectKey", "", "TDCProjectId", project.SandboxKey, "TDCLicense", "1", "Origin", "", "Referer", "https://app.example/android"}}
)

// A peer is a scripted old client. Like them it gives up (here: fails the test) when the server's messages are not as it needs them.
type peer struct {
	t       *testing.T
	s       *server
	kind    kind
	uid     string
	token   string
	channel string
	url     string
	answer  object // of R1 or R2
	conn    *websocket.Conn
	seen    map[string]bool // peers of the channel

	mu     sync.Mutex
	heard  []heard
	next   int
	change chan struct{} // closed and replaced at every message
	over   error         // the socket has ended
}

type heard struct {
	raw     []byte
	command string
	msg     object
}

func body(uid string) object {
	return object{"peer": object{"uid": uid, "userName": "Name of " + uid},
		"env": object{"os": "mac", "device": "chrome", "version": "", "carrier": "", "country": "KR", "networkType": "wired"}, "nag": object{"userExpires": "86000"}}
}

// prepare is createChannel, or with a channel connectChannel, up to the event connectChannel.
func (s *server) prepare(t *testing.T, k kind, channelID, uid string, header ...string) *peer {
	t.Helper()
	p := &peer{t: t, s: s, kind: k, uid: uid, change: make(chan struct{}), seen: map[string]bool{}}
	b := body(uid)
	header = append(append([]string{}, k.rest...), header...)
	if channelID == "" {
		b["channel"] = object{"channelName": "stand-up", "channelType": "webrtc"}
		p.answer = s.must(t, "POST", "/channels/channel", b, header...)
	} else {
		p.answer = s.must(t, "PUT", "/channels/channel/"+channelID, b, header...)
	}
	p.channel, p.token, p.url = str(t, p.answer, "channelId"), str(t, p.answer, "token", "tokenId"), str(t, p.answer, "configuration", "channelUrl")
	return p
}

// dial opens the socket, and nothing else.
func (p *peer) dial(header ...string) *peer {
	p.t.Helper()
	h := http.Header{}
	if !p.kind.android {
		h.Set("Origin", "https://page.example")
	}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, p.url, &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		p.t.Fatalf("%s: %v", p.uid, err)
	}
	conn.SetReadLimit(-1)
	p.conn = conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				p.mu.Lock()
				p.over = err
				close(p.change)
				p.change = make(chan struct{})
				p.mu.Unlock()
				return
			}
			p.hear(b)
		}
	}()
	p.t.Cleanup(func() { conn.CloseNow(); <-done })
	return p
}

// enter goes on until the client is in the channel, and sends health as the web SDK does.
func (s *server) enter(t *testing.T, k kind, channelID, uid string) *peer {
	t.Helper()
	p := s.prepare(t, k, channelID, uid).dial()
	p.connect(nil)
	p.expect("connect", nil)
	p.say("health", "req", object{"sender": object{"type": "peer", "id": "none"}}, nil)
	return p
}

// say sends a message with the header's usual members.
func (p *peer) say(command, commandType string, header object, body object) {
	h := object{"command": command, "commandType": commandType, "token": p.token, "expireTime": "none", "broadcast": "none",
		"sender": object{"type": "peer", "id": p.token}, "receiver": object{"type": "server", "id": "none"}}
	for k, v := range header {
		h[k] = v
	}
	if body == nil {
		body = object{}
	}
	b, err := json.Marshal(object{"header": h, "body": body})
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(b)
}

func (p *peer) send(frame []byte) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.conn.Write(ctx, websocket.MessageText, frame); err != nil {
		p.t.Errorf("%s writes: %v", p.uid, err)
	}
}

func (p *peer) connect(data object) {
	d := object{"uid": p.uid, "channelId": p.channel}
	if p.uid == "" {
		d["uid"] = "none"
	}
	for k, v := range data {
		d[k] = v
	}
	p.say("connect", "req", object{"sender": object{"type": "peer", "id": "none", "env": json.RawMessage(p.kind.env)}}, object{"data": d})
}

// hear takes a message as the old client would.
func (p *peer) hear(raw []byte) {
	var m object
	if err := json.Unmarshal(raw, &m); err != nil {
		p.t.Errorf("%s got what is not JSON: %q", p.uid, raw)
		return
	}
	command, err := p.check(m)
	if err != nil {
		p.t.Errorf("%s (%v) would have thrown: %v: %s", p.uid, p.kind.android, err, raw)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, heard{raw, command, m})
	close(p.change)
	p.change = make(chan struct{})
}

// commandTypes are those that Android matches.
var commandTypes = map[string]string{"connect": "res", "on_connect": "req", "ready": "res", "on_ready": "req", "sdp": "req", "candidate": "req",
	"close": "req", "on_close": "req", "on_userdefined": "req"}

// check reads a message as the old client does. p.seen is its table of peers.
func (p *peer) check(m object) (command string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	get := func(path string) any {
		var v any = m
		for k := range strings.SplitSeq(path, ".") {
			v = v.(object)[k]
		}
		return v
	}
	text := func(path string) string {
		s, ok := get(path).(string)
		if !ok {
			panic(path + " is no string")
		}
		return s
	}
	command = text("header.command")
	if text("header.commandType") == "res" {
		// The web SDK looks at the code of every res before anything else; 20002 would be an error to it.
		if code := text("body.header.code"); code == "20002" {
			panic("a res with 20002")
		} else if code != "20001" {
			return command, nil
		}
	}
	want, known := commandTypes[command]
	if !known {
		panic("unknown command: they are in lower case, and nothing else is sent")
	}
	if text("header.commandType") != want {
		panic("commandType is not " + want)
	}
	if text("header.receiver.id") != p.token || text("header.receiver.type") != "peer" || text("header.token") != p.token {
		panic("not for this client")
	}
	known = true
	other := func(o any) {
		e := o.(object)["env"].(object)
		for _, s := range []any{o.(object)["id"], o.(object)["uid"], e["platformType"], e["sdk"].(object)["type"], e["sdk"].(object)["version"], e["browser"].(object)["name"]} {
			if _, ok := s.(string); !ok {
				panic("a peer without its strings")
			}
		}
		if id := o.(object)["id"].(string); p.seen[id] {
			panic("told twice of " + id)
		} else if len(id) != 17 || !strings.HasPrefix(id, "TKS") {
			panic("no room for this id in a data header: " + id)
		} else {
			p.seen[id] = true
		}
		if o.(object)["uid"] == "" {
			panic("uid is empty")
		}
	}
	switch command {
	case "connect":
		for _, o := range get("body.data.others").([]any) {
			other(o)
		}
	case "on_connect":
		o := get("body.data.others").([]any)
		if len(o) != 1 {
			panic("only the first one is read")
		}
		other(o[0])
	case "ready":
		known = p.seen[text("body.data.targetId")]
		if s := text("body.data.status"); s != "yes" && s != "no" {
			panic("status " + s)
		}
	case "on_ready":
		known = p.seen[text("body.data.targetId")] // Android looks its peer up
		text("body.data.uid")
	case "sdp":
		known = p.seen[text("header.sender.id")]
		text("body.data.type")
		text("body.data.sdp")
	case "candidate":
		known = p.seen[text("header.sender.id")]
		text("body.data.candidate")
	case "on_userdefined":
		known = p.seen[text("body.data.targetId")]
		_ = get("body.data")
	case "close":
		text("body.data.channelId")
	case "on_close":
		known = p.seen[text("body.data.targetId")]
		delete(p.seen, text("body.data.targetId"))
		switch r := text("body.data.reason"); r {
		case "disconnect", "timeout", "reconnect":
		default:
			panic("reason " + r)
		}
	}
	if !known {
		panic("about a peer that it does not know")
	}
	return command, nil
}

// expect waits for the next message with the command and condition, and skips those before it.
func (p *peer) expect(command string, ok func(object) bool) object {
	p.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		for ; p.next < len(p.heard); p.next++ {
			if h := p.heard[p.next]; h.command == command && (ok == nil || ok(h.msg)) {
				p.next++
				p.mu.Unlock()
				return h.msg
			}
		}
		change, over := p.change, p.over
		p.mu.Unlock()
		if over != nil {
			p.t.Fatalf("%s: the socket ended (%v) before %s came; heard %s", p.uid, over, command, p.dump())
		}
		select {
		case <-change:
		case <-timeout.C:
			p.t.Fatalf("%s waited in vain for %s; heard %s", p.uid, command, p.dump())
		}
	}
}

// expectOver waits for the end of the socket.
func (p *peer) expectOver() {
	p.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		change, over := p.change, p.over
		p.mu.Unlock()
		if over != nil {
			return
		}
		select {
		case <-change:
		case <-timeout.C:
			p.t.Fatalf("%s: the socket is open; heard %s", p.uid, p.dump())
		}
	}
}

func (p *peer) dump() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, h := range p.heard {
		fmt.Fprintf(&b, "\n\t%s", h.raw)
	}
	return b.String()
}

// count counts what was heard so far.
func (p *peer) count(command string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.heard {
		if h.command == command {
			n++
		}
	}
	return n
}

func about(token string) func(object) bool {
	return func(m object) bool { return m["body"].(object)["data"].(object)["targetId"] == token }
}

func from(token string) func(object) bool {
	return func(m object) bool { return m["header"].(object)["sender"].(object)["id"] == token }
}

// others are the ids in a connect or on_connect.
func others(m object) (ids []string) {
	for _, o := range m["body"].(object)["data"].(object)["others"].([]any) {
		ids = append(ids, o.(object)["id"].(string))
	}
	return ids
}

// command sends a user command to all, or to some.
func (p *peer) command(data any, targets ...string) {
	h := object{"broadcast": "yes", "receiver": object{"type": "server", "id": "none", "targets": []any{}}}
	if len(targets) > 0 {
		list := []any{}
		for _, t := range targets {
			list = append(list, object{"id": t})
		}
		h = object{"broadcast": "no", "receiver": object{"type": "server", "id": "none", "targets": list}}
	}
	p.say("userdefined", "req", h, object{"data": object{"channelId": p.channel, "userData": data}})
}

// echo makes sure that the server has handled all that p has sent, and written all that q had to get before: a command goes from p to q.
func (p *peer) echo(q *peer) {
	p.t.Helper()
	mark := fmt.Sprintf("mark %d", time.Now().UnixNano())
	p.command(mark, q.token)
	q.expect("on_userdefined", func(m object) bool { return m["body"].(object)["data"].(object)["userData"] == mark })
}

// A native peer is a session of the Go client that keeps what it hears.
type native struct {
	*signalclient.Session
	t      *testing.T
	mu     sync.Mutex
	heard  []signal.ServerMessage
	next   int
	change chan struct{}
}

func (s *server) native(t *testing.T, channelID string, change ...func(*signalclient.Config)) *native {
	t.Helper()
	n := &native{t: t, change: make(chan struct{})}
	cfg := signalclient.Config{URL: s.url + "/v1/signal", Join: signal.Join{Channel: channelID, Key: project.SandboxKey, UID: "nat"}, OnMessage: n.hear,
		Header: http.Header{"Origin": {"https://page.example"}}}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if n.Session, err = signalclient.Join(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func (n *native) hear(m signal.ServerMessage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, m)
	close(n.change)
	n.change = make(chan struct{})
}

func (n *native) token() string { return playrtc.Token(n.Peer()) }

func (n *native) send(m signal.ClientMessage) {
	n.t.Helper()
	if err := n.Send(n.t.Context(), m); err != nil {
		n.t.Fatal(err)
	}
}

func expect[M signal.ServerMessage](n *native, ok func(M) bool) M {
	n.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		n.mu.Lock()
		for ; n.next < len(n.heard); n.next++ {
			if m, is := n.heard[n.next].(M); is && (ok == nil || ok(m)) {
				n.next++
				n.mu.Unlock()
				return m
			}
		}
		change := n.change
		n.mu.Unlock()
		select {
		case <-change:
		case <-timeout.C:
			var zero M
			n.t.Fatalf("%s waited in vain for %T", n.Peer(), zero)
			return zero
		}
	}
}
