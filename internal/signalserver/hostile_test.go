package signalserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/signalserver"
)

// A raw client says what its test tells it to, over a WebSocket.
type raw struct {
	t    *testing.T
	conn *websocket.Conn
}

func (s *server) dial(t *testing.T) *raw {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, s.url, &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &raw{t, conn}
}

func (r *raw) say(text string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := r.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) next() (signal.ServerMessage, uint64, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	_, b, err := r.conn.Read(ctx)
	if err != nil {
		return nil, 0, err
	}
	return signal.ParseServer(b)
}

// until reads up to the next message of the type.
func until[M signal.ServerMessage](r *raw) M {
	r.t.Helper()
	for {
		m, _, err := r.next()
		if err != nil {
			r.t.Fatal(err)
		}
		if m, ok := m.(M); ok {
			return m
		}
		if bye, ok := m.(*signal.Bye); ok {
			r.t.Fatalf("bye: %+v", bye)
		}
	}
}

// bye expects the end, and after it a close frame.
func (r *raw) bye(code refusal.Code, status websocket.StatusCode) *signal.Bye {
	r.t.Helper()
	for {
		m, _, err := r.next()
		if err != nil {
			r.t.Fatalf("waiting for bye %s: %v", code, err)
		}
		if bye, ok := m.(*signal.Bye); ok {
			if bye.Code != string(code) || bye.Message == "" || bye.Retry == "" {
				r.t.Errorf("got %+v, want the code %s", bye, code)
			}
			if _, _, err := r.next(); websocket.CloseStatus(err) != status {
				r.t.Errorf("the link closed with %v, want status %d", err, status)
			}
			return bye
		}
	}
}

const hello = `{"type":"join","version":1,"channel":"demo","key":"key","instance":"0123456789abcdefghijklmn"}`

func (s *server) joinRaw(t *testing.T) (*raw, *signal.Joined) {
	t.Helper()
	r := s.dial(t)
	r.say(strings.Replace(hello, "0123456789abcdefghijklmn", fmt.Sprintf("%024d", rand.Uint64()), 1))
	return r, until[*signal.Joined](r)
}

