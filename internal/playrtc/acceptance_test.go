package playrtc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/playrtc"
	"github.com/madang-rtc/madang/internal/project"
)

// The tests of this file are what an old client can expect of the server, in nine points.

func Test1RESTAnswersWhatOldClientsRead(t *testing.T) {
	s := start(t)
	b := body("alice")
	b["channel"] = object{"channelName": "stand-up <1>", "channelType": "composite", "unknown": []int{1}}
	made := s.must(t, "POST", "/channels/channel", b)
	id, token := str(t, made, "channelId"), str(t, made, "token", "tokenId")
	if !regexp.MustCompile(`^CHS[0-9a-z]{14}$`).MatchString(id) || !regexp.MustCompile(`^TKS[0-9a-z]{14}$`).MatchString(token) {
		t.Errorf("ids %q, %q", id, token)
	}
	ws := "ws" + strings.TrimPrefix(s.url, "http")
	for path, want := range map[string]string{
		"channelName": "stand-up <1>", "channelType": "composite", "peer.uid": "alice", "configuration.channelUrl": ws + "/v3/playrtc/channel",
		"configuration.nagRestUrl": s.url + "/v3/playrtc/nag", "turn.turnserver.turnIp": "203.0.113.7", "turn.turnserver.turnPort": "3478",
		"turn.turnserver.turnPw": "secret", "nag.data.authExpires": "86000", "nag.data.userName": token,
		"madang.channel": id, "madang.key": project.SandboxKey, "madang.signal": s.url,
	} {
		if got := str(t, made, strings.Split(path, ".")...); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	for _, medium := range []string{"audio", "video"} {
		end := 0.0
		for i, r := range at(t, made, "configuration", "fractionLost", medium).([]any) {
			if at(t, r, "rating") != float64(i+1) || at(t, r, "fromFractionLost") != end {
				t.Errorf("%s ratings have a gap at %v", medium, r)
			}
			end = at(t, r, "toFractionLost").(float64)
		}
	}

	joined := s.must(t, "PUT", "/channels/channel/"+id, body(""))
	if str(t, joined, "channelId") != id || str(t, joined, "channelName") != "stand-up <1>" || str(t, joined, "token", "tokenId") == token {
		t.Errorf("R2: %v", joined)
	}
	// Before any socket: listed, and its own peer is found.
	list := at(t, s.must(t, "GET", "/channels", nil), "channels").([]any)
	if len(list) != 1 || str(t, list[0], "channelId") != id || str(t, list[0], "channelName") != "stand-up <1>" || len(at(t, list[0], "peers").([]any)) != 0 {
		t.Errorf("R3: %v", list)
	}
	if one := s.must(t, "GET", "/channels/channel/"+id, nil); str(t, one, "status") != "live" {
		t.Errorf("R4: %v", one)
	}
	if none := s.must(t, "GET", "/channels/channel/CHSnothing", nil); str(t, none, "status") != "nothing" || len(at(t, none, "peers").([]any)) != 0 {
		t.Errorf("R4 of an unknown channel: %v", none)
	}
	if p := s.must(t, "GET", "/channels/channel/"+id+"/peers/peer/"+token, nil); str(t, p, "uid") != "alice" || str(t, p, "userName") != "Name of alice" || str(t, p, "env", "os") != "mac" {
		t.Errorf("R6: %v", p)
	}
	alice := s.enter(t, web, id, "bob")
	if peers := at(t, s.must(t, "GET", "/channels/channel/"+id+"/peers", nil), "peers").([]any); len(peers) != 1 || str(t, peers[0], "id") != alice.token ||
		str(t, peers[0], "uid") != "bob" || str(t, peers[0], "env", "networkType") != "wired" {
		t.Errorf("R5 counts those whose socket is connected: %v", peers)
	}
	if list := at(t, s.must(t, "GET", "/channels", nil), "channels").([]any); str(t, at(t, list[0], "peers").([]any)[0], "uid") != "bob" {
		t.Errorf("R3: %v", list)
	}

	for query, want := range map[string]int{"f=CHANNEL_NAME&q=STAND": 1, "f=CHANNEL_NAME&q=up <1": 1, "f=CHANNEL_NAME&q=100%": 0, "f=CHANNEL_ID&q=" + id[:6]: 1, "f=channelId&q=x": 0} {
		query = strings.NewReplacer(" ", "%20", "<", "%3C").Replace(query) // which a browser does by itself
		if found := at(t, s.must(t, "GET", "/channels/search?"+query, nil), "channels").([]any); len(found) != want {
			t.Errorf("R7 %s: %v", query, found)
		}
	}
	_, _, bare := s.call(t, "GET", "/channels/search?f=CHANNEL_NAME&q=stand-up+%3C1", nil, android.rest...)
	var found []object
	if err := json.Unmarshal(bare, &found); err != nil || len(found) != 1 {
		t.Errorf("R7 for a native client, which wraps a bare list itself: %s", bare)
	}
	s.must(t, "PUT", "/stat", object{"type": "p2p", "resultCode": "200"})
	if r9 := s.must(t, "PUT", "/signal/user/"+token, object{}, android.rest...); str(t, r9, "data", "authToken") == "" {
		t.Errorf("R9: %v", r9)
	}
	nag := "/nag/webrtcsignaling/v1/" + token + "/turnserver?authToken="
	if fresh := s.must(t, "GET", nag+str(t, made, "nag", "data", "authToken"), nil, "TDCProjectKey", "", "Content-Type", "application/x-www-form-urlencoded"); str(t, fresh, "data", "turnserver", "turnPort") != "3478" {
		t.Errorf("nag: %v", fresh)
	}

	// CORS is checked on each of these by call.
	s.fails(t, 401, "40102", "GET", nag+"guess", nil)
	s.fails(t, 401, "40102", "GET", strings.Replace(nag, token, alice.token, 1)+str(t, made, "nag", "data", "authToken"), nil)
	s.fails(t, 404, "40104", "PUT", "/channels/channel/CHSunknown", body("x"))
	s.fails(t, 401, "40101", "GET", "/channels", nil, "TDCProjectKey", "other")
	s.fails(t, 401, "40101", "GET", "/channels", nil, "TDCProjectKey", "")
	s.fails(t, 404, "40105", "GET", "/channels/channel/"+id+"/peers/peer/TKSunknown", nil)
	s.fails(t, 404, "40401", "GET", "/nothing/here", nil)
	s.fails(t, 405, "40501", "DELETE", "/channels", nil)
	s.fails(t, 400, "40001", "POST", "/channels/channel", `{"peer":`)
	s.fails(t, 400, "40001", "POST", "/channels/channel", `{"env":"`+strings.Repeat("x", 70<<10)+`"}`)
	for _, path := range []string{"/channels/channel", "/channels/channel/x/peers", "/stat", "/nothing"} {
		status, h, _ := s.call(t, "OPTIONS", path, nil, "TDCProjectKey", "")
		for _, header := range []string{"content-type", "accept", "tdcprojectkey", "tdcprojectid", "tdclicense"} {
			if status/100 != 2 || !strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), header) || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") {
				t.Errorf("OPTIONS %s: %d %v", path, status, h)
			}
		}
	}
	// All published keys work.
	for _, key := range []string{"1000007916", "aee5f87e-c376-4f7e-b470-5c4ba725186d"} {
		s.must(t, "GET", "/channels", nil, "TDCProjectKey", key)
	}
}

