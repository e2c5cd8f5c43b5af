package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A udpEndpoint is one UDP socket for clients, as pion sees it: a net.PacketConn whose messages the guard has passed. pion reads on one
// goroutine. Batched reading and writing have their place here.
type udpEndpoint struct {
	s     *Server
	conn  *net.UDPConn
	guard guard // owned by the reader
	done  sync.Once

	mu      sync.RWMutex
	clients map[netip.AddrPort]*udpClient
}

// A udpClient is a 5-tuple with an allocation.
type udpClient struct {
	rc   *relayConn
	addr *net.UDPAddr // never changed: pion may keep it
}

var _ net.PacketConn = (*udpEndpoint)(nil)

func newUDPEndpoint(s *Server, conn *net.UDPConn) *udpEndpoint {
	return &udpEndpoint{s: s, conn: conn, guard: guard{s: s}, clients: map[netip.AddrPort]*udpClient{}}
}

// ReadFrom returns the next message for pion.
func (e *udpEndpoint) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := e.conn.ReadFromUDPAddrPort(p)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && !e.s.closing.Load() {
				continue // a single datagram's trouble is not the socket's end
			}
			e.done.Do(e.s.readers.Done)
			return 0, nil, err
		}
		from = netip.AddrPortFrom(plain(from.Addr()), from.Port())
		if n == len(p) {
			e.s.counters.dropped[dropTooBig].Add(1)
			continue
		}
		e.mu.RLock()
		cl := e.clients[from]
		e.mu.RUnlock()
		var rc *relayConn
		if cl != nil {
			rc = cl.rc
		}
		out, v := e.guard.inspect(p[:n], from, rc)
		switch v {
		case drop:
			continue
		case answer:
			_, _ = e.conn.WriteToUDPAddrPort(out, from)
			continue
		}
		if cl != nil {
			return len(out), cl.addr, nil
		}
		return len(out), net.UDPAddrFromAddrPort(from), nil
	}
}

func (e *udpEndpoint) WriteTo(p []byte, addr net.Addr) (int, error) {
	return e.conn.WriteToUDPAddrPort(p, addrPort(addr))
}

func (e *udpEndpoint) Close() error                       { return e.conn.Close() }
func (e *udpEndpoint) LocalAddr() net.Addr                { return e.conn.LocalAddr() }
func (e *udpEndpoint) SetDeadline(t time.Time) error      { return e.conn.SetDeadline(t) }
func (e *udpEndpoint) SetReadDeadline(t time.Time) error  { return e.conn.SetReadDeadline(t) }
func (e *udpEndpoint) SetWriteDeadline(t time.Time) error { return e.conn.SetWriteDeadline(t) }

func (e *udpEndpoint) register(client, _ netip.AddrPort, rc *relayConn) {
	e.mu.Lock()
	e.clients[client] = &udpClient{rc: rc, addr: net.UDPAddrFromAddrPort(client)}
	e.mu.Unlock()
	rc.registered(func(rc *relayConn) {
		e.mu.Lock()
		if cl := e.clients[client]; cl != nil && cl.rc == rc { // not a newer allocation on the same 5-tuple
			delete(e.clients, client)
		}
		e.mu.Unlock()
	})
}

// clientSocketBuffer is what we ask of the system for a socket that all clients share: 4 MiB took coturn's loss on bursts of key frames from
// 9 % to none. The system gives net.core.rmem_max at most; `madang doctor` tells.
const clientSocketBuffer = 4 << 20

// ListenUDP binds a socket for Config.UDP. An empty host means both families, where the machine has IPv6.
func ListenUDP(ctx context.Context, address string) (*net.UDPConn, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for STUN and TURN: %w", err)
	}
	c := pc.(*net.UDPConn)
	_ = c.SetReadBuffer(clientSocketBuffer)
	_ = c.SetWriteBuffer(clientSocketBuffer)
	return c, nil
}

func isAddrInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
