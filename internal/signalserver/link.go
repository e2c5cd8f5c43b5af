package signalserver

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/carrier"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/throttle"
)

// A link is one client's connection, over either wire. It belongs to one membership at most, for which it is the channel.Link.
type link struct {
	carrier.Queue

	// Set at construction.
	server  *Server
	address netip.Addr
	network netip.Prefix // of address, for limits
	origin  string
	name    string // SSE: the name by which POSTs find it; WebSocket: empty
	// abort closes the connection at once, without goodbye. It does not block. It is called with server.mu held, or by a task of the link.
	abort func()
	// stuck reports whether one write has taken longer than a limit.
	stuck func(limit time.Duration) bool

	// Atomic. Times are since the server's epoch.
	heard  atomic.Int64 // when the client was heard last, or the link was opened
	iceDue atomic.Int64 // when fresh ICE servers have to be sent; 0: never
	member atomic.Pointer[channel.Membership]

	// Guarded by server.mu.
	open  bool          // has joined
	ended time.Duration // since the server's epoch: when the sweep has ended it; 0: it has not

	// Guarded by reading: one message at a time.
	reading sync.Mutex
	budget  throttle.Bucket
}

func (s *Server) newLink(address netip.Addr, origin string) *link {
	l := &link{server: s, address: address, network: throttle.Network(address), origin: origin}
	now := s.now()
	l.heard.Store(int64(now))
	l.budget = throttle.Bucket{Tokens: float64(s.cfg.MessageBurst), At: now}
	return l
}

// detach ends the link's part in the membership, after the last message was read.
func (l *link) detach() {
	l.Detach()
	if m := l.member.Load(); m != nil {
		m.LinkLost()
	}
}

// encode turns an item into bytes.
func (l *link) encode(dst []byte, it carrier.Item) ([]byte, error) {
	m, err := l.message(it.Event)
	if err != nil {
		return nil, err
	}
	return signal.AppendServer(dst, m, it.Seq)
}

func encodeBye(dst []byte, r *refusal.Refusal) ([]byte, error) {
	return signal.AppendServer(dst, &signal.Bye{Reason: reason(r)}, 0)
}

// receive handles one message of the client. It returns what ended the link, if something did; the client is told on the link
// already. data is not kept. Calls must not overlap (reading).
func (l *link) receive(ctx context.Context, data []byte) *refusal.Refusal {
	now := l.server.now()
	l.heard.Store(int64(now))
	cfg := &l.server.cfg
	wait, broke := l.budget.Take(now, cfg.MessagesPerSecond, float64(cfg.MessageBurst), float64(cfg.MessageBurst))
	if wait > 0 {
		l.server.counts.limited.Add(1)
		if broke {
			return l.fail(ctx, refusal.New(refusal.RateLimited).After(wait))
		}
	}
	e, err := signal.ParseClient(data)
	m := l.member.Load()
	if m == nil {
		if err != nil {
			return l.fail(ctx, refusal.From(err))
		}
		return l.first(ctx, e.Message)
	}
	if err != nil {
		r := refusal.From(err)
		switch {
		case e.Seq > 0:
			return over(m.Do(ctx, e.Seq, false, channel.Refused{Refusal: r}))
		case r.Code == refusal.UnknownType:
			return over(m.Refuse(ctx, r))
		}
		return l.fail(ctx, r)
	}
	if wait > 0 && e.Seq > 0 {
		return over(m.Do(ctx, e.Seq, false, channel.Refused{Refusal: refusal.New(refusal.RateLimited).After(wait)}))
	}
	if c, ok := e.Message.(*signal.Command); ok && c.To != nil && len(c.To) == 0 {
		if err := cfg.ServerCommand(ctx, m.Key, m.Peer, c.Name, c.Data); err != nil {
			return over(m.Do(ctx, e.Seq, false, channel.Refused{Refusal: refusal.From(err)}))
		}
	}
	if op, ok := operation(e.Message); ok {
		return over(m.Do(ctx, e.Seq, e.Reply, op))
	}
	switch msg := e.Message.(type) {
	case *signal.Ping:
		return over(m.Ping(ctx, msg.T, msg.Ack))
	case *signal.Ack:
		return over(m.Ack(ctx, msg.Seq))
	case *signal.Leave:
		return over(m.Leave(ctx))
	case *signal.ICERequest:
		return over(m.Do(ctx, e.Seq, e.Reply, channel.PostNote{Note: iceNote(l.ice(m.Key.Project, m.Peer))}))
	}
	return over(m.Refuse(ctx, refusal.New(refusal.AlreadyJoined))) // join or resume
}