func TestFirstMessageMustBeJoinOrResume(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	long := strings.Repeat("x", 65<<10)
	for name, test := range map[string]struct {
		text   string
		code   refusal.Code
		status websocket.StatusCode
	}{
		"not JSON":             {`hello`, refusal.Malformed, 1008},
		"half of JSON":         {`{"type":"join"`, refusal.Malformed, 1008},
		"an array":             {`[]`, refusal.Malformed, 1008},
		"nothing":              {``, refusal.Malformed, 1008},
		"no type":              {`{}`, refusal.Malformed, 1008},
		"type is a number":     {`{"type":7}`, refusal.Malformed, 1008},
		"not UTF-8":            {"{\"type\":\"join\",\"channel\":\"\xff\"}", refusal.Malformed, 1008},
		"a member twice":       {`{"type":"join","version":1,"channel":"a","channel":"b","key":"key"}`, refusal.Malformed, 1008},
		"deep":                 {`{"type":"join","info":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, refusal.Malformed, 1008},
		"unknown type":         {`{"type":"dance"}`, refusal.UnknownType, 1008},
		"a command":            {`{"type":"command","seq":1,"name":"x"}`, refusal.JoinFirst, 1008},
		"a ping":               {`{"type":"ping"}`, refusal.JoinFirst, 1008},
		"no version":           {`{"type":"join","channel":"a","key":"key"}`, refusal.VersionUnsupported, 1008},
		"another version":      {`{"type":"join","version":2,"channel":"a","key":"key"}`, refusal.VersionUnsupported, 1008},
		"no channel":           {`{"type":"join","version":1,"key":"key"}`, refusal.InvalidField, 1008},
		"bad channel":          {`{"type":"join","version":1,"channel":"a b","key":"key"}`, refusal.InvalidField, 1008},
		"bad role":             {`{"type":"join","version":1,"channel":"a","key":"key","role":"god"}`, refusal.InvalidField, 1008},
		"short instance":       {`{"type":"join","version":1,"channel":"a","key":"key","instance":"x"}`, refusal.InvalidField, 1008},
		"big info":             {`{"type":"join","version":1,"channel":"a","key":"key","info":"` + long[:4<<10] + `"}`, refusal.InvalidField, 1008},
		"bad media":            {`{"type":"join","version":1,"channel":"a","key":"key","media":{"audio":"loud"}}`, refusal.InvalidField, 1008},
		"control in the name":  {`{"type":"join","version":1,"channel":"a","key":"key","name":"a\u0000b"}`, refusal.InvalidField, 1008},
		"resume of nobody":     {`{"type":"resume","peer":"pnobody","secret":"s","received":0}`, refusal.ResumeUnknown, 1008},
		"resume without":       {`{"type":"resume"}`, refusal.InvalidField, 1008},
		"too big":              {`{"type":"join","name":"` + long + `"}`, refusal.MessageTooBig, 1009},
		"too big and not JSON": {long, refusal.MessageTooBig, 1009},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.dial(t)
			r.say(test.text)
			r.bye(test.code, test.status)
		})
	}
	t.Run("binary", func(t *testing.T) {
		r := s.dial(t)
		if err := r.conn.Write(t.Context(), websocket.MessageBinary, []byte(hello)); err != nil {
			t.Fatal(err)
		}
		r.bye(refusal.Malformed, 1008)
	})
}

func TestMessagesAfterJoining(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	watcher := s.join(t, "demo", as("watcher"))
	t.Run("those that are answered with an error", func(t *testing.T) {
		r, _ := s.joinRaw(t)
		for _, test := range []struct {
			text string
			re   uint64
			code refusal.Code
		}{
			{`{"type":"command","seq":1}`, 1, refusal.InvalidField},
			{`{"type":"command","seq":2,"name":""}`, 2, refusal.InvalidField},
			{`{"type":"command","seq":3,"name":"` + strings.Repeat("n", 65) + `"}`, 3, refusal.InvalidField},
			{`{"type":"command","seq":4,"name":"x","to":[]}`, 4, refusal.InvalidField},
			{`{"type":"command","seq":5,"name":"x","to":"p1"}`, 5, refusal.InvalidField},
			{`{"type":"command","seq":6,"name":"x","to":["pnobody"]}`, 6, refusal.PeerNotFound},
			{`{"type":"signal","seq":7,"to":"pnobody","data":1}`, 7, refusal.PeerNotFound},
			{`{"type":"dance","seq":8}`, 8, refusal.UnknownType},
			{`{"type":"dance"}`, 0, refusal.UnknownType},
			{`{"type":"update","seq":9,"info":"` + strings.Repeat("x", 4<<10) + `"}`, 9, refusal.InvalidField},
			{`{"type":"kick","seq":10,"peer":"` + watcher.Peer() + `"}`, 10, refusal.Forbidden},
			{`{"type":"configure","seq":11,"capacity":0}`, 11, refusal.InvalidField},
			{`{"type":"configure","seq":12,"locked":"yes"}`, 12, refusal.InvalidField},
			{`{"type":"reject","seq":13,"peer":"x","reason":"bored"}`, 13, refusal.InvalidField},
			{`{"type":"set-role","seq":14,"peer":"x","role":"god"}`, 14, refusal.InvalidField},
			{`{"type":"kick","seq":15,"peer":"x","banMs":999999999999}`, 15, refusal.InvalidField},
			{hello, 0, refusal.AlreadyJoined},
			{`{"type":"resume","peer":"x","secret":"s","received":0}`, 0, refusal.AlreadyJoined},
		} {
			r.say(test.text)
			if e := until[*signal.Error](r); e.Re != test.re || e.Code != string(test.code) || e.Message == "" {
				t.Errorf("%s: got %+v, want %s", test.text, e, test.code)
			}
		}
		r.say(`{"type":"command","seq":16,"name":"x","reply":true}`)
		if ok := until[*signal.OK](r); ok.Re != 16 {
			t.Errorf("got %+v", ok)
		}
		r.say(`{"type":"ping","t":12.5e1,"ack":0,"more":[1]}`)
		if p := until[*signal.Pong](r); string(p.T) != "12.5e1" || p.Ack != 16 {
			t.Errorf("got %+v", p)
		}
	})
	for name, test := range map[string]struct {
		text string
		code refusal.Code
		left bool // the others see it
	}{
		"not JSON":              {`}`, refusal.Malformed, true},
		"no seq":                {`{"type":"command","name":"x"}`, refusal.Malformed, true},
		"seq 0":                 {`{"type":"command","seq":0,"name":"x"}`, refusal.Malformed, true},
		"seq is text":           {`{"type":"command","seq":"1","name":"x"}`, refusal.Malformed, true},
		"huge seq":              {`{"type":"command","seq":99999999999999999999999,"name":"x"}`, refusal.Malformed, true},
		"negative seq":          {`{"type":"command","seq":-1,"name":"x"}`, refusal.Malformed, true},
		"a gap":                 {`{"type":"command","seq":2,"name":"x"}`, refusal.OutOfOrder, false},
		"ack of what was never": {`{"type":"ack","seq":1000}`, refusal.Malformed, true},
		"ping with a text":      {`{"type":"ping","t":"x"}`, refusal.InvalidField, true},
		"leave":                 {`{"type":"leave"}`, refusal.Left, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, joined := s.joinRaw(t)
			expect(watcher, func(m *signal.PeerJoined) bool { return m.Peer.ID == joined.Peer })
			r.say(test.text)
			status := websocket.StatusPolicyViolation
			if test.code == refusal.Left {
				status = websocket.StatusNormalClosure
			}
			r.bye(test.code, status)
			if test.left {
				expect(watcher, func(m *signal.PeerLeft) bool { return m.Peer == joined.Peer && m.Reason == string(test.code) })
				return
			}
			again := s.dial(t)
			again.say(`{"type":"resume","peer":"` + joined.Peer + `","secret":"` + joined.Resume.Secret + `","received":0}`)
			if m := until[*signal.Resumed](again); m.Received != 0 || m.Secret == joined.Resume.Secret {
				t.Errorf("got %+v", m)
			}
			never(watcher, func(m *signal.PeerLeft) bool { return m.Peer == joined.Peer })
			again.say(`{"type":"leave"}`)
			again.bye(refusal.Left, websocket.StatusNormalClosure)
		})
	}
}

func TestResumeSecretOnTheWire(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	a, ja := s.joinRaw(t)
	_, jb := s.joinRaw(t)
	resume := func(peer, secret string) string {
		return `{"type":"resume","peer":"` + peer + `","secret":"` + secret + `","received":0}`
	}
	foreign := s.dial(t)
	foreign.say(resume(ja.Peer, jb.Resume.Secret))
	foreign.bye(refusal.ResumeUnknown, 1008)

	first := s.dial(t)
	first.say(resume(ja.Peer, ja.Resume.Secret))
	until[*signal.Resumed](first)
	if bye := a.bye(refusal.Replaced, 1008); bye.Retry != "never" {
		t.Errorf("got %+v", bye)
	}
	second := s.dial(t) // as if the answer to the first had been lost
	second.say(resume(ja.Peer, ja.Resume.Secret))
	got := until[*signal.Resumed](second)
	first.bye(refusal.Replaced, 1008)
	if m := until[*signal.ICEServers](second); len(m.ICE.Servers) != 1 {
		t.Errorf("got %+v", m)
	}
	second.say(`{"type":"ping"}`)
	until[*signal.Pong](second)
	third := s.dial(t)
	third.say(resume(ja.Peer, ja.Resume.Secret))
	third.bye(refusal.ResumeUnknown, 1008)
	fourth := s.dial(t)
	fourth.say(resume(ja.Peer, got.Secret))
	until[*signal.Resumed](fourth)
}

func TestRateLimit(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{MessagesPerSecond: 0.001, MessageBurst: 20})
	r, _ := s.joinRaw(t) // 1
	for i := range 19 {
		r.say(fmt.Sprintf(`{"type":"command","seq":%d,"name":"x","reply":true}`, i+1))
		until[*signal.OK](r)
	}
	for i := range 20 {
		r.say(fmt.Sprintf(`{"type":"command","seq":%d,"name":"x","reply":true}`, i+20))
		e := until[*signal.Error](r)
		if e.Re != uint64(i+20) || e.Code != string(refusal.RateLimited) || e.RetryAfterMs == 0 || e.Retry != "later" {
			t.Fatalf("got %+v", e)
		}
	}
	r.say(`{"type":"command","seq":40,"name":"x"}`)
	r.bye(refusal.RateLimited, 1008)
	if s.signal.Stats().Limited != 21 {
		t.Errorf("got %+v", s.signal.Stats())
	}
}

func TestJoinsPerAddress(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{JoinsPerSecond: 0.001, JoinBurst: 3})
	for range 3 {
		s.joinRaw(t)
	}
	r := s.dial(t)
	r.say(hello)
	if bye := r.bye(refusal.RateLimited, 1008); bye.RetryAfterMs == 0 {
		t.Errorf("got %+v", bye)
	}
}

// TestHalfOpenLinks: from one address only so many links wait for their first message; others are served meanwhile.
func TestHalfOpenLinks(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{HandshakeTimeout: time.Hour})
	for range 256 {
		s.dial(t)
	}
	if n := s.signal.Stats().HalfOpen; n != 256 {
		t.Errorf("%d links are half open", n)
	}
	_, resp, err := websocket.Dial(t.Context(), s.url, &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err == nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, %v", resp, err)
	}
	p := s.post(t, `{"messages":[`+hello+`]}`, "text/event-stream")
	if p.status != http.StatusTooManyRequests || p.Code != string(refusal.RateLimited) {
		t.Errorf("got %+v", p)
	}
	elsewhere := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	s.join(t, "demo", func(c *signalclient.Config) { c.HTTPClient = elsewhere })
}

// TestOpenBodies: from one address only so many bodies are read at once; whoever sends them slowly gets no more memory, and others are served meanwhile.
func TestOpenBodies(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{HandshakeTimeout: time.Hour, OpenBodies: 3})
	opened := s.post(t, `{"link":"nobody","messages":[]}`, "")
	if opened.Code != string(refusal.LinkUnknown) {
		t.Fatalf("got %+v", opened)
	}
	var slow []*io.PipeWriter
	var all sync.WaitGroup
	for range 3 {
		body, w := io.Pipe()
		slow = append(slow, w)
		all.Go(func() {
			resp, err := http.Post(s.url, "application/json", body)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
		if _, err := w.Write([]byte(`{"link":"nobody",`)); err != nil {
			t.Fatal(err)
		}
	}
	s.eventually(t, func(st signalserver.Stats) bool { return st.Bodies == 3 })
	if a := s.post(t, `{"messages":[`+hello+`]}`, "text/event-stream"); a.status != http.StatusTooManyRequests || a.Code != string(refusal.RateLimited) || a.header.Get("Retry-After") == "" {
		t.Errorf("got %+v", a)
	}
	elsewhere := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	resp, err := elsewhere.Post(s.url, "application/json", strings.NewReader(`{"link":"nobody","messages":[]}`))
	if err != nil || resp.StatusCode != http.StatusGone {
		t.Errorf("another address: got %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	elsewhere.CloseIdleConnections()
	for _, w := range slow {
		w.Write([]byte(`"messages":[]}`))
		w.Close()
	}
	all.Wait()
	s.eventually(t, func(st signalserver.Stats) bool { return st.Bodies == 0 })
	if a := s.post(t, `{"link":"nobody","messages":[]}`, ""); a.Code != string(refusal.LinkUnknown) {
		t.Errorf("afterwards: got %+v", a)
	}
}

// TestGuessedLinks: whoever asks for links that are not there has the budget of those who join.
func TestGuessedLinks(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{JoinsPerSecond: 0.001, JoinBurst: 3})
	for range 3 {
		if a := s.post(t, `{"link":"nobody","messages":[]}`, ""); a.Code != string(refusal.LinkUnknown) {
			t.Errorf("got %+v", a)
		}
	}
	if a := s.post(t, `{"link":"nobody","messages":[]}`, ""); a.status != http.StatusTooManyRequests || a.Code != string(refusal.RateLimited) {
		t.Errorf("got %+v", a)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{HandshakeTimeout: 50 * time.Millisecond})
	s.dial(t).bye(refusal.HandshakeTimeout, 1008)
	s.eventually(t, func(st signalserver.Stats) bool { return st.HalfOpen == 0 && st.TimedOut == 1 && st.WebSocket == 0 })
}

// eventually polls the server's counts, which no event announces.
func (s *server) eventually(t *testing.T, ok func(signalserver.Stats) bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	timeout := time.After(patience)
	for !ok(s.signal.Stats()) {
		select {
		case <-poll.C:
		case <-timeout:
			t.Fatalf("the server stays at %+v", s.signal.Stats())
		}
	}
}

func TestSilentLinkIsDroppedAndItsSessionIsNot(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{IdleTimeout: 60 * time.Millisecond, PingInterval: 20 * time.Millisecond})
	watcher := s.join(t, "demo", as("watcher")) // pings
	r, joined := s.joinRaw(t)
	for {
		_, _, err := r.next()
		if err != nil {
			break
		}
	}
	again := s.dial(t)
	again.say(`{"type":"resume","peer":"` + joined.Peer + `","secret":"` + joined.Resume.Secret + `","received":0}`)
	until[*signal.Resumed](again)
	never[*signal.PeerLeft](watcher, nil)
}

// TestClientThatNeverReads: its link ends when a write has been stuck for too long, its session when its mailbox is full. Nobody else waits.
func TestClientThatNeverReads(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{WriteTimeout: 200 * time.Millisecond, MessagesPerSecond: 1e6, MessageBurst: 1e6})
	sender, good := s.join(t, "demo", as("sender")), s.join(t, "demo", as("good"))
	deaf, joined := s.joinRaw(t)
	_ = deaf
	data := json.RawMessage(`"` + strings.Repeat("x", 60<<10) + `"`)
	var worst time.Duration
	for gone := false; !gone; {
		begin := time.Now()
		sender.must(&signal.Command{Name: "x", Data: data})
		expect[*signal.FromCommand](good, nil)
		worst = max(worst, time.Since(begin))
		good.mu.Lock()
		gone = slices.ContainsFunc(good.heard, func(m signal.ServerMessage) bool {
			l, ok := m.(*signal.PeerLeft)
			return ok && l.Peer == joined.Peer && l.Reason == "mailbox_full"
		})
		good.mu.Unlock()
	}
	if worst > 5*time.Second {
		t.Errorf("a message took %v", worst)
	}
	s.eventually(t, func(st signalserver.Stats) bool { return st.WebSocket == 2 })
}

// TestSlowClientIsTold: a client that has read nothing for too long, and then goes on, finds out why its link is over. Resumed, it misses nothing.
func TestSlowClientIsTold(t *testing.T) {
	type reader func() (m signal.ServerMessage, seq uint64)
	for name, open := range map[string]func(*testing.T, *server) (next reader, refused func() answer){
		"websocket": func(t *testing.T, s *server) (reader, func() answer) {
			r := s.dial(t)
			r.say(hello)
			return func() (signal.ServerMessage, uint64) {
				m, seq, err := r.next()
				if err != nil {
					t.Fatal(err)
				}
				return m, seq
			}, nil
		},
		"sse": func(t *testing.T, s *server) (reader, func() answer) {
			st := s.stream(t, hello)
			return st.nextNumbered, func() answer { return s.post(t, `{"link":"`+st.link+`","messages":[{"type":"ping","t":1}]}`, "") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, channel.Config{MailboxBytes: 64 << 20}, signalserver.Config{WriteTimeout: 3 * time.Second, MessagesPerSecond: 1e6, MessageBurst: 1e6})
			sender := s.join(t, "demo", as("sender"))
			next, refused := open(t, s)
			m, _ := next()
			joined, ok := m.(*signal.Joined)
			if !ok {
				t.Fatalf("got %+v", m)
			}
			// More than the buffers of the networks take, less than the link's queue.
			const count = 110
			data := json.RawMessage(`"` + strings.Repeat("x", 60<<10) + `"`)
			for range count {
				sender.must(&signal.Signal{To: joined.Peer, Data: data})
			}
			s.eventually(t, func(st signalserver.Stats) bool { return st.Slow == 1 })
			if refused != nil {
				if a := refused(); a.Code != string(refusal.SlowClient) || a.Retry != string(refusal.RetryResume) {
					t.Errorf("a POST to the link got %+v", a)
				}
			}
			var received uint64
			signals := 0
			read := func(next reader) *signal.Bye {
				for {
					m, seq := next()
					if seq != 0 && seq != received+1 {
						t.Fatalf("the message %d comes after %d", seq, received)
					}
					received = max(received, seq)
					switch m := m.(type) {
					case *signal.FromSignal:
						if signals++; signals == count {
							return nil
						}
					case *signal.Bye:
						return m
					}
				}
			}
			bye := read(next)
			if bye == nil || bye.Code != string(refusal.SlowClient) || bye.Retry != string(refusal.RetryResume) {
				t.Fatalf("after %d of %d messages: %+v", signals, count, bye)
			}
			t.Logf("%d of %d messages had been written", signals, count)
			again := s.dial(t)
			again.say(fmt.Sprintf(`{"type":"resume","peer":%q,"secret":%q,"received":%d}`, joined.Peer, joined.Resume.Secret, received))
			if bye := read(func() (signal.ServerMessage, uint64) {
				m, seq, err := again.next()
				if err != nil {
					t.Fatal(err)
				}
				return m, seq
			}); bye != nil {
				t.Errorf("resumed, after %d of %d messages: %+v", signals, count, bye)
			}
			never[*signal.PeerLeft](sender, nil)
		})
	}
}

// TestAcknowledgedButNotRead: a client that acknowledges what it does not read cannot make the server queue without end.
func TestAcknowledgedButNotRead(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{WriteTimeout: time.Hour, MessagesPerSecond: 1e6, MessageBurst: 1e6})
	sender := s.join(t, "demo", as("sender"))
	liar, joined := s.joinRaw(t)
	data := json.RawMessage(`"` + strings.Repeat("x", 60<<10) + `"`)
	for n := 1; s.signal.Stats().Slow == 0; n++ {
		if n > 2000 {
			t.Fatal("120 MB are queued for a client that reads nothing")
		}
		if err := sender.call(&signal.Signal{To: joined.Peer, Data: data}); err != nil {
			t.Fatal(err)
		}
		if err := liar.conn.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"ack","seq":%d}`, n)); err != nil {
			break
		}
		for taken := false; !taken; { // else the mailbox would fill, which is another test's
			snap, err := s.channels.Inspect(t.Context(), channel.Key{Project: "p1", Channel: "demo"})
			if err != nil {
				t.Fatal(err)
			}
			taken = snap.Members[1].Mailbox == 0 || s.signal.Stats().Slow > 0
		}
	}
	liar.bye(refusal.SlowClient, websocket.StatusPolicyViolation)
	never[*signal.PeerLeft](sender, nil) // the link is over, the session is not
}

