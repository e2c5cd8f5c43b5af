//go:build linux

package browser

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// resolverRules is Chromium's own way to send hosts elsewhere.
func resolverRules(hosts map[string]string) string {
	var rules []string
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		rules = append(rules, "MAP "+host+" "+hosts[host])
	}
	return "--host-resolver-rules=" + strings.Join(rules, ",")
}

// proxyConfig is a proxy auto-config that sends these hosts, and nothing else, to a SOCKS proxy: Firefox has no other way that covers ports
// and WebSocket.
func proxyConfig(hosts map[string]string, socks string) string {
	var names []string
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		names = append(names, strconv.Quote(host))
	}
	return fmt.Sprintf("data:text/javascript,function FindProxyForURL(url, host) { return [%s].includes(host) ? 'SOCKS5 %s' : 'DIRECT' }",
		strings.Join(names, ", "), socks)
}

// A hostProxy is a SOCKS5 proxy (RFC 1928) without authentication that knows a few host names.
type hostProxy struct {
	ln    net.Listener
	hosts map[string]string
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

func newHostProxy(ln net.Listener, hosts map[string]string) *hostProxy {
	p := &hostProxy{ln: ln, hosts: hosts, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	return p
}

func (p *hostProxy) close() {
	p.ln.Close()
	p.mu.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}

// own makes close close conn too. It reports whether there is still time.
func (p *hostProxy) own(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *hostProxy) disown(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *hostProxy) serve(client net.Conn) {
	if !p.own(client) {
		return
	}
	defer p.disown(client)
	host, err := readSOCKS(client)
	if err != nil {
		return // the browser shows a failed load
	}
	server, err := net.Dial("tcp", p.hosts[host])
	if err != nil || !p.own(server) {
		client.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0}) // host unreachable
		return
	}
	defer p.disown(server)
	if _, err := client.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return
	}
	p.wg.Go(func() {
		io.Copy(server, client)
		server.Close() // ends the other direction
	})
	io.Copy(client, server)
}

// readSOCKS reads greeting and request, and answers the former. It returns the host asked for (RFC 1928 §3, §4).
func readSOCKS(client net.Conn) (host string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(client, head); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(client, make([]byte, head[1])); err != nil {
		return "", err
	}
	if _, err := client.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	request := make([]byte, 5)
	if _, err := io.ReadFull(client, request); err != nil {
		return "", err
	}
	if request[1] != 1 || request[3] != 3 {
		return "", errors.New("not a CONNECT to a name")
	}
	rest := make([]byte, int(request[4])+2)
	if _, err := io.ReadFull(client, rest); err != nil {
		return "", err
	}
	return string(rest[:request[4]]), nil // the port is none of ours: a host has one address here
}
