// Package playrtc is the edge for PlayRTC clients, versions 2.x: the REST API and the channel socket that their SDKs speak, translated to the operations and events
// of the channels, so that a PlayRTC page and a native peer meet in one channel without either knowing. docs/playrtc.md is for those who run it.
//
//	srv, err := playrtc.New(playrtc.Config{Channels: channels, Look: authorizer.Look, …})
//	mux.Handle(playrtc.Path+"/", srv)
//	go srv.Run(ctx) // when ctx ends, sockets are closed, and Run returns when all are
//
// OnPeer has to be the channel service's Config.OnPeer, and ServerCommand signalserver's.
//
// # Identity
//
// PlayRTC's token is three things: the name of a peer, its id for others, and what opens the socket. Here the name is computed from the
// peer's id in the core ([Token]), so that native peers have one too. The peer's id comes from an instance that the server makes when a client asks for a token;
// the token itself opens one socket, once.
//
// # Memory
//
// Which channels PlayRTC clients have made, and tokens that are not used yet, live in memory, as channels do. Both are bounded.
package playrtc

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/throttle"
)

// Path is where a Server has to be mounted. Clients take any base that ends with it.
const Path = "/v3/playrtc"

// A TURN is the one relay that a PlayRTC client is told of. It is reached over UDP, and is its STUN server too.
type TURN struct {
	Host     string // name or address
	Port     uint16
	Username string
	Password string
}

// Config says with whom a Server works, and its limits, whose zero values mean the defaults.
type Config struct {
	// Channels is where the peers are. Required.
	Channels *channel.Service
	// Look says for whom a key speaks, and Authorize whether its bearer may join. Required.
	Look      func(ctx context.Context, c auth.Credentials) (auth.Project, *auth.Definition, error)
	Authorize func(ctx context.Context, c auth.Credentials) (auth.Grant, error)
	// Project says what a project allows. Required.
	Project func(ctx context.Context, id string) (auth.Project, error)
	// TURN makes credentials for a peer. Required.
	TURN func(project, peer string, lifetime time.Duration) (TURN, error)
	// ClientAddress tells where a request comes from. Default: the request's RemoteAddr.
	ClientAddress func(r *http.Request) netip.Addr
	// BaseURL tells where the client reaches this server: "https://rtc.example.com". Default: the request's Host.
	BaseURL func(r *http.Request) string

	SilenceTimeout   time.Duration // of a socket without a message; clients send one every 30 s; default 65 s
	HandshakeTimeout time.Duration // for connect; default 10 s
	WriteTimeout     time.Duration // for one message to be taken by the client's network; default 10 s
	LossGrace        time.Duration // from the loss of a socket without a close frame to the end of the membership; default 5 s
	TokenLifetime    time.Duration // of a token that opens no socket; default 1 h
	ChannelLifetime  time.Duration // of a channel that nobody is in; default 24 h
	DrainTimeout     time.Duration // for closing sockets when Run's context has ended; default 5 s

	MessagesPerSecond float64 // of one socket, which is read more slowly above it; default 100
	MessageBurst      int     // default 400
	RequestsPerSecond float64 // of REST and of connects, from one address; default 20
	RequestBurst      int     // default 200
	HalfOpenSockets   int     // from one address, that have not connected to a channel yet; default 256
	MaxChannels       int     // of one project, made by PlayRTC clients; default 10,000
	MaxTokens         int     // in all projects; default 200,000

	Logger *slog.Logger // default: none
}

func (c Config) withDefaults() (Config, error) {
	if c.Channels == nil || c.Look == nil || c.Authorize == nil || c.Project == nil || c.TURN == nil {
		return c, errors.New("playrtc: Channels, Look, Authorize, Project and TURN are required")
	}
	if c.ClientAddress == nil {
		c.ClientAddress = func(r *http.Request) netip.Addr {
			ap, _ := netip.ParseAddrPort(r.RemoteAddr) // an invalid address is on no list
			return ap.Addr().Unmap().WithZone("")
		}
	}
	if c.BaseURL == nil {
		c.BaseURL = func(r *http.Request) string {
			if r.TLS != nil {
				return "https://" + r.Host
			}
			return "http://" + r.Host
		}
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&c.SilenceTimeout, 65 * time.Second}, {&c.HandshakeTimeout, 10 * time.Second}, {&c.WriteTimeout, 10 * time.Second}, {&c.LossGrace, 5 * time.Second},
		{&c.TokenLifetime, time.Hour}, {&c.ChannelLifetime, 24 * time.Hour}, {&c.DrainTimeout, 5 * time.Second}} {
		if *d.value < 0 {
			return c, errors.New("playrtc: a duration is negative")
		}
		*d.value = cmp.Or(*d.value, d.def)
	}
	c.MessagesPerSecond = cmp.Or(c.MessagesPerSecond, 100)
	c.RequestsPerSecond = cmp.Or(c.RequestsPerSecond, 20)
	for _, n := range []struct {
		value *int
		def   int
	}{{&c.MessageBurst, 400}, {&c.RequestBurst, 200}, {&c.HalfOpenSockets, 256}, {&c.MaxChannels, 10_000}, {&c.MaxTokens, 200_000}} {
		if *n.value < 0 {
			return c, errors.New("playrtc: a limit is negative")
		}
		*n.value = cmp.Or(*n.value, n.def)
	}
	if c.MessagesPerSecond < 0 || c.RequestsPerSecond < 0 {
		return c, errors.New("playrtc: a limit is negative")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// A Server serves the URLs below Path. It is safe for concurrent use.
type Server struct {
	cfg    Config
	epoch  time.Time // times in links are counted from it
	work   context.Context
	cancel context.CancelFunc // ends work: the last operations on the channels

	budgets *throttle.Budgets // of REST requests and connects

	tasks sync.WaitGroup // goroutines of links; Add under mu while not closed, or by a task

	mu       sync.Mutex // guards what follows; taken before a queue's lock; nothing blocks under it
	closed   bool       // no new links
	links    map[*link]struct{}
	lost     map[*link]time.Duration // without a socket, and when their membership ends
	halfOpen *throttle.Slots
	rooms    map[channel.Key]*room
	listed   map[string]map[*room]struct{} // rooms that are listed, by project
	tickets  map[string]*ticket            // by token
	swept    time.Duration                 // when rooms and tickets were looked through
}

// New returns a Server that takes requests at once. Run has to be called, so that its links have deadlines and end.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, epoch: time.Now(), links: map[*link]struct{}{}, lost: map[*link]time.Duration{}, halfOpen: throttle.NewSlots(cfg.HalfOpenSockets),
		budgets: throttle.NewBudgets(cfg.RequestsPerSecond, cfg.RequestBurst), rooms: map[channel.Key]*room{}, listed: map[string]map[*room]struct{}{}, tickets: map[string]*ticket{}}
	s.work, s.cancel = context.WithCancel(context.Background()) // ended by Run
	return s, nil
}