func Test1ChannelsAreReachedByTheirNameAlone(t *testing.T) {
	s := start(t)
	for _, id := range []string{"%2e%2e%2f%2e%2e", "..%2f..%2fetc", "a%00b", "a%0d%0ab", strings.Repeat("x", 65), "%ff", "..%5c.."} {
		for _, method := range []string{"GET", "PUT"} {
			if status, _, answer := s.call(t, method, "/channels/channel/"+id, body("x")); status == 200 {
				t.Errorf("%s %s: got %d %s", method, id, status, answer)
			}
		}
	}
}

func Test1AProjectChoosesWhetherItAcceptsPlayRTC(t *testing.T) {
	s := start(t)
	_, off := s.newProject(t, func(p *project.Settings) { p.PlayRTC = false }, "https://page.example")
	s.fails(t, 403, "40101", "POST", "/channels/channel", body("x"), "TDCProjectKey", off)
	id, key := s.newProject(t, nil, "https://page.example")
	p := s.prepare(t, web, "", "alice", "TDCProjectKey", key)
	s.fails(t, 403, "40101", "PUT", "/channels/channel/"+p.channel, body("x"), "TDCProjectKey", key, "Origin", "https://evil.example")
	s.fails(t, 403, "40101", "PUT", "/channels/channel/"+p.channel, body("x"), "TDCProjectKey", key, "Origin", "")
	s.fails(t, 403, "40101", "PUT", "/channels/channel/"+p.channel, body("x"), "TDCProjectKey", key, "Origin", "", "Referer", "https://evil.example/page.example")
	// A native application passes with the Referer that it was told to send.
	s.prepare(t, web, p.channel, "app", "TDCProjectKey", key, "Origin", "", "Referer", "https://page.example/app")
	// Another project does not see the channel.
	s.fails(t, 404, "40104", "PUT", "/channels/channel/"+p.channel, body("x"))
	if list := at(t, s.must(t, "GET", "/channels", nil), "channels").([]any); len(list) != 0 {
		t.Errorf("another project's list: %v", list)
	}
	// The list is enforced on the socket too.
	p.dial("Origin", "https://evil.example").connect(nil)
	refused(t, p, "40101")

	// A server key: from its addresses, socket included.
	_, full, err := s.projects.AddKey(t.Context(), id, auth.ServerKey, "backend", []string{"127.0.0.1", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	backend := s.prepare(t, web, p.channel, "backend", "TDCProjectKey", full, "Origin", "").dial()
	backend.connect(nil)
	backend.expect("connect", nil)
	if backend.answer["madang"] != nil {
		t.Error("a server key was repeated in an answer")
	}
	_, elsewhere, err := s.projects.AddKey(t.Context(), id, auth.ServerKey, "backend", []string{"203.0.113.7"})
	if err != nil {
		t.Fatal(err)
	}
	s.fails(t, 403, "40101", "GET", "/channels", nil, "TDCProjectKey", elsewhere)
	// Switched off, a project's tokens open nothing.
	late := s.prepare(t, web, p.channel, "late", "TDCProjectKey", key)
	if _, err := s.projects.Update(t.Context(), id, 0, project.Change{Settings: func(p *project.Settings) { p.PlayRTC = false }}); err != nil {
		t.Fatal(err)
	}
	late.dial().connect(nil)
	refused(t, late, "40101")
}

// refused waits for the answer to connect that says no, and the end of the socket.
func refused(t *testing.T, p *peer, code string) {
	t.Helper()
	m := p.expect("connect", nil)
	if got := str(t, m, "body", "header", "code"); got != code {
		t.Errorf("connect was refused with %s, want %s", got, code)
	}
	p.expectOver()
}

func Test2NewcomersAndMembersHearOfEachOther(t *testing.T) {
	s := start(t)
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, android, a.channel, "")
	m := a.expect("on_connect", nil)
	o := at(t, m, "body", "data", "others").([]any)[0]
	if str(t, o, "id") != b.token || str(t, o, "uid") != "none" || str(t, o, "env", "platformType") != "android" || str(t, o, "env", "sdk", "version") != "2.2.12" {
		t.Errorf("on_connect: %v", o)
	}
	c := s.prepare(t, web, a.channel, "carol").dial()
	c.connect(nil)
	m = c.expect("connect", nil)
	if got := others(m); !slices.Equal(got, []string{a.token, b.token}) {
		t.Errorf("others: %v", got)
	}
	if o := at(t, m, "body", "data", "others").([]any)[0]; str(t, o, "uid") != "alice" || str(t, o, "env", "browser", "version") != "52.0.2743.82" {
		t.Errorf("others: %v", o)
	}
}

func Test2SimultaneousNewcomersGiveOneOfferPerPair(t *testing.T) {
	s := start(t)
	for range 200 {
		creator := s.prepare(t, web, "", "0")
		all := []*peer{creator, s.prepare(t, web, creator.channel, "1"), s.prepare(t, android, creator.channel, "2")}
		var together sync.WaitGroup
		begin := make(chan struct{})
		offered := make([][]string, len(all))
		for i, p := range all {
			p.dial()
			together.Go(func() {
				<-begin
				p.connect(nil)
				offered[i] = others(p.expect("connect", nil))
				for _, to := range offered[i] {
					p.offer(to)
				}
			})
		}
		close(begin)
		together.Wait()
		// Who is not offered to hears of the other first, which peer.check insists on, and then gets its offer.
		pairs := map[string]int{}
		for i, p := range all {
			for _, o := range offered[i] {
				pairs[min(p.token, o)+max(p.token, o)]++
				q := all[slices.IndexFunc(all, func(q *peer) bool { return q.token == o })]
				q.expectAny("sdp", from(p.token))
			}
		}
		if len(pairs) != 3 {
			t.Fatalf("offers for %d pairs, want 3: %v", len(pairs), offered)
		}
		for pair, n := range pairs {
			if n != 1 {
				t.Fatalf("%d offers for the pair %s", n, pair)
			}
		}
		for _, p := range all {
			p.conn.Close(websocket.StatusGoingAway, "")
		}
	}
}

func (p *peer) offer(to string) {
	p.say("sdp", "req", object{"receiver": object{"type": "peer", "id": to}}, object{"data": object{"type": "offer", "sdp": `{"type":"offer","sdp":"v=0"}`}})
}

// expectAny is expect among all that was heard.
func (p *peer) expectAny(command string, ok func(object) bool) {
	p.t.Helper()
	p.mu.Lock()
	p.next = 0
	p.mu.Unlock()
	p.expect(command, ok)
}

func Test2TwentyPeersInOneChannel(t *testing.T) {
	s := start(t)
	all := []*peer{s.enter(t, web, "", "0")}
	for i := 1; i < 20; i++ {
		k := web
		if i%2 == 1 {
			k = android
		}
		all = append(all, s.enter(t, k, all[0].channel, fmt.Sprint(i)))
	}
	for i, p := range all {
		for _, q := range all[i+1:] {
			p.expectAny("on_connect", func(m object) bool { return others(m)[0] == q.token })
		}
	}
	for _, p := range all {
		p.command(object{"from": p.uid})
	}
	for _, p := range all {
		for _, q := range all {
			if p != q {
				p.expectAny("on_userdefined", about(q.token))
			}
		}
		if n := p.count("on_userdefined"); n != len(all)-1 {
			t.Errorf("%s heard %d commands", p.uid, n)
		}
	}
}

func Test3RingRoundTrip(t *testing.T) {
	s := start(t)
	for _, kinds := range [][2]kind{{web, web}, {web, android}, {android, web}} {
		for _, status := range []string{"yes", "no"} {
			a := s.enter(t, kinds[0], "", "alice")
			b := s.enter(t, kinds[1], a.channel, "")
			b.say("ready", "req", nil, object{"data": object{"channelId": a.channel, "targetId": a.token}})
			if m := a.expect("on_ready", about(b.token)); str(t, m, "body", "data", "uid") != "none" {
				t.Errorf("on_ready: %v", m)
			}
			a.say("on_ready", "res", nil, object{"header": object{"code": "20001", "desc": "SUCCESS"},
				"data": object{"status": status, "channelId": a.channel, "targetId": b.token}})
			if m := b.expect("ready", about(a.token)); str(t, m, "body", "data", "status") != status || str(t, m, "body", "data", "uid") != "alice" {
				t.Errorf("ready: %v", m)
			}
			b.echo(a) // who was rejected stays in the channel
		}
	}
}

func Test4DescriptionsAndCandidatesArriveAsTheyWere(t *testing.T) {
	s := start(t)
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, web, a.channel, "bob")
	c := s.enter(t, web, a.channel, "carol")
	// White space, escapes and members that nobody knows: all of it is the clients' own.
	bodies := map[string]string{
		"sdp":       `{ "data" : {"type":"offer", "sdp":"{\"type\":\"offer\",\"sdp\":\"v=0\\r\\n<&>\u2028\"}" , "create_flag":1e0},"x":[ 1 , 2.50 ]}`,
		"candidate": `{"data":{"candidate":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.1 1 typ host\",\"sdpMid\":\"audio\",\"sdpMLineIndex\":0,\"type\":\"candidate\"}"}}`,
	}
	for _, command := range []string{"sdp", "candidate"} {
		send := func(sender, receiver string) {
			b.send([]byte(`{"header":{"command":"` + command + `","commandType":"req","token":"` + b.token + `","sender":{"type":"peer","id":"` + sender +
				`"},"receiver":{"type":"peer","id":"` + receiver + `"}},"body":` + bodies[command] + `}`))
		}
		send(c.token, a.token)                // a forged sender
		send(b.token, "TKSnobody0000000")     // nobody
		send(b.token, strings.Repeat("x", 9)) // nobody
		send(b.token, a.token)
		a.expect(command, from(b.token))
		a.mu.Lock()
		raw := a.heard[a.next-1].raw
		a.mu.Unlock()
		if !bytes.HasSuffix(raw, []byte(`,"body":`+bodies[command]+"}")) {
			t.Errorf("%s: got %s, want the body %s", command, raw, bodies[command])
		}
	}
	b.echo(a)
	if n := a.count("sdp") + a.count("candidate") + c.count("sdp") + c.count("candidate"); n != 2 {
		t.Errorf("%d messages arrived, want 2", n)
	}
}

