package relay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/turn/v5"
)

// A relayConn is the socket of one relayed transport address. pion reads from it on one goroutine and writes to it from the one that reads
// from the client; both ways pass the policy, the bandwidth limit and the counters here, whatever was granted before.
type relayConn struct {
	s     *Server
	user  *user
	conn  *net.UDPConn
	addr  netip.AddrPort // as clients know it
	local netip.AddrPort // where a relay of ours reaches it without leaving the machine

	closed   atomic.Bool
	readDone sync.Once

	// Owned by the goroutine that reads.
	from     netip.AddrPort
	fromAddr *net.UDPAddr // of from
	// Owned by the goroutine that writes.
	to   netip.AddrPort
	toOK bool

	mu          sync.Mutex
	permissions map[netip.Addr]struct{}
	channels    map[uint16]struct{}
	unregister  func(*relayConn)
}

var _ net.PacketConn = (*relayConn)(nil)

// generator makes pion's relay sockets.
type generator struct{ s *Server }

var _ turn.RelayAddressGenerator = generator{}

var (
	errNoTCPRelay = errors.New("no relays over TCP")
	errClosing    = errors.New("the server is stopping")
	errQuota      = errors.New("allocation quota reached")
	errNoPort     = errors.New("no free relay port")
)

func (generator) Validate() error { return nil }

// AllocateListener and AllocateConn belong to RFC 6062. The guard lets no such request through.
func (generator) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNoTCPRelay
}

func (generator) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errNoTCPRelay }

func (g generator) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	s := g.s
	bind, external := s.bind4, s.cfg.ExternalIPv4
	if c.Network == "udp6" {
		bind, external = s.bind6, s.cfg.ExternalIPv6
	}
	if !bind.IsValid() {
		return nil, nil, fmt.Errorf("no relays over %s", c.Network)
	}
	conn, err := s.listen(c.Network, bind, c.RequestedPort, c.UserID == "")
	if err != nil {
		return nil, nil, err
	}
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if c.UserID == "" { // pion looks for a free even port (EVEN-PORT), and closes this one at once
		return conn, conn.LocalAddr(), nil
	}
	local := bind
	if local.IsUnspecified() {
		if local = netip.AddrFrom4([4]byte{127, 0, 0, 1}); c.Network == "udp6" {
			local = netip.IPv6Loopback()
		}
	}
	rc := &relayConn{
		s: s, conn: conn,
		addr: netip.AddrPortFrom(external, port), local: netip.AddrPortFrom(local, port),
		permissions: map[netip.Addr]struct{}{}, channels: map[uint16]struct{}{},
	}
	if err := s.admit(parseUserKey(c.UserID), rc); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return rc, net.UDPAddrFromAddrPort(rc.addr), nil
}

// listen binds a relay socket. port 0 means any of our range.
func (s *Server) listen(network string, bind netip.Addr, port int, even bool) (*net.UDPConn, error) {
	open := func(port int) (*net.UDPConn, error) {
		return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(bind, uint16(port))))
	}
	lo, n := int(s.cfg.MinPort), int(s.cfg.MaxPort)-int(s.cfg.MinPort)+1
	if port != 0 {
		if port < lo || port >= lo+n {
			return nil, errNoPort
		}
		return open(port)
	}
	// RFC 8656 §7.2: ports should be hard to guess, so each attempt is random. A range with many free ports needs few attempts; a crowded one
	// is searched from the last random place on.
	const attempts = 16
	for try, at := 0, 0; try < attempts+n; try++ {
		if try < attempts {
			at = rand.IntN(n)
		} else {
			at = (at + 1) % n
		}
		if even && (lo+at)%2 != 0 {
			continue
		}
		conn, err := open(lo + at)
		if err == nil {
			// Losing packets in our own queue while a burst (a key frame) arrives is the loss one can avoid. Beyond what the system
			// allows (net.core.rmem_max), it gives less without an error.
			_ = conn.SetReadBuffer(relaySocketBuffer)
			return conn, nil
		}
		if !isAddrInUse(err) {
			return nil, err
		}
	}
	return nil, errNoPort
}

// relaySocketBuffer is a second of 2 Mbit/s video with the kernel's overhead per packet; one allocation carries one call.
const relaySocketBuffer = 512 << 10

// ReadFrom returns the next datagram that may be relayed to the client.
func (c *relayConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.conn.ReadFromUDPAddrPort(p)
		if err != nil {
			c.readDone.Do(func() { c.Close(); c.s.readers.Done() })
			return 0, nil, err
		}
		if n == len(p) {
			c.s.counters.dropped[dropTooBig].Add(1)
			continue // may have been cut
		}
		if from != c.from || c.fromAddr == nil || c.s.isOurs(from.Addr()) {
			at := netip.AddrPortFrom(plain(from.Addr()), from.Port())
			if c.s.isOurs(at.Addr()) {
				// From a relay of ours: known to the client by its external address.
				if rc := c.s.liveAt(at); rc != nil {
					at = rc.addr
				}
			}
			if !c.s.policy.permitsPort(at, c.s.isLive) {
				c.s.counters.dropped[dropDenied].Add(1)
				continue
			}
			c.from, c.fromAddr = from, net.UDPAddrFromAddrPort(at)
		}
		if !c.user.take(n) {
			c.s.counters.dropped[dropBandwidth].Add(1)
			continue
		}
		c.user.downBytes.Add(uint64(n))
		c.user.downPackets.Add(1)
		return n, c.fromAddr, nil
	}
}

// WriteTo sends what the client gave us to one of its peers. What may not go is dropped without an error, as a network does.
func (c *relayConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return len(p), nil
	}
	ap := udp.AddrPort()
	to := netip.AddrPortFrom(plain(ap.Addr()), ap.Port())
	ours := c.s.policy.isRelayed(to.Addr())
	if to != c.to || ours {
		c.to, c.toOK = to, c.s.policy.permitsPort(to, c.s.isLive)
	}
	if !c.toOK {
		c.s.counters.dropped[dropDenied].Add(1)
		return len(p), nil
	}
	if !c.user.take(len(p)) {
		c.s.counters.dropped[dropBandwidth].Add(1)
		return len(p), nil
	}
	c.user.upBytes.Add(uint64(len(p)))
	c.user.upPackets.Add(1)
	if ours {
		if rc := c.s.live(to); rc != nil {
			to = rc.local
		}
	}
	return c.conn.WriteToUDPAddrPort(p, to)
}

// Close ends the relayed transport address: pion's reader sees it and deletes the allocation. It never fails, because pion would leave other
// allocations open after an error, and may be called more than once.
func (c *relayConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.s.remove(c)
	c.mu.Lock()
	unregister := c.unregister
	c.mu.Unlock()
	if unregister != nil {
		unregister(c)
	}
	_ = c.conn.Close()
	return nil
}

// LocalAddr and the deadlines make a relayConn a net.PacketConn.
func (c *relayConn) LocalAddr() net.Addr                { return c.conn.LocalAddr() }
func (c *relayConn) SetDeadline(t time.Time) error      { return c.conn.SetDeadline(t) }
func (c *relayConn) SetReadDeadline(t time.Time) error  { return c.conn.SetReadDeadline(t) }
func (c *relayConn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

func (c *relayConn) hasPermission(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.permissions[a]
	return ok
}

// hasRoom reports whether fresh more permissions, and the channel number if it is not negative, fit within the limit.
func (c *relayConn) hasRoom(fresh, channel int) bool {
	limit := c.s.cfg.Limits.PeersPerAllocation
	c.mu.Lock()
	defer c.mu.Unlock()
	if fresh > 0 && len(c.permissions)+fresh > limit {
		return false
	}
	if channel < 0 {
		return true
	}
	_, bound := c.channels[uint16(channel)]
	return bound || len(c.channels) < limit
}
