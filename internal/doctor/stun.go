package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/pion/stun/v4"
)

// A place is a STUN or TURN server at one address.
type place struct {
	host string // as the node names it
	at   netip.AddrPort
}

// places are the addresses of a STUN or TURN URL (RFC 7064, RFC 7065).
func (e *examination) places(ctx context.Context, u *stun.URI) ([]place, error) {
	addresses, err := e.resolve(ctx, u.Host)
	var out []place
	for _, a := range addresses {
		out = append(out, place{u.Host, netip.AddrPortFrom(a, uint16(u.Port))})
	}
	return out, err
}

func (e *examination) checkSTUN(ctx context.Context) []Result {
	var results []Result
	defer func() { e.stun.keep(slices.ContainsFunc(results, func(r Result) bool { return r.Status == OK })) }()
	s := subject{id: "stun"}
	servers, node := e.handedOut(), e.node.wait()
	var urls []string
	for _, server := range servers {
		for _, u := range server.URLs {
			if parsed, err := stun.ParseURI(u); err == nil && parsed.Scheme == stun.SchemeTypeSTUN {
				urls = append(urls, u)
			}
		}
	}
	if len(urls) == 0 && node != nil && node.UDP > 0 {
		urls = []string{"stun:" + net.JoinHostPort(e.host, strconv.Itoa(node.UDP))} // nobody could join, but STUN asks for no credentials
	}
	if len(urls) == 0 {
		return []Result{s.skip("not looked at: the node names no STUN server", "노드가 STUN 서버를 알려 주지 않아 검사하지 않았습니다")}
	}
	var all []place
	for _, text := range urls {
		u, err := stun.ParseURI(text)
		if err != nil {
			continue
		}
		found, err := e.places(ctx, u)
		if err != nil {
			results = append(results, s.fail("the name %s, which clients are given, cannot be looked up: %s", "클라이언트에 알려 준 이름 %s을(를) 찾을 수 없습니다: %s", clip(u.Host), reason(err)).hint("domain", "create its A or AAAA record", "A 또는 AAAA 레코드를 만드십시오"))
		}
		all = append(all, found...)
	}
	look := func(at []place) {
		results = append(results, each(at, func(p place) Result { return e.binding(ctx, subject{"stun", p.at.String()}, p) })...)
	}
	look(all)
	if node != nil && node.UDP > 0 && !slices.ContainsFunc(results, func(r Result) bool { return r.Status != Skip }) {
		// Who has come over IPv6 is given STUN of IPv4 alone. Without IPv4, whether UDP gets out is seen where the node itself is.
		if own, err := e.places(ctx, &stun.URI{Host: e.host, Port: node.UDP}); err == nil {
			look(own)
		}
	}
	return results
}

// binding asks one server under which address it sees us.
func (e *examination) binding(ctx context.Context, s subject, p place) Result {
	ctx, cancel := context.WithTimeout(ctx, stunTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", p.at.String())
	if err != nil {
		return e.explainUDP(s, p, err)
	}
	defer conn.Close()
	began := time.Now()
	mapped, err := mappedAddress(ctx, conn)
	if err != nil {
		return e.explainUDP(s, p, err)
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	r := s.ok("%s sees this machine as %s", "%s에서 이 컴퓨터는 %s(으)로 보입니다", p.at, mapped)
	if mapped.Addr() != local.Addr().Unmap() {
		r = s.ok("%s sees this machine as %s: there is a NAT in between", "%s에서 이 컴퓨터는 %s(으)로 보입니다. 사이에 NAT가 있습니다", p.at, mapped)
	}
	return r.fact("mapped", mapped.String()).fact("local", local.String()).fact("ms", milliseconds(time.Since(began)))
}

// mappedAddress sends a binding request (RFC 8489 §6.2.1: again after 0.5, 1, 2 s) until it is answered or ctx ends.
func mappedAddress(ctx context.Context, conn net.Conn) (netip.AddrPort, error) {
	deadline, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	if err != nil {
		return netip.AddrPort{}, err
	}
	buf := make([]byte, 1500)
	for wait := 500 * time.Millisecond; ; wait *= 2 {
		if _, err := conn.Write(request.Raw); err != nil {
			return netip.AddrPort{}, err
		}
		again := time.Now().Add(wait)
		if deadline.Before(again) {
			again = deadline
		}
		conn.SetReadDeadline(again)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				if timedOut(err) && ctx.Err() == nil && time.Now().Before(deadline) {
					break
				}
				return netip.AddrPort{}, err
			}
			answer := &stun.Message{Raw: slices.Clone(buf[:n])}
			var mapped stun.XORMappedAddress
			if answer.Decode() != nil || answer.TransactionID != request.TransactionID || mapped.GetFrom(answer) != nil {
				continue
			}
			if a, ok := netip.AddrFromSlice(mapped.IP); ok {
				return netip.AddrPortFrom(a.Unmap(), uint16(mapped.Port)), nil
			}
		}
	}
}

// explainUDP says what is wrong where UDP does not get through.
func (e *examination) explainUDP(s subject, p place, err error) Result {
	port := p.at.Port()
	switch {
	case unroutable(err):
		return s.skip("this machine has no %[2]s, so %[1]s is not looked at", "이 컴퓨터에 %[2]s 연결이 없어 %[1]s은(는) 검사하지 않았습니다", p.at, family(p.at.Addr()))
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return s.fail("this machine's own firewall does not let UDP out", "이 컴퓨터의 방화벽이 UDP 송신을 막고 있습니다").
			hint("", "allow outgoing UDP to port %d", "UDP %d 포트로 나가는 것을 허용하십시오", port)
	case !e.isHost(p) && e.literal(p):
		return s.fail("the node tells clients to use %s, from where nothing comes back", "노드가 클라이언트에 %s을(를) 쓰라고 알려 주지만, 그 주소에서 응답이 없습니다", p.at).
			hint("external-ip", "set external-ip to the node's public address; if it is right, open UDP port %d in the firewalls", "external-ip를 노드의 공인 주소로 설정하십시오. 주소가 맞다면 방화벽에서 UDP %d 포트를 여십시오", port)
	case errors.Is(err, syscall.ECONNREFUSED):
		return s.fail("nothing listens at UDP %s", "UDP %s에서 응답하는 프로그램이 없습니다", p.at).
			hint("udp", "the node's key udp says at which port it is; a port forwarding must keep its number", "노드의 UDP 포트는 udp 설정에 있습니다. 포트 포워딩을 쓴다면 번호가 같아야 합니다")
	default:
		return s.fail("no answer over UDP from %s", "%s에서 UDP 응답이 없습니다", p.at).
			hint("udp", "open UDP port %d (key udp) in the firewall of the server and of its provider. If others get through, this network blocks UDP: calls go over TCP or TLS then", "서버와 호스팅 업체의 방화벽에서 UDP %d 포트(udp 설정)를 여십시오. 다른 곳에서 된다면 이 네트워크가 UDP를 막는 것이며, 통화는 TCP나 TLS로 이루어집니다", port)
	}
}

// isHost reports whether a place is one at which the node itself was reached.
func (e *examination) isHost(p place) bool {
	return p.host == e.host || slices.Contains(e.addresses.wait(), p.at.Addr())
}

func (e *examination) literal(p place) bool { _, err := netip.ParseAddr(p.host); return err == nil }