func Test5UserCommandsReachWhomTheyAreFor(t *testing.T) {
	s := start(t)
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, android, a.channel, "bob")
	c := s.enter(t, web, a.channel, "carol")
	a.expect("on_connect", func(m object) bool { return others(m)[0] == c.token })
	a.command("to all")
	a.command(object{"to": "bob"}, b.token, b.token, "TKSelsewhere00000")
	a.command("to nobody", "TKSelsewhere00000")
	a.say("userdefined", "req", object{"broadcast": "no", "receiver": object{"type": "server", "id": "none", "targets": []any{}}}, object{"data": object{"userData": "to an empty list"}})
	a.command(nil)
	for _, p := range []*peer{b, c} {
		if m := p.expect("on_userdefined", about(a.token)); str(t, m, "body", "data", "userData") != "to all" {
			t.Errorf("%s: %v", p.uid, m)
		}
	}
	if m := b.expect("on_userdefined", nil); str(t, m, "body", "data", "userData", "to") != "bob" {
		t.Errorf("%v", m)
	}
	for _, p := range []*peer{b, c} {
		if m := p.expect("on_userdefined", nil); at(t, m, "body", "data", "userData") != nil {
			t.Errorf("%s got what was not for it: %v", p.uid, m)
		}
	}
	if n := a.count("on_userdefined"); n != 0 {
		t.Errorf("the sender got %d of its own", n)
	}
}

