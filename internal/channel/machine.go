package channel

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
)

// limits are the parts of Config that the machine needs.
type limits struct {
	resumeWindow    time.Duration
	ringTimeout     time.Duration
	idleExpiry      time.Duration
	ban             time.Duration
	peersPerChannel int
	mailboxEvents   int
	mailboxBytes    int
}

const (
	// ackEvery is after how many numbered messages of a client it is told that they have arrived (docs/protocol.md §3).
	ackEvery = 32
	// maxBans and maxEpitaphs bound what a channel remembers of those who are gone. The oldest are forgotten.
	maxBans     = 256
	maxEpitaphs = 256
	// maxPending bounds how many wait in one channel at a time.
	maxPending = 100
)

// A machine is the state of one channel. Its methods are the inputs; what they want done stands in actions afterwards. It has no clock: now is an
// argument, and must not go backwards. It does no I/O, takes no locks, makes no random numbers, so that a test can drive it
// through any history.
//
// A peer's life:
//
//	          join                    accept
//	(none) ─────────► pending ──────────────────► member ──► (none)  leave, kick, lost, replaced, closed, a refusal
//	   │                 └──► (none)  reject, timeout, leave, lost      ▲
//	   └────────────────────────────────────────────────────────────────┘ join without asking
//
// and, independent of it, of its link:
//
//	linked ──(lost, out of order, slow, draining)──► lost ──(resume, join with the same instance)──► linked
//	                                                  └──(resume window passed)──► the peer is gone
type machine struct {
	key    Key
	limits limits

	settings Settings // Capacity 0: capacity() decides
	limit    int      // of members, as the latest grant says it

	peers map[string]*peer
	order []*peer // members and pending ones, in the order of their joins
	bans  []ban
	// epitaphs tell those who come to resume why their membership ended meanwhile, so that nobody rings again after having been rejected.
	epitaphs []epitaph

	emptySince time.Time // no peers since; meaningful while there are none
	doomed     []*peer   // whose mailbox has overflowed during this input

	actions  []action
	deadline time.Time // the earliest time at which tick has something to do; zero: never
	stale    bool      // deadline has to be computed again
	changed  bool      // summary has to be computed again
	counters counters
}

// counters count what happened since the owner last took them.
type counters struct {
	joined, resumed, messages, delivered, overflowed, lost, kicked uint64
}

type peer struct {
	*Peer               // what others see; replaced as a whole, since events share it
	roleless bool       // the grant had no role: the channel gave one
	address  netip.Addr // of the latest join
	pending  RingReason // empty: a member
	asked    []string   // ids that have got a Ring and not its end
	ringEnds time.Time  // zero: no timeout
	link     LinkID     // 0: lost
	lostAt   time.Time  // when link became 0
	box      mailbox    // to the peer
	received uint64     // highest number from the peer
	told     uint64     // highest of those that the peer has been told of
	secrets  [2]string  // the current one, and the former one until the peer has been heard on its new link
	doomed   bool       // the mailbox has overflowed: gets nothing more
	over     bool       // is not in the channel any more
}

type ban struct {
	id            string       // of the peer, which stands for its instance
	uid           string       // empty: none
	authenticated bool         // uid was vouched for
	network       netip.Prefix // invalid: none
	until         time.Time
}

type epitaph struct {
	id      string
	secrets [2]string
	bye     *refusal.Refusal
	until   time.Time
}

// An action is what an owner has to do for its machine. Exactly one of the groups is set.
type action struct {
	link  LinkID
	event Event // to be delivered on link, with the number seq
	seq   uint64
	end   *refusal.Refusal // link is over

	present string // a resume of this peer id belongs in this channel
	gone    string // not any more

	kicked string // this peer was removed by a host or an operator
}

func newMachine(key Key, l limits, s Settings, now time.Time) *machine {
	s.Channel = key.Channel
	return &machine{key: key, limits: l, settings: s, limit: l.peersPerChannel, peers: map[string]*peer{}, emptySince: now, stale: true, changed: true}
}

// joinInput is a JoinRequest with what the machine cannot make itself.
type joinInput struct {
	JoinRequest
	id     string // PeerID
	secret string // random
	link   LinkID
}

