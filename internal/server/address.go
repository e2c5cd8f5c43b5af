package server

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddress finds out where a request comes from. X-Forwarded-For is read from the right, and only as far as it was written by trusted proxies: everything
// left of the first stranger may be invented.
func clientAddress(trusted []netip.Prefix) func(*http.Request) netip.Addr {
	isTrusted := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return func(r *http.Request) netip.Addr {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return netip.Addr{} // the control socket
		}
		address := peer.Addr().Unmap().WithZone("")
		if !isTrusted(address) {
			return address
		}
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0; i-- {
			hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
			if err != nil {
				return address
			}
			address = hop.Unmap().WithZone("")
			if !isTrusted(address) {
				return address
			}
		}
		return address
	}
}
