package server

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/madang-rtc/madang/internal/config"
	"github.com/madang-rtc/madang/internal/relay"
)

// Firefox warns of five and more, since it asks all of them for candidates before it is done.
func TestClientsGetFewICEServersAndThoseThatTheyCanReach(t *testing.T) {
	socket, err := relay.ListenUDP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	relays, err := relay.New(relay.Config{Secret: []byte("0123456789abcdef"), UDP: []*net.UDPConn{socket}, ExternalIPv4: netip.MustParseAddr("192.0.2.1"), MinPort: 50000, MaxPort: 50010})
	if err != nil {
		t.Fatal(err)
	}
	defer relays.Close()
	both := external{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for name, c := range map[string]struct {
		external external
		config   Config
		from     string
		want     []string
	}{
		"over IPv4": {both, Config{}, "198.51.100.7", []string{"stun:192.0.2.1:3478", "turn:192.0.2.1:3478?transport=udp", "turn:192.0.2.1:8080?transport=tcp"}},
		"over IPv6, perhaps alone": {both, Config{}, "2001:db8::7",
			[]string{"stun:192.0.2.1:3478", "turn:[2001:db8::1]:3478?transport=udp", "turn:[2001:db8::1]:8080?transport=tcp", "turn:192.0.2.1:3478?transport=udp"}},
		"over IPv6, with TLS": {both, Config{Config: config.Config{TLSCert: "a.pem", TLSKey: "a.key"}}, "2001:db8::7",
			[]string{"stun:192.0.2.1:3478", "turn:[2001:db8::1]:3478?transport=udp", "turn:[2001:db8::1]:8080?transport=tcp", "turns:[2001:db8::1]:8080?transport=tcp"}},
		"a node with one family": {external{v6: both.v6}, Config{}, "198.51.100.7",
			[]string{"stun:[2001:db8::1]:3478", "turn:[2001:db8::1]:3478?transport=udp", "turn:[2001:db8::1]:8080?transport=tcp"}},
		"a node with a name": {both, Config{Config: config.Config{Domain: "call.example.com"}}, "2001:db8::7",
			[]string{"stun:call.example.com:3478", "turn:call.example.com:3478?transport=udp", "turn:call.example.com:8080?transport=tcp", "turns:call.example.com:8080?transport=tcp"}},
	} {
		m := iceMinter{relay: relays, endpoints: c.external.endpoints(&c.config, 8080, 3478)}
		ice, err := m.servers("p", "peer", netip.MustParseAddr(c.from))
		if err != nil {
			t.Fatal(err)
		}
		if got := append(ice.Servers[0].URLs, ice.Servers[1].URLs...); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