// join adds a peer, or gives a membership that the same instance has a new link.
func (m *machine) join(now time.Time, in joinInput) error {
	defer m.settle(now)
	g := in.Grant
	m.limit = cmp.Or(g.Limits.PeersPerChannel, m.limits.peersPerChannel)
	if p := m.peers[in.id]; p != nil {
		if p.UID == g.UID && p.Authenticated == g.Authenticated {
			m.takeOver(now, p, in)
			return nil
		}
		// The same client for another user: whoever was there is gone.
		m.remove(now, p, string(refusal.Replaced), refusal.New(refusal.Replaced))
	}
	if err := m.banned(now, in); err != nil {
		return err
	}
	var ghost *peer
	if g.Authenticated && g.UID != "" {
		// A user who lost the page and opened it again must not meet their own ghost, nor find the place taken by it. Who was a
		// member comes back as one: neither the lock nor the waiting room is for them.
		for _, p := range slices.Clone(m.order) {
			if p.Authenticated && p.UID == g.UID && p.link == 0 {
				if p.pending == "" {
					ghost = p
				}
				m.remove(now, p, string(refusal.Replaced), refusal.New(refusal.Replaced))
			}
		}
	}
	if m.settings.Locked && ghost == nil && !(g.Authenticated && g.Role == auth.RoleHost) {
		return refusal.New(refusal.ChannelLocked)
	}
	members, pending := m.count()
	if members >= m.capacity() {
		return refusal.New(refusal.ChannelFull).With("capacity", m.capacity())
	}

	p := &peer{
		Peer: &Peer{ID: in.id, UID: g.UID, Name: g.Name, Role: g.Role, Info: notNull(in.Info),
			Media: Media{}.merged(in.Media), Authenticated: g.Authenticated},
		roleless: g.Role == "",
		address:  in.Address,
		link:     in.link,
		secrets:  [2]string{in.secret},
	}
	if p.roleless {
		p.Role = m.initialRole()
		if ghost != nil && ghost.roleless {
			p.Role = ghost.Role
		}
	}
	switch {
	case ghost != nil:
	case m.settings.WaitingRoom && p.Role != auth.RoleHost:
		p.pending = ReasonWaitingRoom
	case in.Ring && slices.ContainsFunc(m.order, func(a *peer) bool { return mayAnswer(a, ReasonRing) }):
		p.pending = ReasonRing
		p.ringEnds = now.Add(m.limits.ringTimeout)
	}
	if p.pending != "" && pending >= maxPending {
		return refusal.Newf(refusal.ChannelFull, "Too many are waiting already.")
	}

	m.peers[p.ID] = p
	m.order = append(m.order, p)
	m.forgetEpitaphs(func(e epitaph) bool { return e.id == p.ID })
	m.stale, m.changed = true, true
	m.counters.joined++
	m.act(action{present: p.ID})
	if p.pending != "" {
		m.deliver(p, &Pending{Reason: p.pending, Peer: p.Peer, Secret: in.secret, ResumeWindow: m.limits.resumeWindow})
		for _, a := range m.order {
			m.ask(a, p)
		}
	} else {
		// The newcomer first: it makes the offers, which come after the news of it in every mailbox all the same.
		m.deliver(p, m.joined(p))
		m.announce(p)
	}
	return nil
}

func (m *machine) joined(p *peer) *Joined {
	return &Joined{Project: m.key.Project, Peer: p.Peer, Settings: m.shown(), Peers: m.others(p, true), Secret: p.secrets[0], ResumeWindow: m.limits.resumeWindow}
}

