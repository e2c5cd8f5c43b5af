package relay

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/pion/stun/v4"
)

// denied are addresses that are never relayed to by default, one or more for each reason.
var denied = []string{
	"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.1",
	"100.64.0.1", "100.127.255.254", "169.254.169.254", "169.254.0.1", "192.0.0.192", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1",
	"198.19.255.255", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
	"::", "::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "3fff::1", "2001:2::1", "100::1", "5f00::1",
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:192.168.1.1", "::ffff:0.0.0.0", // IPv4-mapped
	"::127.0.0.1", "::10.0.0.1", "::8.8.8.8", // IPv4-compatible
	"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", // NAT64
	"::ffff:0:10.0.0.1",                                    // SIIT
	"2002:7f00:1::1", "2002:a00:1::1", "2002:a9fe:a9fe::1", // 6to4
	"2001:0:a00:1::", "2001:0:808:808:0:0:f5ff:fffe", // Teredo: server 10.0.0.1; client 10.0.0.1
}

var public = []string{
	"8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "198.17.0.1", "223.255.255.254",
	"2606:4700:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808:0:0:f7f7:f7f7", "::ffff:8.8.8.8",
}

func TestPolicy(t *testing.T) {
	p := newPolicy(nil, []netip.Addr{netip.MustParseAddr("198.51.100.1")}, []uint16{3478})
	for _, a := range denied {
		if p.permits(netip.MustParseAddr(a)) {
			t.Errorf("%s is permitted", a)
		}
	}
	for _, a := range public {
		if !p.permits(netip.MustParseAddr(a)) {
			t.Errorf("%s is denied", a)
		}
	}
	if p.permits(netip.Addr{}) || p.permits(netip.MustParseAddr("fe80::1%eth0")) {
		t.Error("no address at all, or one with a zone, is permitted")
	}
	for a := range p.machine.Load().own {
		if own := p.machine.Load().own[a]; p.permits(own) {
			t.Errorf("%s, an address of this machine, is permitted", own)
		}
	}
}

func TestPolicyOfOurOwnAddresses(t *testing.T) {
	ours := netip.MustParseAddr("198.51.100.1") // documentation, but ours
	live := func(ap netip.AddrPort) bool { return ap == netip.AddrPortFrom(ours, 50000) }
	p := newPolicy(prefixes("10.1.0.0/16"), []netip.Addr{ours}, []uint16{3478})
	for at, want := range map[string]bool{
		"198.51.100.1:50000": true,  // a relay of ours
		"198.51.100.1:50001": false, // no relay
		"198.51.100.1:22":    false,
		"198.51.100.1:3478":  false, // ourselves
		"10.1.2.3:4000":      true,  // allowed
		"10.2.2.3:4000":      false,
		"8.8.8.8:53":         true,
		"8.8.8.8:0":          false,
		"127.0.0.1:3478":     false,
	} {
		if got := p.permitsPort(netip.MustParseAddrPort(at), live); got != want {
			t.Errorf("%s: got %v, want %v", at, got, want)
		}
	}
	p = newPolicy(prefixes("127.0.0.0/8"), []netip.Addr{ours}, []uint16{3478})
	if p.permitsPort(netip.MustParseAddrPort("127.0.0.1:3478"), live) {
		t.Error("with loopback allowed, our own port is permitted")
	}
	if !p.permitsPort(netip.MustParseAddrPort("127.0.0.1:5000"), live) {
		t.Error("loopback is allowed, and denied")
	}
}

func TestBroadcast(t *testing.T) {
	for in, want := range map[string]string{"198.51.100.7/24": "198.51.100.255", "10.9.9.9/13": "10.15.255.255", "1.2.3.4/30": "1.2.3.7"} {
		if got, ok := broadcastOf(netip.MustParsePrefix(in)); !ok || got.String() != want {
			t.Errorf("%s: got %v, want %s", in, got, want)
		}
	}
	for _, in := range []string{"1.2.3.4/32", "1.2.3.4/31", "2001:db8::1/64"} {
		if got, ok := broadcastOf(netip.MustParsePrefix(in)); ok {
			t.Errorf("%s: got %v, want none", in, got)
		}
	}
}

