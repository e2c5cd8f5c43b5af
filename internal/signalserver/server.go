// Package signalserver speaks the native signaling protocol (docs/protocol.md) to clients, over WebSocket and over SSE with POST, and
// translates between its messages (signal) and the operations and events of the channels (channel).
//
//	srv, err := signalserver.New(signalserver.Config{Channels: channels, Authorize: authorize, ICE: ice})
//	mux.Handle("/v1/signal", srv)
//	go srv.Run(ctx) // when ctx ends, clients are told to come back, and Run returns when all links are closed
//
// The http.Server around it should have a ReadHeaderTimeout: connections that never send a request are its to end. WebSocket links need a
// ResponseWriter that can be hijacked, SSE links one that can be flushed; wrappers offer them by Unwrap.
//
// An idle WebSocket link costs one goroutine and no timer: one sweep watches the deadlines of all links.
package signalserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/throttle"
)

// Config says with whom a Server works, and its limits (docs/protocol.md §7), whose zero values mean the defaults.
type Config struct {
	// Channels is where the peers are. Required.
	Channels *channel.Service
	// Authorize decides about a join. It is called on the link's goroutine, many at a time, and must end when ctx does. Its errors
	// should be *refusal.Refusal; others become internal. Required.
	Authorize func(ctx context.Context, c auth.Credentials) (auth.Grant, error)
	// ICE makes ICE servers with credentials for a peer that has come from an address. It is called at every join, admission and resume and again at 3/4 of the lifetime that it gave, many at a
	// time, and must not block for long. nil: clients get an empty list.
	ICE func(project, peer string, from netip.Addr) (signal.ICE, error)
	// ServerCommand takes commands that a client sends to the server itself: with an empty list of receivers. It is called on the link's goroutine, and may be called twice
	// for the same command when a link is lost meanwhile. Its errors should be *refusal.Refusal; for a name that it does not know, invalid_field. nil: it knows none.
	ServerCommand func(ctx context.Context, k channel.Key, peer, name string, data json.RawMessage) error
	// ClientAddress tells where a request comes from: a proxy's word counts only if the proxy is trusted, which is for the
	// caller to know. Default: the request's RemoteAddr.
	ClientAddress func(r *http.Request) netip.Addr

	PingInterval     time.Duration // that clients are told; default 15 s
	IdleTimeout      time.Duration // of a link without a message from the client; default 45 s
	HandshakeTimeout time.Duration // for the first message; default 10 s
	WriteTimeout     time.Duration // for one message to be taken by the client's network, and then once more for the reason why the link ends; default 10 s
	DrainTimeout     time.Duration // for saying goodbye when Run's context has ended; default 5 s

	MessagesPerSecond float64 // from one client; default 100
	MessageBurst      int     // default 400
	JoinsPerSecond    float64 // joins and resumes from one address; default 20
	JoinBurst         int     // default 200
	HalfOpenLinks     int     // from one address, that have not joined yet; default 256
	OpenBodies        int     // from one address, bodies of POST requests that are being read; default 64

	Logger *slog.Logger // default: none
}

