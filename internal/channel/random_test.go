package channel

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the random histories from this seed alone")
	runsFlag = flag.Int("runs", 2000, "how many random histories")
)

// A world is one channel with its clients and the network between them, all in memory and without time of its own. Links are two queues, which lose
// everything that is on its way when the link breaks; the two ends notice that at different times.
//
// What has to be true is written down from outside: when a message of a client reaches the server for the first time on the link that is current
// then, and is not answered with Failed, it is expected by everybody it is meant for who is a member then. A client that stays gets exactly what is expected,
// in that order; one that goes away gets a beginning of it.
type world struct {
	t        *testing.T
	seed     uint64
	r        *rand.Rand
	now      time.Time
	m        *machine
	clients  []*simClient
	links    map[LinkID]*simLink
	nextLink LinkID
	serial   int
	history  []string
}

type simClient struct {
	name     string
	instance string
	session  *simSession // nil: out
}

type simSession struct {
	client  *simClient
	number  int
	peer    string
	began   bool // joined has arrived
	secrets [2]string
	next    uint64
	outbox  []simMessage
	got     uint64 // highest number received
	link    *simLink
	ended   bool // by bye, or given up

	// The server's side, as the world sees it.
	fed      uint64   // highest number that reached the server
	current  *simLink // that the server takes messages from
	present  bool     // is a member as far as the server has decided
	expected []string
	received []string
	view     []string // peer ids of the others, from events
	inOrder  map[string]int
}

type simMessage struct {
	seq     uint64
	op      Operation
	payload string
	to      string // empty: all others
}

type simLink struct {
	id       LinkID
	session  *simSession
	up       []func() // what the client has sent: its effect at the server
	down     []item
	broken   bool // nothing arrives any more
	unseen   bool // broken, but the server has not noticed
	answered bool
}

type item struct {
	seq   uint64
	event Event
	bye   *refusal.Refusal
}

func newWorld(t *testing.T, seed uint64, l limits) *world {
	w := &world{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0), links: map[LinkID]*simLink{}}
	w.m = newMachine(Key{"p", "c"}, l, Settings{}, w.now)
	for i := range 5 {
		w.clients = append(w.clients, &simClient{name: string(rune('A' + i)), instance: fmt.Sprintf("instance-%d", i)})
	}
	return w
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	for _, h := range w.history[max(0, len(w.history)-60):] {
		w.t.Log(h)
	}
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

