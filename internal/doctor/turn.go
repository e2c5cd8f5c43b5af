package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// A relayTarget is a TURN server at one address over one transport, with credentials.
type relayTarget struct {
	place
	transport            string // udp, tcp, tls
	username, credential string
}

// A turnCheck looks at TURN over one transport.
type turnCheck struct {
	e         *examination
	transport string
	worked    *promise[[]relayTarget]
}

func (c *turnCheck) check(ctx context.Context) []Result {
	var worked []relayTarget
	defer func() { c.worked.keep(worked) }()
	e, s := c.e, subject{id: "turn." + c.transport}
	servers := e.handedOut()
	if servers == nil {
		return []Result{s.skip("not looked at: nobody could join, so there are no credentials", "참가하지 못해 자격 증명이 없으므로 검사하지 않았습니다")}
	}
	var targets []relayTarget
	var results []Result
	for _, server := range servers {
		for _, raw := range server.URLs {
			u, err := stun.ParseURI(raw)
			if err != nil || transportOf(u) != c.transport {
				continue
			}
			places, err := e.places(ctx, u)
			if err != nil {
				results = append(results, s.fail("the name %s, which clients are given, cannot be looked up: %s", "클라이언트에 알려 준 이름 %s을(를) 찾을 수 없습니다: %s", clip(u.Host), reason(err)).hint("domain", "create its A or AAAA record", "A 또는 AAAA 레코드를 만드십시오"))
			}
			for _, p := range places {
				targets = append(targets, relayTarget{p, c.transport, server.Username, server.Credential})
			}
		}
	}
	if len(targets)+len(results) == 0 {
		if c.transport == "tls" {
			return []Result{s.skip("not offered: browsers accept TURN over TLS only with a certificate that they trust (keys domain, tls-cert)", "제공하지 않습니다. TURN over TLS에는 브라우저가 신뢰하는 인증서(domain, tls-cert 설정)가 필요합니다")}
		}
		return []Result{s.fail("the node offers no TURN over this transport", "노드가 이 방식의 TURN을 제공하지 않습니다").hint("", "see the node's log", "노드의 로그를 보십시오")}
	}
	type found struct {
		Result
		worked bool
	}
	for i, f := range each(targets, func(t relayTarget) found {
		r, ok := e.relayPacket(ctx, subject{s.id, t.at.String()}, t)
		return found{r, ok}
	}) {
		results = append(results, f.Result)
		if f.worked {
			worked = append(worked, targets[i])
		}
	}
	return results
}

func transportOf(u *stun.URI) string {
	switch {
	case u.Scheme == stun.SchemeTypeTURNS && u.Proto == stun.ProtoTypeTCP:
		return "tls"
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeTCP:
		return "tcp"
	case u.Scheme == stun.SchemeTypeTURN:
		return "udp"
	}
	return ""
}