func (c Config) withDefaults() (Config, error) {
	if c.Channels == nil || c.Authorize == nil {
		return c, errors.New("signalserver: Channels and Authorize are required")
	}
	if c.ICE == nil {
		c.ICE = func(string, string, netip.Addr) (signal.ICE, error) { return signal.ICE{}, nil }
	}
	if c.ServerCommand == nil {
		c.ServerCommand = func(context.Context, channel.Key, string, string, json.RawMessage) error {
			return refusal.Newf(refusal.InvalidField, "The member to is an empty list.").With("field", "to")
		}
	}
	if c.ClientAddress == nil {
		c.ClientAddress = remoteAddress
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&c.PingInterval, 15 * time.Second}, {&c.IdleTimeout, 45 * time.Second}, {&c.HandshakeTimeout, 10 * time.Second},
		{&c.WriteTimeout, 10 * time.Second}, {&c.DrainTimeout, 5 * time.Second}} {
		if *d.value < 0 {
			return c, errors.New("signalserver: a timeout is negative")
		}
		*d.value = cmp.Or(*d.value, d.def)
	}
	c.MessagesPerSecond = cmp.Or(c.MessagesPerSecond, 100)
	c.MessageBurst = cmp.Or(c.MessageBurst, 400)
	c.JoinsPerSecond = cmp.Or(c.JoinsPerSecond, 20)
	c.JoinBurst = cmp.Or(c.JoinBurst, 200)
	c.HalfOpenLinks = cmp.Or(c.HalfOpenLinks, 256)
	c.OpenBodies = cmp.Or(c.OpenBodies, 64)
	if c.MessagesPerSecond < 0 || c.MessageBurst < 0 || c.JoinsPerSecond < 0 || c.JoinBurst < 0 || c.HalfOpenLinks < 0 || c.OpenBodies < 0 {
		return c, errors.New("signalserver: a limit is negative")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func remoteAddress(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// A Server serves the URL /v1/signal. It is safe for concurrent use.
type Server struct {
	cfg    Config
	epoch  time.Time // times in links are counted from it: 8 bytes, atomic, monotonic
	work   context.Context
	cancel context.CancelFunc // ends work: the last operations on the channels
	counts counts
	joins  *throttle.Budgets

	tasks sync.WaitGroup // goroutines of links; Add under mu while not closed, or by a task

	mu       sync.Mutex // guards what follows; taken before a link's mu; nothing blocks under it
	closed   bool       // no new links
	links    map[*link]struct{}
	named    map[string]*link // SSE links by their name
	halfOpen *throttle.Slots
	bodies   *throttle.Slots // of POST requests
}

type counts struct {
	accepted, refused, timedOut, slow, limited atomic.Uint64
}

// New returns a Server that takes requests at once. Run has to be called, so that its links have deadlines and end.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, epoch: time.Now(), links: map[*link]struct{}{}, named: map[string]*link{}, halfOpen: throttle.NewSlots(cfg.HalfOpenLinks),
		bodies: throttle.NewSlots(cfg.OpenBodies), joins: throttle.NewBudgets(cfg.JoinsPerSecond, cfg.JoinBurst)}
	s.work, s.cancel = context.WithCancel(context.Background()) // ended by Run
	return s, nil
}

// Run watches the deadlines of all links until ctx ends. Then it refuses new links, says bye with server_draining on the others, gives them DrainTimeout to
// hear it, and returns when no goroutine of a link is left.
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
		l.End(refusal.New(refusal.ServerDraining).After(time.Second))
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
			l.abort()
		}
		s.mu.Unlock()
		s.cancel()
		<-gone
	}
	s.cancel()
	return nil
}

// Stats count what the server holds and has done.
type Stats struct {
	WebSocket int // open links
	SSE       int
	HalfOpen  int // of them: not joined yet
	Bodies    int // of POST requests that are being read

	Accepted uint64 // links ever
	Refused  uint64 // requests answered with an HTTP error
	TimedOut uint64 // links without a message for too long, or without a first one
	Slow     uint64 // links ended because the client did not read
	Limited  uint64 // messages and joins over a rate limit
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	c := &s.counts
	st := Stats{Accepted: c.accepted.Load(), Refused: c.refused.Load(), TimedOut: c.timedOut.Load(), Slow: c.slow.Load(), Limited: c.limited.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.SSE = len(s.named)
	st.WebSocket = len(s.links) - st.SSE
	st.HalfOpen, st.Bodies = s.halfOpen.Taken(), s.bodies.Taken()
	return st
}

// ServeHTTP serves GET (WebSocket), POST (SSE and its messages) and OPTIONS (CORS preflight).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// Any page may speak to us: which pages a key serves is the key's business, and there are no cookies to steal.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "no-store")
	switch {
	case r.Method == http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && headerHas(r.Header, "Upgrade", "websocket"):
		s.serveWebSocket(w, r)
	case r.Method == http.MethodPost:
		s.servePost(w, r)
	case r.Method == http.MethodGet:
		h.Set("Upgrade", "websocket")
		s.problem(w, http.StatusUpgradeRequired, refusal.Newf(refusal.Malformed, "Open a WebSocket with the subprotocol %s here, or POST.", signal.Subprotocol))
	default:
		h.Set("Allow", "GET, POST, OPTIONS")
		s.problem(w, 0, refusal.New(refusal.MethodNotAllowed))
	}
}

