// Package natprobe measures how a NAT maps and filters UDP, in the words of RFC 4787 (§4.1, §5) and with the method of RFC 5780 (§4.3,
// §4.4): a server with two addresses and two ports on each tells the client how it is seen, and answers from places that the client has
// not written to. It is for the lab, to prove that its NATs are what they are called; the wire format is our own and not STUN.
package natprobe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Behaviour is one of the three of RFC 4787, for mapping as for filtering.
type Behaviour int

const (
	// EndpointIndependent: the same for all destinations; lets everybody in.
	EndpointIndependent Behaviour = iota + 1
	// AddressDependent: one per destination address; lets in the addresses that were written to.
	AddressDependent
	// AddressAndPortDependent: one per destination address and port; lets in those that were written to.
	AddressAndPortDependent
)

func (b Behaviour) String() string {
	switch b {
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressDependent:
		return "address-dependent"
	case AddressAndPortDependent:
		return "address-and-port-dependent"
	}
	return fmt.Sprintf("Behaviour(%d)", int(b))
}

// ErrBlocked: no answer came at all.
var ErrBlocked = errors.New("no UDP passes")

// Result is what was measured.
type Result struct {
	Mapping, Filtering Behaviour
	// Translated is whether the server sees an address that is not the client's own.
	Translated bool
	// Mapped is how the server's first address sees the client's first socket.
	Mapped netip.AddrPort
}

type question struct {
	ID int `json:"id"`
	// Also asks for one more answer, from the server's other address and port (2), or from its other port (1), before the usual one.
	Also int `json:"also"`
}

type answer struct {
	ID     int            `json:"id"`
	From   int            `json:"from"` // which of the four sockets: 2*address + port
	Mapped netip.AddrPort `json:"mapped"`
}

// A Server answers from four sockets: the two ports of the first address, and those of the second.
type Server struct {
	conns [4]net.PacketConn
	// Addrs are the addresses of the sockets, as clients need them.
	Addrs [4]netip.AddrPort
}

// NewServer takes over the four sockets; the first two must share an address, and so must the last two.
func NewServer(conns [4]net.PacketConn) (*Server, error) {
	s := &Server{conns: conns}
	for i, c := range conns {
		addr, ok := c.LocalAddr().(*net.UDPAddr)
		if !ok {
			return nil, fmt.Errorf("natprobe: socket %d is not UDP", i)
		}
		s.Addrs[i] = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	}
	if s.Addrs[0].Addr() != s.Addrs[1].Addr() || s.Addrs[2].Addr() != s.Addrs[3].Addr() || s.Addrs[0].Addr() == s.Addrs[2].Addr() {
		return nil, errors.New("natprobe: the sockets must be on two addresses, two on each")
	}
	return s, nil
}

// Run answers until ctx ends. It closes the sockets and returns when all is stopped.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(s.conns))
	for i := range s.conns {
		wg.Go(func() {
			defer cancel()
			if err := s.serve(i); ctx.Err() == nil {
				errs[i] = err
			}
		})
	}
	<-ctx.Done()
	for _, c := range s.conns {
		_ = c.Close()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Server) serve(i int) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conns[i].ReadFrom(buf)
		if err != nil {
			return err
		}
		var q question
		if json.Unmarshal(buf[:n], &q) != nil {
			continue
		}
		mapped := from.(*net.UDPAddr).AddrPort()
		a := answer{ID: q.ID, Mapped: netip.AddrPortFrom(mapped.Addr().Unmap(), mapped.Port())}
		// The usual answer goes last: once it has come, the other one has been let through or never will be, since both take the same way.
		var sources []int
		switch q.Also {
		case 1:
			sources = append(sources, i^1)
		case 2:
			sources = append(sources, i^3)
		}
		for _, source := range append(sources, i) {
			a.From = source
			b, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if _, err := s.conns[source].WriteTo(b, from); err != nil {
				return err
			}
		}
	}
}

// Discover measures from a client. open makes a fresh UDP socket behind the NAT; servers are the Server's Addrs. It asks again while
// nothing comes, and returns ErrBlocked if nothing has come when ctx ends.
func Discover(ctx context.Context, open func() (net.PacketConn, error), servers [4]netip.AddrPort) (Result, error) {
	mapping, err := newClient(open)
	if err != nil {
		return Result{}, err
	}
	defer mapping.conn.Close()
	// RFC 5780 §4.3: the primary address; the alternate address with the primary port; the alternate address and port. (Ports need
	// not be the same on both addresses to tell the three apart.)
	var seen [3]netip.AddrPort
	for i, to := range []int{0, 2, 3} {
		answers, err := mapping.ask(ctx, servers[to], to, 0)
		if err != nil {
			return Result{}, err
		}
		seen[i] = answers[to]
	}
	r := Result{Mapped: seen[0], Translated: seen[0].Addr() != mapping.local(servers[0])}
	switch {
	case seen[0] == seen[1] && seen[1] == seen[2]:
		r.Mapping = EndpointIndependent
	case seen[1] == seen[2]:
		r.Mapping = AddressDependent
	default:
		r.Mapping = AddressAndPortDependent
	}
	// RFC 5780 §4.4, from sockets that have written to one place only.
	r.Filtering = AddressAndPortDependent
	for also, behaviour := range map[int]Behaviour{2: EndpointIndependent, 1: AddressDependent} {
		filtering, err := newClient(open)
		if err != nil {
			return Result{}, err
		}
		answers, err := filtering.ask(ctx, servers[0], 0, also)
		_ = filtering.conn.Close()
		if err != nil {
			return Result{}, err
		}
		if len(answers) == 2 {
			r.Filtering = min(r.Filtering, behaviour)
		}
	}
	return r, nil
}

type client struct {
	conn net.PacketConn
	id   int
}

func newClient(open func() (net.PacketConn, error)) (*client, error) {
	conn, err := open()
	if err != nil {
		return nil, err
	}
	return &client{conn: conn}, nil
}

// local is the socket's own address towards a destination.
func (c *client) local(to netip.AddrPort) netip.Addr {
	if addr := c.conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); !addr.IsUnspecified() {
		return addr
	}
	return netip.IPv4Unspecified()
}

// ask writes to one socket of the server until that socket has answered, and returns all answers that came until then, by source.
func (c *client) ask(ctx context.Context, to netip.AddrPort, index, also int) (map[int]netip.AddrPort, error) {
	buf := make([]byte, 1500)
	for {
		c.id++
		q, err := json.Marshal(question{ID: c.id, Also: also})
		if err != nil {
			return nil, err
		}
		if _, err := c.conn.WriteTo(q, net.UDPAddrFromAddrPort(to)); err != nil {
			return nil, err
		}
		answers := map[int]netip.AddrPort{}
		deadline := time.Now().Add(500 * time.Millisecond) // RFC 8489 §6.2.1: the initial RTO
		if err := c.conn.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		for {
			n, _, err := c.conn.ReadFrom(buf)
			if err != nil {
				break // ask again, with a new number
			}
			var a answer
			if json.Unmarshal(buf[:n], &a) != nil || a.ID != c.id {
				continue
			}
			answers[a.From] = a.Mapped
			if a.From == index {
				return answers, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ErrBlocked
		}
	}
}
