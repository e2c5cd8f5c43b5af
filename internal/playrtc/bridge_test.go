package playrtc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/playrtc"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

// The tests of this file let old clients and native peers meet.

// nativeData is what native peers say to each other (docs/protocol.md §6).
type nativeData struct {
	PC          string                     `json:"pc"`
	Description *webrtc.SessionDescription `json:"description,omitempty"`
	Candidates  []webrtc.ICECandidateInit  `json:"candidates,omitempty"`
	Sources     map[string]string          `json:"sources,omitempty"`
	Restart     bool                       `json:"restart,omitempty"`
	Close       bool                       `json:"close,omitempty"`
}

func (n *native) signal(to string, data any) {
	n.t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		n.t.Fatal(err)
	}
	n.send(&signal.Signal{To: to, Data: b})
}

// hears waits for the next signal.
func (n *native) hears() (from string, d nativeData) {
	n.t.Helper()
	m := expect[*signal.FromSignal](n, nil)
	if err := json.Unmarshal(m.Data, &d); err != nil {
		n.t.Fatal(err)
	}
	return m.From, d
}

func (n *native) command(to []string, name, data string) {
	n.t.Helper()
	n.send(&signal.Command{To: to, Name: name, Data: json.RawMessage(data)})
}

// idOf is the native id of an old client: who has its token.
func (n *native) idOf(p *peer) string {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.heard {
		switch m := m.(type) {
		case *signal.PeerJoined:
			if playrtc.Token(m.Peer.ID) == p.token {
				return m.Peer.ID
			}
		case *signal.Joined:
			for _, q := range m.Peers {
				if playrtc.Token(q.ID) == p.token {
					return q.ID
				}
			}
		}
	}
	n.t.Fatalf("the native peer does not know %s", p.token)
	return ""
}

// wire sends a description or a candidate as old clients do: JSON in a string.
func (p *peer) wire(to, command string, data object) {
	p.t.Helper()
	p.say(command, "req", object{"receiver": object{"type": "peer", "id": to}}, object{"data": data})
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

const oldSDP = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 RTP/SAVPF 111\r\na=mid:audio\r\na=sendrecv\r\nm=video 9 RTP/SAVPF 96\r\na=mid:video\r\n" +
	"m=video 9 RTP/SAVPF 96\r\na=mid:2\r\na=recvonly\r\nm=application 9 DTLS/SCTP 5000\r\na=mid:data\r\na=sendrecv\r\n"

func TestAnOldNewcomerOffersToANativeMember(t *testing.T) {
	s := start(t)
	channel := s.prepare(t, web, "", "x").channel
	n := s.native(t, channel)
	p := s.enter(t, web, channel, "")
	joined := expect[*signal.PeerJoined](n, nil).Peer
	if joined.UID != "" || joined.Name != "Name of " || joined.Offer || playrtc.Token(joined.ID) != p.token {
		t.Errorf("the native member was told of %+v", joined)
	}
	var info struct {
		PlayRTC struct {
			Env            json.RawMessage
			UserName, Wire string
		}
	}
	if err := json.Unmarshal(joined.Info, &info); err != nil || string(info.PlayRTC.Env) != web.env || info.PlayRTC.Wire != "v3" || info.PlayRTC.UserName != "Name of " {
		t.Errorf("info: %s", joined.Info)
	}

	candidate := func(i int) string {
		return fmt.Sprintf(`{"candidate":"candidate:%d 1 udp 1 192.0.2.1 1 typ host","sdpMid":"audio","sdpMLineIndex":0,"type":"candidate"}`, i)
	}
	p.wire(n.token(), "candidate", object{"candidate": candidate(1)}) // before the description, which native peers would drop
	p.wire(n.token(), "candidate", object{"candidate": "not JSON"})
	p.wire(n.token(), "candidate", object{"candidate": `{"candidate":""}`})
	p.wire(n.token(), "sdp", object{"type": "answer", "sdp": text(object{"type": "answer", "sdp": "v=0"})}) // to no offer
	p.wire(n.token(), "sdp", object{"type": "offer", "sdp": text(object{"type": "offer", "sdp": oldSDP})})
	p.wire(n.token(), "candidate", object{"candidate": candidate(2)})
	from, d := n.hears()
	pc := d.PC
	if from != joined.ID || len(pc) < 8 || d.Description == nil || d.Description.Type != webrtc.SDPTypeOffer || d.Description.SDP != oldSDP {
		t.Errorf("got %s %+v", from, d)
	}
	if want := map[string]string{"audio": "microphone", "video": "camera"}; !reflect.DeepEqual(d.Sources, want) {
		t.Errorf("sources: %v, want %v", d.Sources, want)
	}
	for i := 1; i <= 2; i++ {
		if _, d = n.hears(); d.PC != pc || len(d.Candidates) != 1 || !strings.HasPrefix(d.Candidates[0].Candidate, fmt.Sprintf("candidate:%d ", i)) || d.Description != nil {
			t.Errorf("candidate %d: %+v", i, d)
		}
	}

	mid, line := "0", uint16(0)
	candidates := []webrtc.ICECandidateInit{{Candidate: "candidate:1", SDPMid: &mid, SDPMLineIndex: &line}, {Candidate: ""}, {Candidate: "candidate:2", SDPMid: &mid, SDPMLineIndex: &line}}
	answer := &webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: "v=0 <&>"}
	n.signal(joined.ID, nativeData{PC: "another-connection", Description: answer}) // of nobody's offer
	n.signal(joined.ID, nativeData{PC: pc, Description: answer, Candidates: candidates, Sources: map[string]string{"0": "microphone"}})
	m := p.expect("sdp", from17(n))
	var inner struct{ Type, SDP string }
	if err := json.Unmarshal([]byte(str(t, m, "body", "data", "sdp")), &inner); err != nil || str(t, m, "body", "data", "type") != "answer" || inner.Type != "answer" || inner.SDP != "v=0 <&>" {
		t.Errorf("sdp: %v", m)
	}
	for i := 1; i <= 2; i++ {
		m := p.expect("candidate", from17(n))
		var inner webrtc.ICECandidateInit
		if err := json.Unmarshal([]byte(str(t, m, "body", "data", "candidate")), &inner); err != nil || inner.Candidate != fmt.Sprintf("candidate:%d", i) || *inner.SDPMLineIndex != 0 {
			t.Errorf("candidate %d: %v", i, m)
		}
	}

	// This wire has nothing for what comes now.
	n.signal(joined.ID, nativeData{PC: pc, Description: answer})
	n.signal(joined.ID, nativeData{PC: pc, Restart: true})
	n.signal(joined.ID, nativeData{PC: pc, Close: true})
	n.signal(joined.ID, nativeData{PC: pc, Description: &webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: "v=0"}, Candidates: candidates})
	n.signal(joined.ID, object{"playrtc": object{"command": "sdp", "body": object{"data": object{"type": "offer", "sdp": "forged"}}}})
	n.signal(joined.ID, []int{1})
	n.command([]string{joined.ID}, "playrtc.user", `"after it"`)
	p.expect("on_userdefined", about(n.token()))
	if n := p.count("sdp") + p.count("candidate"); n != 3 {
		t.Errorf("got %d messages, want 3: %s", n, p.dump())
	}

	// A new connection of the native peer is a peer that has come back.
	n.signal(joined.ID, nativeData{PC: "a-new-one", Description: &webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: "v=0"}})
	if m := p.expect("on_close", about(n.token())); str(t, m, "body", "data", "reason") != "reconnect" {
		t.Errorf("on_close: %v", m)
	}
	p.expect("on_connect", func(m object) bool { return others(m)[0] == n.token() })
	p.expect("sdp", from17(n))
	p.wire(n.token(), "sdp", object{"type": "answer", "sdp": text(object{"type": "answer", "sdp": "v=0"})})
	if _, d = n.hears(); d.PC != "a-new-one" || d.Description.Type != webrtc.SDPTypeAnswer {
		t.Errorf("the answer: %+v", d)
	}
}

func from17(n *native) func(object) bool { return from(n.token()) }

func TestOldClientsSeeNativePeersWithAnEnv(t *testing.T) {
	s := start(t)
	channel := s.prepare(t, web, "", "x").channel
	env := func(platform, version string) string {
		return `{"platformType":"` + platform + `","browser":{"name":"firefox","version":"140"},"sdk":{"type":"web","version":"` + version + `"},"networkType":"wired","more":1}`
	}
	for i, c := range []struct{ info, platform, version string }{
		{``, "linux", "2.2.21"},
		{`{"playrtc":{"env":` + env("mac", "2.3.0") + `}}`, "mac", "2.3.0"},
		{`{"playrtc":{"env":{"platformType":1,"sdk":null}}}`, "linux", "2.2.21"},
		{`{"playrtc":"x"}`, "linux", "2.2.21"},
		{`[7]`, "linux", "2.2.21"},
		{`{"playrtc":{"wire":"v3","env":{}}}`, "linux", "2.2.21"},
	} {
		n := s.native(t, channel, func(cfg *signalclient.Config) {
			cfg.Join.UID = fmt.Sprint("native ", i)
			if c.info != "" {
				cfg.Join.Info = json.RawMessage(c.info)
			}
		})
		p := s.prepare(t, android, channel, "p").dial()
		p.connect(nil)
		list := at(t, p.expect("connect", nil), "body", "data", "others").([]any)
		if len(list) != 1 || str(t, list[0], "id") != n.token() || str(t, list[0], "uid") != fmt.Sprint("native ", i) ||
			str(t, list[0], "env", "platformType") != c.platform || str(t, list[0], "env", "sdk", "version") != c.version {
			t.Errorf("%s: %v", c.info, list)
		}
		if r5 := at(t, s.must(t, "GET", "/channels/channel/"+channel+"/peers", nil), "peers").([]any); len(r5) != 2 {
			t.Errorf("R5: %v", r5)
		}
		if r6 := s.must(t, "GET", "/channels/channel/"+channel+"/peers/peer/"+n.token(), nil); str(t, r6, "uid") != fmt.Sprint("native ", i) {
			t.Errorf("R6: %v", r6)
		}
		if err := n.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := p.expect("on_close", about(n.token())); str(t, m, "body", "data", "reason") != "disconnect" {
			t.Errorf("on_close: %v", m)
		}
		p.close(p.token)
		p.expect("close", nil)
	}
}

func TestCommandsCrossTheBridge(t *testing.T) {
	s := start(t)
	p := s.enter(t, android, "", "alice")
	n := s.native(t, p.channel)
	id := n.idOf(p)
	p.expect("on_connect", nil)
	p.command(object{"a": []int{1}})
	if m := expect[*signal.FromCommand](n, nil); m.From != id || m.Name != "playrtc.user" || string(m.Data) != `{"a":[1]}` || m.To != nil {
		t.Errorf("got %+v", m)
	}
	p.command("for you", n.token())
	if m := expect[*signal.FromCommand](n, nil); string(m.Data) != `"for you"` || len(m.To) != 1 {
		t.Errorf("got %+v", m)
	}
	n.command(nil, "an application's own", `{"x":1}`)
	n.command(nil, "madang.chat", `{"text":"안녕"}`)
	n.command([]string{id}, "playrtc.user", `[1,"<2>"]`)
	for _, want := range []any{"안녕", []any{1.0, "<2>"}} {
		if m := p.expect("on_userdefined", about(n.token())); !reflect.DeepEqual(at(t, m, "body", "data", "userData"), want) {
			t.Errorf("got %v, want %v", m, want)
		}
	}
	if n := p.count("on_userdefined"); n != 2 {
		t.Errorf("got %d commands, want 2", n)
	}
}

func TestRingCrossesTheBridge(t *testing.T) {
	s := start(t)
	for _, status := range []string{"yes", "no"} {
		p := s.enter(t, android, "", "alice")
		n := s.native(t, p.channel)
		id := n.idOf(p)
		// A native page that speaks as PlayRTC's do rings after joining.
		n.command([]string{id}, "playrtc.ready", `{}`)
		if m := p.expect("on_ready", about(n.token())); str(t, m, "body", "data", "uid") != "nat" {
			t.Errorf("on_ready: %v", m)
		}
		p.say("on_ready", "res", nil, object{"header": object{"code": "20001"}, "data": object{"status": status, "channelId": p.channel, "targetId": n.token()}})
		if m := expect[*signal.FromCommand](n, nil); m.From != id || m.Name != "playrtc.on_ready" || string(m.Data) != `{"status":"`+status+`"}` {
			t.Errorf("got %+v", m)
		}
		// An old newcomer rings a native member.
		q := s.enter(t, web, p.channel, "bob")
		q.say("ready", "req", nil, object{"data": object{"channelId": p.channel, "targetId": n.token()}})
		if m := expect[*signal.FromCommand](n, nil); m.Name != "playrtc.ready" || playrtc.Token(m.From) != q.token {
			t.Errorf("got %+v", m)
		}
		n.command([]string{n.idOf(q)}, "playrtc.on_ready", `{"status":"maybe"}`)
		n.command([]string{n.idOf(q)}, "playrtc.on_ready", `{"status":"`+status+`"}`)
		if m := q.expect("ready", about(n.token())); str(t, m, "body", "data", "status") != status {
			t.Errorf("ready: %v", m)
		}
		// A native peer that rings asks before it joins.
		ringer := s.native(t, p.channel, func(c *signalclient.Config) { c.Join.Ring = true; c.Join.UID = "ringer" })
		for _, member := range []*peer{p, q} {
			member.expect("on_connect", func(m object) bool { return others(m)[0] == ringer.token() })
			member.expect("on_ready", about(ringer.token()))
		}
		p.say("on_ready", "res", nil, object{"header": object{"code": "20001"}, "data": object{"status": status, "channelId": p.channel, "targetId": ringer.token()}})
		if status == "yes" {
			if m := expect[*signal.Admitted](ringer, nil); len(m.Peers) != 3 || !m.Peers[0].Offer {
				t.Errorf("admitted: %+v", m)
			}
			ringer.signal(ringer.admitted(p), nativeData{PC: "ring-ring-ring", Description: &webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: "v=0"}})
			p.expect("sdp", from(ringer.token()))
			continue
		}
		if m := expect[*signal.Bye](ringer, nil); m.Code != string(refusal.Rejected) {
			t.Errorf("bye: %+v", m)
		}
		for _, member := range []*peer{p, q} {
			member.expect("on_close", about(ringer.token()))
		}
	}
}

func (n *native) admitted(p *peer) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.heard {
		if a, ok := m.(*signal.Admitted); ok {
			for _, q := range a.Peers {
				if playrtc.Token(q.ID) == p.token {
					return q.ID
				}
			}
		}
	}
	return ""
}

func TestEndsCrossTheBridge(t *testing.T) {
	s := start(t)
	p := s.enter(t, web, "", "alice")
	n := s.native(t, p.channel)
	// Out, and in again at once: a kick of this wire bans nobody.
	p.expect("on_connect", nil)
	p.close(n.token())
	if m := expect[*signal.Bye](n, nil); m.Code != string(refusal.Kicked) {
		t.Errorf("bye: %+v", m)
	}
	p.expect("on_close", about(n.token()))
	n = s.native(t, p.channel)
	q := s.enter(t, web, p.channel, "bob")
	if err := n.Call(t.Context(), &signal.Command{To: []string{}, Name: "playrtc.peer_close", Data: json.RawMessage(`{"id":"TKSnobody0000000"}`)}); !errors.Is(err, refusal.New(refusal.PeerNotFound)) {
		t.Errorf("putting out nobody: %v", err)
	}
	if err := n.Call(t.Context(), &signal.Command{To: []string{}, Name: "other", Data: json.RawMessage(`{}`)}); !errors.Is(err, refusal.New(refusal.InvalidField)) {
		t.Errorf("an unknown command to the server: %v", err)
	}
	n.command([]string{}, "playrtc.peer_close", text(object{"id": q.token}))
	q.expect("close", nil)
	p.expect("on_close", about(q.token))
	n.command([]string{}, "playrtc.channel_close", `{}`)
	p.expect("close", nil)
	if m := expect[*signal.Bye](n, nil); m.Code != string(refusal.ChannelClosed) {
		t.Errorf("bye: %+v", m)
	}
	s.fails(t, 404, "40104", "PUT", "/channels/channel/"+p.channel, body("late"))

	_, key := s.newProject(t, func(p *project.Settings) { p.PlayRTCRoles = true }, "https://page.example")
	host := s.prepare(t, web, "", "host", "TDCProjectKey", key).dial()
	host.connect(nil)
	host.expect("connect", nil)
	n = s.native(t, host.channel, func(c *signalclient.Config) { c.Join.Key = key })
	for name, data := range map[string]string{"playrtc.peer_close": text(object{"id": host.token}), "playrtc.channel_close": `{}`} {
		if err := n.Call(t.Context(), &signal.Command{To: []string{}, Name: name, Data: json.RawMessage(data)}); !errors.Is(err, refusal.New(refusal.Forbidden)) {
			t.Errorf("%s of one who is no host: %v", name, err)
		}
	}
}

func TestOldNewcomersWaitForANativeHost(t *testing.T) {
	s := start(t)
	channel := s.prepare(t, web, "", "x").channel
	host := s.native(t, channel)
	yes, no, two := true, false, 2
	if err := host.Call(t.Context(), &signal.Configure{WaitingRoom: &yes}); err != nil {
		t.Fatal(err)
	}
	guest := s.prepare(t, web, channel, "guest").dial()
	guest.connect(nil)
	guest.connect(nil) // it waits already
	guest.command("too early")
	guest.close(host.token())
	guest.say("channel_close", "req", nil, object{"data": object{"channelId": channel}})
	ring := expect[*signal.Ring](host, nil)
	if ring.Reason != "waiting_room" || playrtc.Token(ring.Peer.ID) != guest.token {
		t.Errorf("ring: %+v", ring)
	}
	host.send(&signal.Accept{Peer: ring.Peer.ID})
	if got := others(guest.expect("connect", nil)); len(got) != 1 || got[0] != host.token() {
		t.Errorf("others: %v", got)
	}
	turned := s.prepare(t, android, channel, "turned away").dial()
	turned.connect(nil)
	host.send(&signal.Reject{Peer: expect[*signal.Ring](host, nil).Peer.ID})
	refused(t, turned, "40301")

	if err := host.Call(t.Context(), &signal.Configure{WaitingRoom: &no, Capacity: &two}); err != nil {
		t.Fatal(err)
	}
	third := s.prepare(t, web, channel, "one too many").dial()
	third.connect(nil)
	refused(t, third, "40901")
	if err := host.Call(t.Context(), &signal.Configure{Locked: &yes}); err != nil {
		t.Fatal(err)
	}
	late := s.prepare(t, web, channel, "late").dial()
	late.connect(nil)
	refused(t, late, "40301")
	guest.command("here", host.token())
	expect[*signal.FromCommand](host, nil)
}

func TestWhoNeverConnectsIsNotKept(t *testing.T) {
	s := start(t, func(c *playrtc.Config) { c.HandshakeTimeout = time.Second })
	mute := s.prepare(t, web, "", "mute").dial()
	mute.say("health", "req", nil, nil)
	refused(t, mute, "40801")
}

func TestANativeJoinUsesUpTheToken(t *testing.T) {
	s := start(t)
	p := s.prepare(t, web, "", "alice")
	member := s.enter(t, web, p.channel, "bob")
	n := s.native(t, p.channel, func(c *signalclient.Config) { c.Join.Instance = str(t, p.answer, "madang", "instance") })
	if n.token() != p.token {
		t.Errorf("the token is %s over REST and %s in the channel", p.token, n.token())
	}
	member.expect("on_connect", func(m object) bool { return others(m)[0] == p.token })
	thief := &peer{t: t, s: s, uid: "thief", kind: web, token: p.token, channel: p.channel, url: p.url, change: make(chan struct{}), seen: map[string]bool{}}
	thief.dial().connect(nil)
	refused(t, thief, "40102")
	if err := n.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	member.expect("on_close", about(p.token))
	thief = &peer{t: t, s: s, uid: "thief", kind: web, token: p.token, channel: p.channel, url: p.url, change: make(chan struct{}), seen: map[string]bool{}}
	thief.dial().connect(nil)
	refused(t, thief, "40102")
}

func TestAMembershipCanMoveToTheNativeWire(t *testing.T) {
	s := start(t)
	p := s.prepare(t, web, "", "alice").dial()
	p.connect(nil)
	p.expect("connect", nil)
	q := s.enter(t, web, p.channel, "bob")
	n := s.native(t, p.channel, func(c *signalclient.Config) {
		c.Join.Instance, c.Join.UID = str(t, p.answer, "madang", "instance"), "alice"
	})
	p.expectOver()
	if n := p.count("close"); n != 0 {
		t.Error("the former socket was told that it is over")
	}
	// From now on the others' messages are translated.
	q.wire(n.token(), "sdp", object{"type": "offer", "sdp": text(object{"type": "offer", "sdp": oldSDP})})
	if from, d := n.hears(); from != n.idOf(q) || d.Description == nil || d.PC == "" {
		t.Errorf("got %+v", d)
	}
	if n := q.count("on_close"); n != 0 {
		t.Error("bob was told that alice had gone")
	}
}

func TestOldClientsReachNativeChannelsByName(t *testing.T) {
	s := start(t)
	n := s.native(t, "our-yard.1")
	p := s.enter(t, web, "our-yard.1", "old")
	if m := expect[*signal.PeerJoined](n, nil); playrtc.Token(m.Peer.ID) != p.token {
		t.Errorf("joined: %+v", m)
	}
	// A native channel's name is its invitation.
	if list := at(t, s.must(t, "GET", "/channels", nil), "channels").([]any); len(list) != 0 {
		t.Errorf("list: %v", list)
	}
	if one := s.must(t, "GET", "/channels/channel/our-yard.1", nil); str(t, one, "status") != "live" {
		t.Errorf("R4: %v", one)
	}
}

// A caller exchanges a message with one other peer over a data channel: on stream 1, which both sides open, as PlayRTC's clients do.
type caller struct {
	name string
	pc   *webrtc.PeerConnection
	data *webrtc.DataChannel
	got  chan string
	wait []webrtc.ICECandidateInit
}

func newCaller(t *testing.T, name string, trickle func(webrtc.ICECandidateInit)) *caller {
	t.Helper()
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.GracefulClose() })
	c := &caller{name: name, pc: pc, got: make(chan string, 1)}
	yes, id := true, uint16(1)
	if c.data, err = pc.CreateDataChannel("channel", &webrtc.DataChannelInit{Negotiated: &yes, ID: &id}); err != nil {
		t.Fatal(err)
	}
	c.data.OnOpen(func() { c.data.SendText("hello from " + name) })
	c.data.OnMessage(func(m webrtc.DataChannelMessage) {
		select {
		case c.got <- string(m.Data):
		default:
		}
	})
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil {
			trickle(candidate.ToJSON())
		}
	})
	return c
}

func (c *caller) describe(t *testing.T, make func() (webrtc.SessionDescription, error)) webrtc.SessionDescription {
	t.Helper()
	d, err := make()
	if err == nil {
		err = c.pc.SetLocalDescription(d)
	}
	if err != nil {
		t.Error(c.name, err)
	}
	return d
}

func (c *caller) offer(t *testing.T) webrtc.SessionDescription {
	return c.describe(t, func() (webrtc.SessionDescription, error) { return c.pc.CreateOffer(nil) })
}

// hear takes the other side's description, and returns the answer to an offer.
func (c *caller) hear(t *testing.T, d webrtc.SessionDescription) *webrtc.SessionDescription {
	t.Helper()
	if err := c.pc.SetRemoteDescription(d); err != nil {
		t.Error(c.name, err)
		return nil
	}
	for _, candidate := range c.wait {
		c.add(t, candidate)
	}
	if d.Type != webrtc.SDPTypeOffer {
		return nil
	}
	answer := c.describe(t, func() (webrtc.SessionDescription, error) { return c.pc.CreateAnswer(nil) })
	return &answer
}

func (c *caller) add(t *testing.T, candidate webrtc.ICECandidateInit) {
	t.Helper()
	if c.pc.RemoteDescription() == nil {
		c.wait = append(c.wait, candidate)
	} else if err := c.pc.AddICECandidate(candidate); err != nil {
		t.Error(c.name, err)
	}
}