// Run watches the deadlines of all links until ctx ends. Then it closes them, and returns when no goroutine of a link is left.
func (s *Server) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.sweepInterval())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.sweep()
			continue
		case <-ctx.Done():
		}
		break
	}
	s.mu.Lock()
	s.closed = true
	for l := range s.links {
		l.Queue.End(refusal.New(refusal.ServerDraining))
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() { s.tasks.Wait(); close(gone) }()
	deadline := time.NewTimer(s.cfg.DrainTimeout)
	defer deadline.Stop()
	select {
	case <-gone:
	case <-deadline.C:
		s.mu.Lock()
		for l := range s.links {
			l.socket.Abort()
		}
		s.mu.Unlock()
		s.cancel()
		<-gone
	}
	s.cancel()
	return nil
}

// Stats count what the server holds.
type Stats struct {
	Sockets  int // open
	Channels int // that PlayRTC clients have made
	Tokens   int // not used yet, or of members
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Sockets: len(s.links), Tokens: len(s.tickets)}
	for _, rooms := range s.listed {
		st.Channels += len(rooms)
	}
	return st
}

// ServeHTTP serves the REST API, nag and the channel socket.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// On every answer: a page cannot read an error without it. Which pages a key serves is the key's business, and there are no cookies to steal.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Accept, TDCProjectKey, TDCProjectId, TDCLicense")
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	path := strings.Split(strings.TrimPrefix(r.URL.Path, Path+"/"), "/")
	if len(path) == 1 && path[0] == "channel" && r.Method == http.MethodGet {
		s.serveSocket(w, r)
		return
	}
	s.serveREST(w, r, path)
}

// admit counts a new link in, or says why not. A link that is counted in is one task; leave ends it.
func (s *Server) admit(l *link) *refusal.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refusal.New(refusal.ServerDraining).After(time.Second)
	}
	if !s.halfOpen.Take(l.network) {
		return refusal.Newf(refusal.RateLimited, "Too many sockets from this address have not connected to a channel yet.").After(time.Second)
	}
	s.links[l] = struct{}{}
	s.tasks.Add(1)
	return nil
}

func (s *Server) opened(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.openedLocked(l)
}

func (s *Server) openedLocked(l *link) {
	if !l.open {
		l.open = true
		s.halfOpen.Give(l.network)
	}
}

// leave undoes admit.
func (s *Server) leave(l *link) {
	s.mu.Lock()
	s.openedLocked(l)
	delete(s.links, l)
	s.mu.Unlock()
	s.tasks.Done()
}

// mayAsk takes one request from the address's budget.
func (s *Server) mayAsk(network netip.Prefix) *refusal.Refusal {
	if wait := s.budgets.Take(network, s.now()); wait > 0 {
		return refusal.Newf(refusal.RateLimited, "Too many requests from this address.").After(wait)
	}
	return nil
}

// now is the time since epoch.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// sweepInterval is fine enough for the shortest timeout.
func (s *Server) sweepInterval() time.Duration {
	c := s.cfg
	return max(10*time.Millisecond, min(time.Second, min(c.SilenceTimeout, c.HandshakeTimeout, c.WriteTimeout, c.LossGrace, c.TokenLifetime, c.ChannelLifetime)/4))
}

// sweep enforces the deadlines of all links, and forgets addresses, channels and tokens whose time has passed.
func (s *Server) sweep() {
	now := s.now()
	var silent, over []*link
	s.mu.Lock()
	for l := range s.links {
		quiet := now - time.Duration(l.heard.Load())
		switch {
		case l.condemned:
		case l.IsCut() || l.socket.Stuck(s.cfg.WriteTimeout):
			l.condemned = true
			l.socket.Abort()
		case !l.open && quiet > s.cfg.HandshakeTimeout:
			l.Queue.End(refusal.New(refusal.HandshakeTimeout))
		case l.welcomed.Load() && quiet > s.cfg.SilenceTimeout:
			silent = append(silent, l)
		}
	}
	for l, at := range s.lost {
		if now >= at {
			delete(s.lost, l)
			over = append(over, l)
		}
	}
	s.mu.Unlock()
	s.budgets.Forget(now)
	for _, l := range silent {
		if m := l.member.Load(); m != nil {
			m.Lost(s.work)
		}
	}
	for _, l := range over {
		l.member.Load().Leave(s.work)
	}
	if now-s.swept >= min(time.Minute, s.cfg.TokenLifetime/4, s.cfg.ChannelLifetime/4) {
		s.swept = now
		s.sweepRooms()
	}
}
