package server

import (
	"net"
	"net/netip"
	"strconv"
)

// Ready is what a node tells when all of it is up.
type Ready struct {
	HTTP    string   `json:"http"`            // base URL on this machine
	HTTPS   string   `json:"https,omitempty"` // the same with TLS
	UDP     string   `json:"udp"`             // STUN and TURN
	Metrics string   `json:"metrics,omitempty"`
	Public  string   `json:"public"`  // base URL to give to others
	Network []string `json:"network"` // base URLs for devices on the local network
	Key     string   `json:"key"`     // browser key of the node's own pages
	Data    string   `json:"data"`
	Version string   `json:"version"`
	// SelfSigned says that browsers will warn about the certificate of HTTPS and Network.
	SelfSigned bool `json:"self_signed"`
}

// reachable turns a listening address into one that can be dialled from this machine.
func reachable(a netip.AddrPort) string {
	ip := a.Addr().Unmap()
	switch {
	case ip == netip.IPv4Unspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip == netip.IPv6Unspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // a wildcard socket takes both families
	}
	return netip.AddrPortFrom(ip, a.Port()).String()
}

// networkURLs are the links for other devices nearby; none if the node listens on one address alone.
func networkURLs(listen netip.AddrPort) []string {
	urls := []string{}
	if !listen.Addr().IsUnspecified() {
		return urls
	}
	for _, ip := range localAddresses() {
		if ip.To4() != nil && ip.IsPrivate() {
			urls = append(urls, "https://"+net.JoinHostPort(ip.String(), strconv.Itoa(int(listen.Port()))))
		}
	}
	return urls
}
