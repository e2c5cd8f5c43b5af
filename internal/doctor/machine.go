package doctor

import (
	"net"
	"net/netip"
	"slices"
)

// Bounds of what a node needs of its machine.
const (
	wantedBuffer = 4 << 20 // bytes; what the relay asks for its UDP socket
	wantedFiles  = 16_384  // a socket for each link, stream and relayed transport address
	leastFiles   = 1024
	wantedDisk   = 1 << 30 // bytes
	leastDisk    = 64 << 20
)

// isHere reports whether one of the addresses is this machine's.
func isHere(addresses []netip.Addr) bool {
	own, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addresses, func(a netip.Addr) bool {
		return a.IsLoopback() || slices.ContainsFunc(own, func(o net.Addr) bool {
			p, err := netip.ParsePrefix(o.String())
			return err == nil && p.Addr().Unmap() == a
		})
	})
}