func (p *peer) close(who string) {
	p.say("peer_close", "req", object{"sender": object{"type": "peer", "id": who}}, object{"data": object{"channelId": p.channel}})
}

func Test6EveryEndIsToldOnceToEveryMember(t *testing.T) {
	for _, c := range []struct {
		name   string
		config func(*playrtc.Config)
		end    func(s *server, a, b, c *peer)
		closed []string // who gets close
		told   []string // who gets on_close about bob
		reason string
	}{
		{"leaving", nil, func(_ *server, _, b, _ *peer) { b.close(b.token) }, []string{"bob"}, []string{"alice", "carol"}, "disconnect"},
		{"put out by another", nil, func(_ *server, a, b, _ *peer) { a.close(b.token) }, []string{"bob"}, []string{"alice", "carol"}, "disconnect"},
		{"channel deleted", nil, func(_ *server, a, _, _ *peer) {
			a.say("channel_close", "req", nil, object{"data": object{"channelId": a.channel}})
		}, []string{"alice", "bob", "carol"}, nil, ""},
		{"page closed", nil, func(_ *server, _, b, _ *peer) { b.conn.Close(websocket.StatusGoingAway, "") }, nil, []string{"alice", "carol"}, "disconnect"},
		{"connection lost", func(c *playrtc.Config) { c.LossGrace = 50 * time.Millisecond }, func(_ *server, _, b, _ *peer) { b.conn.CloseNow() }, nil, []string{"alice", "carol"}, "disconnect"},
		{"health missed", func(c *playrtc.Config) { c.SilenceTimeout = 2 * time.Second }, func(_ *server, a, _, c *peer) {
			// The others go on; bob says nothing.
			for _, p := range []*peer{a, c} {
				stop := make(chan struct{})
				var beating sync.WaitGroup
				beating.Go(func() {
					tick := time.NewTicker(100 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							p.say("health", "req", nil, nil)
						case <-stop:
							return
						}
					}
				})
				p.t.Cleanup(func() { close(stop); beating.Wait() })
			}
		}, []string{"bob"}, []string{"alice", "carol"}, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, func(cfg *playrtc.Config) {
				if c.config != nil {
					c.config(cfg)
				}
			})
			members := map[string]*peer{"alice": s.enter(t, web, "", "alice")}
			room := members["alice"].channel
			members["bob"], members["carol"] = s.enter(t, android, room, "bob"), s.enter(t, web, room, "carol")
			members["alice"].expect("on_connect", func(m object) bool { return others(m)[0] == members["carol"].token })
			began := time.Now()
			c.end(s, members["alice"], members["bob"], members["carol"])
			for _, name := range c.closed {
				members[name].expect("close", nil)
				members[name].expectOver()
			}
			if took := time.Since(began); took > 2*time.Second && c.config == nil {
				t.Errorf("close took %v: old clients wait for 2 s", took)
			}
			for _, name := range c.told {
				if m := members[name].expect("on_close", about(members["bob"].token)); str(t, m, "body", "data", "reason") != c.reason {
					t.Errorf("%s was told %v", name, m)
				}
			}
			if c.told != nil {
				members["carol"].echo(members["alice"])
				members["alice"].echo(members["carol"])
			}
			for name, p := range members {
				if n, want := p.count("on_close"), count(c.told, name); n != want {
					t.Errorf("%s got %d on_close, want %d", name, n, want)
				}
				if n, want := p.count("close"), count(c.closed, name); n != want {
					t.Errorf("%s got %d close, want %d", name, n, want)
				}
			}
			list := at(t, s.must(t, "GET", "/channels", nil), "channels").([]any)
			if c.name == "channel deleted" {
				if len(list) != 0 {
					t.Errorf("a deleted channel is listed: %v", list)
				}
				s.fails(t, 404, "40104", "PUT", "/channels/channel/"+room, body("late"))
			} else if len(list) != 1 || len(at(t, list[0], "peers").([]any)) != 2 {
				t.Errorf("list: %v", list)
			}
		})
	}
}

