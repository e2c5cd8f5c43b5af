//go:build linux

package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
	"github.com/madang-rtc/madang/internal/lab/linkem"
)

// longestGap is the longest time without a frame that counts as "media never stops": frames come each 33 ms, and the machine may be busy.
const longestGap = 1500 * time.Millisecond

// TestServerKilledInMidCall: the server dies as in a power cut, and comes back with nothing but its disk. Media, which does not go through
// it, does not notice; the session is made again by itself, and with it everything else.
func TestServerKilledInMidCall(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, nil)
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	firefox := browser.Start(t, browser.Firefox, browser.Options{})
	a := newMember(t, chromium, site, node.HTTP, "Mina")
	b := newMember(t, firefox, site, node.HTTP, "Jun")
	both := []*member{a, b}
	channel := channelName(t)
	for _, m := range both {
		m.join(channel, nil)
		m.Ignore(`ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|can’t establish a connection|was interrupted|NetworkError|Failed to fetch|WebSocket|CORS request did not succeed`)
	}
	for _, m := range both {
		m.awaitMedia(2)
	}
	chat(a, "before", b)
	for _, m := range both {
		m.do(patience, "await lab.watch(); lab.changes.length = 0; lab.id = lab.channel.me.id;", nil)
	}

	node.Kill()
	for _, m := range both {
		m.await(patience, `lab.channel.state === "reconnecting"`)
		m.awaitMore()
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range both {
		m.await(patience, `lab.channel.state === "joined" && lab.channel.peers.size === 1`)
	}
	chat(a, "after", b)
	chat(b, "after too", a)
	for _, m := range both {
		m.awaitMore()
		var gapMS float64
		m.do(patience, "return lab.unwatch()", &gapMS)
		if gap := time.Duration(gapMS) * time.Millisecond; gap > longestGap {
			t.Errorf("%s: no new frame for %v", m.name, gap)
		}
		var state struct {
			Changes, Left []any
			Open          int
			SameID        bool
		}
		m.do(patience, `return { Changes: lab.changes, Left: lab.left, SameID: lab.id === lab.channel.me.id,
			Open: lab.connections.filter((c) => c.connectionState === "connected").length }`, &state)
		if len(state.Changes) != 0 || len(state.Left) != 0 || state.Open != 1 || !state.SameID {
			t.Errorf("%s: got connection changes %v, departures %v, %d connections, same id %v; want nothing but the one connection and the same id",
				m.name, state.Changes, state.Left, state.Open, state.SameID)
		}
	}
}

// TestServerUnreachable: for half a minute no packet reaches the server. The call goes on, nobody is thought to have left, and what was
// said in the meantime arrives afterwards, once.
func TestServerUnreachable(t *testing.T) {
	outage := 30 * time.Second
	if testing.Short() {
		outage = 5 * time.Second
	}
	n := newNetwork(t)
	hosts := []*lab.Host{n.Host("a", lab.HostConfig{Kind: lab.FullCone}), n.Host("b", lab.HostConfig{Kind: lab.Open})}
	var both []*member
	channel := channelName(t)
	for i, name := range []string{"Mina", "Jun"} {
		m := n.member(t, n.browser(t, browser.Chromium, hosts[i]), hosts[i], name)
		m.Ignore("ERR_|WebSocket|Failed to fetch")
		m.join(channel, nil)
		both = append(both, m)
	}
	a, b := both[0], both[1]
	for _, m := range both {
		m.awaitMedia(2)
		m.do(patience, "await lab.watch(); lab.changes.length = 0; lab.id = lab.channel.me.id;", nil)
	}

	unblock := block(t, n.server)
	end := time.Now().Add(outage)
	a.do(patience, `window.said = Promise.all(["one", "two", "three"].map((text) => lab.channel.sendChat(text)))`, nil)
	for time.Now().Before(end) { // the outage itself is what is tested
		for _, m := range both {
			m.awaitMore()
		}
	}
	unblock()

	a.do(patience, "await window.said", nil)
	b.await(patience, `lab.chats.map((c) => c.text).join() === "one,two,three"`)
	chat(b, "and back", a)
	for _, m := range both {
		m.await(patience, `lab.channel.state === "joined"`)
		var gapMS float64
		m.do(patience, "return lab.unwatch()", &gapMS)
		if gap := time.Duration(gapMS) * time.Millisecond; gap > longestGap {
			t.Errorf("%s: no new frame for %v", m.name, gap)
		}
		var state struct {
			Changes, Left []any
			SameID        bool
		}
		m.do(patience, `return { Changes: lab.changes, Left: lab.left, SameID: lab.id === lab.channel.me.id }`, &state)
		if len(state.Changes) != 0 || len(state.Left) != 0 || !state.SameID {
			t.Errorf("%s: got connection changes %v, departures %v, same id %v; want none, none, the same", m.name, state.Changes, state.Left, state.SameID)
		}
	}
}