// relayPacket makes two allocations and lets each send the other a packet through the relay.
func (e *examination) relayPacket(ctx context.Context, s subject, t relayTarget) (Result, bool) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	began := time.Now()
	a, err := e.allocate(ctx, t)
	if err != nil {
		return e.explainTURN(s, t, err), false
	}
	defer a.close()
	b, err := e.allocate(ctx, t)
	if err != nil {
		return e.explainTURN(s, t, err), false
	}
	defer b.close()
	took := time.Since(began)
	err = errors.Join(a.client.CreatePermission(b.relay.LocalAddr()), b.client.CreatePermission(a.relay.LocalAddr()))
	if err == nil {
		err = errors.Join(carry(ctx, a.relay, b.relay), carry(ctx, b.relay, a.relay))
	}
	var no *stun.TurnError
	switch {
	case errors.As(err, &no) && no.ErrorCodeAttr.Code == stun.CodeForbidden:
		r := s.fail("the relay does not send to its own address %s", "중계 서버가 자신의 주소 %s(으)로 보내지 않습니다", a.addr.Addr())
		if a.addr.Addr().IsLoopback() {
			r = s.warn("the relay stands at the loopback address %s, to which nothing is relayed", "중계 서버가 루프백 주소 %s에 있어 아무것도 중계하지 않습니다", a.addr.Addr())
			return r.hint("relay-allow", "for a test on one machine start the node with --relay-allow 127.0.0.0/8; else let it listen at an address of the network", "한 컴퓨터에서 시험하려면 --relay-allow 127.0.0.0/8로 노드를 시작하고, 그렇지 않으면 네트워크 주소에서 listen하게 하십시오"), false
		}
		return r.hint("external-ip", "set external-ip to the node's public address", "external-ip를 노드의 공인 주소로 설정하십시오"), false
	case err != nil:
		return s.fail("the relay gives addresses (%s), but no packet comes through: %s", "중계 주소(%s)는 받았지만 패킷이 통과하지 않습니다: %s", a.addr, clip(why(err))).
			hint("relay-ports", "see the node's log; its own firewall may block UDP between the ports of relay-ports", "노드의 로그를 보십시오. 서버 방화벽이 relay-ports 범위의 UDP를 막고 있을 수 있습니다"), false
	}
	return s.ok("relayed a packet each way between %s and %s", "%s와(과) %s 사이에서 패킷을 양방향으로 중계했습니다", a.addr, b.addr).
		fact("relay", a.addr.String()).fact("allocateMs", milliseconds(took/2)), true
}

// carry sends a packet from one relayed transport address to the other, again each 200 ms since UDP may lose it, until it has arrived as it was sent.
func carry(ctx context.Context, from, to net.PacketConn) error {
	payload := []byte("madang doctor " + rand.Text())
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		if _, err := from.WriteTo(payload, to.LocalAddr()); err != nil {
			return err
		}
		to.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, _, err := to.ReadFrom(buf)
		switch {
		case err == nil && bytes.Equal(buf[:n], payload):
			return nil
		case err == nil && !bytes.HasPrefix(buf[:n], payload[:14]):
			return fmt.Errorf("%d other bytes arrived", n)
		case err != nil && !timedOut(err):
			return err
		}
	}
	return ctx.Err()
}

func (e *examination) explainTURN(s subject, t relayTarget, err error) Result {
	var no *stun.TurnError
	var untrusted *untrustedError
	switch {
	case errors.As(err, &untrusted):
		return untrusted.Result
	case errors.As(err, &no):
		r := s.fail("the relay refuses: %d %s", "중계 서버가 거절했습니다: %d %s", int(no.ErrorCodeAttr.Code), clip(string(no.ErrorCodeAttr.Reason)))
		switch no.ErrorCodeAttr.Code {
		case stun.CodeUnauthorized:
			return r.hint("", "the credentials are fresh from a join, so another program answers at %s, or another node with another data directory", "방금 받은 자격 증명이므로, %s에서 다른 프로그램이나 다른 데이터 디렉터리의 노드가 응답하고 있습니다", t.at)
		case stun.CodeForbidden, stun.CodeAllocQuotaReached:
			return r.hint("", "the project is switched off, or its quota of relayed bytes is used up: `madang project show PROJECT`", "프로젝트가 꺼져 있거나 중계 할당량을 다 썼습니다: `madang project show PROJECT`")
		case stun.CodeInsufficientCapacity:
			return r.hint("relay-ports", "all ports of relay-ports are taken: widen the range", "relay-ports의 포트를 모두 쓰고 있습니다. 범위를 넓히십시오")
		}
		return r.hint("", "see the node's log", "노드의 로그를 보십시오")
	case t.transport == "udp":
		return e.explainUDP(s, t.place, err)
	case unroutable(err):
		return s.skip("this machine has no %[2]s, so %[1]s is not looked at", "이 컴퓨터에 %[2]s 연결이 없어 %[1]s은(는) 검사하지 않았습니다", t.at, family(t.at.Addr()))
	case !e.isHost(t.place) && e.literal(t.place):
		return s.fail("the node tells clients to use %s, which cannot be reached", "노드가 클라이언트에 %s을(를) 쓰라고 알려 주지만 접속할 수 없습니다", t.at).
			hint("external-ip", "set external-ip to the node's public address; if it is right, open TCP port %d in the firewalls", "external-ip를 노드의 공인 주소로 설정하십시오. 주소가 맞다면 방화벽에서 TCP %d 포트를 여십시오", t.at.Port())
	}
	return s.fail("TURN at %s does not answer: %s", "%s에서 TURN이 응답하지 않습니다: %s", t.at, clip(why(err))).
		hint("listen", "clients come straight to TCP port %d (key listen) of the node: open it, and let no HTTP proxy stand in front of it", "클라이언트는 노드의 TCP %d 포트(listen 설정)에 직접 접속합니다. 포트를 열고 그 앞에 HTTP 프록시를 두지 마십시오", t.at.Port())
}

