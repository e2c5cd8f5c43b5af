package signalclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/signalserver"
)

const patience = 30 * time.Second

// serve starts the real signaling server behind a real HTTP server.
func serve(t *testing.T, ccfg channel.Config, scfg signalserver.Config) (url string) {
	t.Helper()
	channels, err := channel.New(ccfg)
	if err != nil {
		t.Fatal(err)
	}
	scfg.Channels = channels
	scfg.Authorize = func(_ context.Context, c auth.Credentials) (auth.Grant, error) {
		if c.Token == "" && c.Key == "" {
			return auth.Grant{}, refusal.New(refusal.CredentialsMissing)
		}
		return auth.Grant{Project: "p1", Channel: c.Channel, UID: c.UID, Name: c.Name}, nil
	}
	server, err := signalserver.New(scfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	edge, stopEdge := context.WithCancel(ctx)
	var running, edges sync.WaitGroup
	running.Go(func() { channels.Run(ctx) })
	edges.Go(func() { server.Run(edge) })
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		stopEdge()
		edges.Wait()
		cancel()
		running.Wait()
		front.Close()
	})
	return front.URL + "/v1/signal"
}

// A listener hands what a session hears to its test.
type listener struct {
	t     *testing.T
	heard chan signal.ServerMessage
}

func listen(t *testing.T) *listener {
	return &listener{t, make(chan signal.ServerMessage, 10_000)}
}

func (l *listener) hear(m signal.ServerMessage) { l.heard <- m }

// until waits for a message of the type that ok takes.
func until[M signal.ServerMessage](l *listener, ok func(M) bool) M {
	l.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-l.heard:
			if m, is := got.(M); is && (ok == nil || ok(m)) {
				return m
			}
			if bye, is := got.(*signal.Bye); is {
				l.t.Fatalf("bye: %+v", bye)
			}
		case <-deadline:
			var zero M
			l.t.Fatalf("waited in vain for %T", zero)
		}
	}
}

