package transfer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

const (
	connectTimeout = 30 * time.Second
	nativeTimeout  = 5 * time.Second
)

// Kinds of lanes.
const (
	LanesAuto   = "auto"   // the fastest that comes about
	LanesWebRTC = "webrtc" // what a browser has
	LanesQUIC   = "quic"   // native ones, but not over TCP; WebRTC if that fails
)

// A Server says where ends meet, and as whom.
type Server struct {
	URL        string       // such as https://call.example.com
	Key        string       // a browser key; empty: the one of the node's own pages
	Token      string       // an access token instead
	HTTPClient *http.Client // default: http.DefaultClient
	Logger     *slog.Logger // default: none
	Lanes      string       // LanesAuto (default), LanesWebRTC or LanesQUIC

	network network // of tests that have no time to lose; nil: the one that there is
}

// A network makes lanes.
type network interface {
	joined(role string, m *meeting)
	dial(ctx context.Context, peer string) (lane, error)
}

func (s *Server) log() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// nodeInfo is what GET /v1/node says, as far as it matters here.
type nodeInfo struct {
	Key    string `json:"key"`
	Origin string `json:"origin"`
}

// complete asks the node for its key, if there is none.
func (s *Server) complete(ctx context.Context) (origin string, err error) {
	s.URL = strings.TrimSuffix(s.URL, "/")
	if s.HTTPClient == nil {
		s.HTTPClient = http.DefaultClient
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Key != "" || s.Token != "" {
		return "", nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/v1/node", nil)
	if err != nil {
		return "", err
	}
	resp, err := s.HTTPClient.Do(req)
	if err != nil {
		return "", refusal.Newf(refusal.NotRunning, "No Madang server answers at %s.", s.URL).Because(err).
			Advise("Start one with madang serve, or name one with --server URL.")
	}
	defer resp.Body.Close()
	var node nodeInfo
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&node) != nil || node.Key == "" {
		return "", refusal.Newf(refusal.NotRunning, "What answers at %s is not a Madang server.", s.URL)
	}
	s.Key = node.Key
	return cmp.Or(node.Origin, s.URL), nil
}

// join makes a peer of a channel.
func (s *Server) join(ctx context.Context, origin, channel, role string, onMessage func(signal.ServerMessage)) (*signalclient.Session, error) {
	info, err := json.Marshal(peerInfo{Transfer: &transferInfo{Version: Version, Role: role, Native: s.Lanes != LanesWebRTC}})
	if err != nil {
		return nil, err
	}
	config := signalclient.Config{
		URL: s.URL + "/v1/signal", Join: signal.Join{Channel: channel, Key: s.Key, Token: s.Token, Info: info}, HTTPClient: s.HTTPClient, Logger: s.Logger, OnMessage: onMessage,
	}
	if origin != "" {
		config.Header = http.Header{"Origin": {origin}}
	}
	return signalclient.Join(ctx, config)
}

type peerInfo struct {
	Transfer *transferInfo `json:"transfer,omitempty"`
}

type transferInfo struct {
	Version int    `json:"version"`
	Role    string `json:"role"`
	Native  bool   `json:"native,omitempty"`
}

// A member is another peer of the channel; what it says of itself is not authenticated.
type member struct {
	id     string
	role   string
	native bool
	offer  bool
}

// signalData is docs/transfer.md §3 and §14.
type signalData struct {
	PC          string                     `json:"pc,omitempty"`
	Description *webrtc.SessionDescription `json:"description,omitempty"`
	Candidates  []webrtc.ICECandidateInit  `json:"candidates,omitempty"`
	MAC         string                     `json:"mac,omitempty"`
	Native      string                     `json:"native,omitempty"`
	Close       bool                       `json:"close,omitempty"`
	Code        string                     `json:"code,omitempty"`
}

// A meeting is one end in the channel of a transfer: it knows who is there, and makes lanes to them.
type meeting struct {
	server   Server
	origin   string // empty: the server needs none
	keys     keyring
	cert     tls.Certificate
	loopback bool // the server is on this machine: the other end may be too
	session  *signalclient.Session
	ready    chan struct{} // session is set

	on handlers

	ctx    context.Context // the meeting's life
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	ice     signal.ICE
	members []member // in the order of coming
	conns   map[string]*conn
	native  *native        // nil: no native lanes
	stand   map[string]int // lanes that a peer has made and that have not ended
	deaf    bool           // offers are not answered any more
}

// handlers are called on goroutines that must not be held up for long.
type handlers struct {
	members func()                    // those who are there have changed
	lane    func(peer string, l lane) // an incoming lane
	lie     func()                    // somebody who does not know the secret has knocked
}

// A conn is a lane that is being made.
type conn struct {
	peer    string
	pc      string
	signals chan signalData // bounded; what does not fit is lost, and the attempt with it
}

func meet(ctx context.Context, server Server, ticket Ticket, role string, on handlers) (*meeting, error) {
	origin, err := server.complete(ctx)
	if err != nil {
		return nil, err
	}
	cert, err := NewCertificate()
	if err != nil {
		return nil, err
	}
	m := &meeting{server: server, origin: origin, keys: ticket.keyring(), cert: cert, loopback: isLoopback(server.URL), conns: map[string]*conn{}, stand: map[string]int{}, ready: make(chan struct{}), on: on}
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if server.Lanes != LanesWebRTC {
		if m.native, err = listenNative(m); err != nil {
			m.cancel()
			return nil, err
		}
	}
	m.session, err = server.join(ctx, origin, ticket.Channel(), role, m.receive)
	if err != nil {
		m.close()
		return nil, err
	}
	close(m.ready)
	if server.network != nil {
		server.network.joined(role, m)
	}
	return m, nil
}

// close ends everything but lanes that were handed over, and waits.
func (m *meeting) close() {
	m.cancel()
	if m.native != nil {
		m.native.close()
	}
	if m.session != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_ = m.session.Leave(ctx) // the server may be gone
		cancel()
		m.session.Close()
	}
	m.wg.Wait()
}

