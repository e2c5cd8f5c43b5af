// Package server composes a node: it builds the parts, runs them, and stops them in reverse order. It is the only place where all of them are in sight;
// what they want of each other is adapted here.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/config"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/playrtc"
	"github.com/madang-rtc/madang/internal/portmux"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/relay"
	"github.com/madang-rtc/madang/internal/signalserver"
	"github.com/madang-rtc/madang/internal/store"
	"github.com/madang-rtc/madang/internal/web"
)

// Config of a Server.
type Config struct {
	config.Config
	Log *slog.Logger // default: none
}

// A Server is one node. Two of them may live in one process, with data folders of their own.
type Server struct {
	cfg      Config
	log      *slog.Logger
	ready    Ready
	draining atomic.Bool
	parts    []part    // in the order of their start, which is the reverse of that of their stop
	undo     []func()  // what New has acquired, for a start that fails half-way, and after Run
	database *store.DB // of readyz
}

// New checks the configuration, opens the data and binds all ports. Nothing is served before Run. An error says what to change.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: c, log: c.Log}
	if err := s.build(); err != nil {
		s.cleanUp()
		return nil, err
	}
	return s, nil
}

// build makes the parts, ground first.
func (s *Server) build() error {
	c, ctx := &s.cfg, context.Background()

	lock, err := store.LockServer(c.Data)
	if err != nil {
		return err
	}
	s.onCleanUp(func() { lock.Unlock() })
	s.database, err = store.Open(ctx, store.Config{Dir: c.Data, Log: s.log})
	if err != nil {
		return err
	}
	s.onCleanUp(func() { s.database.Close() })
	projects, err := project.New(ctx, project.Config{DB: s.database, Log: s.log})
	if err != nil {
		return err
	}
	depots, err := depot.Load(depot.Config{Dir: filepath.Join(c.Data, "depot"), Log: s.log, Keep: func(ctx context.Context, id string) bool {
		_, err := projects.Get(ctx, id)
		return !errors.Is(err, refusal.New(refusal.NotFound))
	}})
	if err != nil {
		return err
	}
	// Made below; channels are used afterwards only.
	var playrtcs *playrtc.Server
	var relays *relay.Server
	channels, err := channel.New(channel.Config{ResumeWindow: c.ResumeWindow, Logger: s.log,
		OnPeer: func(k channel.Key, peer string) {
			playrtcs.OnPeer(k, peer)
			relays.Readmit(k.Project, peer)
		},
		OnKick: func(k channel.Key, peer string) { relays.Revoke(k.Project, peer) }})
	if err != nil {
		return err
	}
	certificates, err := newCertificates(&c.Config, s.log)
	if err != nil {
		return err
	}

	// The one TCP port and the one UDP port.
	listener, err := listenTCP(ctx, "listen", c.ListenAddress())
	if err != nil {
		return err
	}
	s.onCleanUp(func() { listener.Close() })
	mux, err := portmux.New(portmux.Config{Listener: listener, TLS: certificates.tls, Logger: s.log})
	if err != nil {
		return err
	}
	socket, err := relay.ListenUDP(ctx, c.UDP)
	if err != nil {
		return listenError("udp", c.UDP, err)
	}
	s.onCleanUp(func() { socket.Close() })
	tcp, udp := addrPort(listener.Addr()), addrPort(socket.LocalAddr())
	external := findExternal(udp.Addr(), c.ExternalIP)
	if !c.Development() && len(c.ExternalIP) == 0 && external.v4.IsPrivate() {
		s.log.Warn("this machine seems to stand behind an address translation: set external-ip to its public address, or TURN cannot relay", "address", external.v4)
	}

	permits := newPermits(projects, s.log)
	relays, err = relay.New(relay.Config{
		Secret: projects.NodeSecret(), UDP: []*net.UDPConn{socket}, TCP: []net.Listener{mux.TURN()},
		ExternalIPv4: external.v4, ExternalIPv6: external.v6,
		MinPort: c.RelayPorts.Min, MaxPort: c.RelayPorts.Max, AllowNetworks: c.RelayAllow,
		Permit: permits.permit, OnUsage: permits.count, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.onCleanUp(func() { relays.Close() })
	permits.limit = relays.LimitBandwidth

	publicURL := s.publicURL(tcp)
	authorizer, err := auth.New(auth.Config{Directory: projects.Directory(), Development: c.Development(), PublicOrigins: publicOrigins(c, publicURL)})
	if err != nil {
		return err
	}
	address := clientAddress(c.TrustedProxies)
	ice := iceMinter{relay: relays, endpoints: external.endpoints(c, tcp.Port(), udp.Port())}
	if err := projects.SaveRelayURIs(ctx, ice.uris()); err != nil {
		return err
	}
	playrtcs, err = playrtc.New(playrtc.Config{
		Channels: channels, Look: authorizer.Look, Authorize: authorizer.Join, Project: projects.Directory().Project, TURN: ice.playrtc, ClientAddress: address,
		BaseURL: s.baseURL(publicURL), DrainTimeout: c.DrainTimeout / 2, Logger: s.log,
	})
	if err != nil {
		return err
	}
	signals, err := signalserver.New(signalserver.Config{
		Channels: channels, Authorize: authorizer.Join, ICE: ice.servers, ServerCommand: playrtcs.ServerCommand, ClientAddress: address,
		DrainTimeout: c.DrainTimeout / 2, Logger: s.log,
	})
	if err != nil {
		return err
	}
	administration, err := api.New(api.Config{
		DB: s.database, Projects: projects, Authorizer: authorizer, Channels: channelDirectory{channels}, TURN: ice, Depots: depots,
		ClientAddress: address, Log: s.log,
	})
	if err != nil {
		return err
	}
	pages, err := web.New(web.Config{Log: s.log, FrameAncestors: c.FrameAncestors, Node: web.Node{
		Key: projects.HomeKey(), Origin: c.PublicURL, Development: c.Development(), UDP: int(udp.Port()), Version: Version(),
	}})
	if err != nil {
		return err
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(relays, counts{channels, signals, playrtcs, mux, depots}, buildInfo())
	registerProcess(registry)

	routes := http.NewServeMux()
	routes.Handle("/v1/signal", signals)
	routes.Handle(playrtc.Path+"/", playrtcs)
	routes.Handle("/v1/", withReadDeadline(administration.Handler()))
	pages.Register(routes)
	s.registerOperations(routes)
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	guarded := administration.AdminOnly(metrics) // numbers of projects are nobody else's business
	if c.Development() {
		guarded = forThisMachine(metrics, guarded)
	}
	routes.Handle("GET /metrics", guarded)

	control, err := listenControl(c.Data)
	if err != nil {
		return err
	}
	s.onCleanUp(func() { control.Close() })

	plain := http.Handler(routes)
	if certificates.kind != "self-signed" {
		plain = portmux.RedirectToHTTPS(c.Domain)
	}
	s.ready = Ready{
		HTTP: "http://" + reachable(tcp), HTTPS: "https://" + reachable(tcp), UDP: reachable(udp), Public: publicURL,
		Network: []string{}, Key: projects.HomeKey(), Data: c.Data, Version: Version(), SelfSigned: certificates.kind == "self-signed",
	}
	if c.Development() && c.PublicURL == "" {
		s.ready.Network = networkURLs(tcp)
	}

	s.parts = []part{
		{"projects", projects.Run},
		{"depots", depots.Run},
		{"channels", channels.Run},
		{"permits", permits.run},
		{"relay", relays.Run},
	}
	if c.ListenMetrics != "" {
		l, err := listenTCP(ctx, "listen-metrics", c.ListenMetrics)
		if err != nil {
			return err
		}
		s.onCleanUp(func() { l.Close() })
		s.ready.Metrics = "http://" + reachable(addrPort(l.Addr())) + "/metrics"
		s.parts = append(s.parts, part{"metrics", s.serveHTTP(l, metricsOn(metrics))})
	}
	s.parts = append(s.parts, []part{
		{"http", s.serveHTTP(mux.HTTP(), plain)},
		{"https", s.serveHTTP(mux.HTTPS(), routes)},
		{"control", s.serveHTTP(control, administration.ControlHandler())},
		{"signaling", signals.Run},
		{"playrtc", playrtcs.Run},
		{"port", mux.Run},
	}...)
	if certificates.redirect != nil {
		port80, err := listenTCP(ctx, "listen-http", c.ListenHTTP)
		if err != nil {
			return err
		}
		s.onCleanUp(func() { port80.Close() })
		s.parts = append(s.parts, part{"redirect", s.serveHTTP(port80, certificates.redirect)}, part{"certificates", certificates.run})
	}
	return nil
}

// Run serves until ctx ends, calls up once when all is up, and returns when all has stopped. An error of any part stops the node.
func (s *Server) Run(ctx context.Context, up func(Ready)) error {
	defer s.cleanUp()
	return run(ctx, s.parts, s.log, func() { up(s.ready) }, func() { s.draining.Store(true) })
}

func (s *Server) onCleanUp(f func()) { s.undo = append(s.undo, f) }

func (s *Server) cleanUp() {
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		s.undo[last]()
		s.undo = s.undo[:last]
	}
}

// publicURL is what others are given: what the operator says, or the domain, or a link that works on this machine.
func (s *Server) publicURL(tcp netip.AddrPort) string {
	switch {
	case s.cfg.PublicURL != "":
		u, _ := url.Parse(s.cfg.PublicURL) // Validate has read it
		return u.Scheme + "://" + u.Host
	case s.cfg.Domain != "" && tcp.Port() == 443:
		return "https://" + s.cfg.Domain
	case s.cfg.Domain != "":
		return fmt.Sprintf("https://%s:%d", s.cfg.Domain, tcp.Port())
	case s.cfg.TLSCert != "":
		return "https://" + reachable(tcp)
	case tcp.Addr().IsUnspecified():
		return fmt.Sprintf("http://localhost:%d", tcp.Port())
	default:
		return "http://" + reachable(tcp)
	}
}

// baseURL returns what tells a client where it has reached this node, for answers that hold URLs: under the node's public name, if it has one, or else the one that
// the client has used.
func (s *Server) baseURL(publicURL string) func(*http.Request) string {
	if s.cfg.PublicURL != "" || s.cfg.Domain != "" {
		return func(*http.Request) string { return publicURL }
	}
	return func(r *http.Request) string {
		if r.TLS != nil {
			return "https://" + r.Host
		}
		return "http://" + r.Host
	}
}

// publicOrigins are the origins of the node's own pages. In development these are reached by many names.
func publicOrigins(c *Config, publicURL string) []string {
	if c.Development() && c.PublicURL == "" {
		return []string{"*"}
	}
	return []string{publicURL}
}

// serveHTTP returns a part that serves h on l. When it is stopped, requests in hand have DrainTimeout to finish.
func (s *Server) serveHTTP(l net.Listener, h http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		server := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		var silent silentConns
		server.ConnState = silent.note
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		select {
		case err := <-served:
			if errors.Is(err, net.ErrClosed) { // the port is stopped first
				err = nil
				<-ctx.Done()
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
		}
		deadline, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
		defer cancel()
		silent.close()
		if err := server.Shutdown(deadline); err != nil {
			server.Close()
		}
		return nil
	}
}

// silentConns are the connections on which no request has begun, such as browsers open in advance. http.Server.Shutdown gives each five seconds to begin one,
// and there is nothing left that would answer it.
type silentConns struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// note is an http.Server's ConnState.
func (s *silentConns) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.conns, c)
	case s.closed:
		c.Close()
	default:
		if s.conns == nil {
			s.conns = map[net.Conn]struct{}{}
		}
		s.conns[c] = struct{}{}
	}
}