// An untrustedError is a certificate that browsers refuse for TURN.
type untrustedError struct{ Result }

func (e *untrustedError) Error() string { return e.Message.En }

// An allocation is a relayed transport address.
type allocation struct {
	client *turn.Client
	relay  net.PacketConn
	addr   netip.AddrPort
	conn   net.PacketConn
	reader sync.WaitGroup
	stop   func() bool // of what ends it with its context
}

// allocate makes one. It and all that is done with it ends with ctx. On an IPv6 address it asks for an IPv6 relay, and takes an IPv4 one where there is none.
func (e *examination) allocate(ctx context.Context, t relayTarget) (*allocation, error) {
	families := []turn.RequestedAddressFamily{turn.RequestedAddressFamilyIPv4}
	if t.at.Addr().Is6() {
		families = []turn.RequestedAddressFamily{turn.RequestedAddressFamilyIPv6, turn.RequestedAddressFamilyIPv4}
	}
	var err error
	for _, f := range families {
		var a *allocation
		if a, err = e.allocateFamily(ctx, t, f); err == nil {
			return a, nil
		}
		var no *stun.TurnError
		if !errors.As(err, &no) || no.ErrorCodeAttr.Code != stun.CodeAddrFamilyNotSupported {
			break
		}
	}
	return nil, err
}

func (e *examination) allocateFamily(ctx context.Context, t relayTarget, family turn.RequestedAddressFamily) (*allocation, error) {
	conn, err := e.dialTURN(ctx, t)
	if err != nil {
		return nil, err
	}
	a := &allocation{conn: conn}
	a.client, err = turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: t.at.String(), Conn: conn, Username: t.username, Password: t.credential, RequestedAddressFamily: family,
		LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	a.reader.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = a.client.HandleInbound(buf[:n], from) // what is no STUN is not for us
		}
	})
	// The client's transactions wait for longer than we do, and only some of them for a context.
	a.stop = context.AfterFunc(ctx, func() { a.client.Close(); conn.Close() })
	a.relay, err = a.client.AllocateWithContext(ctx)
	if err != nil {
		a.relay = nil
		a.close()
		return nil, err
	}
	a.addr = a.relay.LocalAddr().(*net.UDPAddr).AddrPort()
	a.addr = netip.AddrPortFrom(a.addr.Addr().Unmap(), a.addr.Port())
	return a, nil
}

// close ends the allocation on the server, and waits for its reader.
func (a *allocation) close() {
	a.stop()
	if a.relay != nil {
		a.relay.Close()
	}
	a.client.Close()
	a.conn.Close()
	a.reader.Wait()
}