// takeOver gives p a new link and an empty mailbox: the client has forgotten its session (a restarted page, a failed resume) but not its
// instance. Others see a change only if there is one.
func (m *machine) takeOver(now time.Time, p *peer, in joinInput) {
	if p.link != 0 {
		m.act(action{link: p.link, end: refusal.New(refusal.Replaced)})
	}
	p.link, p.address = in.link, in.Address
	p.box = mailbox{}
	p.received, p.told = 0, 0
	p.secrets = [2]string{in.secret}
	m.stale = true
	m.counters.joined++
	name, info, media := in.Grant.Name, in.Info, Media{}.merged(in.Media)
	if info == nil {
		info = json.RawMessage("null")
	}
	m.update(p, Update{Name: &name, Info: info, Media: &media})
	if p.pending != "" {
		m.deliver(p, &Pending{Reason: p.pending, Peer: p.Peer, Secret: in.secret, ResumeWindow: m.limits.resumeWindow})
	} else {
		m.deliver(p, m.joined(p))
		for _, w := range m.order {
			if i := slices.Index(w.asked, p.ID); i >= 0 {
				w.asked = slices.Delete(w.asked, i, i+1)
			}
			m.ask(p, w)
		}
	}
}

// announce tells the members of p, which has just become one, and asks p about those who wait.
func (m *machine) announce(p *peer) {
	for _, o := range m.order {
		if o != p && o.pending == "" {
			m.send(o, &PeerJoined{Peer: m.view(o, p, false)})
		}
	}
	for _, w := range m.order {
		m.ask(p, w)
	}
}

// ask sends a Ring about w to a, if w waits and a may answer and has not been asked.
func (m *machine) ask(a, w *peer) {
	if w.pending != "" && a != w && mayAnswer(a, w.pending) && !slices.Contains(w.asked, a.ID) {
		w.asked = append(w.asked, a.ID)
		m.send(a, &Ring{Peer: m.view(a, w, false), Reason: w.pending})
	}
}

// mayAnswer: a ring is for every member that is not a viewer, a waiting room for hosts (docs/protocol.md §5).
func mayAnswer(a *peer, r RingReason) bool {
	if a.pending != "" {
		return false
	}
	if r == ReasonWaitingRoom {
		return a.Role == auth.RoleHost
	}
	return a.Role != auth.RoleViewer
}

// ringEnded tells all who were asked about w.
func (m *machine) ringEnded(w *peer, reason string) {
	for _, id := range w.asked {
		if a := m.peers[id]; a != nil && a != w {
			m.send(a, &RingEnded{ID: w.ID, Reason: reason})
		}
	}
	w.asked = nil
}

// admit makes w a member.
func (m *machine) admit(w *peer) error {
	if members, _ := m.count(); members >= m.capacity() {
		return refusal.New(refusal.ChannelFull).With("capacity", m.capacity())
	}
	if w.roleless {
		role := *w.Peer
		role.Role = m.initialRole()
		w.Peer = &role
	}
	m.ringEnded(w, "accepted")
	w.pending = ""
	w.ringEnds = time.Time{}
	m.stale, m.changed = true, true
	m.send(w, &Admitted{Project: m.key.Project, Peer: w.Peer, Settings: m.shown(), Peers: m.others(w, true)})
	m.announce(w)
	return nil
}

// initialRole is the role of a peer whose grant names none.
func (m *machine) initialRole() auth.Role {
	if members, _ := m.count(); members == 0 {
		return auth.RoleHost
	}
	return auth.RoleSpeaker
}

// ensureHost makes the member that has been here longest the host, if the last one is gone and nobody's token says who should be. Not the one
// who has just given the role up, unless alone.
func (m *machine) ensureHost(not *peer) {
	var heir *peer
	rank := -1
	for _, p := range m.order {
		if p.pending != "" {
			continue
		}
		if p.Role == auth.RoleHost || !p.roleless || p.Authenticated {
			return
		}
		r := 0 // the last resort: who gave it up, then viewers, then whose link is lost
		if p != not {
			r += 4
		}
		if p.Role != auth.RoleViewer {
			r += 2
		}
		if p.link != 0 {
			r++
		}
		if r > rank {
			heir, rank = p, r
		}
	}
	if heir != nil {
		m.setRole(heir, auth.RoleHost)
	}
}

func (m *machine) setRole(p *peer, role auth.Role) {
	if p.Role == role {
		return
	}
	c := *p.Peer
	c.Role = role
	p.Peer = &c
	for _, o := range m.order {
		if o.pending == "" {
			m.send(o, &PeerUpdated{ID: p.ID, Role: &role})
		}
	}
	for _, w := range m.order {
		m.ask(p, w)
	}
}

