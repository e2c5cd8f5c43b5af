package transfer

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
	"github.com/quic-go/quic-go"

	"github.com/madang-rtc/madang/internal/refusal"
)

const (
	// quicGrace is how long TCP may still win once QUIC is there: the kernel's TCP is faster where both work.
	quicGrace   = 300 * time.Millisecond
	quicStream  = 16 << 20 // receive window of a stream, bytes
	quicIdle    = 15 * time.Second
	quicCloseOK = 0

	socketBuffer = 4 << 20 // of the system, for UDP
)

// How long an ICE agent that has a way waits for a better one. Host pairs are taken at once; hole punching needs two checks, 200 ms apart, and two round trips.
const (
	reflexiveWait = 300 * time.Millisecond
	relayWait     = time.Second
)

// An icePath is one side of an ICE session of its own, for QUIC (docs/transfer.md §14).
type icePath struct {
	n          *native
	c          *conn
	agent      *ice.Agent
	ufrag, pwd string
	gathered   chan string // candidates to send; bounded, what does not fit is not needed
}

func (n *native) newICEPath(c *conn) (*icePath, error) {
	n.m.mu.Lock()
	servers := n.m.ice.Servers
	n.m.mu.Unlock()
	var uris []*stun.URI
	for _, s := range servers {
		for _, u := range s.URLs {
			uri, err := stun.ParseURI(u)
			if err != nil {
				continue // of a kind that we do not know
			}
			uri.Username, uri.Password = s.Username, s.Credential
			uris = append(uris, uri)
		}
	}
	sockets, err := newBulkNet()
	if err != nil {
		return nil, err
	}
	options := []ice.AgentOption{
		ice.WithNet(sockets),
		ice.WithUrls(uris), ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4, ice.NetworkTypeUDP6}), ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
		ice.WithSrflxAcceptanceMinWait(reflexiveWait), ice.WithPrflxAcceptanceMinWait(reflexiveWait), ice.WithRelayAcceptanceMinWait(relayWait),
	}
	if n.m.loopback {
		options = append(options, ice.WithIncludeLoopback())
	}
	agent, err := ice.NewAgentWithOptions(options...)
	if err != nil {
		return nil, err
	}
	p := &icePath{n: n, c: c, agent: agent, gathered: make(chan string, 64)}
	if p.ufrag, p.pwd, err = agent.GetLocalUserCredentials(); err == nil {
		err = agent.OnCandidate(func(found ice.Candidate) {
			if found == nil {
				return
			}
			select {
			case p.gathered <- found.Marshal():
			default:
			}
		})
	}
	if err == nil {
		err = agent.GatherCandidates()
	}
	if err != nil {
		agent.Close()
		return nil, err
	}
	return p, nil
}

// release gives the agent back, unless the lane needs it.
func (p *icePath) release(l lane) {
	if s, ok := l.(*streamLane); ok {
		if _, ok := s.stream.(*quicLane); ok {
			return // closes it
		}
	}
	closeICE(p.agent)
}

// A bulkNet makes sockets with room for bursts: what a window of a long path brings at once, while this process waits for a core.
type bulkNet struct{ *stdnet.Net }

func newBulkNet() (bulkNet, error) {
	n, err := stdnet.NewNet()
	return bulkNet{n}, err
}

func (n bulkNet) ListenUDP(network string, local *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, local)
	if err == nil {
		enlarge(c)
	}
	return c, err
}

func (n bulkNet) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := n.Net.ListenPacket(network, address)
	if sized, ok := c.(buffered); err == nil && ok {
		enlarge(sized)
	}
	return c, err
}

type buffered interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// enlarge asks for much; the system gives what it allows.
func enlarge(c buffered) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
}

// closeICE closes an ICE agent, or what holds one, without waiting: pion's waits for the end of TURN allocations, which it tries for 8 s where UDP is blocked.
// They hold nothing but sockets, and what Close says does not matter any more.
func closeICE(c io.Closer) {
	go func() { _ = c.Close() }()
}