func join(t *testing.T, l *listener, cfg signalclient.Config) *signalclient.Session {
	t.Helper()
	cfg.Join.Channel = "demo"
	if cfg.Token == nil {
		cfg.Join.Key = "key"
	}
	if cfg.Backoff == (signalclient.Backoff{}) {
		cfg.Backoff = signalclient.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond}
	}
	cfg.OnMessage = l.hear
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := signalclient.Join(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func send(t *testing.T, s *signalclient.Session, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Send(ctx, &signal.Command{Name: "n", Data: fmt.Append(nil, n)}); err != nil {
		t.Fatal(err)
	}
}

// Whatever is lost, in both directions and again and again: everything arrives, in order and once.
func TestLostLinksLoseNothing(t *testing.T) {
	for _, transport := range []string{signalclient.WebSocket, signalclient.SSE} {
		t.Run(transport, func(t *testing.T) {
			url := serve(t, channel.Config{}, signalserver.Config{MessagesPerSecond: 1e6, MessageBurst: 1e6, JoinsPerSecond: 1e6, JoinBurst: 1e6})
			la, lb := listen(t), listen(t)
			a := join(t, la, signalclient.Config{URL: url, Transport: transport})
			b := join(t, lb, signalclient.Config{URL: url, Transport: transport})
			until[*signal.PeerJoined](la, nil)
			const count = 300
			for n := range count {
				send(t, a, n)
				if n%10 == 4 {
					a.Drop()
				}
				if n%10 == 8 {
					b.Drop()
				}
			}
			for n := range count {
				m := until[*signal.FromCommand](lb, nil)
				if m.From != a.Peer() || string(m.Data) != fmt.Sprint(n) {
					t.Fatalf("got %s of %s, want %d", m.Data, m.From, n)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := a.Call(ctx, &signal.Command{Name: "last"}); err != nil {
				t.Error(err)
			}
			until(lb, func(m *signal.FromCommand) bool { return m.Name == "last" })
			if err := a.Leave(ctx); err != nil {
				t.Error(err)
			}
			if m := until[*signal.PeerLeft](lb, nil); m.Peer != a.Peer() || m.Reason != "left" {
				t.Errorf("got %+v: nobody was seen to leave before", m)
			}
			if a.Links() < 2 || b.Links() < 2 {
				t.Errorf("%d and %d links", a.Links(), b.Links())
			}
		})
	}
}

// A tap sees the first message of each SSE link, and may cut the answer off.
type tap struct {
	mu     sync.Mutex
	firsts []map[string]any
	cut    func(n int, first map[string]any) bool // the n-th link's answer is lost, but for the link's name
}

func (p *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Accept") != "text/event-stream" {
		return http.DefaultTransport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	var batch struct{ Messages []map[string]any }
	if err := json.Unmarshal(body, &batch); err != nil || len(batch.Messages) != 1 {
		return nil, fmt.Errorf("the first request is %q (%v)", body, err)
	}
	p.mu.Lock()
	p.firsts = append(p.firsts, batch.Messages[0])
	n := len(p.firsts)
	p.mu.Unlock()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && p.cut != nil && p.cut(n, batch.Messages[0]) {
		res.Body = &cutBody{ReadCloser: res.Body}
	}
	return res, err
}

// A cutBody ends after the first event, which is the link's name.
type cutBody struct {
	io.ReadCloser
	seen []byte
}

func (c *cutBody) Read(p []byte) (int, error) {
	_, after, found := bytes.Cut(c.seen, []byte("data: "))
	if found && bytes.Contains(after, []byte("\n\n")) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:1])
	c.seen = append(c.seen, p[:n]...)
	return n, err
}

func TestResumeSecretRotates(t *testing.T) {
	url := serve(t, channel.Config{}, signalserver.Config{MessagesPerSecond: 1e6, MessageBurst: 1e6})
	l, p := listen(t), &tap{}
	s := join(t, l, signalclient.Config{URL: url, Transport: signalclient.SSE, HTTPClient: &http.Client{Transport: p}})
	joined := until[*signal.Joined](l, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const resumes = 4
	for n := 1; n <= resumes; n++ {
		s.Drop()
		for s.Links() < n+1 { // until it has noticed
			if err := s.Call(ctx, &signal.Update{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Call(ctx, &signal.Update{}); err != nil { // a word on the new link: the old secret is worth nothing now
			t.Fatal(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var secrets []string
	for _, m := range p.firsts[1:] {
		secret, _ := m["secret"].(string)
		if m["type"] != "resume" || m["peer"] != s.Peer() || slices.Contains(secrets, secret) {
			t.Errorf("got %v after %q", m, secrets)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) != resumes || secrets[0] != joined.Resume.Secret {
		t.Errorf("got %d resumes, the first with %q", len(secrets), secrets[0])
	}
}

// The answer to a resume may be lost, several times: the secret that the client has goes on working, and nobody sees a departure.
func TestLostAnswerToAResumeCostsNothing(t *testing.T) {
	url := serve(t, channel.Config{}, signalserver.Config{})
	la, lb := listen(t), listen(t)
	b := join(t, lb, signalclient.Config{URL: url})
	p := &tap{cut: func(n int, _ map[string]any) bool { return 2 <= n && n <= 4 }}
	a := join(t, la, signalclient.Config{URL: url, Transport: signalclient.SSE, HTTPClient: &http.Client{Transport: p}})
	peer := a.Peer()
	send(t, a, 1)
	until[*signal.FromCommand](lb, nil)
	a.Drop()
	send(t, a, 2)
	if m := until[*signal.FromCommand](lb, nil); string(m.Data) != "2" {
		t.Errorf("got %s", m.Data)
	}
	send(t, b, 3)
	if m := until[*signal.FromCommand](la, nil); string(m.Data) != "3" || a.Peer() != peer {
		t.Errorf("got %s, as %s", m.Data, a.Peer())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.firsts[1:] {
		if m["type"] != "resume" {
			t.Errorf("it came back with %v", m["type"])
		}
	}
	if len(p.firsts) < 5 {
		t.Errorf("%d links", len(p.firsts))
	}
}

// A session that the server has given up is joined anew: with the same instance, so under the same peer id, and with a fresh token.
func TestExpiredSessionIsJoinedAnewWithAFreshToken(t *testing.T) {
	url := serve(t, channel.Config{ResumeWindow: 50 * time.Millisecond}, signalserver.Config{})
	l := listen(t)
	var mu sync.Mutex
	tokens := 0
	down := false
	gate := roundTripper(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return nil, errors.New("the network is down")
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	s := join(t, l, signalclient.Config{URL: url, Transport: signalclient.SSE, HTTPClient: &http.Client{Transport: gate}, Token: func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		tokens++
		return fmt.Sprint("token", tokens), nil
	}})
	watcher := listen(t)
	join(t, watcher, signalclient.Config{URL: url})
	until[*signal.Joined](l, nil)
	peer := s.Peer()
	mu.Lock()
	down = true
	mu.Unlock()
	s.Drop()
	until(watcher, func(m *signal.PeerLeft) bool { return m.Peer == peer && m.Reason == "lost" })
	mu.Lock()
	down = false
	mu.Unlock()
	if again := until[*signal.Joined](l, nil); again.Peer != peer {
		t.Errorf("came back as %s, was %s", again.Peer, peer)
	}
	mu.Lock()
	defer mu.Unlock()
	if tokens != 2 {
		t.Errorf("fetched %d tokens, want one for each join", tokens)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCallsAndSendsEndWithTheirSession(t *testing.T) {
	url := serve(t, channel.Config{}, signalserver.Config{})
	l := listen(t)
	s := join(t, l, signalclient.Config{URL: url})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := s.Call(ctx, &signal.Signal{To: "pnobody", Data: json.RawMessage(`1`)})
	if !errors.Is(err, refusal.New(refusal.PeerNotFound)) {
		t.Errorf("got %v", err)
	}
	if err := s.Send(ctx, &signal.Leave{}); err == nil {
		t.Error("Send takes a message that has no number")
	}
	if s.Err() != nil {
		t.Errorf("got %v while it lives", s.Err())
	}
	s.Close()
	s.Close()
	if err := s.Call(ctx, &signal.Update{}); !errors.Is(err, signalclient.ErrClosed) || !errors.Is(s.Err(), signalclient.ErrClosed) {
		t.Errorf("got %v and %v, want ErrClosed", err, s.Err())
	}
}

func TestJoinReturnsWhatTheServerSays(t *testing.T) {
	url := serve(t, channel.Config{PeersPerChannel: 1}, signalserver.Config{})
	join(t, listen(t), signalclient.Config{URL: url})
	for _, transport := range []string{signalclient.WebSocket, signalclient.SSE} {
		for code, j := range map[refusal.Code]signal.Join{
			refusal.ChannelFull:        {Channel: "demo", Key: "key"},
			refusal.CredentialsMissing: {Channel: "demo"},
			refusal.InvalidField:       {Channel: "a b", Key: "key"},
		} {
			_, err := signalclient.Join(t.Context(), signalclient.Config{URL: url, Join: j, Transport: transport})
			var no *signalclient.Refused
			if !errors.As(err, &no) || no.Code != string(code) || no.Message == "" || no.Retry == "" {
				t.Errorf("%s: got %v, want %s", transport, err, code)
			}
		}
	}
	for _, bad := range []signalclient.Config{{URL: "ftp://x"}, {URL: "://"}, {URL: url, Transport: "pigeon"}} {
		if _, err := signalclient.Join(t.Context(), bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// A script is a server that misbehaves: each link gets the next answer, and the last one is repeated.
func script(t *testing.T, answers ...func(w http.ResponseWriter, r *http.Request)) (url string, links func() int) {
	var mu sync.Mutex
	n := 0
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		mu.Lock()
		answer := answers[min(n, len(answers)-1)]
		n++
		mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

const joinedText = `{"type":"joined","peer":"p1","uid":"","role":"host","channel":{},"peers":[],"ice":{"servers":[]},"resume":{"secret":"s","windowMs":1},"pingMs":%d}`

// stream answers with events, and then holds the link or ends it.
func stream(hold bool, events ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, e := range events {
			io.WriteString(w, "data: "+e+"\n\n")
		}
		http.NewResponseController(w).Flush()
		if hold {
			<-r.Context().Done()
		}
	}
}

func TestServersThatMisbehaveAtTheJoin(t *testing.T) {
	problem := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"code":"rate_limited","detail":"Slowly."}`)
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		"a problem document":        {problem, "429 rate_limited: Slowly."},
		"a page":                    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502); io.WriteString(w, "<html>") }, "502"},
		"nothing":                   {stream(false), "EOF"},
		"no name of the link":       {stream(true, `{"type":"pong","ack":0}`), "name of the link"},
		"not JSON":                  {stream(true, `hello`), "read server message"},
		"an answer to no question":  {stream(true, `{"type":"link","link":"l"}`, `{"type":"pong","ack":0}`), "Pong"},
		"an answer that ends early": {stream(false, `{"type":"link","link":"l"}`), "EOF"},
	} {
		url, _ := script(t, c.answer)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := signalclient.Join(ctx, signalclient.Config{URL: url, Transport: signalclient.SSE, Join: signal.Join{Channel: "demo"}})
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want something about %q", name, err, c.want)
		}
	}
}

// Neither absurd numbers nor gaps end a session: the link is given up, and another one tried.
func TestServersThatMisbehaveLater(t *testing.T) {
	link := `{"type":"link","link":"l"}`
	for name, answers := range map[string][]func(http.ResponseWriter, *http.Request){
		"absurd ping interval": {stream(false, link, fmt.Sprintf(joinedText, int64(1<<62)))},
		"a gap":                {stream(true, link, fmt.Sprintf(joinedText, 60000), `{"type":"ok","seq":2,"re":1}`)},
		"not JSON":             {stream(true, link, fmt.Sprintf(joinedText, 60000), `}`)},
		"more acknowledged":    {stream(false, link, fmt.Sprintf(joinedText, 60000), `{"type":"ack","seq":1000000}`)},
	} {
		resumed := make(chan struct{})
		var once sync.Once
		url, _ := script(t, append(answers, func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() { close(resumed) })
			stream(true, link, `{"type":"resumed","secret":"s2","received":0}`)(w, r)
		})...)
		s := join(t, listen(t), signalclient.Config{URL: url, Transport: signalclient.SSE})
		select {
		case <-resumed:
		case <-s.Done():
			t.Errorf("%s: the session ended: %v", name, s.Err())
		case <-time.After(patience):
			t.Errorf("%s: no resume", name)
		}
		s.Close()
	}
}

// A server that says when to come back is not asked before, and Close does not wait for it.
func TestRetryAfterIsHeeded(t *testing.T) {
	link := `{"type":"link","link":"l"}`
	var asked [3]time.Time
	var mu sync.Mutex
	at := func(i int) { mu.Lock(); defer mu.Unlock(); asked[i] = time.Now() }
	url, _ := script(t,
		stream(false, link, fmt.Sprintf(joinedText, 60000)),
		func(w http.ResponseWriter, _ *http.Request) {
			at(0)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		func(w http.ResponseWriter, r *http.Request) {
			at(1)
			stream(false, link, `{"type":"bye","code":"server_draining","message":"","retry":"resume","retryAfterMs":9223372036854775807}`)(w, r)
			at(2)
		})
	s := join(t, listen(t), signalclient.Config{URL: url, Transport: signalclient.SSE})
	deadline := time.Now().Add(patience)
	for {
		mu.Lock()
		over, waited := !asked[2].IsZero(), asked[1].Sub(asked[0])
		mu.Unlock()
		if over {
			if waited < time.Second {
				t.Errorf("it came back after %v, and was told to wait a second", waited)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it did not come back")
		}
		select {
		case <-s.Done():
			t.Fatal(s.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.Close() // in the middle of a day's pause
}