// receive runs on the session's goroutine.
func (m *meeting) receive(message signal.ServerMessage) {
	switch s := message.(type) {
	case *signal.Joined:
		m.mu.Lock()
		m.ice, m.members = s.ICE, nil
		for _, p := range s.Peers {
			m.addLocked(p)
		}
		m.mu.Unlock()
		m.on.members()
	case *signal.Admitted:
		m.mu.Lock()
		m.ice, m.members = s.ICE, nil
		for _, p := range s.Peers {
			m.addLocked(p)
		}
		m.mu.Unlock()
		m.on.members()
	case *signal.PeerJoined:
		m.mu.Lock()
		m.addLocked(s.Peer)
		m.mu.Unlock()
		m.on.members()
	case *signal.PeerLeft:
		m.mu.Lock()
		m.members = slices.DeleteFunc(m.members, func(p member) bool { return p.id == s.Peer })
		m.mu.Unlock()
		m.on.members()
	case *signal.ICEServers:
		m.mu.Lock()
		m.ice = s.ICE
		m.mu.Unlock()
	case *signal.FromSignal:
		var d signalData
		if json.Unmarshal(s.Data, &d) == nil && d.PC != "" && len(d.PC) <= 128 {
			m.signalled(s.From, d)
		}
	}
}

func (m *meeting) addLocked(p signal.Peer) {
	var info peerInfo
	if json.Unmarshal(p.Info, &info) != nil || info.Transfer == nil || info.Transfer.Version != Version {
		return
	}
	m.members = slices.DeleteFunc(m.members, func(o member) bool { return o.id == p.ID })
	m.members = append(m.members, member{p.ID, info.Transfer.Role, info.Transfer.Native, p.Offer})
}

// with lists the members of a role, the latest first.
func (m *meeting) with(role string) (list []member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range slices.Backward(m.members) {
		if p.role == role {
			list = append(list, p)
		}
	}
	return list
}

func (m *meeting) signalled(from string, d signalData) {
	key := from + " " + d.PC
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.conns[key]
	offered := d.Native != "" || d.Description != nil && d.Description.Type == webrtc.SDPTypeOffer
	if c == nil {
		if !offered || m.deaf || m.ctx.Err() != nil {
			return
		}
		n := m.stand[from]
		for _, other := range m.conns {
			if other.peer == from {
				n++
			}
		}
		if n >= maxLanes {
			return
		}
		c = &conn{peer: from, pc: d.PC, signals: make(chan signalData, 64)}
		m.conns[key] = c
		m.wg.Go(func() { m.answer(c) })
	}
	select {
	case c.signals <- d:
	default:
	}
}

// deafen answers no more offers.
func (m *meeting) deafen() {
	m.mu.Lock()
	m.deaf = true
	m.mu.Unlock()
}

func (m *meeting) forget(c *conn) {
	m.mu.Lock()
	delete(m.conns, c.peer+" "+c.pc)
	m.mu.Unlock()
}

func (m *meeting) say(ctx context.Context, peer string, d signalData) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	select {
	case <-m.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.session.Send(ctx, &signal.Signal{To: peer, Data: data})
}

// dial makes a lane to a peer.
func (m *meeting) dial(ctx context.Context, p member, native bool) (lane, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if m.server.network != nil {
		return m.server.network.dial(ctx, p.id)
	}
	c := &conn{peer: p.id, pc: rand.Text()[:16], signals: make(chan signalData, 64)}
	m.mu.Lock()
	m.conns[c.peer+" "+c.pc] = c
	m.mu.Unlock()
	defer m.forget(c)
	if native {
		return m.native.offer(ctx, c)
	}
	return m.negotiate(ctx, c, nil)
}

