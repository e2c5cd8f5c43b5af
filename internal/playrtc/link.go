package playrtc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/carrier"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/throttle"
)

// A link is one client's socket, and what the client knows of its channel. It is the channel.Link of one membership, whose messages it numbers and
// acknowledges itself, since its wire does not.
type link struct {
	carrier.Queue

	// Set at construction.
	server  *Server
	socket  *carrier.Socket
	address netip.Addr
	network netip.Prefix // of address, for limits
	origin  string

	// Atomic. Times are since the server's epoch.
	heard    atomic.Int64
	member   atomic.Pointer[channel.Membership]
	ticket   atomic.Pointer[ticket]
	welcomed atomic.Bool // connect has been answered

	// Guarded by server.mu.
	open      bool // has connected
	condemned bool // the sweep has closed it

	// Owned by the reader.
	budget    throttle.Bucket
	seq       uint64 // of the last operation
	connected bool   // connect has come
	roles     bool   // only hosts may remove others and close the channel

	// Owned by the writer.
	acked uint64

	mu      sync.Mutex // guards what follows; nothing blocks under it
	token   string     // of this client, or what it says
	role    auth.Role
	byID    map[string]*other
	byToken map[string]*other
}

// ackEvery is after how many events the mailbox is told that they are written.
const ackEvery = 16

var _ channel.Link = (*link)(nil)

// End implements channel.Link: with the membership ends its token.
func (l *link) End(r *refusal.Refusal) {
	if r.Code == refusal.ChannelClosed || r.Code == refusal.ProjectOff {
		if m := l.member.Load(); m != nil {
			l.server.forget(m.Key)
		}
	}
	l.server.release(l)
	l.Queue.End(r)
}

func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	l := &link{server: s, address: s.cfg.ClientAddress(r), origin: r.Header.Get("Origin"), token: none, byID: map[string]*other{}, byToken: map[string]*other{}}
	l.network = throttle.Network(l.address)
	now := s.now()
	l.heard.Store(int64(now))
	l.budget = throttle.Bucket{Tokens: float64(s.cfg.MessageBurst), At: now}
	l.socket = carrier.NewSocket(&l.Queue, carrier.SocketConfig{
		MaxMessage: maxMessage, MaxSkipped: maxSkipped, Write: l.write, Goodbye: l.goodbye, Tasks: &s.tasks,
	})
	if refused := s.admit(l); refused != nil {
		s.problem(w, refused)
		return
	}
	if l.socket.Accept(w, r) != nil { // the client has been answered
		s.leave(l)
		return
	}
	go l.read()
}

// read handles the client's messages until the socket is over. It is the link's task.
func (l *link) read() {
	s := l.server
	defer s.leave(l)
	var err error
	for {
		err = l.socket.Read(func(frame []byte) {
			if l.member.Load() != nil { // else the time for connect runs, whatever else comes
				l.heard.Store(int64(s.now()))
			}
			if wait, _ := l.budget.Take(s.now(), s.cfg.MessagesPerSecond, float64(s.cfg.MessageBurst), 1); wait > 0 {
				// This wire has no word for it, and loses nothing: the client is read more slowly.
				select {
				case <-time.After(wait):
				case <-s.work.Done():
				}
			}
			if !l.Ending() {
				l.receive(frame)
			}
		})
		if errors.Is(err, carrier.ErrSkipped) {
			continue // ignored: an error would stop the client's health messages, and so end it later
		}
		if err != nil {
			break
		}
	}
	m := l.member.Load()
	switch r := (*refusal.Refusal)(nil); {
	case errors.As(err, &r):
		if m == nil {
			l.End(r)
		} else {
			m.Fail(s.work, r)
		}
	case m == nil:
	case websocket.CloseStatus(err) != -1: // a close frame: it goes on purpose
		m.Leave(s.work)
	default:
		s.mu.Lock()
		if t := l.ticket.Load(); t != nil && t.link == l && s.tickets[t.token] == t {
			s.lost[l] = s.now() + s.cfg.LossGrace
		}
		s.mu.Unlock()
	}
	l.Detach()
	l.socket.Close()
}

