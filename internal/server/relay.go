package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/playrtc"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/relay"
	"github.com/madang-rtc/madang/internal/signal"
)

// credentialLifetime is how long new TURN allocations can be made with one credential. Clients get fresh ones in time; running allocations go on.
const credentialLifetime = time.Hour

// external are the addresses under which clients and their peers reach this node.
type external struct{ v4, v6 netip.Addr }

// findExternal takes what the operator says, then the address that the UDP socket is bound to, then the one that the machine would use to go outside, and
// loopback on a machine without a network.
func findExternal(bound netip.Addr, configured []netip.Addr) external {
	var e external
	set := func(a netip.Addr) {
		if a = a.Unmap(); a.Is4() {
			e.v4 = a
		} else if a.IsValid() {
			e.v6 = a
		}
	}
	if !bound.IsUnspecified() {
		set(bound)
	} else {
		// Connecting a UDP socket sends nothing. The addresses are reserved for documentation (RFC 5737, RFC 3849).
		set(sourceAddress("udp4", "192.0.2.1:9"))
		set(sourceAddress("udp6", "[2001:db8::1]:9"))
		if !e.v4.IsValid() && !e.v6.IsValid() {
			set(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		}
	}
	for _, a := range configured {
		set(a)
	}
	return e
}

func sourceAddress(network, target string) netip.Addr {
	c, err := net.Dial(network, target)
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
}

// endpoints are the places that clients are told. With a domain its DNS knows both families; otherwise each has its own literal, since
// a client may have one family only. TURN over TLS is offered where browsers will accept the certificate.
func (e external) endpoints(c *Config, tcpPort, udpPort uint16) []relay.Endpoint {
	endpoint := relay.Endpoint{UDPPort: udpPort, TCPPort: tcpPort}
	if c.Domain != "" || c.TLSCert != "" {
		endpoint.TLSPort = tcpPort
	}
	if c.Domain != "" {
		endpoint.Host = c.Domain
		return []relay.Endpoint{endpoint}
	}
	var all []relay.Endpoint
	for _, a := range []netip.Addr{e.v4, e.v6} {
		if a.IsValid() {
			endpoint.Host = a.String()
			all = append(all, endpoint)
		}
	}
	return all
}

// iceMinter hands out ICE servers and TURN credentials.
type iceMinter struct {
	relay     *relay.Server
	endpoints []relay.Endpoint
}

// servers is signalserver's Config.ICE.
func (m iceMinter) servers(projectID, peer string, from netip.Addr) (signal.ICE, error) {
	stun, turn := m.urlsFor(from)
	credentials := m.relay.Mint(projectID, peer, credentialLifetime)
	return signal.ICE{
		Servers: []signal.ICEServer{
			{URLs: stun},
			{URLs: turn, Username: credentials.Username, Credential: credentials.Credential},
		},
		ExpiresAtMs: credentials.ExpiresAt.UnixMilli(),
	}, nil
}

// MintTURN is what the REST API asks.
func (m iceMinter) MintTURN(projectID, name string, lifetime time.Duration) (username, credential string, uris []string, expires time.Time, err error) {
	c := m.relay.Mint(projectID, name, lifetime)
	return c.Username, c.Credential, m.uris(), c.ExpiresAt, nil
}

// playrtc is playrtc's Config.TURN: its clients know one server, over UDP.
func (m iceMinter) playrtc(projectID, peer string, lifetime time.Duration) (playrtc.TURN, error) {
	c := m.relay.Mint(projectID, peer, lifetime)
	e := m.endpoints[0] // findExternal finds at least one address
	return playrtc.TURN{Host: e.Host, Port: e.UDPPort, Username: c.Username, Password: c.Credential}, nil
}

// uris are all places of the relay, for STUN first.
func (m iceMinter) uris() []string {
	stun, turn := m.urls()
	return append(stun, turn...)
}

// urlsFor are the ones of use to a client that has come from an address, where each family has a literal of its own: browsers ask all of them for candidates, and warn
// of five. Who comes over IPv4 has IPv4. Who comes over IPv6 may have IPv6 alone, or both: then STUN of IPv4 finds what peers with IPv4 alone can reach,
// and pion relays over IPv4 only. There is no STUN of IPv6, which hardly knows NATs; browsers ask the TURN server for it as well.
func (m iceMinter) urlsFor(from netip.Addr) (stun, turn []string) {
	if len(m.endpoints) != 2 || !from.IsValid() {
		return m.urls()
	}
	v4, v6 := m.endpoints[0], m.endpoints[1]
	stun, turn = v4.URLs()
	if from.Unmap().Is4() {
		return stun, turn
	}
	_, over6 := v6.URLs()
	if len(stun)+len(over6) < 4 {
		over6 = append(over6, turn[0])
	}
	return stun, over6
}

func (m iceMinter) urls() (stun, turn []string) {
	for _, e := range m.endpoints {
		s, t := e.URLs()
		stun, turn = append(stun, s...), append(turn, t...)
	}
	return stun, turn
}

// permits tells the relay, which must not wait for a database, whether a project may go on relaying, and how fast. A project that it has not met yet may: its credentials are
// fresh from a join or the REST API, which have looked. It is looked at right after.
type permits struct {
	projects *project.Service
	limit    func(project string, bytesPerSecond int64) // is relay's LimitBandwidth; set before run
	log      *slog.Logger
	met      chan struct{} // capacity 1: there is a project that was not looked at yet

	mu    sync.Mutex
	known map[string]*standing // by project
}

// A standing is what permits knows of a project.
type standing struct {
	why  error // it may not relay; nil: it may
	seen bool  // was looked at
	idle int   // seconds since the relay has last asked: it does so every ten seconds for a project that relays
}

// maxIdle is after how many seconds a project is forgotten. Otherwise each that ever relayed would be read from the database for as long as the node runs.
const maxIdle = 60

func newPermits(projects *project.Service, log *slog.Logger) *permits {
	return &permits{projects: projects, log: log, met: make(chan struct{}, 1), known: map[string]*standing{}}
}

// permit is relay's Config.Permit.
func (p *permits) permit(projectID, _ string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.known[projectID]
	if s == nil {
		s = &standing{}
		p.known[projectID] = s
		select {
		case p.met <- struct{}{}:
		default:
		}
	}
	s.idle = 0
	return s.why
}

// count is relay's Config.OnUsage.
func (p *permits) count(usage []relay.Usage) {
	for _, u := range usage {
		p.projects.Count(u.Project, project.RelayBytes, int64(u.UpBytes+u.DownBytes))
	}
}

// run looks each second at the projects that relay.
func (p *permits) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.lookAt(ctx, p.age())
		case <-p.met:
			p.lookAt(ctx, p.unseen())
		}
	}
}