func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
}

// withReadDeadline bounds how long a client may take for its request's body.
func withReadDeadline(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not every writer can: those of HTTP/2 bound it by flow control and idle time.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(20 * time.Second))
		h.ServeHTTP(w, r)
	})
}

func listenTCP(ctx context.Context, key, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, listenError(key, address, err)
	}
	return l, nil
}

// A PortError says that a port cannot be had.
type PortError struct {
	Key, Address string
	err          error
}

func listenError(key, address string, err error) error {
	return &PortError{Key: key, Address: address, err: err}
}

func (e *PortError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Key, e.Address, e.reason()) }
func (e *PortError) Unwrap() error { return e.err }

func (e *PortError) reason() error {
	var errno syscall.Errno
	if errors.As(e.err, &errno) {
		return errno
	}
	return e.err
}

// HintIn says what to do next, in Korean ("ko") or English.
func (e *PortError) HintIn(language string) string {
	var en, ko string
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		en = fmt.Sprintf("another program has this port; stop it, or choose another with --%s, such as --%[1]s :0 for any free one", e.Key)
		ko = fmt.Sprintf("다른 프로그램이 이 포트를 쓰고 있습니다. 그 프로그램을 끄거나 --%s로 다른 포트를 고르세요. --%[1]s :0은 빈 포트를 고릅니다", e.Key)
	case errors.Is(e.err, syscall.EACCES):
		en = "ports below 1024 need the right to: CAP_NET_BIND_SERVICE, for instance AmbientCapabilities in a systemd unit"
		ko = "1024보다 작은 포트에는 권한(CAP_NET_BIND_SERVICE)이 필요합니다. systemd 유닛이라면 AmbientCapabilities에 적으세요"
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		en, ko = "this machine does not have this address", "이 컴퓨터에는 없는 주소입니다"
	}
	if language == "ko" {
		return ko
	}
	return en
}

// ControlSocket is the name of the socket in the data folder over which commands on this machine administer the node.
const ControlSocket = "control.sock"

// listenControl opens ControlSocket. Only its owner may connect: the data folder is closed to others, and so is the socket.
func listenControl(dir string) (net.Listener, error) {
	path := filepath.Join(dir, ControlSocket)
	// The data folder's lock is ours: a socket that is there was left by a process that is gone.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case *net.UDPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