func count(names []string, name string) int {
	if slices.Contains(names, name) {
		return 1
	}
	return 0
}

func Test6RejoinTakesThePlaceOfTheFormerMembership(t *testing.T) {
	s := start(t)
	a := s.enter(t, web, "", "alice")
	old := s.enter(t, android, a.channel, "bob")
	a.expect("on_connect", nil)
	// Another user who claims to be bob under its own name takes nobody's place.
	mallory := s.prepare(t, web, a.channel, "mallory").dial()
	mallory.connect(object{"targetId": old.token})
	if got := others(mallory.expect("connect", nil)); !slices.Contains(got, old.token) {
		t.Errorf("mallory took bob's place: %v", got)
	}
	for _, lost := range []bool{true, false} {
		if lost {
			old.conn.CloseNow() // within the grace of a lost socket
		}
		b := s.prepare(t, android, a.channel, "bob").dial()
		b.connect(object{"targetId": old.token})
		if got := others(b.expect("connect", nil)); !slices.Equal(got, []string{a.token, mallory.token}) {
			t.Errorf("others of one who came back: %v, want alice and mallory", got)
		}
		if m := a.expect("on_close", about(old.token)); str(t, m, "body", "data", "reason") != "reconnect" {
			t.Errorf("on_close: %v", m)
		}
		a.expect("on_connect", func(m object) bool { return others(m)[0] == b.token })
		if n := old.count("close"); n != 0 {
			t.Errorf("the former socket was told that it is over, which the application would believe")
		}
		old = b
	}
}

