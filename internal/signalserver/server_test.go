package signalserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/signalserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for something that must happen. Reaching it is a failure.
const patience = 20 * time.Second

// A server is the real thing, behind a real HTTP server.
type server struct {
	t        *testing.T
	url      string // of /v1/signal
	channels *channel.Service
	signal   *signalserver.Server
	http     *httptest.Server
	stop     func() // ends everything and waits; may be called twice
}

// authorize lets everybody in with the key "key". The token "user:NAME" or "user:NAME:ROLE" vouches for NAME.
func authorize(_ context.Context, c auth.Credentials) (auth.Grant, error) {
	g := auth.Grant{Project: "p1", Channel: c.Channel, UID: c.UID, Name: c.Name}
	var claims struct{ UID, Role string }
	switch {
	case c.Token != "":
		if json.Unmarshal([]byte(c.Token), &claims) != nil {
			return auth.Grant{}, refusal.New(refusal.TokenMalformed)
		}
		g.UID, g.Role, g.Authenticated = claims.UID, auth.Role(claims.Role), true
	case c.Key == "":
		return auth.Grant{}, refusal.New(refusal.CredentialsMissing)
	case c.Key != "key":
		return auth.Grant{}, refusal.New(refusal.KeyUnknown)
	case c.Origin == "https://evil.example":
		return auth.Grant{}, refusal.New(refusal.OriginForbidden)
	}
	return g, nil
}

func token(uid string, role auth.Role) string {
	b, _ := json.Marshal(struct{ UID, Role string }{uid, string(role)})
	return string(b)
}

func start(t *testing.T, ccfg channel.Config, scfg signalserver.Config) *server {
	t.Helper()
	channels, err := channel.New(ccfg)
	if err != nil {
		t.Fatal(err)
	}
	scfg.Channels = channels
	if scfg.Authorize == nil {
		scfg.Authorize = authorize
	}
	if scfg.ICE == nil {
		scfg.ICE = func(project, peer string, _ netip.Addr) (signal.ICE, error) {
			return signal.ICE{Servers: []signal.ICEServer{{URLs: []string{"turn:127.0.0.1:3478"}, Username: project + "/" + peer, Credential: "c"}},
				ExpiresAtMs: time.Now().Add(time.Hour).UnixMilli()}, nil
		}
	}
	srv, err := signalserver.New(scfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	edge, stopEdge := context.WithCancel(ctx)
	var running, edges sync.WaitGroup
	running.Go(func() { channels.Run(ctx) })
	edges.Go(func() { srv.Run(edge) })
	s := &server{t: t, channels: channels, signal: srv, http: httptest.NewServer(srv)}
	s.url = s.http.URL + "/v1/signal"
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			stopEdge()
			edges.Wait()
			cancel()
			running.Wait()
			s.http.Close()
		})
	}
	t.Cleanup(s.stop)
	return s
}

// A client is a session that keeps what it hears, for tests to wait for.
type client struct {
	*signalclient.Session
	t      *testing.T
	name   string
	joined *signal.Joined // the latest

	mu     sync.Mutex
	heard  []signal.ServerMessage
	change chan struct{} // closed and replaced at every message
	next   int           // of heard, for expect
}

type option func(*signalclient.Config)

func as(name string) option {
	return func(c *signalclient.Config) { c.Join.Name = name; c.Join.UID = name }
}
func withToken(uid string, role auth.Role) option {
	return func(c *signalclient.Config) { c.Join.Key, c.Join.Token = "", token(uid, role) }
}
func ringing(c *signalclient.Config) { c.Join.Ring = true }
func over(transport string) option   { return func(c *signalclient.Config) { c.Transport = transport } }
func instance(i string) option       { return func(c *signalclient.Config) { c.Join.Instance = i } }

func (s *server) tryJoin(t *testing.T, ch string, opts ...option) (*client, error) {
	t.Helper()
	c := &client{t: t, change: make(chan struct{})}
	cfg := signalclient.Config{URL: s.url, Join: signal.Join{Channel: ch, Key: "key"}, OnMessage: c.hear,
		Backoff: signalclient.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond}}
	for _, o := range opts {
		o(&cfg)
	}
	c.name = cfg.Join.Name
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	c.Session, err = signalclient.Join(ctx, cfg)
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

func (s *server) join(t *testing.T, ch string, opts ...option) *client {
	t.Helper()
	c, err := s.tryJoin(t, ch, opts...)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	return c
}

func (c *client) hear(m signal.ServerMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j, ok := m.(*signal.Joined); ok {
		c.joined = j
	}
	c.heard = append(c.heard, m)
	close(c.change)
	c.change = make(chan struct{})
}

// expect waits for the next message of the type and condition, and skips those before it.
func expect[M signal.ServerMessage](c *client, ok func(M) bool) M {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		for ; c.next < len(c.heard); c.next++ {
			if m, is := c.heard[c.next].(M); is && (ok == nil || ok(m)) {
				c.next++
				c.mu.Unlock()
				return m
			}
		}
		change := c.change
		c.mu.Unlock()
		select {
		case <-change:
		case <-timeout.C:
			var zero M
			c.t.Fatalf("%s (%s) waited in vain for %T; heard %s", c.name, c.Peer(), zero, c.dump())
			return zero
		}
	}
}