func TestICEServersAreRenewedInTime(t *testing.T) {
	var mu sync.Mutex
	made := 0
	s := start(t, channel.Config{}, signalserver.Config{HandshakeTimeout: 100 * time.Millisecond, ICE: func(project, peer string, _ netip.Addr) (signal.ICE, error) {
		mu.Lock()
		defer mu.Unlock()
		made++
		return signal.ICE{Servers: []signal.ICEServer{{URLs: []string{"turn:x"}, Username: fmt.Sprint(made)}}, ExpiresAtMs: time.Now().Add(1500 * time.Millisecond).UnixMilli()}, nil
	}})
	a := s.join(t, "demo", as("A"))
	begin := time.Now()
	first := expect[*signal.ICEServers](a, nil)
	if d := time.Since(begin); first.ICE.Servers[0].Username != "2" || d > 1500*time.Millisecond {
		t.Errorf("got %+v after %v", first, d)
	}
	a.must(&signal.ICERequest{})
	expect[*signal.ICEServers](a, nil)
}

func TestJoinGoesOnWithoutICEServers(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{ICE: func(string, string, netip.Addr) (signal.ICE, error) { return signal.ICE{}, errors.New("no relay") }})
	a := s.join(t, "demo", as("A"))
	if a.joined.ICE.Servers == nil || len(a.joined.ICE.Servers) != 0 {
		t.Errorf("got %+v", a.joined.ICE)
	}
}

