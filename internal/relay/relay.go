// Package relay is the STUN and TURN service (RFC 8489, RFC 8656): it tells clients their public address and relays datagrams for those
// who cannot reach each other. It speaks UDP, TCP and TLS to clients, and relays over IPv4 and IPv6 UDP.
//
// pion/turn runs the protocol. Around it stands what a service on the open Internet needs: credentials bound to a project and
// a peer (Mint, Revoke), a policy of where nothing is relayed to, quotas, flood control before any cryptography, byte accounting, and a
// stop that waits for everything. Every message from a client passes guard.inspect first; every relayed packet passes relayConn.
//
// Not supported, on purpose: TCP relays (RFC 6062; answered with 442), mobility (RFC 8016), and two families in one allocation
// (ADDITIONAL-ADDRESS-FAMILY is ignored, as RFC 8656 §18.11 provides for by making it comprehension-optional: the client gets an IPv4 relay).
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/turn/v5"
)

// Config says what a Server does. UDP or TCP, Secret, and one external address are needed; all else has a default.
type Config struct {
	// Realm is the TURN realm. Default: "madang".
	Realm string
	// Secret makes and checks credentials; at least 16 bytes, the same on every node and after every start.
	Secret []byte

	// UDP are the sockets for clients (see ListenUDP). Several may be bound to one port with SO_REUSEPORT: a client stays with the
	// socket that the kernel's hash gives it. The Server closes them.
	UDP []*net.UDPConn
	// TCP are listeners whose connections speak TURN: TCP, and TLS where the connection has the method
	// ConnectionState() tls.ConnectionState. The Server closes them.
	TCP []net.Listener

	// ExternalIPv4 and ExternalIPv6 are the addresses under which our relays are reached from outside. A zero one: no relays of
	// that family. An address of this machine is also the one that relays are bound to; with another (address translation
	// in front of us, as in most clouds) they are bound to all.
	ExternalIPv4, ExternalIPv6 netip.Addr
	// MinPort and MaxPort bound the UDP ports of relays, both included. Default: 49152 to 65535 (RFC 8656 §7.2).
	MinPort, MaxPort uint16
	// AllowNetworks are relayed to although the default policy denies them: private networks behind the server, loopback in tests.
	// Our own UDP ports for clients stay denied.
	AllowNetworks []netip.Prefix

	Limits Limits
	// Permit is asked before each new allocation and, at every ReportEvery, for each peer that has one: a nil error lets it
	// go on; refusal.QuotaExceeded is answered with 486 (Allocation Quota Reached), any other with 403 (Forbidden), and running allocations end.
	// It is called on the packet path: it must answer from memory. Default: all are permitted.
	Permit func(project, peer string) error
	// OnUsage receives what was relayed since the last call, per peer, at every ReportEvery and a last time when Run ends.
	// It is called from Run's goroutine alone; while it blocks, bytes are counted on and nothing is lost.
	OnUsage func([]Usage)
	// ReportEvery is the pause between two reports. Default: 10 s.
	ReportEvery time.Duration

	// Now is the clock for credentials. Default: time.Now.
	Now func() time.Time
	// Logger gets the log. Default: none. What a client sends is logged at debug level at most.
	Logger *slog.Logger
}

// Limits bound what one user, one project, one source may take. Zero means the default given.
type Limits struct {
	AllocationsPerUser    int // per project and peer; default 100 (a browser makes one for each URL, interface and connection)
	AllocationsPerProject int // default 10,000
	// PeersPerAllocation limits permissions, and channel bindings, of one allocation; above it, 508. Default 256.
	PeersPerAllocation int
	// UnauthenticatedPerSecond limits requests that carry no valid credentials, STUN binding requests included, per IPv4 address or
	// IPv6 /64; what is above it is dropped unanswered, so that we are of no use to reflect floods. Five seconds' worth may
	// come at once. Default 200.
	UnauthenticatedPerSecond int
	// Streams and StreamsPerAddress limit TCP and TLS connections. Defaults 10,000 and 1,000.
	Streams, StreamsPerAddress int
}

