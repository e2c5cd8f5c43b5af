//go:build linux

package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

// A Go peer is this test binary, started again inside a namespace: pion's agent takes its addresses from the process's own interfaces.
// It joins a channel over internal/signalclient, connects to the other member as docs/protocol.md §6 says, exchanges a message over a data
// channel, prints one line and waits for the end of its standard input.

// roleVariable makes this binary play a part instead of running tests; its value is the part's orders.
const roleVariable = "MADANG_LAB_GO_PEER"

type goPeerOrders struct {
	URL, Channel, Name string
	GatherOnly         bool // report the types of the candidates and call nobody
}

type goPeerReport struct {
	Error string
	Path  path
	MS    int64 // from the start to the exchanged message
	// Gathered are the types of the candidates, with GatherOnly.
	Gathered []string
}

// startGoPeer starts a Go peer on a host. trust is a certificate file.
func startGoPeer(t testing.TB, h *lab.Host, trust string, orders goPeerOrders) (report func() goPeerReport) {
	t.Helper()
	encoded, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), roleVariable+"="+string(encoded), "SSL_CERT_FILE="+trust)
	log := &lab.Tail{}
	cmd.Stderr = log
	// Pipes of our own: exec's are closed by Wait, which would cut the report off.
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = inR, outW
	process, err := h.Start(cmd)
	outW.Close()
	inR.Close()
	t.Cleanup(func() {
		inW.Close()
		outR.Close()
		if process == nil {
			return
		}
		select {
		case <-process.Done():
		case <-time.After(10 * time.Second):
			process.Kill()
			t.Errorf("the peer on %s did not end", h)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() goPeerReport {
		t.Helper()
		line, err := bufio.NewReader(outR).ReadBytes('\n')
		var r goPeerReport
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err != nil {
			t.Fatalf("peer on %s: %v\n%s", h, err, log)
		}
		return r
	}
}

func playRole(encoded string) int {
	var orders goPeerOrders
	if err := json.Unmarshal([]byte(encoded), &orders); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := &goPeer{name: orders.Name, started: time.Now(), finished: make(chan error, 8), ready: make(chan struct{}), described: make(chan struct{})}
	report, err := p.call(ctx, orders)
	if err != nil {
		report.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// The other side may not have finished. Nothing is closed afterwards: pion would wait for its unanswered requests first.
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// goPeer calls one other peer. Its fields are set before ready is closed, or on the session's goroutine.
type goPeer struct {
	name     string
	started  time.Time
	finished chan error // nil: the message has been exchanged
	ready    chan struct{}
	session  *signalclient.Session
	// described is closed when our description has been sent: candidates come after it.
	described chan struct{}

	once    sync.Once
	mu      sync.Mutex // guards what follows: pion calls from goroutines of its own
	pc      *webrtc.PeerConnection
	pcName  string
	other   string
	ice     signal.ICE
	pending []webrtc.ICECandidateInit // came before the description
}

// signalData is what two clients say to each other (docs/protocol.md §6), as far as this one needs it.
type signalData struct {
	PC          string                     `json:"pc"`
	Description *webrtc.SessionDescription `json:"description,omitempty"`
	Candidates  []webrtc.ICECandidateInit  `json:"candidates,omitempty"`
}

func (p *goPeer) call(ctx context.Context, orders goPeerOrders) (r goPeerReport, err error) {
	p.session, err = signalclient.Join(ctx, signalclient.Config{
		URL:  orders.URL + "/v1/signal",
		Join: signal.Join{Channel: orders.Channel, Key: sandboxKey, Name: orders.Name},
		OnMessage: func(m signal.ServerMessage) {
			if err := p.receive(ctx, m); err != nil {
				p.finish(err)
			}
		},
	})
	if err != nil {
		return r, err
	}
	close(p.ready)
	if orders.GatherOnly {
		r.Gathered, err = p.gather(ctx)
		return r, err
	}
	select {
	case err = <-p.finished:
	case <-p.session.Done():
		err = p.session.Err()
	case <-ctx.Done():
		err = errors.New("no connection")
		p.mu.Lock()
		if p.pc != nil {
			err = fmt.Errorf("no connection; ICE is %s", p.pc.ICEConnectionState())
		}
		p.mu.Unlock()
	}
	if err != nil {
		return r, err
	}
	r.MS = time.Since(p.started).Milliseconds()
	r.Path, err = p.path()
	return r, err
}

// finish says how it has gone; only the first one counts.
func (p *goPeer) finish(err error) { p.once.Do(func() { p.finished <- err }) }

// receive runs on the session's goroutine.
func (p *goPeer) receive(ctx context.Context, message signal.ServerMessage) error {
	switch m := message.(type) {
	case *signal.Joined:
		p.mu.Lock()
		p.ice = m.ICE
		p.mu.Unlock()
		for _, peer := range m.Peers {
			if peer.Offer {
				go func() { // Send needs the session, which Join is about to return
					select {
					case <-p.ready:
						if err := p.offer(ctx, peer.ID); err != nil {
							p.finish(err)
						}
					case <-ctx.Done():
					}
				}()
			}
		}
	case *signal.FromSignal:
		var d signalData
		if err := json.Unmarshal(m.Data, &d); err != nil {
			return err
		}
		return p.signalled(ctx, m.From, d)
	}
	return nil
}

func (p *goPeer) connectLocked(ctx context.Context, other, name string) error {
	config := webrtc.Configuration{}
	for _, s := range p.ice.Servers {
		config.ICEServers = append(config.ICEServers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	pc, err := webrtc.NewPeerConnection(config)
	if err != nil {
		return err
	}
	p.pc, p.pcName, p.other = pc, name, other
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			return
		}
		select {
		case <-p.described:
		case <-ctx.Done():
			return
		}
		if err := p.say(ctx, signalData{PC: name, Candidates: []webrtc.ICECandidateInit{c.ToJSON()}}); err != nil {
			p.finish(err)
		}
	})
	pc.OnDataChannel(func(d *webrtc.DataChannel) { p.converse(d) })
	return nil
}

// gather collects the types of all candidates.
func (p *goPeer) gather(ctx context.Context) (types []string, err error) {
	p.mu.Lock()
	err = p.connectLocked(ctx, "", "")
	pc := p.pc
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			close(done)
			return
		}
		types = append(types, c.Typ.String())
	})
	if _, err := pc.CreateDataChannel("none", nil); err != nil {
		return nil, err
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return nil, err
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return nil, err
	}
	select {
	case <-done:
		return types, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// converse exchanges a message: each side says hello and has finished when it has heard the other.
func (p *goPeer) converse(d *webrtc.DataChannel) {
	d.OnOpen(func() {
		if err := d.SendText("hello from " + p.name); err != nil {
			p.finish(err)
		}
	})
	d.OnMessage(func(m webrtc.DataChannelMessage) {
		if string(m.Data) == "hello from "+p.name || len(m.Data) < len("hello from ") {
			p.finish(fmt.Errorf("unexpected message %q", m.Data))
			return
		}
		p.finish(nil)
	})
}

func (p *goPeer) offer(ctx context.Context, other string) error {
	p.mu.Lock()
	err := p.connectLocked(ctx, other, "go-"+p.session.Peer())
	pc := p.pc
	p.mu.Unlock()
	if err != nil {
		return err
	}
	d, err := pc.CreateDataChannel("hello", nil)
	if err != nil {
		return err
	}
	p.converse(d)
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	return p.describe(ctx, pc, offer)
}

// describe sets our description and sends it. It happens once, since nothing is negotiated again.
func (p *goPeer) describe(ctx context.Context, pc *webrtc.PeerConnection, d webrtc.SessionDescription) error {
	if err := pc.SetLocalDescription(d); err != nil {
		return err
	}
	if err := p.say(ctx, signalData{PC: p.pcName, Description: &d}); err != nil {
		return err
	}
	close(p.described)
	return nil
}

func (p *goPeer) signalled(ctx context.Context, from string, d signalData) error {
	p.mu.Lock()
	if p.pc == nil {
		if d.Description == nil || d.Description.Type != webrtc.SDPTypeOffer {
			p.mu.Unlock()
			return nil
		}
		if err := p.connectLocked(ctx, from, d.PC); err != nil {
			p.mu.Unlock()
			return err
		}
	}
	pc, ours := p.pc, p.pcName == d.PC && p.other == from
	p.mu.Unlock()
	if !ours {
		return nil
	}
	if d.Description != nil {
		if err := pc.SetRemoteDescription(*d.Description); err != nil {
			return err
		}
		if d.Description.Type == webrtc.SDPTypeOffer {
			answer, err := pc.CreateAnswer(nil)
			if err != nil {
				return err
			}
			if err := p.describe(ctx, pc, answer); err != nil {
				return err
			}
		}
		for _, c := range p.pending {
			if err := pc.AddICECandidate(c); err != nil {
				return err
			}
		}
		p.pending = nil
	}
	for _, c := range d.Candidates {
		if pc.RemoteDescription() == nil {
			p.pending = append(p.pending, c)
		} else if err := pc.AddICECandidate(c); err != nil {
			return err
		}
	}
	return nil
}

func (p *goPeer) say(ctx context.Context, d signalData) error {
	select {
	case <-p.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return p.session.Send(ctx, &signal.Signal{To: p.other, Data: encoded})
}

// path reads the selected pair.
func (p *goPeer) path() (path, error) {
	pair, err := p.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return path{}, fmt.Errorf("no selected pair: %w", err)
	}
	found := path{Local: pair.Local.Typ.String(), Remote: pair.Remote.Typ.String(), Protocol: pair.Local.Protocol.String()}
	for _, s := range p.pc.GetStats() {
		c, ok := s.(webrtc.ICECandidateStats)
		if ok && c.Type == webrtc.StatsTypeLocalCandidate && c.CandidateType == webrtc.ICECandidateTypeRelay && pair.Local.Typ == webrtc.ICECandidateTypeRelay &&
			c.IP == pair.Local.Address && c.Port == int32(pair.Local.Port) {
			found.RelayProtocol = c.RelayProtocol
		}
	}
	return found, nil
}