// update applies what differs, and tells the others.
func (m *machine) update(p *peer, u Update) {
	c := *p.Peer
	e := &PeerUpdated{ID: p.ID}
	if u.Name != nil && *u.Name != c.Name {
		c.Name = *u.Name
		e.Name = u.Name
	}
	if u.Info != nil {
		if info := notNull(u.Info); !bytes.Equal(info, c.Info) {
			c.Info = info
			e.Info = u.Info
		}
	}
	if u.Media != nil {
		if media := c.Media.merged(*u.Media); media != c.Media {
			c.Media = media
			e.Media = &media
		}
	}
	if e.Name == nil && e.Info == nil && e.Media == nil {
		return
	}
	p.Peer = &c
	if p.pending != "" {
		return // those who were asked see the former name; the new one comes with PeerJoined
	}
	for _, o := range m.order {
		if o != p && o.pending == "" {
			m.send(o, e)
		}
	}
}

// notNull returns nil for the JSON value null.
func notNull(raw json.RawMessage) json.RawMessage {
	if string(bytes.TrimSpace(raw)) == "null" {
		return nil
	}
	return raw
}

// resumeInput is a ResumeRequest with what the machine cannot make itself.
type resumeInput struct {
	ResumeRequest
	newSecret string
	link      LinkID
}

func (m *machine) resume(now time.Time, in resumeInput) error {
	p := m.peers[in.Peer]
	if p == nil {
		for _, e := range m.epitaphs {
			if e.id == in.Peer && now.Before(e.until) && knows(e.secrets, in.Secret) >= 0 {
				return e.bye
			}
		}
		return refusal.New(refusal.ResumeUnknown)
	}
	which := knows(p.secrets, in.Secret)
	if which < 0 || in.Received < p.box.acked || in.Received > p.box.last {
		// A client that has received less than it acknowledged, or more than was sent, talks of another session.
		return refusal.New(refusal.ResumeUnknown)
	}
	// The secret that the client has just shown stays good until it is heard on the new link: `resumed` may be lost on the way. The other
	// one, if there was one, is worthless now: the client did not have it, or did not need it any more.
	p.secrets = [2]string{in.newSecret, p.secrets[which]}
	if p.link != 0 {
		m.act(action{link: p.link, end: refusal.New(refusal.Replaced)})
	}
	p.link = in.link
	p.told = p.received
	m.stale = true
	m.counters.resumed++
	p.box.ack(in.Received)
	m.deliver(p, &Resumed{Secret: in.newSecret, Received: p.received})
	p.box.each(func(seq uint64, e Event) { m.act(action{link: p.link, seq: seq, event: e}) })
	return nil
}

// knows returns the index of the secret, or -1. The time it takes says nothing about the secrets.
func knows(secrets [2]string, secret string) int {
	found := -1
	for i, s := range secrets {
		if s != "" && subtle.ConstantTimeCompare([]byte(s), []byte(secret)) == 1 {
			found = i
		}
	}
	return found
}

// current returns the peer if link is the one it has now, and notes that it has been heard there.
func (m *machine) current(id string, link LinkID) *peer {
	p := m.peers[id]
	if p == nil || p.link != link || link == 0 {
		return nil
	}
	p.secrets[1] = ""
	return p
}

// message takes a numbered message of a client.
func (m *machine) message(now time.Time, id string, link LinkID, seq uint64, reply bool, op Operation) {
	p := m.current(id, link)
	if p == nil || seq <= p.received {
		return // an old link, or a message that came over an old link as well
	}
	if seq != p.received+1 {
		m.endLink(now, p, refusal.New(refusal.OutOfOrder).With("received", p.received))
		return
	}
	p.received = seq
	m.counters.messages++
	if err := m.apply(now, p, op); err != nil {
		m.send(p, &Failed{Re: seq, Refusal: refusal.From(err)})
	} else if reply {
		m.send(p, &Done{Re: seq})
	}
	if !p.over && p.received-p.told >= ackEvery {
		p.told = p.received
		m.deliver(p, &Acked{Received: p.received})
	}
	m.settle(now)
}