// answer takes an offer, on a goroutine of its own.
func (m *meeting) answer(c *conn) {
	defer m.forget(c)
	ctx, cancel := context.WithTimeout(m.ctx, connectTimeout)
	defer cancel()
	first := <-c.signals
	var l lane
	var err error
	switch {
	case first.Native != "" && m.native == nil:
		return
	case first.Native != "":
		l, err = m.native.answer(ctx, c, first)
	default:
		l, err = m.negotiate(ctx, c, &first)
	}
	if errors.Is(err, errNotAuthentic) {
		m.on.lie()
		_ = m.say(ctx, c.peer, signalData{PC: c.pc, Close: true, Code: string(refusal.NotAuthentic)})
		return
	}
	if err != nil {
		m.server.Logger.Debug("answer a lane", "err", err)
		return
	}
	if l != nil {
		m.mu.Lock()
		m.stand[c.peer]++
		m.mu.Unlock()
		m.on.lane(c.peer, &standing{lane: l, ended: func() {
			m.mu.Lock()
			if m.stand[c.peer]--; m.stand[c.peer] == 0 {
				delete(m.stand, c.peer)
			}
			m.mu.Unlock()
		}})
	}
}

// A standing lane is counted until it is closed.
type standing struct {
	lane
	once  sync.Once
	ended func()
}

func (s *standing) Close() error {
	defer s.once.Do(s.ended)
	return s.lane.Close()
}

// negotiate makes a WebRTC lane: offer is the other side's, or nil if we offer.
func (m *meeting) negotiate(ctx context.Context, c *conn, offer *signalData) (l lane, err error) {
	own := certificateHash(m.cert)
	var theirs Hash
	if offer != nil {
		if theirs, err = m.checkDescription(offer, func(f Hash) string { return m.keys.offer(c.pc, f) }); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	ice := m.ice
	m.mu.Unlock()
	pc, dc, err := newPeerConnection(m.cert, ice, m.loopback)
	if err != nil {
		return nil, err
	}
	defer func() {
		if l == nil {
			closeICE(pc)
		}
	}()
	opened := make(chan struct{})
	dc.OnOpen(func() { close(opened) })
	failed := make(chan struct{})
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed {
			once.Do(func() { close(failed) })
		}
	})
	candidates := make(chan webrtc.ICECandidateInit, 64)
	pc.OnICECandidate(func(found *webrtc.ICECandidate) {
		candidate := webrtc.ICECandidateInit{SDPMid: new("0")} // an empty one: some stacks begin only when they have them all
		if found != nil {
			candidate = found.ToJSON()
		}
		select {
		case candidates <- candidate:
		default: // more than enough
		}
	})
	describe := func(d webrtc.SessionDescription, err error) error {
		if err != nil {
			return err
		}
		if err := pc.SetLocalDescription(d); err != nil {
			return err
		}
		if f, err := fingerprint(d.SDP); err != nil || f != own {
			return fmt.Errorf("our own description has another fingerprint: %w", err)
		}
		mac := m.keys.offer(c.pc, own)
		if offer != nil {
			mac = m.keys.answer(c.pc, theirs, own)
		}
		return m.say(ctx, c.peer, signalData{PC: c.pc, Description: &d, MAC: mac})
	}
	if offer == nil {
		err = describe(pc.CreateOffer(nil))
	} else if err = pc.SetRemoteDescription(*offer.Description); err == nil {
		err = describe(pc.CreateAnswer(nil))
	}
	if err != nil {
		return nil, err
	}
	var early []webrtc.ICECandidateInit
	add := func(list []webrtc.ICECandidateInit) {
		for _, candidate := range list {
			if err := pc.AddICECandidate(candidate); err != nil {
				m.server.Logger.Debug("candidate", "err", err)
			}
		}
	}
	if offer != nil {
		add(offer.Candidates)
	}
	for {
		select {
		case <-opened:
			return newRTCLane(pc, dc)
		case <-failed:
			return nil, refusal.New(refusal.NoPath)
		case <-ctx.Done():
			return nil, refusal.New(refusal.NoPath).Because(ctx.Err())
		case candidate := <-candidates:
			if err := m.say(ctx, c.peer, signalData{PC: c.pc, Candidates: []webrtc.ICECandidateInit{candidate}}); err != nil {
				return nil, err
			}
		case d := <-c.signals:
			if d.Close {
				return nil, closedWith(d.Code)
			}
			if d.Description != nil && offer == nil && pc.RemoteDescription() == nil {
				if d.Description.Type != webrtc.SDPTypeAnswer {
					continue
				}
				if _, err := m.checkDescription(&d, func(f Hash) string { return m.keys.answer(c.pc, own, f) }); err != nil {
					return nil, err
				}
				if err := pc.SetRemoteDescription(*d.Description); err != nil {
					return nil, err
				}
				add(early)
			}
			if pc.RemoteDescription() == nil {
				if len(early) < 256 {
					early = append(early, d.Candidates...)
				}
				continue
			}
			add(d.Candidates)
		}
	}
}

// closedWith is what the other side says instead of an answer.
func closedWith(code string) error {
	if code == string(refusal.NotAuthentic) {
		return errNotAuthentic
	}
	return refusal.New(refusal.NoPath)
}

// checkDescription makes sure that a description's fingerprint was written by somebody with the secret, and is not our own.
func (m *meeting) checkDescription(d *signalData, mac func(Hash) string) (Hash, error) {
	f, err := fingerprint(d.Description.SDP)
	if err != nil {
		return f, err
	}
	if f == certificateHash(m.cert) {
		return f, errNotAuthentic
	}
	return f, checkMAC(d.MAC, mac(f))
}