func (c *client) dump() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := ""
	for _, m := range c.heard {
		b, _ := signal.AppendServer(nil, m, 0)
		out += "\n\t" + string(b)
	}
	return out
}

// never fails if a message of the type and condition has been heard.
func never[M signal.ServerMessage](c *client, ok func(M) bool) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.heard {
		if m, is := h.(M); is && (ok == nil || ok(m)) {
			b, _ := signal.AppendServer(nil, m, 0)
			c.t.Errorf("%s heard %s", c.name, b)
		}
	}
}

func (c *client) call(m signal.ClientMessage) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Call(ctx, m)
}

// must calls and fails the test on any error.
func (c *client) must(m signal.ClientMessage) {
	c.t.Helper()
	if err := c.call(m); err != nil {
		c.t.Fatalf("%s: %T: %v", c.name, m, err)
	}
}

func (c *client) leave() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Leave(ctx); err != nil {
		c.t.Fatalf("%s: leave: %v", c.name, err)
	}
}

func wantCode(t *testing.T, err error, code refusal.Code) {
	t.Helper()
	if !errors.Is(err, refusal.New(code)) {
		t.Errorf("got %v, want %s", err, code)
	}
}

// ended waits for the end of the session and checks why.
func (c *client) ended(code refusal.Code) *signalclient.Refused {
	c.t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		c.t.Fatalf("%s: the session did not end", c.name)
	}
	wantCode(c.t, c.Err(), code)
	var r *signalclient.Refused
	errors.As(c.Err(), &r)
	return r
}

// transports are both links; every test of the protocol runs over each.
func transports(t *testing.T, f func(t *testing.T, transport option)) {
	for _, tr := range []string{signalclient.WebSocket, signalclient.SSE} {
		t.Run(tr, func(t *testing.T) { f(t, over(tr)) })
	}
}

func TestThreePeersMeetAndTalk(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a := s.join(t, "demo", as("A"), tr)
		b := s.join(t, "demo", as("B"), tr)
		c := s.join(t, "demo", as("C"), tr)

		if a.joined.Role != "host" || b.joined.Role != "speaker" || c.joined.Role != "speaker" {
			t.Errorf("roles: %s %s %s, want host speaker speaker", a.joined.Role, b.joined.Role, c.joined.Role)
		}
		if got := len(a.joined.Peers); got != 0 {
			t.Errorf("A found %d peers, want none", got)
		}
		if got := len(c.joined.Peers); got != 2 || c.joined.Peers[0].ID != a.Peer() || c.joined.Peers[1].Name != "B" {
			t.Errorf("C found %+v, want A and B", c.joined.Peers)
		}
		if ice := c.joined.ICE; len(ice.Servers) != 1 || ice.Servers[0].Username != "p1/"+c.Peer() {
			t.Errorf("ICE servers %+v", ice)
		}
		seen := expect(a, func(m *signal.PeerJoined) bool { return m.Peer.ID == b.Peer() }).Peer
		if mirror := b.joined.Peers[0]; seen.Polite == mirror.Polite || seen.Offer || !mirror.Offer {
			t.Errorf("A sees %+v, B sees %+v: want opposite polite, and the newcomer offers", seen, mirror)
		}

		b.must(&signal.Signal{To: c.Peer(), Data: json.RawMessage(`{"description":{"sdp":"v=0"}}`)})
		if got := expect[*signal.FromSignal](c, nil); got.From != b.Peer() || string(got.Data) != `{"description":{"sdp":"v=0"}}` {
			t.Errorf("C got %+v", got)
		}
		never[*signal.FromSignal](a, nil)

		b.must(&signal.Command{Name: "madang.chat", Data: json.RawMessage(`{"text":"hi"}`)})
		for _, x := range []*client{a, c} {
			if got := expect[*signal.FromCommand](x, nil); got.From != b.Peer() || got.To != nil {
				t.Errorf("%s got %+v", x.name, got)
			}
		}
		a.must(&signal.Command{Name: "x", To: []string{c.Peer()}})
		if got := expect[*signal.FromCommand](c, nil); got.From != a.Peer() || len(got.To) != 1 {
			t.Errorf("C got %+v", got)
		}
		never(b, func(m *signal.FromCommand) bool { return true })

		c.leave()
		for _, x := range []*client{a, b} {
			if got := expect[*signal.PeerLeft](x, nil); got.Peer != c.Peer() || got.Reason != "left" {
				t.Errorf("%s got %+v", x.name, got)
			}
		}
	})
}

func TestLostLinkIsResumedUnseen(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a := s.join(t, "demo", as("A"), tr)
		b := s.join(t, "demo", as("B"), tr)
		for i := range 20 {
			if i%3 == 0 {
				b.Drop()
			}
			a.must(&signal.Signal{To: b.Peer(), Data: json.RawMessage(`"x"`)})
			b.must(&signal.Signal{To: a.Peer(), Data: json.RawMessage(`"y"`)})
			expect[*signal.FromSignal](b, nil)
			expect[*signal.FromSignal](a, nil)
		}
		never[*signal.PeerLeft](a, nil)
		if b.Links() < 2 {
			t.Errorf("B used %d links: nothing was resumed", b.Links())
		}
	})
}