func (m *machine) apply(now time.Time, p *peer, op Operation) error {
	switch op := op.(type) {
	case Refused:
		return op.Refusal
	case Update:
		m.update(p, op)
		return nil
	}
	if p.pending != "" {
		return refusal.New(refusal.NotAdmitted)
	}
	switch op := op.(type) {
	case PostNote:
		m.send(p, op.Note)
		return nil
	case SendSignal:
		to := m.peers[op.To]
		if to == nil || to.pending != "" || to == p {
			return refusal.New(refusal.PeerNotFound).With("peer", op.To)
		}
		m.send(to, &Signal{From: p.ID, Data: op.Data})
		return nil
	case SendCommand:
		return m.command(&Command{From: p.ID, To: op.To, Name: op.Name, Data: op.Data})
	case Accept:
		w, err := m.waiting(p, op.Peer)
		if err != nil {
			return err
		}
		return m.admit(w)
	case Reject:
		w, err := m.waiting(p, op.Peer)
		if err != nil {
			return err
		}
		code := refusal.Rejected
		if op.Busy {
			code = refusal.Busy
		}
		m.remove(now, w, string(code), refusal.New(code))
		return nil
	}
	if p.Role != auth.RoleHost {
		return refusal.New(refusal.Forbidden).With("role", string(p.Role))
	}
	switch op := op.(type) {
	case Kick:
		if op.Peer == p.ID {
			return refusal.Newf(refusal.InvalidField, "Nobody can kick themselves.").With("field", "peer")
		}
		return m.kick(now, op)
	case SetRole:
		to := m.peers[op.Peer]
		if to == nil || to.pending != "" {
			return refusal.New(refusal.PeerNotFound).With("peer", op.Peer)
		}
		m.setRole(to, op.Role)
		m.ensureHost(to)
		return nil
	case Configure:
		if c := op.Change.Capacity; c != nil && *c > m.limit {
			return refusal.Newf(refusal.InvalidField, "The project allows %d peers in a channel.", m.limit).With("field", "capacity").With("max", m.limit)
		}
		m.configure(op.Change)
		return nil
	}
	return refusal.New(refusal.Internal)
}

// waiting returns the pending peer that p wants to answer.
func (m *machine) waiting(p *peer, id string) (*peer, error) {
	w := m.peers[id]
	switch {
	case w == nil || w.pending == "":
		return nil, refusal.New(refusal.PeerNotFound).With("peer", id)
	case !mayAnswer(p, w.pending):
		return nil, refusal.New(refusal.Forbidden).With("role", string(p.Role))
	}
	return w, nil
}

// command delivers to all of c.To, or to nobody.
func (m *machine) command(c *Command) error {
	if c.To == nil {
		for _, o := range m.order {
			if o.pending == "" && o.ID != c.From {
				m.send(o, c)
			}
		}
		return nil
	}
	var missing []string
	for _, id := range c.To {
		if to := m.peers[id]; to == nil || to.pending != "" {
			missing = append(missing, id)
		}
	}
	if missing != nil {
		return refusal.New(refusal.PeerNotFound).With("missing", missing)
	}
	for _, id := range c.To {
		m.send(m.peers[id], c)
	}
	return nil
}

// kick removes a peer and keeps it out.
//
// Who is authenticated is known by uid. Others can make themselves a new instance, so that their address (for IPv6 the /64, which one subscriber has) is
// banned too, for peers without a token; but not an address that another peer of the channel shares, since that would shut out people behind
// the same NAT who did nothing.
func (m *machine) kick(now time.Time, k Kick) error {
	p := m.peers[k.Peer]
	if p == nil {
		return refusal.New(refusal.PeerNotFound).With("peer", k.Peer)
	}
	length := m.limits.ban
	if k.Ban != nil {
		length = *k.Ban
	}
	bye := refusal.New(refusal.Kicked).After(length)
	if k.Reason != "" {
		bye = bye.With("reason", k.Reason)
	}
	if length > 0 {
		b := ban{id: p.ID, uid: p.UID, authenticated: p.Authenticated, until: now.Add(length)}
		if !p.Authenticated {
			b.network = network(p.address)
			for _, o := range m.order {
				if o != p && b.network.IsValid() && b.network.Contains(plain(o.address)) {
					b.network = netip.Prefix{}
				}
			}
		}
		m.bans = slices.DeleteFunc(m.bans, func(b ban) bool { return !now.Before(b.until) })
		if len(m.bans) == maxBans {
			m.bans = slices.Delete(m.bans, 0, 1)
		}
		m.bans = append(m.bans, b)
	}
	m.counters.kicked++
	m.act(action{kicked: p.ID})
	m.remove(now, p, string(refusal.Kicked), bye)
	return nil
}