// age forgets projects that have not relayed for long, and returns the others.
func (p *permits) age() (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.known {
		if s.idle++; s.idle > maxIdle {
			delete(p.known, id)
			p.limit(id, 0)
		} else {
			ids = append(ids, id)
		}
	}
	return ids
}

// unseen are the projects that have just been met.
func (p *permits) unseen() (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.known {
		if !s.seen {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *permits) lookAt(ctx context.Context, ids []string) {
	for _, id := range ids {
		why := p.look(ctx, id)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		s := p.known[id] // is there: run alone forgets
		s.why, s.seen = why, true
		p.mu.Unlock()
	}
}

func (p *permits) look(ctx context.Context, id string) error {
	pr, err := p.projects.Get(ctx, id)
	switch {
	case errors.Is(err, refusal.New(refusal.NotFound)):
		return refusal.New(refusal.ProjectOff)
	case err != nil:
		p.log.Warn("cannot look whether a project may relay; it may", "project", id, "err", err)
		return nil
	case !pr.On:
		return refusal.New(refusal.ProjectOff)
	}
	p.limit(id, pr.Settings.RelayBytesPerSecond)
	err = p.projects.CheckQuota(ctx, id, project.RelayBytes)
	if err != nil && !errors.Is(err, refusal.New(refusal.QuotaExceeded)) {
		p.log.Warn("cannot look at a project's quota; it may relay", "project", id, "err", err)
		return nil
	}
	return err
}
