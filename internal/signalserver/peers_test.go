package signalserver_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/signalserver"
)

// What peers do to each other, with three of them, over both links. The rules themselves are tested in channel; here it is that
// they come over the wire.

func TestPresence(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a, b, c := s.join(t, "demo", as("A"), tr), s.join(t, "demo", as("B"), tr), s.join(t, "demo", as("C"), tr)
		name := "B two"
		b.must(&signal.Update{Name: &name, Info: json.RawMessage(`{"hand":true}`), Media: &signal.Media{Audio: "muted"}})
		for _, x := range []*client{a, c} {
			u := expect[*signal.PeerUpdated](x, nil).Peer
			if u.ID != b.Peer() || *u.Name != name || string(u.Info) != `{"hand":true}` || u.Media.Audio != "muted" || u.Media.Video != "off" || u.Role != nil {
				t.Errorf("%s got %+v", x.name, u)
			}
		}
		never[*signal.PeerUpdated](b, nil)
		d := s.join(t, "demo", as("D"), tr)
		if p := d.joined.Peers[1]; p.Name != name || string(p.Info) != `{"hand":true}` || p.Media.Audio != "muted" || p.UID != "B" {
			t.Errorf("D finds %+v", p)
		}
		if p := d.joined.Peers[0]; string(p.Info) != "null" || p.Media != (signal.Media{Audio: "off", Video: "off", Screen: "off"}) {
			t.Errorf("D finds %+v", p)
		}
	})
}

func TestRing(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a, b := s.join(t, "demo", as("A"), tr), s.join(t, "demo", as("B"), tr)
		for _, test := range []struct {
			answer signal.ClientMessage
			code   refusal.Code
			ended  string
		}{
			{&signal.Reject{}, refusal.Rejected, "rejected"},
			{&signal.Reject{Reason: "busy"}, refusal.Busy, "busy"},
			{nil, refusal.Left, "cancelled"},
		} {
			c := s.join(t, "demo", as("C"), ringing, tr)
			if p := expect[*signal.Pending](c, nil); p.Reason != "ring" || p.Peer != c.Peer() || p.Resume.Secret == "" || p.PingMs != 15000 {
				t.Errorf("C got %+v", p)
			}
			r := expect[*signal.Ring](b, nil)
			if r.Peer.ID != c.Peer() || r.Peer.Name != "C" || r.Reason != "ring" {
				t.Errorf("B got %+v", r)
			}
			c.Drop() // who waits can resume too
			switch m := test.answer.(type) {
			case *signal.Reject:
				m.Peer = c.Peer()
				b.must(m)
			default:
				c.leave()
			}
			c.ended(test.code)
			if e := expect[*signal.RingEnded](a, nil); e.Peer != c.Peer() || e.Reason != test.ended {
				t.Errorf("A got %+v, want %s", e, test.ended)
			}
		}
		never[*signal.PeerJoined](b, nil)
		c := s.join(t, "demo", as("C"), ringing, tr)
		a.must(&signal.Accept{Peer: c.Peer()})
		adm := expect[*signal.Admitted](c, nil)
		if len(adm.Peers) != 2 || adm.Role != "speaker" || len(adm.ICE.Servers) != 1 || adm.Channel.ID != "demo" || !adm.Peers[0].Offer {
			t.Errorf("C got %+v", adm)
		}
		expect(b, func(m *signal.RingEnded) bool { return m.Reason == "accepted" })
		expect(b, func(m *signal.PeerJoined) bool { return m.Peer.ID == c.Peer() })
		wantCode(t, b.call(&signal.Accept{Peer: c.Peer()}), refusal.PeerNotFound)
		c.must(&signal.Command{Name: "x"})
		expect[*signal.FromCommand](b, nil)
	})
}

func TestRingTimeout(t *testing.T) {
	s := start(t, channel.Config{RingTimeout: 50 * time.Millisecond}, signalserver.Config{})
	a, b := s.join(t, "demo", as("A")), s.join(t, "demo", as("B"))
	c := s.join(t, "demo", as("C"), ringing)
	c.ended(refusal.RingTimeout)
	for _, x := range []*client{a, b} {
		if e := expect[*signal.RingEnded](x, nil); e.Reason != "timeout" {
			t.Errorf("%s got %+v", x.name, e)
		}
	}
}

