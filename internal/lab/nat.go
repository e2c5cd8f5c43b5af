//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Kind says how a host reaches the internet. The words are those of RFC 4787 (mapping §4.1, filtering §5), the short names those that
// people use.
type Kind int

const (
	// Open is a public address of IPv4 without a NAT.
	Open Kind = iota
	// FullCone: endpoint-independent mapping and filtering.
	FullCone
	// AddressRestricted: endpoint-independent mapping, address-dependent filtering.
	AddressRestricted
	// PortRestricted: endpoint-independent mapping, address and port-dependent filtering. What Linux routers do.
	PortRestricted
	// Symmetric: address and port-dependent mapping and filtering.
	Symmetric
	// DoubleNAT is a PortRestricted NAT behind a carrier's, which is PortRestricted too.
	DoubleNAT
	// UDPBlocked: no UDP passes; TCP to any port does.
	UDPBlocked
	// TCP443Only: nothing passes but HTTPS: TCP to port 443 whose first byte is that of a TLS handshake (RFC 8446 §5.1), as firewalls have it
	// that look into connections.
	TCP443Only
	// IPv6Only is a public address of IPv6 and none of IPv4.
	IPv6Only
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{Open, FullCone, AddressRestricted, PortRestricted, Symmetric, DoubleNAT, UDPBlocked, TCP443Only, IPv6Only}
}

func (k Kind) String() string {
	names := [...]string{"open", "cone", "addr", "port", "sym", "dbl", "noudp", "tcp443", "v6"}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return names[k]
}

// rules returns the nftables rules of a router of this kind. Devices are called "wan" and "lan"; inside is the host that unsolicited
// packets go to, where the filtering lets them pass.
//
// Linux keeps the source port in "masquerade" unless another mapping uses it, so its mapping is endpoint-independent as long as one
// inner port is one outer port, and address and port-dependent with "fully-random". Conntrack filters by address and port. Weaker
// filtering is built on that: all packets from outside are sent to the inner host, and a set that the host's own packets fill decides
// which of them are let through.
//
// A packet that is dropped leaves no conntrack entry. That matters: an early packet from the other side must not occupy the 5-tuple that the
// host's own packet is going to need, or the outer port would change and break the hole punching.
func (k Kind) rules(inside netip.Addr) (string, error) {
	const (
		outbound    = `iifname "lan" oifname "wan" accept`
		established = `ct state established,related accept`
		minutes     = 5 // RFC 4787 REQ-5: a mapping lives for at least two minutes
	)
	var set, prerouting, masquerade string
	var forward []string
	masquerade = "masquerade"
	switch k {
	case PortRestricted, DoubleNAT:
		forward = []string{outbound, established}
	case Symmetric:
		masquerade = "masquerade fully-random"
		forward = []string{outbound, established}
	case FullCone:
		set = fmt.Sprintf(`set mapped { type inet_service; flags dynamic,timeout; timeout %dm; size 65535; }`, minutes)
		prerouting = fmt.Sprintf(`iifname "wan" meta l4proto udp dnat to %s`, inside)
		forward = []string{
			`iifname "lan" oifname "wan" meta l4proto udp update @mapped { udp sport }`,
			outbound,
			`iifname "wan" meta l4proto udp udp dport @mapped accept`,
			established,
		}
	case AddressRestricted:
		set = fmt.Sprintf(`set mapped { type inet_service . ipv4_addr; flags dynamic,timeout; timeout %dm; size 65535; }`, minutes)
		prerouting = fmt.Sprintf(`iifname "wan" meta l4proto udp dnat to %s`, inside)
		forward = []string{
			`iifname "lan" oifname "wan" meta l4proto udp update @mapped { udp sport . ip daddr }`,
			outbound,
			`iifname "wan" meta l4proto udp udp dport . ip saddr @mapped accept`,
			established,
		}
	case UDPBlocked:
		forward = []string{`meta l4proto udp drop`, outbound, established}
	case TCP443Only:
		// @ih is the TCP payload; on a segment without one the comparison does not match. A handshake may take several segments: the mark says that
		// the first one was seen.
		forward = []string{
			`iifname "lan" oifname "wan" tcp dport 443 ct mark 0 @ih,0,8 0x16 ct mark set 1 accept`,
			`iifname "lan" oifname "wan" tcp dport 443 ct mark 0 @ih,0,8 != 0x16 drop`,
			`iifname "lan" oifname "wan" tcp dport 443 accept`,
			established,
		}
	default:
		return "", fmt.Errorf("a host of kind %v has no router", k)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table ip lab {\n%s\n", set)
	if prerouting != "" {
		fmt.Fprintf(&b, "chain incoming { type nat hook prerouting priority dstnat; %s; }\n", prerouting)
	}
	fmt.Fprintf(&b, "chain outgoing { type nat hook postrouting priority srcnat; oifname \"wan\" %s; }\n", masquerade)
	fmt.Fprintf(&b, "chain transit { type filter hook forward priority filter; policy drop;\n%s\n}\n", strings.Join(forward, "\n"))
	// Packets to the router itself. Without this it would answer "port unreachable" and keep a conntrack entry of it.
	fmt.Fprintf(&b, "chain local { type filter hook input priority filter; iifname \"wan\" ct state new drop; }\n}\n")
	return b.String(), nil
}