// over turns the error of an operation into what ended the link. The channel or the server is gone then, and the link with it.
func over(err error) *refusal.Refusal {
	if err == nil {
		return nil
	}
	return refusal.New(refusal.LinkUnknown).Because(err)
}

// fail ends the link because of what the client did.
func (l *link) fail(ctx context.Context, r *refusal.Refusal) *refusal.Refusal {
	if m := l.member.Load(); m == nil || m.Fail(ctx, r) != nil {
		l.End(r)
	}
	return r
}

// first handles the first message.
func (l *link) first(ctx context.Context, m signal.ClientMessage) *refusal.Refusal {
	switch m.(type) {
	case *signal.Join, *signal.Resume:
	default:
		return l.fail(ctx, refusal.New(refusal.JoinFirst))
	}
	if r := l.server.mayJoin(l.network); r != nil {
		return l.fail(ctx, r)
	}
	var member *channel.Membership
	var err error
	switch m := m.(type) {
	case *signal.Join:
		member, err = l.join(ctx, m)
	case *signal.Resume:
		member, err = l.server.cfg.Channels.Resume(ctx, channel.ResumeRequest{Peer: m.Peer, Secret: m.Secret, Received: m.Received, Link: l})
	}
	if err != nil {
		r := refusal.From(err)
		if r.Code == refusal.Internal && !errors.Is(err, context.Canceled) {
			l.server.cfg.Logger.Error("join failed", "address", l.address, "err", err)
		}
		return l.fail(ctx, r)
	}
	l.member.Store(member)
	l.server.opened(l)
	if _, ok := m.(*signal.Resume); ok {
		// The former credentials' age is not known here, and a client that comes back from another network is about to restart ICE.
		l.renewICE()
	}
	return nil
}

func (l *link) join(ctx context.Context, m *signal.Join) (*channel.Membership, error) {
	// The handshake timeout bounds the decision as well: meanwhile the link counts as half open.
	actx, cancel := context.WithTimeout(ctx, l.server.cfg.HandshakeTimeout)
	defer cancel()
	grant, err := l.server.cfg.Authorize(actx, auth.Credentials{Token: m.Token, Key: m.Key, Channel: m.Channel, UID: m.UID, Name: m.Name,
		Role: auth.Role(m.Role), Origin: l.origin, Address: l.address})
	if err != nil {
		return nil, err
	}
	return l.server.cfg.Channels.Join(ctx, channel.JoinRequest{Grant: grant, Instance: m.Instance, Info: m.Info, Media: fromMedia(m.Media),
		Ring: m.Ring, Address: l.address, Link: l})
}

// ice makes ICE servers for the peer, and notes when they have to be renewed: at 3/4 of their life, so that a client whose
// link is lost just then still has some of it.
func (l *link) ice(project, peer string) signal.ICE {
	ice, err := l.server.cfg.ICE(project, peer, l.address)
	if err != nil {
		l.server.cfg.Logger.Error("make ICE servers", "project", project, "peer", peer, "err", err)
		ice = signal.ICE{}
	}
	if ice.Servers == nil {
		ice.Servers = []signal.ICEServer{}
	}
	var due int64
	switch {
	case err != nil:
		due = int64(l.server.now() + 10*time.Second)
	case ice.ExpiresAtMs > 0:
		due = int64(l.server.now() + max(time.Second, time.Until(time.UnixMilli(ice.ExpiresAtMs))*3/4))
	}
	l.iceDue.Store(due)
	return ice
}

// renewICE sends fresh ICE servers.
func (l *link) renewICE() {
	if m := l.member.Load(); m != nil {
		m.Post(l.server.work, iceNote(l.ice(m.Key.Project, m.Peer)))
	}
}