func TestAnOldClientAndANativePeerExchangeData(t *testing.T) {
	for _, newcomer := range []string{"old", "native"} {
		t.Run(newcomer+" newcomer", func(t *testing.T) {
			s := start(t)
			var p *peer
			var n *native
			if newcomer == "native" {
				p = s.enter(t, web, "", "old")
				n = s.native(t, p.channel)
				p.expect("on_connect", nil)
			} else {
				channel := s.prepare(t, web, "", "x").channel
				n = s.native(t, channel)
				p = s.enter(t, web, channel, "old")
				expect[*signal.PeerJoined](n, nil)
			}
			token, id := n.token(), n.idOf(p)
			pcName := "native-connection"
			var described sync.WaitGroup // candidates go after the description
			described.Add(1)
			nativeSide := newCaller(t, "native", func(c webrtc.ICECandidateInit) {
				described.Wait()
				n.signal(id, nativeData{PC: pcName, Candidates: []webrtc.ICECandidateInit{c}})
			})
			var said sync.Mutex // frames of one socket
			oldSide := newCaller(t, "old", func(c webrtc.ICECandidateInit) {
				said.Lock()
				defer said.Unlock()
				p.wire(token, "candidate", object{"candidate": text(c)})
			})
			send := func(d webrtc.SessionDescription) {
				said.Lock()
				defer said.Unlock()
				p.wire(token, "sdp", object{"type": d.Type.String(), "sdp": text(object{"type": d.Type.String(), "sdp": d.SDP})})
			}
			if newcomer == "native" {
				d := nativeSide.offer(t)
				n.signal(id, nativeData{PC: pcName, Description: &d})
				described.Done()
			} else {
				send(oldSide.offer(t))
			}
			ctx, stop := context.WithCancel(t.Context())
			var reading sync.WaitGroup
			reading.Go(func() {
				n.follow(ctx, func(m signal.ServerMessage) {
					f, ok := m.(*signal.FromSignal)
					if !ok {
						return
					}
					var d nativeData
					if err := json.Unmarshal(f.Data, &d); err != nil {
						t.Error(err)
					}
					if d.Description != nil {
						if answer := nativeSide.hear(t, *d.Description); answer != nil {
							pcName = d.PC
							n.signal(id, nativeData{PC: pcName, Description: answer})
							described.Done()
						}
					}
					for _, c := range d.Candidates {
						nativeSide.add(t, c)
					}
				})
			})
			reading.Go(func() {
				p.follow(ctx, func(h heard) {
					switch h.command {
					case "sdp":
						var d webrtc.SessionDescription
						if err := json.Unmarshal([]byte(str(t, h.msg, "body", "data", "sdp")), &d); err != nil {
							t.Error(err)
						}
						if answer := oldSide.hear(t, d); answer != nil {
							send(*answer)
						}
					case "candidate":
						var c webrtc.ICECandidateInit
						if err := json.Unmarshal([]byte(str(t, h.msg, "body", "data", "candidate")), &c); err != nil {
							t.Error(err)
						}
						oldSide.add(t, c)
					}
				})
			})
			defer reading.Wait()
			defer stop()
			deadline, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			for _, side := range []struct {
				*caller
				want string
			}{{nativeSide, "hello from old"}, {oldSide, "hello from native"}} {
				select {
				case got := <-side.got:
					if got != side.want {
						t.Errorf("%s got %q", side.name, got)
					}
				case <-deadline.Done():
					t.Errorf("%s got nothing; ICE is %s and %s", side.name, nativeSide.pc.ICEConnectionState(), oldSide.pc.ICEConnectionState())
				}
			}
		})
	}
}

// follow calls f with all that was and will be heard, until ctx ends.
func (p *peer) follow(ctx context.Context, f func(heard)) {
	for i := 0; ; {
		p.mu.Lock()
		rest, change := p.heard[i:], p.change
		p.mu.Unlock()
		for _, h := range rest {
			f(h)
		}
		i += len(rest)
		select {
		case <-change:
		case <-ctx.Done():
			return
		}
	}
}

func (n *native) follow(ctx context.Context, f func(signal.ServerMessage)) {
	for i := 0; ; {
		n.mu.Lock()
		rest, change := n.heard[i:], n.change
		n.mu.Unlock()
		for _, m := range rest {
			f(m)
		}
		i += len(rest)
		select {
		case <-change:
		case <-ctx.Done():
			return
		}
	}
}