func (e *examination) dialTURN(ctx context.Context, t relayTarget) (net.PacketConn, error) {
	if t.transport == "udp" {
		network := "udp4"
		if t.at.Addr().Is6() {
			network = "udp6"
		}
		// A connected socket learns at once that nobody listens (ICMP).
		conn, err := new(net.Dialer).DialContext(ctx, network, t.at.String())
		if err != nil {
			return nil, err
		}
		return connected{conn.(*net.UDPConn)}, nil
	}
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(dialing, "tcp", t.at.String())
	if err != nil {
		return nil, err
	}
	if t.transport == "tls" {
		// The certificate is judged after the handshake, so that what is wrong with it can be said. RFC 7443 §3 names the protocol.
		secured := tls.Client(conn, &tls.Config{ServerName: t.host, InsecureSkipVerify: true, NextProtos: []string{"stun.turn"}, MinVersion: tls.VersionTLS12})
		if err := secured.HandshakeContext(dialing); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		if r, proven := e.judgeCertificate(subject{"turn.tls", t.at.String()}, secured.ConnectionState().PeerCertificates, t.host); !proven {
			secured.Close()
			r.Status = Fail // browsers ask nobody about a relay's certificate
			return nil, &untrustedError{r}
		}
		conn = secured
	}
	return turn.NewSTUNConn(conn), nil
}

// connected is a connected UDP socket as a net.PacketConn of its one peer.
type connected struct{ *net.UDPConn }

func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// checkRelay asks whether the outside reaches the addresses that the relay gives: a packet goes straight to one, and back. Two allocations of one relay cannot
// show this, since what they send to each other never leaves the server.
func (e *examination) checkRelay(ctx context.Context) []Result {
	s := subject{id: "relay"}
	var target *relayTarget
	for i := range e.turn {
		for _, t := range e.turn[i].worked.wait() {
			if target == nil || target.at.Addr().Is6() && t.at.Addr().Is4() {
				target = &t
			}
		}
	}
	if target == nil {
		return []Result{s.skip("not looked at: there is no relay to look at", "쓸 수 있는 중계 서버가 없어 검사하지 않았습니다")}
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout+stunTimeout+turnTimeout)
	defer cancel()
	a, err := e.allocate(ctx, *target)
	if err != nil {
		return []Result{e.explainTURN(s, *target, err)}
	}
	defer a.close()
	at := a.addr.Addr()
	setExternal := func(r Result) []Result {
		return []Result{r.hint("external-ip", "set external-ip to the node's public address", "external-ip를 노드의 공인 주소로 설정하십시오").fact("relay", a.addr.String())}
	}
	here := e.node.wait().at.Addr()
	if private(at) && !private(here) {
		return setExternal(s.fail("the relay gives the address %s, which nobody outside can reach", "중계 서버가 알려 주는 %s은(는) 외부에서 접속할 수 없는 주소입니다", at))
	}
	known := slices.Contains(e.addresses.wait(), at)
	err = errNoMapping
	if e.stun.wait() {
		err = e.reach(ctx, a, target)
	}
	if err != nil {
		var no *stun.TurnError
		switch {
		case errors.As(err, &no) && no.ErrorCodeAttr.Code == stun.CodeForbidden:
			return []Result{s.skip("%s: from here the relay cannot be tried, since it does not send to this machine's address; ask from outside its network", "%s: 중계 서버가 이 컴퓨터의 주소로는 보내지 않아 여기서는 시험할 수 없습니다. 네트워크 밖에서 검사하십시오", at).fact("relay", a.addr.String())}
		case errors.Is(err, errSameMachine):
			return []Result{s.skip("%s: from the node's own machine the relay cannot be tried, since it does not send there; ask from another one", "%s: 노드가 있는 컴퓨터에서는 시험할 수 없습니다. 다른 컴퓨터에서 검사하십시오", at).fact("relay", a.addr.String())}
		case errors.Is(err, errNoMapping):
			return []Result{s.skip("%s: not tried, since UDP does not get out of here", "%s: 여기서 UDP가 나가지 않아 시험하지 않았습니다", at).fact("relay", a.addr.String())}
		case !known:
			return setExternal(s.fail("the relay gives the address %s, from where nothing comes, and which is not the node's (%s)", "중계 서버가 알려 주는 %s에서 응답이 없으며, 노드의 주소(%s)도 아닙니다", at, join(e.addresses.wait())))
		}
		return []Result{s.fail("no packet reaches the relay at %s", "중계 주소 %s에 패킷이 도달하지 않습니다", a.addr).
			hint("relay-ports", "open the UDP ports of relay-ports (default 49152-65535) in the firewall of the server and of its provider", "서버와 호스팅 업체의 방화벽에서 relay-ports(기본값 49152-65535)의 UDP 포트를 여십시오").fact("relay", a.addr.String())}
	}
	if private(at) && !known && !e.node.wait().Development {
		return setExternal(s.warn("the relay gives the private address %s: only neighbours can use it", "중계 서버가 사설 주소 %s을(를) 알려 줍니다. 같은 네트워크에서만 쓸 수 있습니다", at))
	}
	return []Result{s.ok("a packet went straight to %s and back", "%s(으)로 직접 보낸 패킷이 돌아왔습니다", a.addr).fact("relay", a.addr.String())}
}