// plain returns an address in the one form that prefixes compare.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func network(a netip.Addr) netip.Prefix {
	a = plain(a)
	bits := 32
	if a.Is6() {
		bits = 64
	}
	n, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return n
}

func (m *machine) banned(now time.Time, in joinInput) error {
	for _, b := range m.bans {
		g := in.Grant
		same := b.id == in.id || b.uid != "" && b.uid == g.UID && b.authenticated == g.Authenticated ||
			b.network.IsValid() && !g.Authenticated && b.network.Contains(plain(in.Address))
		if b.authenticated && g.Authenticated && b.uid != "" {
			same = b.uid == g.UID // another user of the same client is another user
		}
		if same && now.Before(b.until) {
			return refusal.New(refusal.Kicked).After(b.until.Sub(now))
		}
	}
	return nil
}

// configure changes settings and tells the members. Without a waiting room nobody has to wait in it.
func (m *machine) configure(c Change) {
	before := m.settings
	if c.Locked != nil {
		m.settings.Locked = *c.Locked
	}
	if c.WaitingRoom != nil {
		m.settings.WaitingRoom = *c.WaitingRoom
	}
	if c.Capacity != nil {
		m.settings.Capacity = *c.Capacity
	}
	if m.settings == before {
		return
	}
	m.changed = true
	for _, o := range m.order {
		if o.pending == "" {
			m.send(o, &SettingsChanged{Settings: m.shown()})
		}
	}
	if before.WaitingRoom && !m.settings.WaitingRoom {
		for _, w := range slices.Clone(m.order) {
			if w.pending == ReasonWaitingRoom && m.admit(w) != nil {
				break // full: the rest waits until a host accepts
			}
		}
	}
}

// ack takes an acknowledgement.
func (m *machine) ack(now time.Time, id string, link LinkID, seq uint64) {
	if p := m.current(id, link); p != nil {
		m.acknowledge(now, p, seq)
	}
}

func (m *machine) acknowledge(now time.Time, p *peer, seq uint64) bool {
	if p.box.ack(seq) {
		return true
	}
	m.remove(now, p, string(refusal.Malformed), refusal.Newf(refusal.Malformed, "The message acknowledges one that was never sent."))
	m.settle(now)
	return false
}

// ping answers at once.
func (m *machine) ping(now time.Time, id string, link LinkID, t json.RawMessage, ack uint64) {
	p := m.current(id, link)
	if p == nil || !m.acknowledge(now, p, ack) {
		return
	}
	p.told = p.received
	m.deliver(p, &Pong{T: t, Received: p.received})
}

// leave ends the membership because the peer wants it.
func (m *machine) leave(now time.Time, id string, link LinkID) {
	if p := m.current(id, link); p != nil {
		m.remove(now, p, string(refusal.Left), refusal.New(refusal.Left))
		m.settle(now)
	}
}

// lose ends the membership without the peer.
func (m *machine) lose(now time.Time, id string, link LinkID) {
	if p := m.peers[id]; p != nil && p.link == link && link != 0 {
		m.lost(now, p)
		m.settle(now)
	}
}

func (m *machine) lost(now time.Time, p *peer) {
	m.counters.lost++
	m.remove(now, p, "lost", refusal.New(refusal.ResumeUnknown))
}

// linkLost starts the resume window.
func (m *machine) linkLost(now time.Time, id string, link LinkID) {
	if p := m.peers[id]; p != nil && p.link == link {
		p.link, p.lostAt = 0, now
		m.stale = true
	}
}