// do applies an operation. What fails is a race that was lost: this wire knows no answer to it.
func (l *link) do(op channel.Operation) {
	l.seq++
	l.member.Load().Do(l.server.work, l.seq, false, op)
}

// receive handles one message. Those that make no sense are ignored: every error makes old clients give up.
func (l *link) receive(frame []byte) {
	m, err := parse(frame)
	if l.member.Load() == nil {
		switch {
		case l.connected: // it waits to be admitted, or has been refused
		case err != nil:
			l.End(refusal.New(refusal.Malformed))
		case m.Header.Command == "connect":
			l.connected = true
			l.connect(m)
		}
		return
	}
	if err != nil || m.Header.Token != l.token && m.Header.Token != "" {
		return
	}
	sender := m.Header.Sender.ID
	switch m.Header.Command {
	case "peer_close": // names the peer to remove as its sender
		l.removePeer(sender)
		return
	case "health":
		return
	}
	if sender != l.token {
		return
	}
	switch m.Header.Command {
	case "sdp", "candidate":
		l.relay(m)
	case "ready":
		l.ring(m)
	case "on_ready":
		l.answerRing(m)
	case "userdefined":
		l.command(m)
	case "channel_close":
		l.closeChannel()
	}
}

// connect makes the membership.
func (l *link) connect(m message) {
	s := l.server
	l.mu.Lock()
	if len(m.Header.Token) <= 64 {
		l.token = orNone(m.Header.Token)
	}
	l.mu.Unlock()
	if refused := s.mayAsk(l.network); refused != nil {
		l.End(refused)
		return
	}
	t, refused := s.claim(l, m.Header.Token, m.Data.ChannelID, notNone(string(m.Data.UID)))
	if refused != nil {
		l.End(refused)
		return
	}
	l.ticket.Store(t)
	if err := l.join(t, m); err != nil {
		r := refusal.From(err)
		if r.Code == refusal.Internal && !errors.Is(err, context.Canceled) {
			s.cfg.Logger.Error("connect failed", "address", l.address, "err", err)
		}
		l.End(r)
	}
}

func (l *link) join(t *ticket, m message) error {
	s := l.server
	// The handshake timeout bounds the decision as well: meanwhile the link counts as half open.
	ctx, cancel := context.WithTimeout(s.work, s.cfg.HandshakeTimeout)
	defer cancel()
	c := t.credentials
	c.Channel, c.Address = t.key.Channel, l.address
	if l.origin != "" { // a native application has none here; what it showed REST counts
		c.Origin = l.origin
	}
	c.UID, c.Name = notNone(t.uid), t.userName
	p, _, err := s.cfg.Look(ctx, c)
	if err != nil {
		return err
	}
	if !p.PlayRTC {
		return refusal.New(refusal.PlayrtcOff)
	}
	l.roles = p.PlayRTCRoles
	grant, err := s.cfg.Authorize(ctx, c)
	if err != nil {
		return err
	}
	told, err := json.Marshal(map[string]info{"playrtc": {Env: completeEnv(m.Header.Sender.Env, emptyEnv), UserName: t.userName, Wire: "v3"}})
	if err != nil || len(told) > maxInfo {
		return refusal.Newf(refusal.InvalidField, "sender.env is too large.").With("field", "sender.env").Because(err)
	}
	if former := notNone(m.Data.TargetID); former != "" && !l.roles {
		s.rejoin(former, t.key, c.UID)
	}
	member, err := s.cfg.Channels.Join(s.work, channel.JoinRequest{Grant: grant, Instance: t.instance, Info: told, Address: l.address, Link: l})
	if err != nil {
		return err
	}
	l.member.Store(member)
	l.heard.Store(int64(s.now()))
	s.opened(l)
	return nil
}