// headerHas reports whether a header that is a list of tokens has the token.
func headerHas(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// admitLink counts a new link in, or says why not. A link that is counted in is one task; closeLink ends it.
func (s *Server) admitLink(l *link) *refusal.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refusal.New(refusal.ServerDraining).After(time.Second)
	}
	if !s.halfOpen.Take(l.network) {
		s.counts.limited.Add(1)
		return refusal.Newf(refusal.RateLimited, "Too many links from this address have not joined yet.").After(time.Second)
	}
	s.links[l] = struct{}{}
	if l.name != "" {
		s.named[l.name] = l
	}
	s.tasks.Add(1)
	s.counts.accepted.Add(1)
	return nil
}

// opened says that the link has joined.
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

// closeLink undoes admitLink.
func (s *Server) closeLink(l *link) {
	s.mu.Lock()
	s.openedLocked(l)
	delete(s.links, l)
	if l.name != "" {
		delete(s.named, l.name)
	}
	s.mu.Unlock()
	s.tasks.Done()
}

// mayJoin takes one join from the address's budget.
func (s *Server) mayJoin(network netip.Prefix) *refusal.Refusal {
	if wait := s.joins.Take(network, s.now()); wait > 0 {
		s.counts.limited.Add(1)
		return refusal.Newf(refusal.RateLimited, "Too many joins from this address.").After(wait)
	}
	return nil
}

// now is the time since epoch.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// sweepInterval is fine enough for the shortest timeout.
func (s *Server) sweepInterval() time.Duration {
	c := s.cfg
	return max(10*time.Millisecond, min(time.Second, min(c.IdleTimeout, c.HandshakeTimeout, c.WriteTimeout)/4))
}

// sweep enforces the deadlines of all links: first message, silence, stuck write, age of ICE credentials. It also forgets addresses that have joined
// nothing for a while.
func (s *Server) sweep() {
	now := s.now()
	var renew []*link
	s.mu.Lock()
	for l := range s.links {
		silent := now - time.Duration(l.heard.Load())
		switch {
		case l.ended != 0:
			if now-l.ended > s.cfg.WriteTimeout { // it has not read why
				l.abort()
			}
		case l.IsCut() || l.stuck(s.cfg.WriteTimeout):
			s.counts.slow.Add(1)
			l.ended = now
			l.Cut()
		case !l.open && silent > s.cfg.HandshakeTimeout:
			if !l.Ending() {
				s.counts.timedOut.Add(1)
				l.End(refusal.New(refusal.HandshakeTimeout))
			}
		case l.open && silent > s.cfg.IdleTimeout:
			s.counts.timedOut.Add(1)
			l.ended = now
			l.abort()
		default:
			if at := l.iceDue.Load(); at != 0 && int64(now) >= at {
				renew = append(renew, l)
			}
		}
	}
	s.mu.Unlock()
	s.joins.Forget(now)
	for _, l := range renew {
		l.renewICE()
	}
}

// body reads a POST's body. What is being read counts against its address: until the last byte nothing is known but that somebody holds memory of ours.
func (s *Server) body(w http.ResponseWriter, r *http.Request, network netip.Prefix) ([]byte, error) {
	s.mu.Lock()
	taken := s.bodies.Take(network)
	s.mu.Unlock()
	rc := http.NewResponseController(w)
	if !taken {
		s.counts.limited.Add(1)
		_ = rc.SetReadDeadline(time.Now()) // net/http reads the rest of a small body before it answers, for as long as that takes
		return nil, refusal.Newf(refusal.RateLimited, "Too many requests from this address at the same time.").After(time.Second)
	}
	defer func() {
		s.mu.Lock()
		s.bodies.Give(network)
		s.mu.Unlock()
	}()
	_ = rc.SetReadDeadline(time.Now().Add(s.cfg.HandshakeTimeout)) // not every writer can; those of HTTP/2 bound it by flow control
	body, err := readBody(w, r, maxBody)
	if err == nil {
		_ = rc.SetReadDeadline(time.Time{})
	}
	return body, err
}

// readBody reads a request's body up to a limit.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return nil, refusal.Newf(refusal.MessageTooBig, "The body is larger than %d KiB.", limit>>10)
	case err != nil:
		return nil, refusal.Newf(refusal.Malformed, "The body could not be read.").Because(err)
	}
	return b, nil
}