var (
	errNoMapping   = errors.New("STUN does not answer")
	errSameMachine = errors.New("the relay sees this machine at its own address")
)

// reach sends a packet from a socket of its own to the relayed transport address of a, and one back.
func (e *examination) reach(ctx context.Context, a *allocation, t *relayTarget) error {
	network := "udp4"
	if a.addr.Addr().Is6() {
		network = "udp6"
	}
	socket, err := net.ListenUDP(network, nil)
	if err != nil {
		return errNoMapping
	}
	defer socket.Close()
	// The permission is for the address as the relay sees it (RFC 8656 §9): STUN says which. The node's STUN stands at its own addresses.
	mapped, err := e.mappedOf(ctx, socket, a.addr.Addr().Is6())
	if err != nil {
		return errNoMapping
	}
	if err := a.client.CreatePermission(net.UDPAddrFromAddrPort(mapped)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	payload := []byte("madang doctor " + rand.Text())
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		if _, err := socket.WriteToUDPAddrPort(payload, a.addr); err != nil && !unroutable(err) {
			return err
		}
		a.relay.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, from, err := a.relay.ReadFrom(buf)
		if err != nil && !timedOut(err) {
			return err
		}
		if err != nil || !bytes.Equal(buf[:n], payload) {
			continue
		}
		if _, err := a.relay.WriteTo(payload, from); err != nil {
			return err
		}
		socket.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, _, err := socket.ReadFromUDPAddrPort(buf); err == nil && bytes.Equal(buf[:n], payload) {
			return nil
		}
	}
	if mapped.Addr() == a.addr.Addr() {
		// At its own address the relay sends to its own allocations alone, whatever the permission says.
		return errSameMachine
	}
	return ctx.Err()
}

// mappedOf asks the node's STUN servers of a family, and its TURN servers, which answer as well, how they see a socket.
func (e *examination) mappedOf(ctx context.Context, socket *net.UDPConn, v6 bool) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, stunTimeout)
	defer cancel()
	for _, server := range e.handedOut() {
		for _, raw := range server.URLs {
			u, err := stun.ParseURI(raw)
			if err != nil || u.Scheme != stun.SchemeTypeSTUN && (u.Scheme != stun.SchemeTypeTURN || u.Proto != stun.ProtoTypeUDP) {
				continue
			}
			places, _ := e.places(ctx, u)
			for _, p := range places {
				if p.at.Addr().Is6() != v6 {
					continue
				}
				if mapped, err := mappedAddress(ctx, aimed{socket, p.at}); err == nil {
					return mapped, nil
				}
			}
		}
	}
	return netip.AddrPort{}, errNoMapping
}

// aimed is an unconnected socket whose writes go to one address.
type aimed struct {
	*net.UDPConn
	at netip.AddrPort
}

func (a aimed) Write(p []byte) (int, error) { return a.WriteToUDPAddrPort(p, a.at) }