func (w *world) log(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

// collect carries out the machine's actions.
func (w *world) collect() {
	for _, a := range w.m.actions {
		switch {
		case a.gone == "" && a.present == "":
			l := w.links[a.link]
			if a.end != nil && l.session != nil && l.session.current == l {
				l.session.current = nil
			}
			if !l.broken {
				l.down = append(l.down, item{a.seq, a.event, a.end})
			}
		}
	}
	w.m.actions = w.m.actions[:0]
	for _, c := range w.clients {
		if s := c.session; s != nil && w.m.peers[s.peer] == nil {
			s.present = false
		}
	}
	w.check()
}

// check looks at what must hold at any time.
func (w *world) check() {
	if len(w.m.peers) != len(w.m.order) {
		w.failf("%d peers by id, %d in order", len(w.m.peers), len(w.m.order))
	}
	hosts, members := 0, 0
	for _, p := range w.m.order {
		if p.over || w.m.peers[p.ID] != p {
			w.failf("%s is gone and still there", p.ID)
		}
		if p.box.len() > w.m.limits.mailboxEvents || p.box.size > w.m.limits.mailboxBytes || p.box.size < 0 {
			w.failf("mailbox of %s: %d events, %d bytes", p.ID, p.box.len(), p.box.size)
		}
		if p.pending == "" {
			members++
			if p.Role == auth.RoleHost {
				hosts++
			}
		}
	}
	if members > 0 && hosts == 0 {
		w.failf("%d members and no host", members)
	}
	if next := w.m.next(); len(w.m.order) == 0 && next.IsZero() {
		w.failf("an empty channel that never expires")
	}
}

func (w *world) newLink(s *simSession) *simLink {
	w.nextLink++
	l := &simLink{id: w.nextLink, session: s}
	w.links[l.id] = l
	return l
}

// open lets a client connect: join if it has no session, else resume.
func (w *world) open(c *simClient) {
	s := c.session
	if s == nil {
		w.serial++
		s = &simSession{client: c, number: w.serial, inOrder: map[string]int{}}
		c.session = s
	}
	// A first message that is older than this one does not come later: connections that a client opens one after the other reach a
	// server in that order, or not at all.
	for _, old := range w.links {
		if old.session == s && !old.answered {
			old.up = nil
		}
	}
	l := w.newLink(s)
	s.link = l
	if !s.began {
		w.log("%s#%d joins on %d", c.name, s.number, l.id)
		l.up = append(l.up, func() { w.serveJoin(s, l) })
		return
	}
	w.log("%s#%d resumes on %d after %d", c.name, s.number, l.id, s.got)
	secret, got := s.secrets[0], s.got
	l.up = append(l.up, func() { w.serveResume(s, l, secret, got) })
}

func (w *world) serveJoin(s *simSession, l *simLink) {
	secret := fmt.Sprintf("secret-%d", l.id)
	id := PeerID(w.m.key, s.client.instance)
	err := w.m.join(w.now, joinInput{JoinRequest: JoinRequest{Grant: auth.Grant{Project: "p", Channel: "c", Name: s.client.name}}, id: id, secret: secret, link: l.id})
	if err != nil {
		l.down = append(l.down, item{bye: refusal.From(err)})
		w.collect()
		return
	}
	// The same instance has joined twice if an answer was lost: the earlier session's books are closed.
	for _, o := range w.links {
		if o.session != s && o.session.peer == id && o.session.current != nil {
			o.session.current = nil
			o.session.present = false
		}
	}
	s.peer, s.current, s.present, s.fed = id, l, true, 0
	s.expected, s.received = nil, nil
	w.collect()
}

func (w *world) serveResume(s *simSession, l *simLink, secret string, got uint64) {
	err := w.m.resume(w.now, resumeInput{ResumeRequest: ResumeRequest{Peer: s.peer, Secret: secret, Received: got}, newSecret: fmt.Sprintf("secret-%d", l.id), link: l.id})
	if err != nil {
		l.down = append(l.down, item{bye: refusal.From(err)})
	} else {
		s.current = l
	}
	w.collect()
}

// send lets a client say something new, to one or to all.
func (w *world) send(s *simSession) {
	s.next++
	m := simMessage{seq: s.next, payload: fmt.Sprintf("%s#%d:%d", s.client.name, s.number, s.next)}
	data := json.RawMessage(`"` + m.payload + `"`)
	if len(s.view) > 0 && w.r.IntN(2) == 0 {
		m.to = s.view[w.r.IntN(len(s.view))]
		m.op = SendSignal{To: m.to, Data: data}
	} else {
		m.op = SendCommand{Name: "x", Data: data}
	}
	s.outbox = append(s.outbox, m)
	if s.link != nil && s.link.answered {
		w.transmit(s, m)
	}
}

func (w *world) transmit(s *simSession, m simMessage) {
	l := s.link
	l.up = append(l.up, func() { w.serveMessage(s, l, m) })
}

func (w *world) serveMessage(s *simSession, l *simLink, m simMessage) {
	fresh := s.present && s.current == l && m.seq > s.fed
	var before []*simSession
	if fresh {
		if m.seq != s.fed+1 {
			w.failf("%s was fed %d after %d", s.client.name, m.seq, s.fed)
		}
		s.fed = m.seq
		for _, c := range w.clients {
			if o := c.session; o != nil && o != s && o.present && (m.to == "" || m.to == o.peer) {
				before = append(before, o)
			}
		}
		// A membership that the client does not know of yet (its answer is on the way) is a session too.
	}
	w.m.message(w.now, s.peer, l.id, m.seq, true, m.op)
	failed := false
	for _, a := range w.m.actions {
		if f, ok := a.event.(*Failed); ok && a.link == l.id && f.Re == m.seq {
			failed = true
		}
	}
	if fresh && !failed {
		for _, o := range before {
			o.expected = append(o.expected, m.payload)
		}
	}
	if !fresh && len(w.m.actions) > 0 {
		w.failf("a message that came before, or over an old link, has an effect: %s", m.payload)
	}
	w.collect()
}

// arrive lets the client read the next message on its link.
func (w *world) arrive(l *simLink) {
	it := l.down[0]
	l.down = l.down[1:]
	s := l.session
	if s.link != l {
		return
	}
	if it.bye != nil {
		w.log("%s#%d hears bye %s on %d", s.client.name, s.number, it.bye.Code, l.id)
		w.hangUp(s)
		switch it.bye.Retry() {
		case refusal.RetryResume:
		default:
			if it.bye.Code == refusal.ResumeUnknown && s.secrets[1] != "" {
				s.secrets = [2]string{s.secrets[1]}
				return
			}
			s.ended = true
			if s.present && s.current != nil && it.bye.Code != refusal.Replaced {
				w.failf("%s#%d was told %s but is a member", s.client.name, s.number, it.bye.Code)
			}
			s.client.session = nil
		}
		return
	}
	switch e := it.event.(type) {
	case *Joined:
		s.began, l.answered = true, true
		s.secrets = [2]string{e.Secret}
		for _, v := range e.Peers {
			s.view = append(s.view, v.ID)
		}
		return
	case *Resumed:
		l.answered = true
		s.secrets = [2]string{e.Secret, s.secrets[0]}
		w.acknowledged(s, e.Received)
		for _, m := range s.outbox {
			w.transmit(s, m)
		}
		return
	case *Acked:
		w.acknowledged(s, e.Received)
	case *Pong:
		w.acknowledged(s, e.Received)
	}
	s.secrets[1] = ""
	if it.seq == 0 {
		return
	}
	if it.seq <= s.got {
		return // sent again
	}
	if it.seq != s.got+1 {
		w.failf("%s#%d got the number %d after %d", s.client.name, s.number, it.seq, s.got)
	}
	s.got = it.seq
	switch e := it.event.(type) {
	case *Signal:
		w.hear(s, e.From, e.Data)
	case *Command:
		w.hear(s, e.From, e.Data)
	case *PeerJoined:
		if slices.Contains(s.view, e.Peer.ID) {
			w.failf("%s#%d: %s joined twice", s.client.name, s.number, e.Peer.ID)
		}
		s.view = append(s.view, e.Peer.ID)
	case *PeerLeft:
		i := slices.Index(s.view, e.ID)
		if i < 0 {
			w.failf("%s#%d: %s left and was not there", s.client.name, s.number, e.ID)
		}
		s.view = slices.Delete(s.view, i, i+1)
	}
}

func (w *world) hear(s *simSession, from string, data json.RawMessage) {
	payload := string(data[1 : len(data)-1])
	if !slices.Contains(s.view, from) {
		w.failf("%s#%d heard %s from somebody who is not there", s.client.name, s.number, payload)
	}
	s.received = append(s.received, payload)
	var sender string
	var n int
	if i := slices.Index([]byte(payload), ':'); i > 0 {
		sender = payload[:i]
		fmt.Sscan(payload[i+1:], &n)
	}
	if n <= s.inOrder[sender] {
		w.failf("%s#%d heard %s after number %d", s.client.name, s.number, payload, s.inOrder[sender])
	}
	s.inOrder[sender] = n
}

func (w *world) acknowledged(s *simSession, seq uint64) {
	for len(s.outbox) > 0 && s.outbox[0].seq <= seq {
		s.outbox = s.outbox[1:]
	}
}

// hangUp breaks the client's link; the server notices later.
func (w *world) hangUp(s *simSession) {
	l := s.link
	s.link = nil
	if l == nil || l.broken {
		return
	}
	// Some of what was sent may still arrive, but not the end of it.
	l.up = l.up[:w.r.IntN(len(l.up)+1)]
	l.down = nil
	l.broken, l.unseen = true, true
}

func (w *world) notice(l *simLink) {
	l.unseen = false
	l.up = nil
	if l.session.current == l {
		l.session.current = nil
	}
	w.m.linkLost(w.now, l.session.peer, l.id)
	w.collect()
}

// pick returns a random link for which ok holds, or nil.
func (w *world) pick(ok func(*simLink) bool) *simLink {
	var found []*simLink
	for id := LinkID(1); id <= w.nextLink; id++ {
		if l := w.links[id]; ok(l) {
			found = append(found, l)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[w.r.IntN(len(found))]
}

func hasUp(l *simLink) bool   { return len(l.up) > 0 }
func hasDown(l *simLink) bool { return len(l.down) > 0 }

func (w *world) feed(l *simLink) {
	f := l.up[0]
	l.up = l.up[1:]
	f()
}

func (w *world) step() {
	c := w.clients[w.r.IntN(len(w.clients))]
	s := c.session
	switch n := w.r.IntN(100); {
	case n < 25:
		if l := w.pick(hasUp); l != nil {
			w.feed(l)
		}
	case n < 55:
		if l := w.pick(hasDown); l != nil {
			w.arrive(l)
		}
	case n < 75:
		if s != nil && s.began {
			w.send(s)
		}
	case n < 85:
		if s == nil || s.link == nil {
			w.open(c)
		}
	case n < 90:
		if s != nil && s.link != nil {
			w.log("%s#%d loses its link %d", c.name, s.number, s.link.id)
			w.hangUp(s)
		}
	case n < 93:
		if l := w.pick(func(l *simLink) bool { return l.unseen }); l != nil {
			w.notice(l)
		}
	case n < 96:
		if s != nil && s.link != nil && s.link.answered {
			l, got := s.link, s.got
			if w.r.IntN(2) == 0 {
				l.up = append(l.up, func() { w.m.ack(w.now, s.peer, l.id, got); w.collect() })
			} else {
				l.up = append(l.up, func() { w.m.ping(w.now, s.peer, l.id, nil, got); w.collect() })
			}
		}
	case n < 97:
		if s != nil && s.link != nil && s.link.answered && len(s.outbox) == 0 {
			l := s.link
			w.log("%s#%d leaves", c.name, s.number)
			l.up = append(l.up, func() { w.m.leave(w.now, s.peer, l.id); w.collect() })
		}
	case n < 98:
		if s != nil && s.began && w.r.IntN(4) == 0 { // the page is closed without a word and opened again
			w.log("%s#%d forgets its session", c.name, s.number)
			w.hangUp(s)
			s.ended = true
			c.session = nil
		}
	default:
		step := time.Duration(w.r.IntN(10)) * time.Second
		if w.r.IntN(10) == 0 {
			step = time.Minute // the window passes for whoever is away
		}
		w.now = w.now.Add(step)
		for t := w.m.next(); !t.IsZero() && !t.After(w.now) && len(w.m.order) > 0; t = w.m.next() {
			w.m.tick(w.now)
			w.collect()
		}
	}
}

// heal lets everybody come back and everything arrive.
func (w *world) heal() {
	for round := 0; ; round++ {
		if round > 10_000 {
			w.failf("it does not come to rest")
		}
		busy := false
		for _, c := range w.clients {
			if s := c.session; s != nil && s.link == nil {
				w.open(c)
				busy = true
			}
		}
		for {
			l := w.pick(func(l *simLink) bool { return hasUp(l) || hasDown(l) })
			if l == nil {
				break
			}
			busy = true
			if hasUp(l) {
				w.feed(l)
			} else {
				w.arrive(l)
			}
		}
		if l := w.pick(func(l *simLink) bool { return l.unseen }); l != nil {
			w.notice(l)
			busy = true
		}
		if !busy {
			return
		}
	}
}

func TestRandomHistoriesLoseRepeatAndReorderNothing(t *testing.T) {
	std := limits{resumeWindow: time.Minute, ringTimeout: 45 * time.Second, idleExpiry: time.Minute, ban: 10 * time.Minute, peersPerChannel: 50,
		mailboxEvents: 1024, mailboxBytes: 4 << 20}
	tiny := std
	tiny.mailboxEvents = 24 // overflows often: those who are behind are ended, and nobody else notices
	runs, first := *runsFlag, uint64(1)
	if *seedFlag != 0 {
		runs, first = 1, *seedFlag
	}
	messages, resumed, overflowed, stayed, lost := 0, uint64(0), uint64(0), 0, uint64(0)
	for seed := first; seed < first+uint64(runs); seed++ {
		l := std
		if seed%4 == 0 {
			l = tiny
		}
		w := newWorld(t, seed, l)
		for range 600 {
			w.step()
		}
		w.heal()
		var present []string
		for _, c := range w.clients {
			if s := c.session; s != nil {
				present = append(present, s.peer)
			}
		}
		for _, link := range w.links {
			s := link.session
			if !s.began {
				continue
			}
			alive := s.client.session == s
			if alive && !slices.Equal(s.received, s.expected) {
				w.failf("%s#%d got\n%q\nwant\n%q", s.client.name, s.number, s.received, s.expected)
			}
			if !alive && (len(s.received) > len(s.expected) || !slices.Equal(s.received, s.expected[:len(s.received)])) {
				w.failf("%s#%d, which is gone, got\n%q\nwant a beginning of\n%q", s.client.name, s.number, s.received, s.expected)
			}
			if alive {
				want := slices.DeleteFunc(slices.Clone(present), func(id string) bool { return id == s.peer })
				got := slices.Clone(s.view)
				slices.Sort(want)
				slices.Sort(got)
				if !forgotten(w, present) && !slices.Equal(got, want) {
					w.failf("%s#%d sees %q, want %q", s.client.name, s.number, got, want)
				}
				if len(s.outbox) > ackEvery {
					w.failf("%s#%d has %d messages that nobody acknowledged", s.client.name, s.number, len(s.outbox))
				}
			}
		}
		for _, c := range w.clients {
			if c.session != nil {
				messages += len(c.session.received)
				stayed++
			}
		}
		resumed += w.m.counters.resumed
		overflowed += w.m.counters.overflowed
		lost += w.m.counters.lost
	}
	t.Logf("%d histories: %d messages at %d who stayed, %d resumes, %d windows passed, %d mailboxes overflowed", runs, messages, stayed, resumed, lost, overflowed)
	if runs >= 100 && (resumed == 0 || overflowed == 0 || lost == 0 || messages < runs) {
		t.Error("the histories do not meet what they are meant for")
	}
}

// forgotten: somebody has gone without a word and the window has not passed, so that the others rightly still see them.
func forgotten(w *world, present []string) bool { return len(w.m.order) != len(present) }