func Test7AnEmptiedChannelStaysAndADeletedOneDoesNot(t *testing.T) {
	s := start(t, func(c *playrtc.Config) { c.ChannelLifetime = 2 * time.Second })
	a := s.enter(t, web, "", "alice")
	a.close(a.token)
	a.expect("close", nil)
	a.expectOver()
	b := s.enter(t, web, a.channel, "bob") // within the lifetime
	b.conn.Close(websocket.StatusNormalClosure, "")
	waitFor(t, "the channel's end", func() bool {
		return len(at(t, s.must(t, "GET", "/channels", nil), "channels").([]any)) == 0
	})
	s.fails(t, 404, "40104", "PUT", "/channels/channel/"+a.channel, body("late"))
}

// waitFor asks again until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func Test8AndroidsAcknowledgementsAreIgnored(t *testing.T) {
	s := start(t)
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, android, a.channel, "bob")
	for _, command := range []string{"on_connect", "close", "on_userdefined"} {
		b.say(command, "res", nil, object{"header": object{"code": "20002", "desc": "SUCCESS"}, "data": object{"channelId": a.channel}})
	}
	b.say("health", "req", object{"broadcast": "no"}, nil) // with its own id
	b.echo(a)
	a.echo(b)
	if n := len(a.heard) + len(b.heard); n != 5 { // connect, on_connect, on_userdefined; connect, on_userdefined
		t.Errorf("heard %s%s", a.dump(), b.dump())
	}
}