// Usage is what was relayed for one peer since the last report.
type Usage struct {
	Project, Peer      string
	UpBytes, UpPackets uint64 // from the client to its peers
	// DownBytes and DownPackets went from the peers to the client. Bytes are those of the datagrams' payload.
	DownBytes, DownPackets uint64
	Allocations            int // that are running now
}

// A Server is a running STUN and TURN service. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	policy  *policy
	gate    *floodGate
	replays replays
	bind4   netip.Addr // where relay sockets are bound; zero without relays of that family
	bind6   netip.Addr

	udp     []*udpEndpoint
	streams []*streamEndpoint

	counters counters
	running  atomic.Bool
	closing  atomic.Bool
	stop     chan struct{} // closed when closing is set
	// readers counts the goroutines that pion runs for us: one for each UDP socket, listener, stream and relay socket. Each wrapper adds itself
	// when pion gets it and leaves when pion has let go of it.
	readers sync.WaitGroup

	mu       sync.Mutex
	projects map[string]*project
	users    map[userKey]*user
	rates    map[string]int64      // project → bytes per second of each of its users; none: no limit
	revoked  map[userKey]time.Time // until when a revocation counts; peer "" is the whole project
	closed   bool

	relaysMu sync.RWMutex // after mu
	relays   map[netip.AddrPort]*relayConn
}

