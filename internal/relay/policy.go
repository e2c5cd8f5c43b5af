package relay

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// deniedNetworks are the networks to which nothing is relayed: whoever holds a credential could otherwise reach, with this
// machine's address, what is meant for its neighbours only (cloud metadata services, databases on a private network, ourselves).
// The list is IANA's two special-purpose registries (RFC 6890 and its updates) without the rows that are globally reachable.
var deniedNetworks = prefixes(
	"0.0.0.0/8",       // RFC 791 §3.2: "this network", and unspecified
	"10.0.0.0/8",      // RFC 1918
	"100.64.0.0/10",   // RFC 6598: carrier-grade NAT
	"127.0.0.0/8",     // RFC 1122: loopback
	"169.254.0.0/16",  // RFC 3927: link-local; 169.254.169.254 is the metadata service of most clouds
	"172.16.0.0/12",   // RFC 1918
	"192.0.0.0/24",    // RFC 6890: IETF protocol assignments; 192.0.0.192 is another cloud's metadata service
	"192.0.2.0/24",    // RFC 5737: documentation
	"192.88.99.0/24",  // RFC 7526: deprecated 6to4 relay anycast
	"192.168.0.0/16",  // RFC 1918
	"198.18.0.0/15",   // RFC 2544: benchmarking
	"198.51.100.0/24", // RFC 5737: documentation
	"203.0.113.0/24",  // RFC 5737: documentation
	"224.0.0.0/4",     // RFC 5771: multicast
	"240.0.0.0/4",     // RFC 1112: reserved, and 255.255.255.255, limited broadcast

	"::/96",          // unspecified, loopback, and RFC 4291 §2.5.5.1: IPv4-compatible
	"64:ff9b:1::/48", // RFC 8215: local-use translation; where the IPv4 address stands is a local matter
	"100::/64",       // RFC 6666: discard only
	"2001:2::/48",    // RFC 5180: benchmarking
	"2001:10::/28",   // RFC 4843: ORCHID, not routed
	"2001:20::/28",   // RFC 7343: ORCHIDv2, not routed
	"2001:db8::/32",  // RFC 3849: documentation
	"3fff::/20",      // RFC 9637: documentation
	"5f00::/16",      // RFC 9602: segment routing identifiers
	"fc00::/7",       // RFC 4193: unique local; holds fd00:ec2::254, a metadata service
	"fe80::/10",      // RFC 4291: link-local
	"fec0::/10",      // RFC 3879: deprecated site-local
	"ff00::/8",       // RFC 4291: multicast
)

// Networks whose IPv6 addresses stand for an IPv4 address: what is denied there is denied here.
var (
	nat64Network  = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052: in the last 32 bits
	siitNetwork   = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915: in the last 32 bits
	sixToFour     = netip.MustParsePrefix("2002::/16")       // RFC 3056: in bits 16 to 47
	teredoNetwork = netip.MustParsePrefix("2001::/32")       // RFC 4380: server in bits 32 to 63, client inverted in the last 32
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// special reports whether a, which is neither IPv4-mapped nor has a zone, is one of the addresses that are denied by default.
func special(a netip.Addr) bool {
	for _, p := range deniedNetworks {
		if p.Contains(a) {
			return true
		}
	}
	if a.Is4() {
		return false
	}
	b := a.As16()
	v4 := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(b[at : at+4])) }
	switch {
	case nat64Network.Contains(a), siitNetwork.Contains(a):
		return special(v4(12))
	case sixToFour.Contains(a):
		return special(v4(2))
	case teredoNetwork.Contains(a):
		client := [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}
		return special(v4(4)) || special(netip.AddrFrom4(client))
	}
	return false
}

// plain strips what does not matter for the policy: the IPv4-mapped form and the zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// policy decides to which addresses we relay. It is immutable but for the machine's own addresses, which are replaced as a whole;
// safe for concurrent use.
type policy struct {
	allow       []netip.Prefix
	relayed     []netip.Addr // addresses under which our own relayed transport addresses are known to clients
	listenPorts []uint16     // UDP ports on which we listen for clients
	machine     atomic.Pointer[machineAddresses]
}

type machineAddresses struct {
	own       []netip.Addr
	broadcast []netip.Addr
}

func newPolicy(allow []netip.Prefix, relayed []netip.Addr, listenPorts []uint16) *policy {
	p := &policy{allow: allow, relayed: relayed, listenPorts: listenPorts}
	p.refresh()
	return p
}

// refresh reads the machine's addresses anew. Without them (no permission to ask), only the fixed lists apply.
func (p *policy) refresh() {
	m := &machineAddresses{}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if pre, err := netip.ParsePrefix(n.String()); err == nil {
					m.own = append(m.own, plain(pre.Addr()))
					if b, ok := broadcastOf(pre); ok {
						m.broadcast = append(m.broadcast, b)
					}
				}
			}
		}
	}
	p.machine.Store(m)
}

// broadcastOf returns the directed broadcast address of an IPv4 network; /31 and /32 have none (RFC 3021).
func broadcastOf(pre netip.Prefix) (netip.Addr, bool) {
	if !pre.Addr().Is4() || pre.Bits() >= 31 {
		return netip.Addr{}, false
	}
	b := pre.Addr().As4()
	for i := pre.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b), true
}

func (p *policy) allowed(a netip.Addr) bool {
	for _, n := range p.allow {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// isRelayed reports whether a is an address of our own relayed transport addresses. Two clients that both need a relay meet there,
// so permissions for it are granted; which ports may be reached is decided per packet.
func (p *policy) isRelayed(a netip.Addr) bool { return slices.Contains(p.relayed, a) }

func (p *policy) isMachine(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || slices.Contains(p.machine.Load().own, a)
}

// permits decides about a permission (RFC 8656 §9), which is for an address with all its ports.
func (p *policy) permits(a netip.Addr) bool {
	a = plain(a)
	if !a.IsValid() {
		return false
	}
	if p.allowed(a) {
		return true
	}
	if a.IsLoopback() { // even as our own relayed address, which happens on a developer's machine: say so with allow
		return false
	}
	if p.isRelayed(a) {
		return true
	}
	return !special(a) && !p.isMachine(a) && !slices.Contains(p.machine.Load().broadcast, a)
}

// permitsPort decides about one transport address, for a channel binding or a packet. live reports whether a port is one of our own
// current relayed transport addresses.
func (p *policy) permitsPort(ap netip.AddrPort, live func(netip.AddrPort) bool) bool {
	a := plain(ap.Addr())
	if ap.Port() == 0 || !p.permits(a) {
		return false
	}
	ours := p.isRelayed(a)
	if (ours || p.isMachine(a)) && slices.Contains(p.listenPorts, ap.Port()) {
		return false // a relay that talks to itself is a loop, whatever is allowed
	}
	if ours && !p.allowed(a) {
		return live(netip.AddrPortFrom(a, ap.Port()))
	}
	return true
}