// On the wire: 403 on both requests that open a way, whatever the form of the address.
func TestDeniedAddressesAreRefusedWith403(t *testing.T) {
	n := start(t, func(c *Config) { c.AllowNetworks = nil })
	for _, f := range []byte{1, 2} {
		for _, network := range []string{"udp", "tcp"} {
			r := n.raw(t, network, n.Mint("p1", "alice", 1<<40))
			if c := r.allocate(family(f)); c != 0 {
				t.Fatalf("allocate: %d", c)
			}
			for i, a := range denied {
				if c, m := r.do(stun.MethodCreatePermission, peerAt(a, 80)); c != stun.CodeForbidden {
					t.Errorf("family %d, CreatePermission %s: got %d, want 403", f, a, c)
				} else if err := stun.NewLongTermIntegrity(r.cred.Username, r.realm, r.cred.Credential).Check(m); err != nil {
					t.Errorf("the 403 has no integrity: %v", err)
				}
				if c, _ := r.do(stun.MethodChannelBind, channelNumber(uint16(0x4000+i)), peerAt(a, 80)); c != stun.CodeForbidden {
					t.Errorf("family %d, ChannelBind %s: got %d, want 403", f, a, c)
				}
			}
			// One denied address among permitted ones spoils the request (RFC 8656 §10.2).
			good := "8.8.8.8"
			if f == 2 {
				good = "2606:4700:4700::1111"
			}
			if c, _ := r.do(stun.MethodCreatePermission, peerAt(good, 80), peerAt("10.0.0.1", 80)); c != stun.CodeForbidden {
				t.Errorf("got %d, want 403", c)
			}
			if c, _ := r.do(stun.MethodCreatePermission, peerAt(good, 80)); c != 0 {
				t.Errorf("%s: got %d, want success", good, c)
			}
		}
	}
	if d := n.Snapshot().Projects["p1"].Denied; d != uint64(4*(2*len(denied)+1)) {
		t.Errorf("counted %d", d)
	}
}

func TestSendIndicationToADeniedAddressDoesNothing(t *testing.T) {
	n := start(t, func(c *Config) { c.AllowNetworks = nil })
	victim := sink(t)
	r := n.raw(t, "udp", n.Mint("p1", "alice", 1<<40))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peerAt("127.0.0.1", portOf(victim)), attr(stun.AttrData, 'h', 'i'))
	r.send(m.Raw)
	r.silent()
	if got(t, victim) {
		t.Error("the victim got it")
	}
}

// The data path checks again, whatever permissions there are.
func TestDataPathHoldsThePolicy(t *testing.T) {
	n := start(t, func(c *Config) { c.AllowNetworks = nil })
	victim := sink(t)
	r := n.raw(t, "udp", n.Mint("p1", "alice", 1<<40))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	n.relaysMu.RLock()
	var rc *relayConn
	for _, rc = range n.relays {
	}
	n.relaysMu.RUnlock()
	if k, err := rc.WriteTo([]byte("hi"), victim.LocalAddr()); k != 2 || err != nil {
		t.Errorf("got %d, %v; want a silent drop", k, err)
	}
	if got(t, victim) {
		t.Error("the victim got it")
	}
	if d := n.Snapshot().Dropped["denied"]; d != 1 {
		t.Errorf("counted %d drops, want 1", d)
	}
}

// Two clients that both need the relay meet there, without any network being allowed.
func TestRelayToRelayOnOurOwnAddress(t *testing.T) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast()
	})
	if i < 0 {
		missing(t, "this machine has no IPv4 address but loopback")
	}
	v4, _ := netip.AddrFromSlice(addresses[i].(*net.IPNet).IP.To4())
	n := start(t, func(c *Config) { c.AllowNetworks, c.ExternalIPv4 = nil, v4 })
	a := n.allocate(t, "udp", n.Mint("p1", "alice", 1<<40))
	b := n.allocate(t, "tcp", n.Mint("p1", "bob", 1<<40))
	exchange(t, a, b)
}

// Behind address translation, a relay's external address is not on this machine: relays meet all the same.
func TestRelayToRelayBehindAddressTranslation(t *testing.T) {
	n := start(t, func(c *Config) { c.AllowNetworks, c.ExternalIPv4 = nil, netip.MustParseAddr("8.8.4.4") })
	a := n.allocate(t, "udp", n.Mint("p1", "alice", 1<<40))
	b := n.allocate(t, "udp", n.Mint("p1", "bob", 1<<40))
	if got := addrPort(a.LocalAddr()).Addr().String(); got != "8.8.4.4" {
		t.Fatalf("relayed address %s, want the external one", got)
	}
	exchange(t, a, b)
}
