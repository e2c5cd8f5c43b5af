package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// each calls f for all items at once, and returns what it returned, in order.
func each[T, R any](items []T, f func(T) R) []R {
	out := make([]R, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { out[i] = f(item) })
	}
	wg.Wait()
	return out
}

func (e *examination) checkDNS(ctx context.Context) []Result {
	s := subject{id: "dns"}
	var addresses []netip.Addr
	defer func() { e.addresses.keep(addresses) }()
	if a, err := netip.ParseAddr(e.host); err == nil {
		addresses = []netip.Addr{a.Unmap()}
		return []Result{s.skip("%s is an address: nothing to look up", "%s: IP 주소라서 찾아볼 이름이 없습니다", a)}
	}
	found, err := lookUp(ctx, e.host)
	addresses = found
	if len(e.cfg.Addresses) > 0 {
		addresses = nil
		for _, a := range e.cfg.Addresses {
			addresses = append(addresses, a.Unmap())
		}
		stranger := slices.IndexFunc(addresses, func(a netip.Addr) bool { return !slices.Contains(found, a) })
		switch {
		case err != nil:
			return []Result{s.warn("%s has no address yet; looking at %s as asked", "%s: 아직 주소가 없습니다. 지정한 %s(으)로 검사합니다", e.host, join(addresses)).
				hint("domain", "before others can use it, create an A (IPv4) or AAAA (IPv6) record for %s", "다른 사람이 쓰려면 %s의 A(IPv4) 또는 AAAA(IPv6) 레코드를 만드십시오", e.host)}
		case stranger >= 0:
			return []Result{s.warn("%s leads to %s, and not to %s, which is looked at as asked", "%s: DNS는 %s을(를) 가리키지만, 지정한 %s(으)로 검사합니다", e.host, join(found), addresses[stranger]).
				hint("domain", "change the A or AAAA record of %s to the node's address", "%s의 A 또는 AAAA 레코드를 노드의 주소로 바꾸십시오", e.host).fact("addresses", join(found))}
		}
	}
	var notFound *net.DNSError
	switch {
	case errors.As(err, &notFound) && notFound.IsNotFound:
		return []Result{s.fail("the name %s does not exist, or has no address", "%s: 없는 이름이거나 주소가 없습니다", e.host).
			hint("domain", "create an A (IPv4) or AAAA (IPv6) record for it at your DNS provider, or correct the URL; --address IP looks at the node before DNS knows it",
				"DNS에 A(IPv4) 또는 AAAA(IPv6) 레코드를 만들거나 URL을 고치십시오. --address IP를 쓰면 DNS 등록 전에도 검사할 수 있습니다")}
	case err != nil:
		return []Result{s.fail("%s cannot be looked up: %s", "%s: 이름을 찾을 수 없습니다: %s", e.host, reason(err)).
			hint("", "check this machine's network and DNS servers", "이 컴퓨터의 네트워크와 DNS 서버를 확인하십시오")}
	}
	r := s.ok("%s → %s", "%s → %s", e.host, join(found)).fact("addresses", join(found))
	public := e.host != "localhost" && !strings.HasSuffix(e.host, ".localhost") && !strings.HasSuffix(e.host, ".local")
	if public && !slices.ContainsFunc(found, func(a netip.Addr) bool { return !private(a) }) {
		r = s.warn("%s → %s: only neighbours can reach this", "%s → %s: 같은 네트워크에서만 접속할 수 있습니다", e.host, join(found)).fact("addresses", join(found)).
			hint("domain", "if others are to call, let the name lead to the node's public address", "외부에서도 쓰려면 이름이 노드의 공인 주소를 가리키게 하십시오")
	}
	return []Result{r}
}