func TestWaitingRoomHoldsICEBackUntilAHostAdmits(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a := s.join(t, "demo", withToken("A", "host"), tr)
		b := s.join(t, "demo", withToken("B", "speaker"), tr)
		on := true
		wantCode(t, b.call(&signal.Configure{WaitingRoom: &on}), refusal.Forbidden)
		a.must(&signal.Configure{WaitingRoom: &on})
		if ch := expect[*signal.ChannelSettings](b, nil).Channel; !ch.WaitingRoom || ch.ID != "demo" {
			t.Errorf("B got %+v", ch)
		}
		c := s.join(t, "demo", withToken("C", ""), tr)
		if p := expect[*signal.Pending](c, nil); p.Reason != "waiting_room" || p.UID != "C" {
			t.Errorf("C got %+v", p)
		}
		wantCode(t, c.call(&signal.ICERequest{}), refusal.NotAdmitted)
		c.Drop()
		wantCode(t, c.call(&signal.Command{Name: "x"}), refusal.NotAdmitted)
		wantCode(t, b.call(&signal.Accept{Peer: c.Peer()}), refusal.Forbidden)
		never[*signal.Ring](b, nil)
		never[*signal.ICEServers](c, nil)
		expect(a, func(m *signal.Ring) bool { return m.Reason == "waiting_room" && m.Peer.UID == "C" })
		a.must(&signal.Accept{Peer: c.Peer()})
		expect[*signal.Admitted](c, nil)
		expect[*signal.PeerJoined](b, nil)
	})
}

func TestKickAndReturn(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a := s.join(t, "demo", as("A"), tr)
		b := s.join(t, "demo", as("B"), instance("bbbbbbbbbbbbbbbbbbbbbbbb"), tr)
		c := s.join(t, "demo", as("C"), tr)
		wantCode(t, b.call(&signal.Kick{Peer: c.Peer()}), refusal.Forbidden)
		ban := int64(300_000)
		a.must(&signal.Kick{Peer: b.Peer(), Reason: "noise", BanMs: &ban})
		if r := b.ended(refusal.Kicked); r.Retry != "later" || r.RetryAfterMs != ban || r.Detail["reason"] != "noise" {
			t.Errorf("B was told %+v", r)
		}
		if l := expect[*signal.PeerLeft](c, nil); l.Peer != b.Peer() || l.Reason != "kicked" {
			t.Errorf("C got %+v", l)
		}
		_, err := s.tryJoin(t, "demo", as("B"), instance("bbbbbbbbbbbbbbbbbbbbbbbb"), tr)
		wantCode(t, err, refusal.Kicked)
		s.join(t, "other", as("B"), instance("bbbbbbbbbbbbbbbbbbbbbbbb"), tr)
	})
}

func TestLockCapacityAndRoles(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		s := start(t, channel.Config{}, signalserver.Config{})
		a, b := s.join(t, "demo", as("A"), tr), s.join(t, "demo", as("B"), tr)
		on, off, three := true, false, 3
		a.must(&signal.Configure{Locked: &on})
		_, err := s.tryJoin(t, "demo", as("C"), tr)
		wantCode(t, err, refusal.ChannelLocked)
		a.must(&signal.Configure{Locked: &off, Capacity: &three})
		c := s.join(t, "demo", as("C"), tr)
		_, err = s.tryJoin(t, "demo", as("D"), tr)
		wantCode(t, err, refusal.ChannelFull)

		wantCode(t, c.call(&signal.SetRole{Peer: c.Peer(), Role: "host"}), refusal.Forbidden)
		a.must(&signal.SetRole{Peer: c.Peer(), Role: "host"})
		for _, x := range []*client{a, b, c} {
			if u := expect[*signal.PeerUpdated](x, nil).Peer; u.ID != c.Peer() || *u.Role != "host" {
				t.Errorf("%s got %+v", x.name, u)
			}
		}
		c.must(&signal.SetRole{Peer: a.Peer(), Role: "viewer"})
		wantCode(t, a.call(&signal.Kick{Peer: b.Peer()}), refusal.Forbidden)
		a.must(&signal.Command{Name: "madang.chat", Data: json.RawMessage(`{"text":"still here"}`)}) // viewers may
		if m := expect[*signal.FromCommand](b, nil); m.From != a.Peer() {
			t.Errorf("B got %+v", m)
		}
	})
}

