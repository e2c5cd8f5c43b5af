package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An examination is one look at one node. Checks hand to each other what they find in promises.
type examination struct {
	cfg    Config
	base   string // scheme and authority
	host   string // without brackets
	port   uint16
	secure bool

	addresses *promise[[]netip.Addr]     // of host
	reached   *promise[[]netip.AddrPort] // of addresses, those that take connections
	proven    *promise[bool]             // TLS has proven that it is host, or there is none
	node      *promise[*nodeInfo]        // nil: nothing that answers like a node
	websocket *promise[attempt]
	sse       *promise[attempt]
	stun      *promise[bool] // some STUN server has answered
	turn      [3]turnCheck

	mu      sync.Mutex
	secrets []string // what must not be shown
}

// A ConfigError says what is wrong with a Config.
type ConfigError struct{ Message Text }

func (e *ConfigError) Error() string { return e.Message.En }

func examine(cfg Config) (*examination, error) {
	wrong := &ConfigError{text("%q is not the URL of a node, such as https://call.example.com", "%q: https://call.example.com 같은 노드 주소가 아닙니다", cfg.URL)}
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, wrong
	}
	port := uint64(80)
	if u.Scheme == "https" {
		port = 443
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return nil, wrong
		}
	}
	e := &examination{
		cfg: cfg, base: u.Scheme + "://" + u.Host, host: u.Hostname(), port: uint16(port), secure: u.Scheme == "https",
		addresses: newPromise[[]netip.Addr](), reached: newPromise[[]netip.AddrPort](), proven: newPromise[bool](), node: newPromise[*nodeInfo](),
		websocket: newPromise[attempt](), sse: newPromise[attempt](), stun: newPromise[bool](),
	}
	for i, transport := range []string{"udp", "tcp", "tls"} {
		e.turn[i] = turnCheck{e: e, transport: transport, worked: newPromise[[]relayTarget]()}
	}
	e.hide(cfg.Token, cfg.Key)
	return e, nil
}

// hide takes note of secrets. Nothing that the checks write themselves shows them, but an error's text is somebody else's.
func (e *examination) hide(secrets ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range secrets {
		if len(s) >= 8 { // what is shorter is no secret, and would hide half of every sentence
			e.secrets = append(e.secrets, s)
		}
	}
}

func (e *examination) withoutSecrets(r Result) Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.secrets {
		clean := func(t Text) Text { return Text{strings.ReplaceAll(t.En, s, "…"), strings.ReplaceAll(t.Ko, s, "…")} }
		r.Message, r.Hint = clean(r.Message), clean(r.Hint)
		for k, v := range r.Facts {
			if text, ok := v.(string); ok {
				r.Facts[k] = strings.ReplaceAll(text, s, "…")
			}
		}
	}
	return r
}

// tlsConfig is for a connection whose certificate check judges by itself: the other checks say what they find even if it is wrong.
func (e *examination) tlsConfig(protocols ...string) *tls.Config {
	return &tls.Config{ServerName: e.host, InsecureSkipVerify: true, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// client speaks HTTP/1.1, which WebSocket needs, with the node at one of its addresses. It follows no redirect and no proxy of this machine's.
func (e *examination) client(at netip.AddrPort) (c *http.Client, closeIdle func()) {
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, at.String())
		},
		TLSClientConfig: e.tlsConfig(),
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, t.CloseIdleConnections
}

// resolve returns the addresses of a name that the node has handed out.
func (e *examination) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if host == e.host {
		return e.addresses.wait(), nil
	}
	return lookUp(ctx, host)
}

// lookUp returns the addresses of a name or literal: at most two of each family, IPv4 first.
func lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var v4, v6 []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); a.Is4() && len(v4) < 2 {
			v4 = append(v4, a)
		} else if a.Is6() && len(v6) < 2 {
			v6 = append(v6, a)
		}
	}
	return append(v4, v6...), nil
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// private reports whether only neighbours can reach a: RFC 1918, RFC 4193, RFC 6598, loopback, link-local.
func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a)
}

func join[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return strings.Join(words, ", ")
}

// unroutable reports whether this machine has no way to that family of addresses at all.
func unroutable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// reason is the innermost text of an error: its outer ones repeat addresses that the result names already.
func reason(err error) string {
	var errno syscall.Errno
	var u *url.Error
	var op *net.OpError
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.As(err, &u):
		return u.Err.Error()
	}
	return err.Error()
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }
