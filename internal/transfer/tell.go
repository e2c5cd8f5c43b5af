package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

const (
	offerLabel  = "madang.files"
	tellTimeout = 20 * time.Second
	readTimeout = 5 * time.Second // for a page to say that it has read what has arrived
	shownNames  = 3
)

// An offer is what members of a call learn of a transfer (docs/transfer.md §3). It holds the secret.
type offer struct {
	ID     string   `json:"id"`
	Secret string   `json:"secret"`
	Names  []string `json:"names"`
	Count  int      `json:"count"`
	Bytes  *int64   `json:"bytes"` // nil: not known
	Apart  bool     `json:"apart"` // the ends meet in the transfer's own channel: we do not stay in the call
}

// offer describes what was gathered.
func (s *sender) offer() offer {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := offer{ID: s.cfg.Ticket.ID, Secret: s.cfg.Ticket.secret(), Names: []string{}, Count: max(1, len(s.server.entries)), Apart: true}
	if sum, known := s.server.sum(); known {
		o.Bytes = &sum
	}
	for _, e := range s.server.entries[:min(shownNames, len(s.server.entries))] {
		o.Names = append(o.Names, e.Path)
	}
	return o
}

// tell gives the ticket to those who are in a call now, each on a data channel of a connection of its own, as pages do. The server carries only what
// they say to connect.
func (s *sender) tell() {
	ctx, cancel := context.WithTimeout(s.ctx, tellTimeout)
	defer cancel()
	fail := func(name string, err error) {
		if s.ctx.Err() == nil {
			s.cfg.OnEvent(Event{Code: "not_told", Path: name, Text: err.Error()})
		}
	}
	text, err := json.Marshal(s.offer())
	if err != nil {
		fail(s.cfg.To, err)
		return
	}
	c, err := call(ctx, s.cfg.Server, s.cfg.To, s.cfg.Own)
	if err != nil {
		fail(s.cfg.To, err)
		return
	}
	defer c.leave()
	members, err := c.others(ctx)
	if err == nil && len(members) == 0 {
		err = refusal.Newf(refusal.PeerNotFound, "Nobody is there.")
	}
	if err != nil {
		fail(s.cfg.To, err)
		return
	}
	var all sync.WaitGroup
	for _, p := range members {
		all.Go(func() {
			if err := c.say(ctx, p, string(text)); err != nil {
				fail(p.name(), err)
				return
			}
			s.cfg.OnEvent(Event{Code: "told", Path: p.name()})
		})
	}
	all.Wait()
}

// A caller is a peer of a call that wants to say one thing to each member, and then goes.
type caller struct {
	session  *signalclient.Session
	loopback bool
	entered  chan struct{} // closed when admitted

	mu    sync.Mutex
	ice   signal.ICE
	peers []signal.Peer
	inbox map[string]chan signalData // by peer; what does not fit is lost, and the attempt with it
}

type callee struct{ signal.Peer }

func (c callee) name() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

func call(ctx context.Context, server Server, channel, own string) (*caller, error) {
	origin, err := server.complete(ctx)
	if err != nil {
		return nil, err
	}
	if own == "" {
		own = "madang send"
	}
	c := &caller{loopback: isLoopback(server.URL), entered: make(chan struct{}), inbox: map[string]chan signalData{}}
	config := signalclient.Config{
		URL: server.URL + "/v1/signal", HTTPClient: server.HTTPClient, Logger: server.Logger, OnMessage: c.receive,
		// A viewer who sends nothing takes no place on anybody's screen.
		Join: signal.Join{Channel: channel, Key: server.Key, Token: server.Token, Name: own, Role: "viewer"},
	}
	if origin != "" {
		config.Header = http.Header{"Origin": {origin}}
	}
	if c.session, err = signalclient.Join(ctx, config); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *caller) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.session.Leave(ctx) // the server may be gone
	c.session.Close()
}

// receive runs on the session's goroutine.
func (c *caller) receive(message signal.ServerMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	enter := func(ice signal.ICE, peers []signal.Peer) {
		c.ice = ice
		select {
		case <-c.entered: // joined anew: those who were there are enough
		default:
			c.peers = peers
			for _, p := range peers {
				c.inbox[p.ID] = make(chan signalData, 64)
			}
			close(c.entered)
		}
	}
	switch m := message.(type) {
	case *signal.Joined:
		enter(m.ICE, m.Peers)
	case *signal.Admitted:
		enter(m.ICE, m.Peers)
	case *signal.FromSignal:
		var d signalData
		if json.Unmarshal(m.Data, &d) == nil {
			select {
			case c.inbox[m.From] <- d:
			default:
			}
		}
	}
}

// others are those who were there when we came, but for other ends of transfers.
func (c *caller) others(ctx context.Context) (list []callee, err error) {
	select {
	case <-c.entered:
	case <-c.session.Done():
		return nil, c.session.Err()
	case <-ctx.Done():
		return nil, refusal.New(refusal.RingTimeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		var info peerInfo
		if json.Unmarshal(p.Info, &info) != nil || info.Transfer == nil {
			list = append(list, callee{p})
		}
	}
	return list, nil
}

// say connects to a member (docs/protocol.md §6), says something on a data channel, and returns when it was read.
func (c *caller) say(ctx context.Context, p callee, text string) error {
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil { // a page offers its camera, which is answered and not looked at
		return err
	}
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(c.loopback)
	c.mu.Lock()
	config, inbox := webrtc.Configuration{ICEServers: iceServers(c.ice)}, c.inbox[p.ID]
	c.mu.Unlock()
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(&media)).NewPeerConnection(config)
	if err != nil {
		return err
	}
	defer pc.Close()
	id := newEnd()
	signals := make(chan signalData, 64)
	say := func(d signalData) {
		d.PC = id
		select {
		case signals <- d:
		default: // more candidates than help
		}
	}
	pc.OnICECandidate(func(found *webrtc.ICECandidate) {
		if found != nil {
			say(signalData{Candidates: []webrtc.ICECandidateInit{found.ToJSON()}})
		}
	})
	if _, err := pc.CreateDataChannel("madang", &webrtc.DataChannelInit{Negotiated: new(true), ID: new(uint16(0))}); err != nil { // the SDK's own
		return err
	}
	dc, err := pc.CreateDataChannel(offerLabel, nil)
	if err != nil {
		return err
	}
	// What has arrived has not been read: a busy page that learns first that we have left drops it. Those who have read it close the channel.
	arrived, read, lost := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	dc.SetBufferedAmountLowThreshold(0)
	dc.OnBufferedAmountLow(sync.OnceFunc(func() { close(arrived) }))
	dc.OnClose(sync.OnceFunc(func() { close(read) }))
	var sent atomic.Bool
	dc.OnOpen(func() {
		if err := dc.SendText(text); err != nil {
			lost <- err
		}
		sent.Store(true)
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed {
			select {
			case lost <- refusal.New(refusal.NoPath):
			default:
			}
		}
	})
	describe := func(d webrtc.SessionDescription, err error) error {
		if err == nil {
			err = pc.SetLocalDescription(d)
		}
		if err == nil {
			say(signalData{Description: &d})
		}
		return err
	}
	if err := describe(pc.CreateOffer(nil)); err != nil {
		return err
	}
	var early []webrtc.ICECandidateInit
	var patience <-chan time.Time
	for {
		select {
		case <-arrived:
			arrived, patience = nil, time.After(readTimeout)
		case <-read:
			if !sent.Load() {
				return io.ErrClosedPipe
			}
			return nil
		case <-patience:
			return nil
		case err := <-lost:
			return err
		case <-c.session.Done():
			return c.session.Err()
		case <-ctx.Done():
			return refusal.New(refusal.NoPath).Because(ctx.Err())
		case d := <-signals:
			data, err := json.Marshal(d)
			if err != nil {
				return err
			}
			if err := c.session.Send(ctx, &signal.Signal{To: p.ID, Data: data}); err != nil {
				return err
			}
		case d := <-inbox:
			if d.PC != id {
				continue
			}
			if d.Close {
				return io.ErrClosedPipe
			}
			if d.Description != nil {
				if err := pc.SetRemoteDescription(*d.Description); err != nil {
					return fmt.Errorf("their description: %w", err)
				}
				if d.Description.Type == webrtc.SDPTypeOffer { // for their camera
					if err := describe(pc.CreateAnswer(nil)); err != nil {
						return err
					}
				}
				d.Candidates = append(early, d.Candidates...)
				early = nil
			}
			if pc.RemoteDescription() == nil {
				if len(early) < 256 {
					early = append(early, d.Candidates...)
				}
				continue
			}
			for _, candidate := range d.Candidates {
				_ = pc.AddICECandidate(candidate) // one that makes no sense is none
			}
		}
	}
}