// TestAddressChange: a host gets another address in mid-call, as when a phone leaves the Wi-Fi. Media is back in less than three seconds.
func TestAddressChange(t *testing.T) {
	const bar = 3 * time.Second
	n := newNetwork(t)
	staying := n.Host("staying", lab.HostConfig{Kind: lab.PortRestricted})
	hosts := map[lab.Kind]*lab.Host{}
	for _, kind := range []lab.Kind{lab.Open, lab.PortRestricted} {
		hosts[kind] = n.Host("moving-"+kind.String(), lab.HostConfig{Kind: kind})
	}
	type place struct {
		host   *lab.Host
		engine browser.Engine
	}
	browsers := map[place]*browser.Browser{}
	for _, test := range []struct {
		kind            lab.Kind // of the moving one
		moving, staying browser.Engine
	}{
		{lab.Open, browser.Chromium, browser.Chromium},
		{lab.PortRestricted, browser.Chromium, browser.Chromium},
		{lab.PortRestricted, browser.Chromium, browser.Firefox},
		{lab.PortRestricted, browser.Firefox, browser.Chromium},
		{lab.PortRestricted, browser.Firefox, browser.Firefox},
	} {
		moving := hosts[test.kind]
		for _, at := range []place{{moving, test.moving}, {staying, test.staying}} {
			if browsers[at] == nil {
				browsers[at] = n.browser(t, at.engine, at.host)
			}
		}
		t.Run(fmt.Sprintf("%s-%s-%s", test.kind, test.moving, test.staying), func(t *testing.T) {
			a := n.member(t, browsers[place{moving, test.moving}], moving, "Mina")
			b := n.member(t, browsers[place{staying, test.staying}], staying, "Jun")
			a.Ignore("ERR_|WebSocket|Failed to fetch|can’t establish a connection|was interrupted|NetworkError|five or more STUN/TURN servers")
			b.Ignore("five or more STUN/TURN servers") // Firefox counts the transports of the one server
			both := []*member{a, b}
			channel := channelName(t)
			for _, m := range both {
				m.join(channel, nil)
			}
			for _, m := range both {
				m.awaitMedia(2)
				m.do(patience, "lab.before = lab.connections.length; await lab.watch()", nil)
			}
			if err := moving.Move(); err != nil {
				t.Fatal(err)
			}
			moved := time.Now()
			for _, m := range both {
				// Frames were in flight: a gap must be seen, or the move had no effect; then media must be back.
				m.await(patience, "lab.gap() > 300")
			}
			for _, m := range both {
				m.awaitMore()
			}
			t.Logf("all is back %v after the move", time.Since(moved).Round(time.Millisecond))
			chat(a, "moved", b)
			for _, m := range both {
				var gapMS float64
				m.do(patience, "return lab.unwatch()", &gapMS)
				gap := time.Duration(gapMS) * time.Millisecond
				t.Logf("%s: no new frame for %v", m.name, gap)
				if gap >= bar {
					t.Errorf("%s: media was back after %v, want less than %v", m.name, gap, bar)
				}
				m.await(patience, "lab.left.length === 0")
				// What Firefox sends from the address that it has lost fails, and its DTLS with it: it begins anew, at once.
				if test.moving != browser.Firefox {
					m.await(patience, "lab.connections.length === lab.before")
				}
			}
		})
	}
}

