package channel

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// inboxLength is how many inputs wait for an owner. A sender that finds it full waits: the pressure goes back to the link it reads from. An owner never
// waits for anybody, so that this is short.
const inboxLength = 64

// errOver: the channel is not owned here any more, and so has no peers.
var errOver = errors.New("channel: the channel is gone")

// An owner runs a channel's machine on a goroutine of its own.
type owner struct {
	service *Service
	key     Key
	since   time.Time
	inbox   chan input
	done    chan struct{} // closed when run has ended
	summary atomic.Pointer[Summary]

	// Owned by run.
	machine *machine
	links   map[LinkID]Link
}

// An input is a call of one of the machine's methods.
type input func(m *machine, now time.Time)

func newOwner(s *Service, k Key, set Settings) *owner {
	c := s.cfg
	now := time.Now()
	o := &owner{service: s, key: k, since: now, inbox: make(chan input, inboxLength), done: make(chan struct{}), links: map[LinkID]Link{}}
	o.machine = newMachine(k, limits{resumeWindow: c.ResumeWindow, ringTimeout: c.RingTimeout, idleExpiry: c.IdleExpiry, ban: c.Ban,
		peersPerChannel: c.PeersPerChannel, mailboxEvents: c.MailboxMessages, mailboxBytes: c.MailboxBytes}, set, now)
	o.summarize()
	return o
}

// post hands an input over. It is safe for concurrent use.
func (o *owner) post(ctx context.Context, in input) error {
	select {
	case <-o.done: // there may be room in the inbox, but nobody looks into it
		return errOver
	default:
	}
	select {
	case o.inbox <- in:
		return nil
	case <-o.done:
		return errOver
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run works until the channel has been empty for long enough, or the service stops.
func (o *owner) run() {
	defer close(o.done)
	timer := time.NewTimer(time.Until(o.machine.next()))
	defer timer.Stop()
	var armed time.Time
	for {
		now := time.Now()
		if next := o.machine.next(); !next.Equal(armed) {
			armed = next
			if next.IsZero() {
				timer.Stop()
			} else {
				timer.Reset(next.Sub(now))
			}
		}
		select {
		case in := <-o.inbox:
			in(o.machine, time.Now())
		case <-timer.C:
			now := time.Now()
			o.machine.tick(now)
			armed = time.Time{}
			o.execute()
			if o.machine.expired(now) && o.retire(false) {
				return
			}
		case <-o.service.stopping:
			o.machine.drain(time.Now(), drainingRefusal())
			o.execute()
			o.retire(true)
			return
		}
		o.execute()
	}
}

// retire takes the channel and its peers off the service's tables; if not forced, then only if nobody is about to join. Inputs that come after it
// find done closed.
func (o *owner) retire(force bool) bool {
	s := o.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(o.inbox) > 0 && !force {
		return false
	}
	delete(s.channels, o.key)
	for id := range o.machine.peers {
		delete(s.peers, id)
	}
	for _, e := range o.machine.epitaphs {
		delete(s.peers, e.id)
	}
	return true
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