// New checks cfg and prepares a Server. On success the sockets of cfg belong to it: end with Run or Close. On an error they do not.
func New(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	s := &Server{
		cfg:      cfg,
		log:      cfg.Logger,
		stop:     make(chan struct{}),
		gate:     newFloodGate(cfg.Limits.UnauthenticatedPerSecond),
		projects: map[string]*project{},
		users:    map[userKey]*user{},
		rates:    map[string]int64{},
		revoked:  map[userKey]time.Time{},
		relays:   map[netip.AddrPort]*relayConn{},
	}
	var relayed []netip.Addr
	var ports []uint16
	for _, u := range cfg.UDP {
		ports = append(ports, u.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	if cfg.ExternalIPv4.IsValid() {
		s.bind4 = bindAddress(cfg.ExternalIPv4, netip.IPv4Unspecified())
		relayed = append(relayed, cfg.ExternalIPv4)
	}
	if cfg.ExternalIPv6.IsValid() {
		s.bind6 = bindAddress(cfg.ExternalIPv6, netip.IPv6Unspecified())
		relayed = append(relayed, cfg.ExternalIPv6)
	}
	s.policy = newPolicy(cfg.AllowNetworks, relayed, ports)
	for _, u := range cfg.UDP {
		s.udp = append(s.udp, newUDPEndpoint(s, u))
	}
	for _, l := range cfg.TCP {
		s.streams = append(s.streams, newStreamEndpoint(s, l))
	}
	return s, nil
}

func (c *Config) setDefaults() error {
	if c.Realm == "" {
		c.Realm = "madang"
	}
	if len(c.Secret) < 16 {
		return errors.New("the secret must have 16 bytes or more")
	}
	if len(c.UDP) == 0 && len(c.TCP) == 0 {
		return errors.New("sockets for UDP and TCP are both empty")
	}
	c.ExternalIPv4, c.ExternalIPv6 = plain(c.ExternalIPv4), plain(c.ExternalIPv6)
	if c.ExternalIPv4.IsValid() && !c.ExternalIPv4.Is4() {
		return fmt.Errorf("external IPv4 address: not an IPv4 address: %q", c.ExternalIPv4)
	}
	if c.ExternalIPv6.IsValid() && !c.ExternalIPv6.Is6() {
		return fmt.Errorf("external IPv6 address: not an IPv6 address: %q", c.ExternalIPv6)
	}
	if !c.ExternalIPv4.IsValid() && !c.ExternalIPv6.IsValid() {
		return errors.New("external addresses of IPv4 and IPv6 are both missing")
	}
	if c.ExternalIPv4.IsUnspecified() || c.ExternalIPv6.IsUnspecified() {
		return errors.New("external addresses must be such that clients can send to, not 0.0.0.0 or :: alone")
	}
	if c.MinPort == 0 {
		c.MinPort = 49152
	}
	if c.MaxPort == 0 {
		c.MaxPort = 65535
	}
	if c.MinPort > c.MaxPort {
		return fmt.Errorf("port range: the first, %d, is above the last, %d", c.MinPort, c.MaxPort)
	}
	l := &c.Limits
	for _, d := range []struct {
		field *int
		name  string
		value int
	}{
		{&l.AllocationsPerUser, "AllocationsPerUser", 100},
		{&l.AllocationsPerProject, "AllocationsPerProject", 10_000},
		{&l.PeersPerAllocation, "PeersPerAllocation", 256},
		{&l.UnauthenticatedPerSecond, "UnauthenticatedPerSecond", 200},
		{&l.Streams, "Streams", 10_000},
		{&l.StreamsPerAddress, "StreamsPerAddress", 1000},
	} {
		if *d.field < 0 {
			return fmt.Errorf("limit %s is negative", d.name)
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.ReportEvery <= 0 {
		c.ReportEvery = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// bindAddress is external itself if this machine has it, else all.
func bindAddress(external, all netip.Addr) netip.Addr {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(external, 0)))
	if err != nil {
		return all
	}
	c.Close()
	return external
}

// Run serves until ctx ends, and returns when every allocation, connection and goroutine of the Server is gone. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		return errors.New("relay: Run was called before")
	}
	defer s.shutdown()
	for _, e := range s.udp {
		if err := s.startPion(turn.ServerConfig{
			PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: e, RelayAddressGenerator: generator{s}, PermissionHandler: s.permissionHandler}},
			EventHandler:      s.eventHandler(e.register),
		}); err != nil {
			return err
		}
	}
	for _, e := range s.streams {
		if err := s.startPion(turn.ServerConfig{
			ListenerConfigs: []turn.ListenerConfig{{Listener: e, RelayAddressGenerator: generator{s}, PermissionHandler: s.permissionHandler}},
			EventHandler:    s.eventHandler(e.register),
		}); err != nil {
			return err
		}
	}
	report := time.NewTicker(s.cfg.ReportEvery)
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
			s.policy.refresh()
			s.gate.sweep(time.Now())
			s.enforce()
			s.report()
		}
	}
}