func (e *examination) checkTCP(ctx context.Context) []Result {
	addresses := e.addresses.wait()
	if len(addresses) == 0 {
		e.reached.keep(nil)
		return []Result{subject{id: "tcp"}.skip("not looked at: no address", "주소를 알 수 없어 검사하지 않았습니다")}
	}
	type found struct {
		Result
		reached, unroutable bool
	}
	all := each(addresses, func(a netip.Addr) found {
		at := netip.AddrPortFrom(a, e.port)
		s := subject{"tcp", at.String()}
		began := time.Now()
		conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", at.String())
		took := time.Since(began)
		switch {
		case err == nil:
			conn.Close()
			return found{Result: s.ok("%s answers in %.1f ms", "%s: %.1f ms 만에 응답합니다", at, milliseconds(took)).fact("ms", milliseconds(took)), reached: true}
		case unroutable(err):
			return found{Result: s.skip("this machine has no %[2]s, so %[1]s is not looked at", "이 컴퓨터에 %[2]s 연결이 없어 %[1]s은(는) 검사하지 않았습니다", at, family(a)), unroutable: true}
		case errors.Is(err, syscall.ECONNREFUSED):
			return found{Result: s.fail("nothing listens at %s", "%s: 응답하는 프로그램이 없습니다", at).
				hint("listen", "is `madang serve` running there? Its key listen says at which port; a name with an AAAA record must be served over IPv6 too",
					"그곳에서 `madang serve`가 실행 중입니까? 포트는 listen 설정에 있습니다. AAAA 레코드가 있으면 IPv6로도 서비스해야 합니다")}
		case timedOut(err):
			return found{Result: s.fail("%s does not answer", "%s: 응답이 없습니다", at).
				hint("listen", "open TCP port %[1]d in the firewall of the server and of its provider, and check that the address is the server's", "서버와 호스팅 업체의 방화벽에서 TCP %[1]d 포트를 열고, 주소가 서버의 것인지 확인하십시오", e.port)}
		default:
			return found{Result: s.fail("%s cannot be reached: %s", "%s: 접속할 수 없습니다: %s", at, reason(err)).
				hint("listen", "check the address, the route to it, and the server's firewall for TCP port %d", "주소와 경로, 서버 방화벽의 TCP %d 포트를 확인하십시오", e.port)}
		}
	})
	var results []Result
	var reached []netip.AddrPort
	anyWay := slices.ContainsFunc(all, func(f found) bool { return !f.unroutable })
	for i, f := range all {
		if f.reached {
			reached = append(reached, netip.AddrPortFrom(addresses[i], e.port))
		}
		if !anyWay { // no family at all: that is not something to pass over
			f.Status = Fail
			f.Result = f.hint("", "connect this machine to a network", "이 컴퓨터를 네트워크에 연결하십시오")
		}
		results = append(results, f.Result)
	}
	e.reached.keep(reached)
	return results
}

func (e *examination) checkTLS(ctx context.Context) []Result {
	proven := false
	defer func() { e.proven.keep(proven) }()
	if !e.secure {
		proven = true // nothing to prove: the caller has asked for http
		if slices.ContainsFunc(e.addresses.wait(), func(a netip.Addr) bool { return !a.IsLoopback() }) {
			return []Result{subject{id: "tls"}.warn("the URL is http: browsers give no camera or microphone to pages without https", "http 주소입니다. https가 아니면 브라우저가 카메라와 마이크를 허용하지 않습니다").
				hint("domain", "use the https URL; the node has one with domain (automatic certificate) or tls-cert", "https 주소를 쓰십시오. 노드에 domain(자동 인증서)이나 tls-cert를 설정하면 됩니다")}
		}
		return []Result{subject{id: "tls"}.skip("the URL is http, which is enough on this machine alone", "http 주소입니다. 이 컴퓨터에서만 쓸 때는 충분합니다")}
	}
	reached := e.reached.wait()
	if len(reached) == 0 {
		return []Result{subject{id: "tls"}.skip("not looked at: no connection", "접속할 수 없어 검사하지 않았습니다")}
	}
	type found struct {
		Result
		proven bool
	}
	all := each(reached, func(at netip.AddrPort) found {
		r, ok := e.handshake(ctx, subject{"tls", at.String()}, at)
		return found{r, ok}
	})
	proven = true
	var results []Result
	for _, f := range all {
		proven = proven && f.proven
		results = append(results, f.Result)
	}
	return results
}

func (e *examination) handshake(ctx context.Context, s subject, at netip.AddrPort) (r Result, proven bool) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	// http/1.1 has to be possible: WebSocket needs it (RFC 6455 §4.1).
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: e.tlsConfig("http/1.1")}
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return s.fail("%s does not speak TLS: %s", "%s: TLS로 통신할 수 없습니다: %s", at, reason(err)).
			hint("domain", "the node serves https with its key domain (automatic certificate) or tls-cert; right after the first start the certificate may take a minute: see the node's log. A proxy in front must allow http/1.1 (ALPN)",
				"노드는 domain(자동 인증서)이나 tls-cert 설정으로 https를 제공합니다. 처음 시작한 직후에는 인증서 발급에 1분쯤 걸릴 수 있으니 노드의 로그를 보십시오. 앞단 프록시는 http/1.1(ALPN)을 허용해야 합니다"), false
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	leaf := state.PeerCertificates[0]
	left := time.Until(leaf.NotAfter)
	r, proven = e.judgeCertificate(s, state.PeerCertificates, e.host)
	if proven {
		r = s.ok("%s, certificate for %s by %s, valid until %s", "%s, %s 인증서(발급: %s), %s까지 유효", tls.VersionName(state.Version), e.host, issuer(leaf), leaf.NotAfter.UTC().Format(time.DateOnly))
		if soon := min(14*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/4); left < soon {
			r = s.warn("the certificate for %s ends on %s", "%s 인증서가 %s에 끝납니다", e.host, leaf.NotAfter.UTC().Format(time.DateOnly)).
				hint("tls-cert", "renew it. With the key domain the node does so itself: its log says what hinders it, mostly that port 80 or 443 is closed",
					"갱신하십시오. domain 설정을 쓰면 노드가 스스로 갱신합니다. 막힌 이유는 로그에 있으며, 대개 80이나 443 포트가 닫힌 경우입니다")
		}
	}
	return r.fact("notAfter", leaf.NotAfter.UTC().Format(time.RFC3339)).fact("issuer", issuer(leaf)).fact("version", tls.VersionName(state.Version)).
		fact("alpn", state.NegotiatedProtocol), proven
}