func Test9NonsenseHurtsNobodyElse(t *testing.T) {
	s := start(t)
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, web, a.channel, "bob")
	r := rand.New(rand.NewPCG(1, 2))
	nonsense := [][]byte{[]byte("not JSON"), []byte(`{}`), []byte(`[]`), []byte(`null`), []byte(`{"header":null,"body":3}`), []byte(`{"header":{"command":7}}`),
		[]byte(`{"header":{"command":"sdp","sender":{"id":"` + a.token + `"},"receiver":{"targets":"x"}}}`), {}, []byte("\xff\xfe"),
		[]byte(`{"header":{"command":"connect"},"body":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`), bytes.Repeat([]byte("x"), 1<<20)}
	for range 200 {
		random := make([]byte, r.IntN(200))
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		nonsense = append(nonsense, []byte(fmt.Sprintf(`{"header":{"command":%q,"token":%q,"sender":{"id":%q}},"body":{"data":%q}}`, random, a.token, a.token, random)))
	}
	for _, frame := range nonsense {
		a.send(frame)
	}
	for _, command := range []string{"unknown", "SDP", "candidate", "ready", "on_ready", "userdefined", "change_layout", "connect", "on_close"} {
		for _, data := range []object{nil, {}, {"data": nil}, {"data": object{}}, {"data": object{"targetId": 7}}, {"data": object{"channelId": a.channel, "targetId": "x"}}} {
			a.say(command, "req", nil, data)
		}
	}
	a.connect(nil) // a second time
	a.echo(b)
	b.echo(a)
	if n := len(b.heard); n != 2 {
		t.Errorf("bob heard %s", b.dump())
	}

	early := s.prepare(t, web, a.channel, "early").dial()
	early.close(a.token)
	early.command("too early")
	early.say("channel_close", "req", nil, nil)
	early.connect(nil)
	early.expect("connect", nil)
	early.echo(a)
	if a.count("on_userdefined") != 2 || a.count("close") != 0 {
		t.Errorf("alice heard %s", a.dump())
	}
	mute := s.prepare(t, web, a.channel, "mute").dial()
	mute.send([]byte("not JSON"))
	refused(t, mute, "40001")
	binary := s.prepare(t, web, a.channel, "binary").dial()
	if err := binary.conn.Write(t.Context(), websocket.MessageBinary, []byte{1}); err != nil {
		t.Fatal(err)
	}
	refused(t, binary, "40001")
	// More than anybody sends by mistake ends the socket, and nothing else.
	huge := s.enter(t, web, a.channel, "huge")
	_ = huge.conn.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("x"), 6<<20)) // it may be reset meanwhile
	huge.expectOver()
	a.expect("on_close", about(huge.token))
	b.echo(a)
}