// fail ends the link, and the membership too unless the refusal is one that a resume mends.
func (m *machine) fail(now time.Time, id string, link LinkID, r *refusal.Refusal) {
	p := m.peers[id]
	if p == nil || p.link != link {
		return
	}
	if r.Retry() == refusal.RetryResume {
		m.endLink(now, p, r)
		return
	}
	m.remove(now, p, string(r.Code), r)
	m.settle(now)
}

// refuse answers a message without number.
func (m *machine) refuse(now time.Time, id string, link LinkID, r *refusal.Refusal) {
	if p := m.current(id, link); p != nil {
		m.send(p, &Failed{Refusal: r})
		m.settle(now)
	}
}

// note puts an edge's event into a member's mailbox. Who is not admitted gets none: a Note may hold relay credentials.
func (m *machine) note(now time.Time, id string, link LinkID, n *Note) {
	if p := m.peers[id]; p != nil && p.link == link && p.pending == "" {
		m.send(p, n)
		m.settle(now)
	}
}

func (m *machine) endLink(now time.Time, p *peer, r *refusal.Refusal) {
	m.act(action{link: p.link, end: r})
	p.link, p.lostAt = 0, now
	m.stale = true
}

// drain ends all links. The memberships stay, for clients that come back in time.
func (m *machine) drain(now time.Time, r *refusal.Refusal) {
	for _, p := range m.order {
		if p.link != 0 {
			m.endLink(now, p, r)
		}
	}
}

// close ends all memberships with that code and forgets the settings.
func (m *machine) close(now time.Time, why refusal.Code) {
	for _, p := range slices.Clone(m.order) {
		p.doomed = true // nobody has to be told of the others
	}
	for _, p := range slices.Clone(m.order) {
		m.remove(now, p, "closed", refusal.New(why))
	}
	m.settings = Settings{Channel: m.key.Channel}
	m.bans = nil
	m.changed = true
	m.settle(now)
}

// remove ends a membership, or the wish for one. The peer gets bye, the others reason.
func (m *machine) remove(now time.Time, p *peer, reason string, bye *refusal.Refusal) {
	if p.over {
		return
	}
	p.over = true
	if p.link != 0 {
		m.act(action{link: p.link, end: bye})
		p.link = 0
	}
	delete(m.peers, p.ID)
	m.order = slices.DeleteFunc(m.order, func(o *peer) bool { return o == p })
	m.stale, m.changed = true, true
	m.bury(now, p, bye)
	if len(m.order) == 0 {
		m.emptySince = now
	}
	for _, w := range m.order {
		if i := slices.Index(w.asked, p.ID); i >= 0 {
			w.asked = slices.Delete(w.asked, i, i+1)
		}
	}
	if p.pending != "" {
		switch reason {
		case string(refusal.Left):
			reason = "cancelled"
		case string(refusal.RingTimeout):
			reason = "timeout"
		case string(refusal.Rejected), string(refusal.Busy):
		case string(refusal.Kicked):
			reason = string(refusal.Rejected)
		default:
			reason = "lost"
		}
		m.ringEnded(p, reason)
		return
	}
	for _, o := range m.order {
		if o.pending == "" {
			m.send(o, &PeerLeft{ID: p.ID, Reason: reason})
		}
	}
	m.ensureHost(nil)
}

// bury remembers for the resume window why p is gone: also if p had a link, since bye may be lost on it.
func (m *machine) bury(now time.Time, p *peer, bye *refusal.Refusal) {
	if bye.Code == refusal.ResumeUnknown || bye.Code == refusal.Left {
		m.act(action{gone: p.ID}) // that is what a resume says anyway, or nobody will ask
		return
	}
	if len(m.epitaphs) == maxEpitaphs {
		m.forgetEpitaphs(func(e epitaph) bool { return e.id == m.epitaphs[0].id })
	}
	m.epitaphs = append(m.epitaphs, epitaph{id: p.ID, secrets: p.secrets, bye: bye, until: now.Add(m.limits.resumeWindow)})
}

func (m *machine) forgetEpitaphs(which func(e epitaph) bool) {
	m.epitaphs = slices.DeleteFunc(m.epitaphs, func(e epitaph) bool {
		if !which(e) {
			return false
		}
		if m.peers[e.id] == nil {
			m.act(action{gone: e.id})
		}
		return true
	})
	m.stale = true
}

