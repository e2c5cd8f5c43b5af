package signalserver

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

// A link is one client's connection, over either wire. It belongs to one membership at most, for which it is the channel.Link.
type link struct {
	// Set at construction.
	server  *Server
	address netip.Addr
	network netip.Prefix // of address, for limits
	origin  string
	name    string // SSE: the name by which POSTs find it; WebSocket: empty
	// pump makes sure that somebody writes what is queued. It is called with mu held, and must not block.
	pump func()
	// abort closes the connection at once, without goodbye. It does not block. It is called with server.mu held, or by a task of the link.
	abort func()

	// Atomic. Times are since the server's epoch.
	heard   atomic.Int64 // when the client was heard last, or the link was opened
	writing atomic.Int64 // when the write that runs now began; 0: none
	iceDue  atomic.Int64 // when fresh ICE servers have to be sent; 0: never
	overrun atomic.Bool  // the queue was full: the link is beyond help
	member  atomic.Pointer[channel.Membership]

	// Guarded by server.mu.
	open      bool // has joined
	condemned bool // the sweep has closed it

	// Guarded by reading: one message at a time.
	reading sync.Mutex
	budget  bucket

	mu      sync.Mutex // guards what follows; nothing blocks under it
	queue   []item
	queued  int // bytes in queue, about
	bye     *refusal.Refusal
	closed  bool // nothing is written any more
	pumping bool // WebSocket: a goroutine is writing
}

type item struct {
	seq   uint64
	event channel.Event
}

// Bounds of a link's queue. A mailbox alone stays below them; but a client can acknowledge what it never read, and ask for pongs.
const (
	maxQueueItems = 2048
	maxQueueBytes = 8 << 20
)

var _ channel.Link = (*link)(nil)

func (s *Server) newLink(address netip.Addr, origin string) *link {
	l := &link{server: s, address: address, network: addressNetwork(address), origin: origin}
	now := s.now()
	l.heard.Store(int64(now))
	l.budget = bucket{tokens: float64(s.cfg.MessageBurst), at: now}
	return l
}

// Deliver implements channel.Link.
func (l *link) Deliver(seq uint64, e channel.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.bye != nil {
		return
	}
	l.queued += channel.EventBytes(e)
	if len(l.queue) >= maxQueueItems || l.queued > maxQueueBytes {
		l.overrun.Store(true) // the sweep will close it: closing can block
		l.closed = true
		l.queue = nil
		return
	}
	l.queue = append(l.queue, item{seq, e})
	l.pump()
}

// End implements channel.Link. It is also for refusals from before the link has a membership.
func (l *link) End(r *refusal.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.bye != nil {
		return
	}
	l.bye = r
	l.pump()
}

// take returns what has to be written next: messages; or, after the last of them, the reason for which the link ends.
func (l *link) take(spare []item) (batch []item, bye *refusal.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil
	}
	if len(l.queue) > 0 {
		batch, l.queue, l.queued = l.queue, spare[:0], 0
		return batch, nil
	}
	return nil, l.bye
}

// ending reports whether the link takes no messages any more.
func (l *link) ending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.bye != nil
}

// detach ends the link's part in the membership, after the last message was read.
func (l *link) detach() {
	l.mu.Lock()
	ended := l.bye != nil
	if !ended {
		l.closed = true
		l.queue = nil
	}
	l.mu.Unlock()
	if m := l.member.Load(); m != nil {
		m.LinkLost()
	}
}

func (l *link) stuck(now, limit time.Duration) bool {
	since := l.writing.Load()
	return since != 0 && now-time.Duration(since) > limit
}

// encode turns an item into bytes.
func (l *link) encode(dst []byte, it item) ([]byte, error) {
	m, err := l.message(it.event)
	if err != nil {
		return nil, err
	}
	return signal.AppendServer(dst, m, it.seq)
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
	wait, broke := l.budget.take(now, cfg.MessagesPerSecond, float64(cfg.MessageBurst), float64(cfg.MessageBurst))
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
	ice, err := l.server.cfg.ICE(project, peer)
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