// TestWiFiLostAndBack: one is out of reach for so long that the other begins anew, and comes back with an offer for the connection of before. Of the two
// calls that it has, it is the polite side in one, and the other in the other.
func TestWiFiLostAndBack(t *testing.T) {
	t.Parallel()
	const bar = 5 * time.Second // from the moment when the server is reached again
	n := newNetwork(t)
	away := n.Host("away", lab.HostConfig{Kind: lab.PortRestricted})
	here := n.Host("here", lab.HostConfig{Kind: lab.PortRestricted})
	roaming, staying := n.browser(t, browser.Chromium, away), n.browser(t, browser.Chromium, here)
	type call struct{ gone, stays *member }
	var both []call
	for _, polite := range []bool{true, false} {
		c := call{n.member(t, roaming, away, "Mina"), n.member(t, staying, here, "Jun")}
		c.gone.Ignore("ERR_|WebSocket|Failed to fetch")
		channel := fmt.Sprintf("%s.%v", channelName(t), polite)
		c.gone.join(channel, nil)
		// Of two peers the one with the smaller id is the polite one, and ids are random.
		for {
			c.stays.join(channel, nil)
			var smaller bool
			c.stays.do(patience, `return lab.peer("Mina").id < lab.channel.me.id`, &smaller)
			if smaller == polite {
				break
			}
			c.stays.do(patience, "await lab.channel.leave()", nil)
			c.gone.await(patience, "lab.channel.peers.size === 0")
		}
		both = append(both, c)
	}
	for _, c := range both {
		for _, m := range []*member{c.gone, c.stays} {
			m.awaitMedia(2)
			m.do(patience, "lab.before = lab.connections.length; lab.left.length = 0;", nil)
		}
	}
	for _, c := range both {
		c.gone.do(patience, "lab.states.length = lab.changes.length = 0", nil)
	}
	comeBack := block(t, away)
	for _, c := range both {
		c.stays.await(patience, "lab.connections.length > lab.before")
	}
	comeBack()
	back := time.Now()
	for _, c := range both {
		for _, m := range []*member{c.gone, c.stays} {
			m.await(patience, `lab.connections.length > lab.before && lab.connections.at(-1).connectionState === "connected"`)
			m.awaitMore()
		}
	}
	t.Logf("all is back after %v", time.Since(back).Round(time.Millisecond))
	for _, c := range both {
		var ms float64
		c.gone.do(patience, `return lab.changes.findLast((c) => c.state === "connected").at - lab.states.find((s) => s.state === "joined").at`, &ms)
		t.Logf("connected %.0f ms after the server was reached", ms)
		if ms > float64(bar.Milliseconds()) {
			t.Errorf("the connection was back %.0f ms after the server was reached, want at most %v", ms, bar)
		}
		chat(c.gone, "back", c.stays)
		for _, m := range []*member{c.gone, c.stays} {
			m.await(patience, `lab.left.length === 0 && lab.connections.filter((c) => c.connectionState !== "closed").length === 1`)
		}
	}
}

// TestWebSocketBlocked: a proxy on the way knows nothing of WebSocket. The same call works over SSE and POST.
func TestWebSocketBlocked(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	target, err := url.Parse(node.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	var refused, streams atomic.Int64
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() }, FlushInterval: -1}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			refused.Add(1)
			http.Error(w, "no upgrades here", http.StatusBadRequest)
			return
		}
		if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			streams.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	site := blankPages(t, nil, nil)
	a := newMember(t, browser.Start(t, browser.Chromium, browser.Options{}), site, proxy.URL, "Mina")
	b := newMember(t, browser.Start(t, browser.Firefox, browser.Options{}), site, node.HTTP, "Jun")
	a.Ignore("WebSocket|410|ERR_|Failed to fetch") // what is sent on a lost link finds it gone
	channel := channelName(t)
	// The other one has a WebSocket: both are peers of one channel.
	b.join(channel, nil)
	a.join(channel, nil)
	for _, m := range []*member{a, b} {
		m.awaitMedia(2)
	}
	chat(a, "over POST", b)
	chat(b, "over SSE", a)
	if refused.Load() == 0 || streams.Load() == 0 {
		t.Errorf("%d upgrades were refused and %d event streams opened, want both", refused.Load(), streams.Load())
	}
	// The proxy loses its connections: the session goes on.
	proxy.CloseClientConnections()
	chat(a, "again over POST", b)
	chat(b, "again over SSE", a)
	b.await(patience, "lab.left.length === 0")
}

// TestCallOverABadLink: 5 % of packets are lost in bursts, with 60 ms each way. The call is made and goes on.
func TestCallOverABadLink(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	far := n.Host("far", lab.HostConfig{Kind: lab.PortRestricted,
		Link: &linkem.Config{Delay: 60 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.05, MeanBurst: 3, RateBps: 4_000_000, Seed: 1}})
	near := n.Host("near", lab.HostConfig{Kind: lab.Open})
	a := n.member(t, n.browser(t, browser.Chromium, far), far, "Mina")
	b := n.member(t, n.browser(t, browser.Chromium, near), near, "Jun")
	channel := channelName(t)
	for _, m := range []*member{a, b} {
		m.join(channel, nil)
	}
	for range 3 {
		for _, m := range []*member{a, b} {
			m.awaitMedia(2)
		}
	}
	chat(a, "lossy", b)
	lost, _ := far.Link.Counters()
	if lost.Lost == 0 {
		t.Error("the link lost nothing")
	}
	// The SDK says what is wrong in its own words.
	b.await(patience, `lab.peer("Mina").stats().then((s) => s.rttMs > 100)`)
}