// What a POST is answered with.
type answer struct {
	status int
	header http.Header
	Code   string
	Detail string
	Retry  string
}

func (s *server) post(t *testing.T, body, accept string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", s.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func TestPostsThatAreRefused(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	for name, test := range map[string]struct {
		body, accept string
		status       int
		code         refusal.Code
	}{
		"nothing":          {``, "text/event-stream", 400, refusal.Malformed},
		"not JSON":         {`x`, "text/event-stream", 400, refusal.Malformed},
		"no messages":      {`{}`, "text/event-stream", 400, refusal.Malformed},
		"messages no list": {`{"messages":{}}`, "text/event-stream", 400, refusal.Malformed},
		"no stream wanted": {`{"messages":[` + hello + `]}`, "application/json", 406, refusal.Malformed},
		"unknown link":     {`{"link":"x","messages":[]}`, "", 410, refusal.LinkUnknown},
		"large":            {`{"messages":["` + strings.Repeat("x", 300<<10) + `"]}`, "", 413, refusal.MessageTooBig},
		"many":             {`{"link":"x","messages":[` + strings.Repeat("1,", 500) + `1]}`, "", 400, refusal.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.post(t, test.body, test.accept)
			if a.status != test.status || a.Code != string(test.code) || a.Detail == "" || a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("got %+v, want %d %s", a, test.status, test.code)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		resp, err := http.Get(s.url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUpgradeRequired {
			t.Errorf("got %s", resp.Status)
		}
	})
	t.Run("another subprotocol", func(t *testing.T) {
		_, resp, err := websocket.Dial(t.Context(), s.url, &websocket.DialOptions{Subprotocols: []string{"chat"}})
		if err == nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("got %v, %v", resp, err)
		}
	})
	t.Run("preflight", func(t *testing.T) {
		req, _ := http.NewRequest("OPTIONS", s.url, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), "POST") ||
			resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("got %s %v", resp.Status, resp.Header)
		}
	})
}