// maxInfo is the native protocol's bound of info.
const maxInfo = 4 << 10

// rejoin ends the former membership of a client that comes back from another network, so that it comes as a newcomer. The former token proves nothing, since all
// members know it: the user must be the same, in the same channel. Whoever lies about that does what every member may do anyway (removePeer);
// in a project with roles nobody is believed, and the former membership ends by itself.
func (s *Server) rejoin(former string, key channel.Key, uid string) {
	s.mu.Lock()
	var old *link
	if t := s.tickets[former]; t != nil && t.key == key && notNone(t.uid) == uid {
		old = t.link
	}
	s.mu.Unlock()
	if old == nil {
		return
	}
	if m := old.member.Load(); m != nil {
		m.Fail(s.work, refusal.New(refusal.Replaced))
	}
}

// removePeer takes oneself or another out of the channel.
func (l *link) removePeer(token string) {
	m := l.member.Load()
	if token == l.token {
		m.Leave(l.server.work)
		return
	}
	o := l.find(token)
	if o == nil {
		return
	}
	kick := channel.Kick{Peer: o.id, Ban: new(time.Duration)} // it may come back at once, with a new token
	if l.roles {
		l.do(kick) // the channel asks whether this is a host
		return
	}
	l.server.cfg.Channels.Kick(l.server.work, m.Key, kick)
}

// closeChannel ends the channel for all.
func (l *link) closeChannel() {
	l.mu.Lock()
	host := l.role == auth.RoleHost
	l.mu.Unlock()
	if !l.welcomed.Load() || l.roles && !host { // who waits to be admitted closes nothing
		return
	}
	m := l.member.Load()
	l.server.forget(m.Key) // before anybody is told, since they look at the list then
	l.server.cfg.Channels.Close(l.server.work, m.Key, refusal.ChannelClosed)
}

// Commands to the server of native peers (signalserver.Config.ServerCommand).
const (
	commandPeerClose    = "playrtc.peer_close"    // {"id":TOKEN}
	commandChannelClose = "playrtc.channel_close" // {}
)

// ServerCommand does for a native peer what peer_close and channel_close do for others here: for pages that use our SDK in PlayRTC's way.
func (s *Server) ServerCommand(ctx context.Context, k channel.Key, peer, name string, data json.RawMessage) error {
	if name != commandPeerClose && name != commandChannelClose {
		return refusal.Newf(refusal.InvalidField, "The member to is an empty list, and the server knows no command of this name.").With("field", "to")
	}
	p, err := s.cfg.Project(ctx, k.Project)
	if err != nil {
		return err
	}
	if !p.PlayRTC {
		return refusal.New(refusal.PlayrtcOff)
	}
	snapshot, err := s.cfg.Channels.Inspect(ctx, k)
	if err != nil {
		return err
	}
	var by *channel.Peer
	for _, m := range snapshot.Members {
		if m.Peer.ID == peer {
			by = m.Peer
		}
	}
	switch {
	case by == nil:
		return refusal.New(refusal.NotAdmitted)
	case p.PlayRTCRoles && by.Role != auth.RoleHost:
		return refusal.New(refusal.Forbidden).With("role", string(by.Role))
	case name == commandChannelClose:
		s.forget(k)
		return s.cfg.Channels.Close(ctx, k, refusal.ChannelClosed)
	}
	var target struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &target); err != nil {
		return refusal.Newf(refusal.InvalidField, "data is an object with the id of a peer.").With("field", "data")
	}
	for _, m := range snapshot.Members {
		if Token(m.Peer.ID) == target.ID {
			return s.cfg.Channels.Kick(ctx, k, channel.Kick{Peer: m.Peer.ID, Ban: new(time.Duration)})
		}
	}
	return refusal.New(refusal.PeerNotFound)
}

// find returns a peer that the client knows.
func (l *link) find(token string) *other {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byToken[token]
}