// startPion starts one of pion's servers. Each of our endpoints has its own, so that none shares a lock with another.
func (s *Server) startPion(c turn.ServerConfig) error {
	c.Realm = s.cfg.Realm
	c.LoggerFactory = loggerFactory{s.log}
	c.AuthHandler = s.authHandler
	c.InboundMTU = inboundMTU
	// RFC 8656 §7.2: without REQUESTED-ADDRESS-FAMILY the relayed address is IPv4, whatever family the client came over. An IPv6-only
	// client needs that to meet an IPv4-only one. A server without IPv4 relays can only deviate or refuse, and deviates.
	c.StrictAddressFamily = s.cfg.ExternalIPv4.IsValid()
	s.readers.Add(1) // undone by the endpoint when pion's loop on it ends
	if _, err := turn.NewServer(c); err != nil {
		s.readers.Done()
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}

// Close ends a Server on which Run was never called. After or during Run it does nothing: end Run's context instead.
func (s *Server) Close() error {
	if s.running.Swap(true) {
		return nil
	}
	s.shutdown()
	return nil
}

// shutdown closes everything, in the order in which it could be made anew: sockets and listeners, streams, relays.
func (s *Server) shutdown() {
	s.closing.Store(true)
	close(s.stop)
	for _, e := range s.udp {
		e.Close()
	}
	for _, e := range s.streams {
		e.Close()
	}
	s.mu.Lock()
	s.closed = true // no new relayConn from here on
	var all []*relayConn
	for _, u := range s.users {
		for rc := range u.live {
			all = append(all, rc)
		}
	}
	s.mu.Unlock()
	for _, e := range s.streams {
		e.closeStreams()
	}
	for _, rc := range all {
		rc.Close()
	}
	s.readers.Wait()
	s.report()
}

// authHandler gives pion the key of a request that the guard has let pass.
func (s *Server) authHandler(ra *turn.RequestAttributes) (userID string, key []byte, ok bool) {
	n, err := parseName(ra.Username)
	if err != nil || ra.Realm != s.cfg.Realm {
		return "", nil, false
	}
	return userKey{n.project, n.peer}.String(), longTermKey(ra.Username, ra.Realm, password(s.cfg.Secret, ra.Username)), true
}

// permissionHandler is the guard's policy a second time, should a message ever reach pion on another way.
func (s *Server) permissionHandler(_ net.Addr, peer net.IP) bool {
	a, ok := netip.AddrFromSlice(peer)
	return ok && s.policy.permits(a)
}

// Mint makes credentials for a peer. Those of a peer that was revoked open nothing until Readmit: they may have been asked for before, and be made after.
func (s *Server) Mint(project, peer string, lifetime time.Duration) Credentials {
	return Mint(s.cfg.Secret, project, peer, s.cfg.Now(), lifetime)
}

// Mint makes credentials that a Server with the same secret takes. Lifetimes above MaxLifetime are cut to it.
func Mint(secret []byte, project, peer string, now time.Time, lifetime time.Duration) Credentials {
	expires := now.Add(min(lifetime, MaxLifetime)).Truncate(time.Second)
	u := name{expires.Unix(), project, peer}.String()
	return Credentials{Username: u, Credential: password(secret, u), ExpiresAt: expires}
}

// MaxLifetime is the longest time for which credentials can be made.
const MaxLifetime = 48 * time.Hour

// maxRevoked bounds the memory for revocations; beyond it the oldest are forgotten, whose credentials are the nearest to expiry.
const maxRevoked = 100_000

// Revoke ends all allocations of a peer, or of a whole project if peer is empty, and voids its credentials until
// Readmit.
func (s *Server) Revoke(project, peer string) {
	now := s.cfg.Now()
	s.mu.Lock()
	if len(s.revoked) >= maxRevoked {
		s.forgetRevokedLocked(now)
	}
	s.revoked[userKey{project, peer}] = now.Add(MaxLifetime + Grace)
	var end []*relayConn
	for k, u := range s.users {
		if k.project == project && (peer == "" || k.peer == peer) {
			for rc := range u.live {
				end = append(end, rc)
			}
		}
	}
	s.mu.Unlock()
	for _, rc := range end {
		rc.Close()
	}
}

// Readmit takes back the revocation of a peer, or of a whole project if peer is empty.
func (s *Server) Readmit(project, peer string) {
	s.mu.Lock()
	delete(s.revoked, userKey{project, peer})
	s.mu.Unlock()
}

func (s *Server) forgetRevokedLocked(now time.Time) {
	var oldest userKey
	var at time.Time
	for k, until := range s.revoked {
		if now.After(until) {
			delete(s.revoked, k)
		} else if at.IsZero() || until.Before(at) {
			oldest, at = k, until
		}
	}
	if len(s.revoked) >= maxRevoked {
		delete(s.revoked, oldest)
	}
}

func (s *Server) isRevoked(k userKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.revoked) == 0 {
		return false
	}
	if _, ok := s.revoked[k]; ok {
		return true
	}
	_, ok := s.revoked[userKey{k.project, ""}]
	return ok
}