// A stream is the receiving half of an SSE link.
type stream struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Reader
	link string
}

func (s *server) stream(t *testing.T, first string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url, strings.NewReader(`{"messages":[`+first+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %s %v", resp.Status, resp.Header)
	}
	st := &stream{t: t, body: resp.Body, in: bufio.NewReader(resp.Body)}
	link, ok := st.next().(*signal.Link)
	if !ok || len(link.Link) < 22 {
		t.Fatalf("the stream begins with %+v", link)
	}
	st.link = link.Link
	return st
}

func (st *stream) next() signal.ServerMessage {
	st.t.Helper()
	m, _ := st.nextNumbered()
	return m
}

func (st *stream) nextNumbered() (signal.ServerMessage, uint64) {
	st.t.Helper()
	for {
		line, err := st.in.ReadString('\n')
		if err != nil {
			st.t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			m, seq, err := signal.ParseServer([]byte(data))
			if err != nil {
				st.t.Fatal(err)
			}
			return m, seq
		}
		if line != "\n" && line[0] != ':' {
			st.t.Fatalf("got the line %q", line)
		}
	}
}

func TestSSELinkSaysWhyOnBothHalves(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	st := s.stream(t, hello)
	if _, ok := st.next().(*signal.Joined); !ok {
		t.Fatal("not joined")
	}
	if a := s.post(t, `{"link":"`+st.link+`","messages":[{"type":"ping","t":1},{"type":"ping","t":2}]}`, ""); a.status != 204 {
		t.Errorf("got %+v", a)
	}
	for _, want := range []string{"1", "2"} {
		if p, ok := st.next().(*signal.Pong); !ok || string(p.T) != want {
			t.Errorf("got %+v, want pong %s", p, want)
		}
	}
	a := s.post(t, `{"link":"`+st.link+`","messages":[{"type":"command"},{"type":"ping","t":3}]}`, "")
	if a.status != 400 || a.Code != string(refusal.Malformed) {
		t.Errorf("got %+v", a)
	}
	if bye, ok := st.next().(*signal.Bye); !ok || bye.Code != string(refusal.Malformed) {
		t.Errorf("got %+v", bye)
	}
	if _, err := st.in.ReadString('x'); err != io.EOF {
		t.Errorf("after bye: %v", err)
	}
	if a := s.post(t, `{"link":"`+st.link+`","messages":[]}`, ""); a.Code != string(refusal.LinkUnknown) || a.Retry != "resume" {
		t.Errorf("got %+v", a)
	}
}

