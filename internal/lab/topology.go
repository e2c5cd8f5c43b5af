//go:build linux

package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/madang-rtc/madang/internal/lab/linkem"
)

// The lab's public addresses. They are ordinary global unicast ones, since those that RFC 5737 and RFC 3849 set aside for documentation
// are not: a relay that refuses special addresses would refuse them too. Nothing leaves the namespaces, so nobody is bothered.
var (
	public4 = netip.MustParsePrefix("11.90.0.0/24")
	public6 = netip.MustParsePrefix("2a0b:90::/64")
)

const (
	firstServer = 10 // host part of servers' addresses; each has two, for natprobe
	firstHost   = 50 // host part of the others'
)

// A Lab is a public network segment with hosts. Its methods must be called by one goroutine.
type Lab struct {
	t       testing.TB
	prefix  string // of namespaces' names
	wan     *Namespace
	all     []*Namespace
	servers int
	hosts   int // public addresses given out, apart from servers'
	ports   int // of the public bridge
}

// A Host is a namespace with an address.
type Host struct {
	*Namespace
	Kind Kind
	// Addr4 and Addr6 are the host's own addresses; invalid if it has none of that family.
	Addr4, Addr6 netip.Addr
	// Public4 is how the internet sees the host: its own address, or that of the outermost router. Invalid for IPv6Only.
	Public4 netip.Addr
	// Routers are the NATs in front of the host, from the innermost.
	Routers []*Namespace
	// Link emulates the host's access link if asked for in HostConfig; else nil.
	Link *linkem.Link
	// Second4 is the second address of a server, for natprobe.
	Second4 netip.Addr

	device  string // of the host
	gateway netip.Addr
}

// HostConfig describes a host to be made.
type HostConfig struct {
	Kind Kind
	// Link, if not nil, puts a link emulator between the host and its segment.
	Link *linkem.Config
}

// New makes an empty lab that is torn down at the end of the test. See [Require].
func New(t testing.TB) *Lab {
	t.Helper()
	Require(t)
	if err := removeStale(); err != nil {
		t.Logf("remove what a killed lab has left: %v", err)
	}
	start, err := startTicks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	token := make([]byte, 4)
	_, _ = rand.Read(token) // never fails (crypto/rand)
	l := &Lab{t: t, prefix: fmt.Sprintf("%s%d-%s-%s-", netnsPrefix, os.Getpid(), start, hex.EncodeToString(token))}
	t.Cleanup(l.close)
	l.wan = l.namespace("wan")
	l.must(l.wan.ip("link add br0 type bridge", "link set br0 up"))
	return l
}

func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
}

func (l *Lab) close() {
	var errs []error
	for _, n := range l.all {
		errs = append(errs, n.close())
	}
	if err := errors.Join(errs...); err != nil {
		l.t.Errorf("lab: %v", err)
	}
}

func (l *Lab) namespace(name string) *Namespace {
	l.t.Helper()
	n, err := newNamespace(l.prefix + name)
	l.must(err)
	l.all = append(l.all, n)
	// Before any interface exists, so that none ever has an address of IPv6 it should not have.
	l.must(n.Sysctl("ipv6/conf/default/disable_ipv6", "1"))
	// The kernel would answer neighbours for addresses on its other interfaces.
	l.must(n.Sysctl("ipv4/conf/all/arp_ignore", "1"))
	return n
}

// plug joins device inside n to the public bridge, through a link emulator if link is not nil.
func (l *Lab) plug(n *Namespace, device string, link *linkem.Config) *linkem.Link {
	l.t.Helper()
	l.ports++
	port := fmt.Sprintf("p%d", l.ports)
	emulated := l.cable(n, device, l.wan, port, link)
	l.must(l.wan.ip(fmt.Sprintf("link set %s master br0 up", port)))
	return emulated
}

// cable joins device a of namespace na with device b of nb.
func (l *Lab) cable(na *Namespace, a string, nb *Namespace, b string, link *linkem.Config) *linkem.Link {
	l.t.Helper()
	if link == nil {
		l.must(na.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", a, b, nb.name)))
		return nil
	}
	open := func(n *Namespace, device string) (tap *linkem.TAP) {
		l.must(n.Do(func() (err error) { tap, err = linkem.OpenTAP(device); return err }))
		return tap
	}
	ta, tb := open(na, a), open(nb, b)
	emulated, err := linkem.New(*link, ta, tb)
	l.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- emulated.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("lab: link emulator: %v", err)
		}
	})
	return emulated
}

func publicAddr4(host int) netip.Addr {
	a := public4.Addr().As4()
	a[3] = byte(host)
	return netip.AddrFrom4(a)
}

func publicAddr6(host int) netip.Addr {
	a := public6.Addr().As16()
	a[15] = byte(host)
	return netip.AddrFrom16(a)
}

func (l *Lab) nextHost() int {
	if firstHost+l.hosts > 250 {
		l.t.Fatal("lab: too many hosts")
	}
	l.hosts++
	return firstHost + l.hosts - 1
}

// Server makes a host on the public segment with both families, and two addresses of IPv4.
func (l *Lab) Server() *Host {
	l.t.Helper()
	n := l.namespace(fmt.Sprintf("server%d", l.servers))
	number := firstServer + 2*l.servers
	l.servers++
	l.must(n.Sysctl("ipv6/conf/default/disable_ipv6", "0"))
	h := &Host{Namespace: n, Kind: Open, Addr4: publicAddr4(number), Second4: publicAddr4(number + 1), Addr6: publicAddr6(number), device: "eth0"}
	h.Public4 = h.Addr4
	l.plug(n, "eth0", nil)
	l.must(n.ip(
		"link set eth0 up",
		fmt.Sprintf("addr add %s/24 dev eth0", h.Addr4),
		fmt.Sprintf("addr add %s/24 dev eth0", h.Second4),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", h.Addr6),
		fmt.Sprintf("route add default via %s", publicAddr4(1)),
		fmt.Sprintf("route add default via %s dev eth0", publicAddr6(1)),
	))
	return h
}