func Test9ATokenOpensOneSocket(t *testing.T) {
	s := start(t)
	_, otherKey := s.newProject(t, nil, "https://page.example")
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, web, a.channel, "bob")
	for name, c := range map[string]struct {
		token, channel, code string
	}{
		"seen in the channel": {a.token, a.channel, "40102"},
		"invented":            {"TKS00000000000000", a.channel, "40102"},
		"empty":               {"", a.channel, "40102"},
		"not a token":         {strings.Repeat("x", 1000), a.channel, "40102"},
		"of another project":  {s.prepare(t, web, "", "x", "TDCProjectKey", otherKey).token, a.channel, "40104"},
		"of another channel":  {s.prepare(t, web, "", "x").token, a.channel, "40104"},
	} {
		thief := &peer{t: t, s: s, uid: "thief of one " + name, kind: web, token: c.token, channel: c.channel, url: a.url, change: make(chan struct{}), seen: map[string]bool{}}
		thief.dial().connect(nil)
		refused(t, thief, c.code)
	}
	b.echo(a)
	// Nor after its peer has left.
	a.close(a.token)
	a.expectOver()
	b.expect("on_close", about(a.token))
	thief := &peer{t: t, s: s, uid: "thief", kind: web, token: a.token, channel: a.channel, url: a.url, change: make(chan struct{}), seen: map[string]bool{}}
	thief.dial().connect(nil)
	refused(t, thief, "40102")
	if n := b.count("on_connect"); n != 0 {
		t.Errorf("bob heard %s", b.dump())
	}
}

func Test9TokensExpire(t *testing.T) {
	s := start(t, func(c *playrtc.Config) { c.TokenLifetime = time.Nanosecond })
	late := s.prepare(t, web, "", "late").dial()
	late.connect(nil)
	m := late.expect("connect", nil)
	if code := str(t, m, "body", "header", "code"); code != "40103" && code != "40102" { // the latter after it has been forgotten
		t.Errorf("got %s", code)
	}
}

func Test9RolesMayForbidWhatPlayRTCAllows(t *testing.T) {
	s := start(t)
	_, key := s.newProject(t, func(p *project.Settings) { p.PlayRTCRoles = true }, "https://page.example")
	enter := func(channelID, uid string) *peer {
		p := s.prepare(t, web, channelID, uid, "TDCProjectKey", key).dial()
		p.connect(nil)
		p.expect("connect", nil)
		return p
	}
	host := enter("", "host")
	b := enter(host.channel, "bob")
	b.close(host.token)
	b.say("channel_close", "req", nil, object{"data": object{"channelId": b.channel}})
	impostor := s.prepare(t, web, host.channel, "host", "TDCProjectKey", key).dial()
	impostor.connect(object{"targetId": host.token})
	impostor.expect("connect", nil)
	b.echo(host)
	host.close(b.token)
	b.expect("close", nil)
	host.say("channel_close", "req", nil, object{"data": object{"channelId": b.channel}})
	host.expect("close", nil)
}

func Test9TooManyRequestsAreRefused(t *testing.T) {
	s := start(t, func(c *playrtc.Config) { c.RequestsPerSecond, c.RequestBurst = 0.001, 3 })
	for range 3 {
		s.must(t, "GET", "/channels", nil)
	}
	s.fails(t, http.StatusTooManyRequests, "42901", "GET", "/channels", nil)
}

func Test9AClientThatDoesNotReadDelaysNobody(t *testing.T) {
	s := start(t, func(c *playrtc.Config) { c.WriteTimeout = 2 * time.Second })
	a := s.enter(t, web, "", "alice")
	b := s.enter(t, web, a.channel, "bob")
	slow := s.prepare(t, web, a.channel, "slow")
	conn, _, err := websocket.Dial(t.Context(), slow.url, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://page.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	slow.conn = conn
	slow.connect(nil)
	a.expect("on_connect", func(m object) bool { return others(m)[0] == slow.token })
	long := strings.Repeat("x", 100<<10)
	for range 200 { // 20 MB: more than the network and a mailbox hold
		a.command(long)
		b.expect("on_userdefined", about(a.token))
	}
	for _, p := range []*peer{a, b} {
		p.expectAny("on_close", about(slow.token))
	}
}