func TestSSEJoinRefused(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	st := s.stream(t, `{"type":"join","version":1,"channel":"demo","key":"nope"}`)
	if bye, ok := st.next().(*signal.Bye); !ok || bye.Code != string(refusal.KeyUnknown) {
		t.Errorf("got %+v", bye)
	}
}

// TestLineBreaksInsideJSON: white space in a client's data must not break the event stream.
func TestLineBreaksInsideJSON(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	st := s.stream(t, hello)
	joined := st.next().(*signal.Joined)
	r, _ := s.joinRaw(t)
	st.next() // peer-joined
	r.say(`{"type":"signal","seq":1,"to":"` + joined.Peer + `","data":{` + "\r\n\n" + `"a":` + "\n" + `"b\n"}}`)
	if m, ok := st.next().(*signal.FromSignal); !ok || string(m.Data) != `{"a":"b\n"}` {
		t.Errorf("got %+v", m)
	}
}

func TestBothLinksMeetInOneChannel(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	a, b := s.join(t, "demo", as("A"), over(signalclient.WebSocket)), s.join(t, "demo", as("B"), over(signalclient.SSE))
	a.must(&signal.Signal{To: b.Peer(), Data: json.RawMessage(`1`)})
	expect[*signal.FromSignal](b, nil)
	b.must(&signal.Signal{To: a.Peer(), Data: json.RawMessage(`2`)})
	expect[*signal.FromSignal](a, nil)
	if st := s.signal.Stats(); st.WebSocket != 1 || st.SSE != 1 {
		t.Errorf("got %+v", st)
	}
}