// Host makes a host behind what its kind says. name is for people and must be unique in the lab.
func (l *Lab) Host(name string, config HostConfig) *Host {
	l.t.Helper()
	n := l.namespace(name)
	h := &Host{Namespace: n, Kind: config.Kind, device: "eth0"}
	switch config.Kind {
	case Open:
		h.Addr4 = publicAddr4(l.nextHost())
		h.Public4, h.gateway = h.Addr4, publicAddr4(1)
		h.Link = l.plug(n, h.device, config.Link)
		l.must(n.ip("link set eth0 up",
			fmt.Sprintf("addr add %s/24 dev eth0", h.Addr4),
			// Nobody is there, but a browser without a default route finds no address of its own.
			fmt.Sprintf("route add default via %s", h.gateway)))
	case IPv6Only:
		l.must(n.Sysctl("ipv6/conf/default/disable_ipv6", "0"))
		h.Addr6 = publicAddr6(l.nextHost())
		h.Link = l.plug(n, h.device, config.Link)
		l.must(n.ip("link set eth0 up",
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", h.Addr6),
			fmt.Sprintf("route add default via %s dev eth0", publicAddr6(1))))
	default:
		outside := l.router(h, name+"-nat", config.Kind, privateLAN)
		if config.Kind == DoubleNAT {
			isp := l.router(h, name+"-isp", PortRestricted, carrierLAN)
			l.attach(outside, "wan", isp, carrierLAN.host(2), carrierLAN, nil)
			outside = isp
		}
		number := l.nextHost()
		h.Public4 = publicAddr4(number)
		l.plug(outside, "wan", nil)
		l.must(outside.ip("link set wan up",
			fmt.Sprintf("addr add %s/24 dev wan", h.Public4),
			fmt.Sprintf("route add default via %s", publicAddr4(1))))
		h.Addr4 = privateLAN.host(2)
		h.gateway = privateLAN.host(1)
		h.Link = l.attach(n, h.device, h.Routers[0], h.Addr4, privateLAN, config.Link)
	}
	return h
}

// Neighbour makes another host in the network of a host behind a NAT. The NAT must be one that serves several hosts: PortRestricted,
// Symmetric, DoubleNAT, UDPBlocked or TCP443Only.
func (l *Lab) Neighbour(name string, of *Host) *Host {
	l.t.Helper()
	if len(of.Routers) == 0 || of.Kind == FullCone || of.Kind == AddressRestricted {
		l.t.Fatalf("lab: a host behind %v has no neighbours", of.Kind)
	}
	h := &Host{Namespace: l.namespace(name), Kind: of.Kind, device: "eth0", Routers: of.Routers, Public4: of.Public4}
	h.Addr4, h.gateway = privateLAN.host(3), privateLAN.host(1)
	h.Link = l.attach(h.Namespace, h.device, h.Routers[0], h.Addr4, privateLAN, nil)
	return h
}

// router makes a router of the given kind, whose wide side is not connected yet, and enters it into h.
func (l *Lab) router(h *Host, name string, kind Kind, inside lan) *Namespace {
	l.t.Helper()
	r := l.namespace(name)
	l.must(r.Sysctl("ipv4/ip_forward", "1"))
	l.must(r.ip("link add lan type bridge", "link set lan up", fmt.Sprintf("addr add %s/24 dev lan", inside.host(1))))
	rules, err := kind.rules(inside.host(2))
	l.must(err)
	l.must(r.NFT(rules))
	h.Routers = append(h.Routers, r)
	return r
}

// attach joins a device of n to the inner side of a router.
func (l *Lab) attach(n *Namespace, device string, router *Namespace, addr netip.Addr, inside lan, link *linkem.Config) *linkem.Link {
	l.t.Helper()
	l.ports++
	port := fmt.Sprintf("p%d", l.ports)
	emulated := l.cable(n, device, router, port, link)
	l.must(router.ip(fmt.Sprintf("link set %s master lan up", port)))
	l.must(n.ip(
		fmt.Sprintf("link set %s up", device),
		fmt.Sprintf("addr add %s/24 dev %s", addr, device),
		fmt.Sprintf("route add default via %s", inside.host(1))))
	return emulated
}

// Move gives the host a new address in its network, as when a phone changes its access point: the old address and all routes over it are gone.
func (h *Host) Move() error {
	if !h.Addr4.IsValid() {
		return errors.New("only hosts with an address of IPv4 can be moved")
	}
	// Far from those that were given out: .50 and up on the public segment, .2 and .3 behind routers.
	b := h.Addr4.As4()
	b[3] ^= 0x80
	next := netip.AddrFrom4(b)
	if err := h.ip(
		fmt.Sprintf("addr flush dev %s", h.device),
		fmt.Sprintf("addr add %s/24 dev %s", next, h.device),
		fmt.Sprintf("route replace default via %s", h.gateway)); err != nil {
		return err
	}
	if h.Public4 == h.Addr4 {
		h.Public4 = next
	}
	h.Addr4 = next
	return nil
}

// A lan is a /24 behind a router.
type lan struct{ prefix netip.Prefix }

var (
	privateLAN = lan{netip.MustParsePrefix("192.168.1.0/24")} // RFC 1918
	carrierLAN = lan{netip.MustParsePrefix("100.64.1.0/24")}  // RFC 6598
)

func (n lan) host(number byte) netip.Addr {
	a := n.prefix.Addr().As4()
	a[3] = number
	return netip.AddrFrom4(a)
}