func TestApplicationsServerAndOperator(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	a, b, c := s.join(t, "demo", as("A")), s.join(t, "demo", as("B")), s.join(t, "demo", as("C"))
	key := channel.Key{Project: "p1", Channel: "demo"}
	if err := s.channels.Command(t.Context(), key, channel.SendCommand{Name: "news", Data: json.RawMessage(`1`), To: []string{b.Peer(), c.Peer()}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*client{b, c} {
		if m := expect[*signal.FromCommand](x, nil); m.From != "" || m.Name != "news" || len(m.To) != 2 {
			t.Errorf("%s got %+v", x.name, m)
		}
	}
	if err := s.channels.Close(t.Context(), key, refusal.ChannelClosed); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*client{a, b, c} {
		x.ended(refusal.ChannelClosed)
	}
	never[*signal.FromCommand](a, nil)
}

func TestRestartedServerGivesTheFormerID(t *testing.T) {
	s1 := start(t, channel.Config{}, signalserver.Config{})
	i := instance("iiiiiiiiiiiiiiiiiiiiiiii")
	first := s1.join(t, "demo", i)
	s1.stop()
	s2 := start(t, channel.Config{}, signalserver.Config{})
	if second := s2.join(t, "demo", i); second.Peer() != first.Peer() {
		t.Errorf("got %s, then %s", first.Peer(), second.Peer())
	}
}

func TestSessionThatTheServerForgotIsJoinedAnew(t *testing.T) {
	transports(t, func(t *testing.T, tr option) {
		// A proxy in front lets the server be replaced behind it, as a restart does.
		s1 := start(t, channel.Config{}, signalserver.Config{})
		front := newFront(t, s1.http.URL)
		s1.url = front.url + "/v1/signal"
		a, b := s1.join(t, "demo", as("A"), tr), s1.join(t, "demo", as("B"), tr)
		ida, idb := a.Peer(), b.Peer()
		expect[*signal.Joined](a, nil)
		expect[*signal.Joined](b, nil)
		s2 := start(t, channel.Config{}, signalserver.Config{})
		front.turnTo(s2.http.URL)
		s1.stop()
		expect[*signal.Joined](a, nil)
		expect[*signal.Joined](b, nil)
		if a.Peer() != ida || b.Peer() != idb {
			t.Errorf("got the ids %s %s, want %s %s", a.Peer(), b.Peer(), ida, idb)
		}
		a.must(&signal.Command{Name: "x", To: []string{idb}})
		expect[*signal.FromCommand](b, nil)
	})
}

func TestTokenSaysWhoAndWhat(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	a := s.join(t, "demo", withToken("mina", auth.RoleViewer), as("ignored"), withToken("mina", auth.RoleViewer))
	if a.joined.UID != "mina" || a.joined.Role != "viewer" {
		t.Errorf("got %+v", a.joined)
	}
	_, err := s.tryJoin(t, "demo", func(c *signalclient.Config) { c.Join.Key = "" })
	wantCode(t, err, refusal.CredentialsMissing)
	_, err = s.tryJoin(t, "demo", func(c *signalclient.Config) { c.Join.Key = "nope" })
	wantCode(t, err, refusal.KeyUnknown)
	_, err = s.tryJoin(t, "demo", func(c *signalclient.Config) { c.Header = map[string][]string{"Origin": {"https://evil.example"}} })
	wantCode(t, err, refusal.OriginForbidden)
}

// A front is a reverse proxy whose server can be exchanged.
type front struct {
	url    string
	target atomic.Pointer[url.URL]
}

func newFront(t *testing.T, target string) *front {
	f := &front{}
	f.turnTo(target)
	p := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(f.target.Load()) }, FlushInterval: -1})
	t.Cleanup(p.Close)
	f.url = p.URL
	return f
}

func (f *front) turnTo(target string) {
	u, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	f.target.Store(u)
}