func TestDrainSaysComeBack(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{})
	r, _ := s.joinRaw(t)
	st := s.stream(t, hello)
	half := s.dial(t)
	st.next()
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	if bye := r.bye(refusal.ServerDraining, websocket.StatusServiceRestart); bye.Retry != "resume" || bye.RetryAfterMs == 0 {
		t.Errorf("got %+v", bye)
	}
	half.bye(refusal.ServerDraining, websocket.StatusServiceRestart)
	for {
		if bye, ok := st.next().(*signal.Bye); ok {
			if bye.Code != string(refusal.ServerDraining) {
				t.Errorf("got %+v", bye)
			}
			break
		}
	}
	<-stopped
	if st := s.signal.Stats(); st.WebSocket+st.SSE+st.HalfOpen != 0 {
		t.Errorf("left behind: %+v", st)
	}
}

// TestDrainWaitsForNobodyForLong: a client that neither reads nor closes is cut off after DrainTimeout.
func TestDrainWaitsForNobodyForLong(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{DrainTimeout: 50 * time.Millisecond})
	s.joinRaw(t)
	begin := time.Now()
	s.stop()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestSlowDecisionIsBounded(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{HandshakeTimeout: 50 * time.Millisecond, Authorize: func(ctx context.Context, _ auth.Credentials) (auth.Grant, error) {
		<-ctx.Done()
		return auth.Grant{}, ctx.Err()
	}})
	r := s.dial(t)
	r.say(hello)
	for {
		m, _, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if bye, ok := m.(*signal.Bye); ok {
			if bye.Code != string(refusal.Internal) && bye.Code != string(refusal.HandshakeTimeout) {
				t.Errorf("got %+v", bye)
			}
			break
		}
	}
}

func TestClientAddressIsWhatTheCallerSays(t *testing.T) {
	var got auth.Credentials
	var mu sync.Mutex
	s := start(t, channel.Config{}, signalserver.Config{
		ClientAddress: func(*http.Request) netip.Addr { return netip.MustParseAddr("2001:db8::7") },
		Authorize: func(_ context.Context, c auth.Credentials) (auth.Grant, error) {
			mu.Lock()
			defer mu.Unlock()
			got = c
			return auth.Grant{Project: "p", Channel: c.Channel}, nil
		}})
	s.join(t, "demo", as("A"), func(c *signalclient.Config) { c.Header = http.Header{"Origin": {"https://page.example"}} })
	mu.Lock()
	defer mu.Unlock()
	if got.Address != netip.MustParseAddr("2001:db8::7") || got.Origin != "https://page.example" || got.Name != "A" || got.Key != "key" || got.Channel != "demo" {
		t.Errorf("got %+v", got)
	}
}
