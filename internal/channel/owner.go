package channel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errOver: the channel is not owned here any more, and so has no peers.
var errOver = errors.New("channel: the channel is gone")

// An owner runs a channel's machine: one input at a time, on the goroutine of whoever brings it. Neither the machine nor a link ever blocks, so that
// whoever waits for mu waits for microseconds. With a goroutine of its own and an inbox, each message would be handed from thread to thread once
// more, and each idle channel would keep a stack: that was a third of what a message cost.
type owner struct {
	service *Service
	key     Key
	since   time.Time
	summary atomic.Pointer[Summary]

	mu      sync.Mutex // guards what follows; taken before service.mu and whatever links lock
	machine *machine
	links   map[LinkID]Link
	timer   *time.Timer // calls tick; nil: not armed
	armed   time.Time   // when
	over    bool        // off the service's tables: nothing happens any more
}

// An input is a call of one of the machine's methods.
type input func(m *machine, now time.Time)

func newOwner(s *Service, k Key, set Settings) *owner {
	c := s.cfg
	now := time.Now()
	o := &owner{service: s, key: k, since: now, links: map[LinkID]Link{}}
	o.machine = newMachine(k, limits{resumeWindow: c.ResumeWindow, ringTimeout: c.RingTimeout, idleExpiry: c.IdleExpiry, ban: c.Ban,
		peersPerChannel: c.PeersPerChannel, mailboxEvents: c.MailboxMessages, mailboxBytes: c.MailboxBytes}, set, now)
	o.summarize()
	o.arm(now)
	return o
}

// post runs an input, and does what the machine wants done, before it returns. It is safe for concurrent use.
func (o *owner) post(ctx context.Context, in input) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return errOver
	}
	now := time.Now()
	in(o.machine, now)
	o.execute()
	o.arm(now)
	return nil
}

// arm sets the timer to the machine's next deadline.
func (o *owner) arm(now time.Time) {
	next := o.machine.next()
	if next.Equal(o.armed) {
		return
	}
	o.disarm()
	if next.IsZero() {
		return
	}
	o.armed = next
	o.service.timers.Add(1)
	o.timer = time.AfterFunc(next.Sub(now), o.tick)
}

func (o *owner) disarm() {
	if o.timer != nil && o.timer.Stop() { // else tick is on its way, and counts itself out
		o.service.timers.Done()
	}
	o.timer, o.armed = nil, time.Time{}
}

// tick lets time pass. A timer that was replaced while it waited for mu comes early, which does no harm.
func (o *owner) tick() {
	defer o.service.timers.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return
	}
	o.disarm()
	now := time.Now()
	o.machine.tick(now)
	o.execute()
	if o.machine.expired(now) {
		o.retire()
		return
	}
	o.arm(now)
}

// stop ends all links, and the channel.
func (o *owner) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return
	}
	o.machine.drain(time.Now(), drainingRefusal())
	o.execute()
	o.retire()
}

// retire takes the channel and its peers off the service's tables. Inputs that come after it find it over.
func (o *owner) retire() {
	o.over = true
	o.disarm()
	s := o.service
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.channels, o.key)
	for id := range o.machine.peers {
		delete(s.peers, id)
	}
	for _, e := range o.machine.epitaphs {
		delete(s.peers, e.id)
	}
}

// attach keeps the link of a join or resume that succeeded. Actions come after it, so that none misses the link.
func (o *owner) attach(id LinkID, l Link, err error) error {
	if err == nil {
		o.links[id] = l
	}
	return err
}

// execute does what the machine wants done.
func (o *owner) execute() {
	m := o.machine
	for i := range m.actions {
		a := &m.actions[i]
		switch {
		case a.event != nil:
			if l := o.links[a.link]; l != nil {
				l.Deliver(a.seq, a.event)
			}
		case a.end != nil:
			if l := o.links[a.link]; l != nil {
				delete(o.links, a.link)
				l.End(a.end)
			}
		case a.present != "":
			o.service.mu.Lock()
			o.service.peers[a.present] = o.key
			o.service.mu.Unlock()
			if f := o.service.cfg.OnPeer; f != nil {
				f(o.key, a.present)
			}
		case a.kicked != "":
			if f := o.service.cfg.OnKick; f != nil {
				f(o.key, a.kicked)
			}
		case a.gone != "":
			o.service.mu.Lock()
			if o.service.peers[a.gone] == o.key {
				delete(o.service.peers, a.gone)
			}
			o.service.mu.Unlock()
		}
	}
	clear(m.actions) // let go of the events
	m.actions = m.actions[:0]
	if cap(m.actions) > 1024 {
		m.actions = nil
	}
	t, c := &o.service.totals, &m.counters
	for _, n := range []struct {
		total *atomic.Uint64
		n     *uint64
	}{{&t.joined, &c.joined}, {&t.resumed, &c.resumed}, {&t.messages, &c.messages}, {&t.delivered, &c.delivered}, {&t.overflowed, &c.overflowed},
		{&t.lost, &c.lost}, {&t.kicked, &c.kicked}} {
		if *n.n > 0 {
			n.total.Add(*n.n)
			*n.n = 0
		}
	}
	if m.changed {
		m.changed = false
		o.summarize()
	}
}

func (o *owner) summarize() {
	sum := o.machine.snapshot().Summary
	sum.Since = o.since
	o.summary.Store(&sum)
}

func (m *machine) snapshot() Snapshot {
	s := Snapshot{Summary: Summary{Key: m.key, Settings: m.shown()}}
	for _, p := range m.order {
		state := PeerState{Peer: p.Peer, Linked: p.link != 0, Mailbox: p.box.len()}
		if p.pending == "" {
			s.Members = append(s.Members, state)
		} else {
			s.Waiting = append(s.Waiting, state)
		}
	}
	s.Peers, s.Pending = len(s.Members), len(s.Waiting)
	return s
}