// exchange sends our candidates and takes theirs, until ctx ends.
func (p *icePath) exchange(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case candidate := <-p.gathered:
			if p.n.m.say(ctx, p.c.peer, signalData{PC: p.c.pc, Candidates: []webrtc.ICECandidateInit{{Candidate: "candidate:" + candidate}}}) != nil {
				return
			}
		case d := <-p.c.signals:
			for _, init := range d.Candidates {
				if candidate, err := ice.UnmarshalCandidate(init.Candidate); err == nil {
					_ = p.agent.AddRemoteCandidate(candidate) // one that is of no use
				}
			}
		}
	}
}

// lane makes a QUIC lane. settle is called by the offering side when QUIC is up, and says whether to go on.
func (p *icePath) lane(ctx context.Context, t nativeText, h Hash, offering bool, settle func() bool) (l *streamLane, err error) {
	var raw *ice.Conn
	if offering {
		raw, err = p.agent.Dial(ctx, t.Ufrag, t.Pwd)
	} else {
		raw, err = p.agent.Accept(ctx, t.Ufrag, t.Pwd)
	}
	if err != nil {
		return nil, err
	}
	q := &quicLane{ice: raw, transport: &quic.Transport{Conn: newPacketConn(raw)}}
	defer func() {
		if l == nil {
			q.Close()
		}
	}()
	verified := p.n.config(func(got Hash) bool { return got == h })
	config := &quic.Config{
		MaxIdleTimeout: quicIdle, KeepAlivePeriod: quicIdle / 3, HandshakeIdleTimeout: nativeTimeout,
		InitialStreamReceiveWindow: quicStream, MaxStreamReceiveWindow: 2 * quicStream,
		InitialConnectionReceiveWindow: quicStream, MaxConnectionReceiveWindow: 2 * quicStream,
		MaxIncomingStreams: 1, MaxIncomingUniStreams: -1,
	}
	if offering {
		verified.ServerName = "madang"
		if q.conn, err = q.transport.Dial(ctx, packetAddress, verified, config); err != nil {
			return nil, err
		}
		if !settle() {
			return nil, refusal.New(refusal.NoPath)
		}
		q.Stream, err = q.conn.OpenStreamSync(ctx)
	} else {
		var listener *quic.Listener
		if listener, err = q.transport.Listen(verified, config); err != nil {
			return nil, err
		}
		if q.conn, err = listener.Accept(ctx); err != nil {
			return nil, err
		}
		q.Stream, err = q.conn.AcceptStream(ctx)
	}
	if err != nil {
		return nil, err
	}
	path := "quic"
	if pair, err := p.agent.GetSelectedCandidatePair(); err == nil && pair != nil {
		path = "quic " + pair.Local.Type().String() + "-" + pair.Remote.Type().String()
	}
	return newStreamLane(q, path), nil
}

// A quicLane is a stream with all that is below it.
type quicLane struct {
	*quic.Stream
	conn      *quic.Conn
	transport *quic.Transport
	ice       *ice.Conn
	once      sync.Once
}

// CloseWrite ends our direction.
func (q *quicLane) CloseWrite() error { return q.Stream.Close() }

func (q *quicLane) Close() error {
	q.once.Do(func() {
		if q.conn != nil {
			q.conn.CloseWithError(quicCloseOK, "")
		}
		q.transport.Close()
		q.transport.Conn.Close()
		closeICE(q.ice)
	})
	return nil
}

// A packetConn lets QUIC use an ICE session, which has one other side whatever its address is at the moment.
type packetConn struct {
	*ice.Conn
	mu     sync.Mutex
	closed bool
}

var packetAddress net.Addr = &net.UDPAddr{IP: net.IPv6loopback, Port: 1}

func newPacketConn(c *ice.Conn) *packetConn { return &packetConn{Conn: c} }

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Conn.Read(b)
	return n, packetAddress, err
}

// WriteTo loses what cannot be sent: QUIC sends it again.
func (c *packetConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if _, err := c.Conn.Write(b); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return 0, net.ErrClosed
		}
	}
	return len(b), nil
}

// SetReadBuffer and SetWriteBuffer have nothing to do: the sockets have theirs (bulkNet), and the ICE agent has one of its own.
func (c *packetConn) SetReadBuffer(int) error  { return nil }
func (c *packetConn) SetWriteBuffer(int) error { return nil }

func (c *packetConn) LocalAddr() net.Addr { return packetAddress }

func (c *packetConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return nil
}

var _ net.PacketConn = (*packetConn)(nil)