func issuer(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return c.Issuer.String()
}

// judgeCertificate says what browsers will think of a chain. Its result is only meant if the chain proves nothing.
func (e *examination) judgeCertificate(s subject, chain []*x509.Certificate, host string) (r Result, proven bool) {
	leaf := chain[0]
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: e.cfg.Roots, Intermediates: intermediates})
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	now := time.Now()
	switch {
	case err == nil:
		return Result{}, true
	case now.After(leaf.NotAfter):
		return s.fail("the certificate ended on %s", "인증서가 %s에 끝났습니다", leaf.NotAfter.UTC().Format(time.DateOnly)).
			hint("tls-cert", "renew it; the node reads tls-cert and tls-key again by itself. With the key domain it renews alone: its log says what hinders it, mostly that port 80 or 443 is closed",
				"갱신하십시오. 노드는 tls-cert와 tls-key를 스스로 다시 읽습니다. domain 설정을 쓰면 자동으로 갱신되며, 막힌 이유는 로그에 있습니다(대개 80이나 443 포트가 닫힌 경우입니다)"), false
	case now.Before(leaf.NotBefore):
		return s.fail("the certificate is valid from %s on", "인증서가 %s부터 유효합니다", leaf.NotBefore.UTC().Format(time.RFC3339)).
			hint("", "set the clock of this machine, or of the one that made the certificate", "이 컴퓨터 또는 인증서를 만든 컴퓨터의 시계를 맞추십시오"), false
	case errors.As(err, &name):
		return s.fail("the certificate is for %s, not for %s", "인증서가 %s용이며 %s용이 아닙니다", names(leaf), host).
			hint("domain", "set domain to %[1]s, or give a certificate for it with tls-cert; a proxy in front needs one for this name too", "domain을 %[1]s(으)로 설정하거나 이 이름의 인증서를 tls-cert로 지정하십시오. 앞단 프록시에도 이 이름의 인증서가 필요합니다", host), false
	case errors.As(err, &unknown) && len(chain) == 1 && leaf.CheckSignatureFrom(leaf) == nil, errors.As(err, &unknown) && leaf.Issuer.String() == leaf.Subject.String():
		if node := e.node.wait(); node != nil && node.Development {
			return s.warn("the certificate is self-signed: browsers warn before they go on", "자체 서명 인증서입니다. 브라우저가 경고를 표시합니다").
				hint("domain", "fine for development; for others set domain (automatic certificate) or tls-cert", "개발용으로는 괜찮습니다. 실제 서비스에는 domain(자동 인증서)이나 tls-cert를 설정하십시오"), false
		}
		return s.fail("the certificate is self-signed", "자체 서명 인증서입니다").
			hint("tls-cert", "set domain (automatic certificate), or give tls-cert one that browsers trust", "domain(자동 인증서)을 설정하거나 브라우저가 신뢰하는 인증서를 tls-cert로 지정하십시오"), false
	case errors.As(err, &unknown):
		return s.fail("nobody whom this machine trusts vouches for the certificate by %s", "이 컴퓨터가 신뢰하지 않는 발급자의 인증서입니다: %s", issuer(leaf)).
			hint("tls-cert", "mostly an intermediate certificate is missing: tls-cert takes the whole chain (fullchain.pem), the node's own certificate first",
				"대개 중간 인증서가 빠진 경우입니다. tls-cert에는 노드 인증서로 시작하는 전체 체인(fullchain.pem)을 지정하십시오"), false
	case errors.As(err, &invalid):
		return s.fail("the certificate must not be used so: %s", "쓸 수 없는 인증서입니다: %s", invalid.Error()).
			hint("tls-cert", "get a certificate for servers", "서버용 인증서를 발급받으십시오"), false
	default:
		return s.fail("the certificate cannot be verified: %s", "인증서를 검증할 수 없습니다: %s", err.Error()).hint("tls-cert", "get another certificate", "다른 인증서를 발급받으십시오"), false
	}
}

func names(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return c.Subject.String()
	}
	if len(all) > 4 {
		all = append(all[:4], "…")
	}
	return strings.Join(all, ", ")
}