// tick does what is due.
func (m *machine) tick(now time.Time) {
	m.forgetEpitaphs(func(e epitaph) bool { return !now.Before(e.until) })
	for _, p := range slices.Clone(m.order) {
		switch {
		case p.over:
		case p.link == 0 && !now.Before(p.lostAt.Add(m.limits.resumeWindow)):
			m.lost(now, p)
		case !p.ringEnds.IsZero() && !now.Before(p.ringEnds):
			m.remove(now, p, string(refusal.RingTimeout), refusal.New(refusal.RingTimeout))
		}
	}
	m.stale = true
	m.settle(now)
}

// next returns when tick has something to do; zero: never.
func (m *machine) next() time.Time {
	if !m.stale {
		return m.deadline
	}
	m.stale = false
	m.deadline = time.Time{}
	earlier := func(t time.Time) {
		if m.deadline.IsZero() || t.Before(m.deadline) {
			m.deadline = t
		}
	}
	for _, p := range m.order {
		if p.link == 0 {
			earlier(p.lostAt.Add(m.limits.resumeWindow))
		}
		if !p.ringEnds.IsZero() {
			earlier(p.ringEnds)
		}
	}
	if len(m.epitaphs) > 0 {
		earlier(m.epitaphs[0].until) // the oldest
	}
	if len(m.order) == 0 {
		earlier(m.expiry())
	}
	return m.deadline
}

// expiry is when an empty channel is forgotten. Bans keep it a while longer, so that emptying a channel does not lift them at once.
func (m *machine) expiry() time.Time {
	t := m.emptySince.Add(m.limits.idleExpiry)
	for _, b := range m.bans {
		if limit := m.emptySince.Add(m.limits.ban); b.until.After(t) {
			t = b.until
			if t.After(limit) {
				t = limit
			}
		}
	}
	return t
}

// expired reports whether the channel is empty and may be forgotten.
func (m *machine) expired(now time.Time) bool {
	return len(m.order) == 0 && !now.Before(m.expiry())
}

// settle ends the peers whose mailbox has overflowed; their end may fill another one's.
func (m *machine) settle(now time.Time) {
	for len(m.doomed) > 0 {
		p := m.doomed[0]
		m.doomed = m.doomed[1:]
		if !p.over {
			m.counters.overflowed++
			m.remove(now, p, string(refusal.MailboxFull), refusal.New(refusal.MailboxFull))
		}
	}
	m.doomed = nil
}

// send numbers an event for p. A full mailbox dooms p; settle ends it.
func (m *machine) send(p *peer, e Event) {
	if p.doomed || p.over {
		return
	}
	seq := p.box.add(e, m.limits.mailboxEvents, m.limits.mailboxBytes)
	if seq == 0 {
		p.doomed = true
		m.doomed = append(m.doomed, p)
		return
	}
	m.counters.delivered++
	if p.link != 0 {
		m.act(action{link: p.link, seq: seq, event: e})
	}
}

// deliver sends an event without number.
func (m *machine) deliver(p *peer, e Event) {
	if p.link != 0 {
		m.act(action{link: p.link, event: e})
	}
}

func (m *machine) act(a action) { m.actions = append(m.actions, a) }

func (m *machine) capacity() int { return cmp.Or(m.settings.Capacity, m.limit) }

// shown are the settings as others see them.
func (m *machine) shown() Settings {
	s := m.settings
	s.Capacity = m.capacity()
	return s
}

func (m *machine) count() (members, pending int) {
	for _, p := range m.order {
		if p.pending == "" {
			members++
		} else {
			pending++
		}
	}
	return members, pending
}

func (m *machine) others(p *peer, offer bool) []PeerView {
	var views []PeerView
	for _, o := range m.order {
		if o != p && o.pending == "" {
			views = append(views, m.view(p, o, offer))
		}
	}
	return views
}

func (m *machine) view(who, whom *peer, offer bool) PeerView {
	return PeerView{Peer: whom.Peer, Polite: polite(who.ID, whom.ID), Offer: offer}
}
