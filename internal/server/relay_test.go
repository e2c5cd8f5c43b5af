package server

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/madang-rtc/madang/internal/config"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/relay"
	"github.com/madang-rtc/madang/internal/store"
)

// A project that relays no more is looked at no more; one that does holds what its settings say.
func TestPermitsForgetIdleProjects(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	projects, err := project.New(ctx, project.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"busy", "idle", "deleted"} {
		if _, err := projects.Create(ctx, id, id, project.Settings{RelayBytesPerSecond: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	p := newPermits(projects, slog.New(slog.DiscardHandler))
	limits := map[string]int64{}
	p.limit = func(project string, bytesPerSecond int64) { limits[project] = bytesPerSecond }
	for _, id := range []string{"busy", "idle", "deleted"} {
		if err := p.permit(id, "peer"); err != nil {
			t.Fatal(err)
		}
	}
	p.lookAt(ctx, p.unseen())
	if want := map[string]int64{"busy": 1000, "idle": 1000, "deleted": 1000}; !maps.Equal(limits, want) {
		t.Errorf("limits: got %v, want %v", limits, want)
	}
	if err := projects.Delete(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	off := false
	if _, err := projects.Update(ctx, "busy", 0, project.Change{On: &off}); err != nil {
		t.Fatal(err)
	}
	for range 2 * maxIdle {
		p.lookAt(ctx, p.age())
		if err := p.permit("busy", "peer"); !errors.Is(err, refusal.New(refusal.ProjectOff)) {
			t.Fatalf("switched off: got %v", err)
		}
	}
	if known := slices.Collect(maps.Keys(p.known)); !slices.Equal(known, []string{"busy"}) {
		t.Errorf("still looked at: %v, want busy alone", known)
	}
	if limits["idle"] != 0 || limits["deleted"] != 0 {
		t.Errorf("the relay still holds limits: %v", limits)
	}
}

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
