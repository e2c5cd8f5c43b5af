package channel

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Config sets a Service's bounds. The zero value means the defaults.
type Config struct {
	ResumeWindow    time.Duration // how long a membership outlives its link; default 60 s
	RingTimeout     time.Duration // how long a ring goes unanswered; default 45 s
	IdleExpiry      time.Duration // how long an empty channel is remembered; default 60 s
	Ban             time.Duration // of a kick that does not say how long; default 10 min
	PeersPerChannel int           // capacity of a channel whose project says nothing; default 50
	MaxChannels     int           // in all projects; default 100,000
	MailboxMessages int           // not acknowledged, of one peer; default 1,024
	MailboxBytes    int           // of the same, about; default 4 MiB
	// OnPeer is told of each peer that is about to be in a channel, as a member or waiting, before any other peer is. It is called with the
	// channel locked: it must not block, nor call back into this package. Default: nobody is told.
	OnPeer func(k Key, peer string)
	// OnKick is told of each peer that a host or an operator removes, under the same rules.
	OnKick func(k Key, peer string)
	Logger *slog.Logger // default: none
}

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{{"ResumeWindow", &c.ResumeWindow, time.Minute}, {"RingTimeout", &c.RingTimeout, 45 * time.Second}, {"IdleExpiry", &c.IdleExpiry, time.Minute},
		{"Ban", &c.Ban, 10 * time.Minute}} {
		if *d.value < 0 {
			return c, errors.New("channel: " + d.name + " is negative")
		}
		*d.value = cmp.Or(*d.value, d.def)
	}
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{{"PeersPerChannel", &c.PeersPerChannel, 50}, {"MaxChannels", &c.MaxChannels, 100_000}, {"MailboxMessages", &c.MailboxMessages, 1024},
		{"MailboxBytes", &c.MailboxBytes, 4 << 20}} {
		if *n.value < 0 {
			return c, errors.New("channel: " + n.name + " is negative")
		}
		*n.value = cmp.Or(*n.value, n.def)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// A Service holds all channels of a node. Its methods are safe for concurrent use.
type Service struct {
	cfg      Config
	links    atomic.Uint64 // last LinkID given out
	draining atomic.Bool
	totals   totals

	timers sync.WaitGroup // of owners, armed or running

	mu       sync.RWMutex // guards what follows; nothing blocks under it, and no owner's mu is taken
	stopped  bool
	channels map[Key]*owner
	peers    map[string]Key   // where each peer is, for a resume, which names nothing else
	kept     map[Key]Settings // what operators have set, also for channels that nobody is in
}

// New returns a Service that takes operations at once. Run has to be called, so that its timers end.
func New(cfg Config) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, channels: map[Key]*owner{}, peers: map[string]Key{}, kept: map[Key]Settings{}}, nil
}

// Run works until ctx ends. Then it ends all links with server_draining, and returns when all owners have stopped.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	s.draining.Store(true)
	s.mu.Lock()
	s.stopped = true
	owners := slices.Collect(maps.Values(s.channels))
	s.mu.Unlock()
	for _, o := range owners {
		o.stop()
	}
	s.timers.Wait()
	return nil
}

// Drain refuses joins and resumes from now on, and ends all links with server_draining. Memberships stay until Run returns.
func (s *Service) Drain() {
	s.draining.Store(true)
	s.mu.RLock()
	owners := slices.Collect(maps.Values(s.channels))
	s.mu.RUnlock()
	for _, o := range owners {
		o.post(context.Background(), func(m *machine, now time.Time) { m.drain(now, drainingRefusal()) })
	}
}

func drainingRefusal() *refusal.Refusal {
	return refusal.New(refusal.ServerDraining).After(time.Second)
}

// A Membership is what an edge holds for a peer with a link. All methods go by id: after the end of the membership, or with a newer
// link of it, they do nothing. Those that end in an error do so because ctx has ended, or the channel has.
type Membership struct {
	Key  Key
	Peer string

	link  LinkID
	owner *owner
}

// Join makes a membership. Its answer is an event on the link. The error is a *refusal.Refusal, or that of ctx; then nothing was or will be
// delivered to the link.
func (s *Service) Join(ctx context.Context, r JoinRequest) (*Membership, error) {
	if s.draining.Load() {
		return nil, drainingRefusal()
	}
	key := Key{Project: r.Grant.Project, Channel: r.Grant.Channel}
	instance := r.Instance
	if instance == "" {
		instance = rand.Text()
	}
	in := joinInput{JoinRequest: r, id: PeerID(key, instance), secret: rand.Text(), link: LinkID(s.links.Add(1))}
	var at *owner
	err := s.do(ctx, key, true, func(o *owner, now time.Time) error {
		at = o
		return o.attach(in.link, r.Link, o.machine.join(now, in))
	})
	if err != nil {
		return nil, err
	}
	return &Membership{Key: key, Peer: in.id, link: in.link, owner: at}, nil
}

// Resume gives a membership a new link. Answer and errors are as with Join.
func (s *Service) Resume(ctx context.Context, r ResumeRequest) (*Membership, error) {
	if s.draining.Load() {
		return nil, drainingRefusal()
	}
	s.mu.RLock()
	key, ok := s.peers[r.Peer]
	s.mu.RUnlock()
	if !ok {
		return nil, refusal.New(refusal.ResumeUnknown)
	}
	in := resumeInput{ResumeRequest: r, newSecret: rand.Text(), link: LinkID(s.links.Add(1))}
	var at *owner
	err := s.do(ctx, key, false, func(o *owner, now time.Time) error {
		at = o
		return o.attach(in.link, r.Link, o.machine.resume(now, in))
	})
	if errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		err = refusal.New(refusal.ResumeUnknown)
	}
	if err != nil {
		return nil, err
	}
	return &Membership{Key: key, Peer: r.Peer, link: in.link, owner: at}, nil
}

// Do applies a numbered message of the client. The outcome comes as an event: Failed, or Done if reply is set.
func (m *Membership) Do(ctx context.Context, seq uint64, reply bool, op Operation) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.message(now, m.Peer, m.link, seq, reply, op) })
}

// Refuse answers a message that has no number with Failed.
func (m *Membership) Refuse(ctx context.Context, r *refusal.Refusal) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.refuse(now, m.Peer, m.link, r) })
}

// Ack takes the client's acknowledgement.
func (m *Membership) Ack(ctx context.Context, seq uint64) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.ack(now, m.Peer, m.link, seq) })
}

// Ping answers with Pong; t comes back unchanged. It acknowledges too.
func (m *Membership) Ping(ctx context.Context, t json.RawMessage, ack uint64) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.ping(now, m.Peer, m.link, t, ack) })
}

// Leave ends the membership; the link ends with the code left.
func (m *Membership) Leave(ctx context.Context) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.leave(now, m.Peer, m.link) })
}

// Lost ends the membership as if the resume window had passed: for edges whose clients cannot resume.
func (m *Membership) Lost(ctx context.Context) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.lose(now, m.Peer, m.link) })
}

// LinkLost tells that the link is gone. The membership lives on for the resume window.
func (m *Membership) LinkLost() {
	m.owner.post(context.Background(), func(c *machine, now time.Time) {
		delete(m.owner.links, m.link)
		c.linkLost(now, m.Peer, m.link)
	})
}

// Fail ends the link because of what the client did. A refusal whose Retry is resume leaves the membership alive; any other ends it.
func (m *Membership) Fail(ctx context.Context, r *refusal.Refusal) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.fail(now, m.Peer, m.link, r) })
}

// Post puts an event of the edge's own into the mailbox of a member. A pending peer does not get it.
func (m *Membership) Post(ctx context.Context, n *Note) error {
	return m.owner.post(ctx, func(c *machine, now time.Time) { c.note(now, m.Peer, m.link, n) })
}

// A Summary says how a channel stands.
type Summary struct {
	Key      Key
	Settings Settings
	Peers    int // members
	Pending  int // who ring or wait
	Since    time.Time
	Kept     bool // an operator made it: it has its settings also while nobody is in it
}

// A Snapshot is all that operators see of a channel.
type Snapshot struct {
	Summary
	Members []PeerState
	Waiting []PeerState
}

// A PeerState is all that operators see of a peer.
type PeerState struct {
	Peer    *Peer
	Linked  bool // has a link now
	Mailbox int  // events not acknowledged
}

// List returns the channels of a project, or of all ("" ), by name.
func (s *Service) List(project string) []Summary {
	s.mu.RLock()
	var list []Summary
	for k, o := range s.channels {
		if project == "" || k.Project == project {
			sum := *o.summary.Load()
			_, sum.Kept = s.kept[k]
			list = append(list, sum)
		}
	}
	for k, set := range s.kept {
		if s.channels[k] == nil && (project == "" || k.Project == project) {
			list = append(list, s.keptSummary(k, set))
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b Summary) int {
		return cmp.Or(strings.Compare(a.Key.Project, b.Key.Project), strings.Compare(a.Key.Channel, b.Key.Channel))
	})
	return list
}

func (s *Service) keptSummary(k Key, set Settings) Summary {
	set.Channel = k.Channel
	set.Capacity = cmp.Or(set.Capacity, s.cfg.PeersPerChannel)
	return Summary{Key: k, Settings: set, Kept: true}
}

// Inspect returns a channel with its peers, or channel_not_found.
func (s *Service) Inspect(ctx context.Context, k Key) (Snapshot, error) {
	var snap Snapshot
	err := s.do(ctx, k, false, func(o *owner, now time.Time) error {
		snap = o.machine.snapshot()
		snap.Since = o.since
		return nil
	})
	s.mu.RLock()
	set, kept := s.kept[k]
	s.mu.RUnlock()
	if kept && errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		return Snapshot{Summary: s.keptSummary(k, set)}, nil
	}
	snap.Kept = kept
	return snap, err
}

// Create makes a channel with settings of its own, which it has until Close, also while nobody is in it. conflict: it exists.
func (s *Service) Create(_ context.Context, k Key, set Settings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, kept := s.kept[k]; kept || s.channels[k] != nil {
		return refusal.Newf(refusal.Conflict, "There is a channel with this name already.")
	}
	if len(s.kept) >= s.cfg.MaxChannels {
		return refusal.Newf(refusal.QuotaExceeded, "This server holds no more channels.")
	}
	set.Channel = k.Channel
	s.kept[k] = set
	return nil
}

// Configure changes a channel's settings, or returns channel_not_found. For a channel made by Create, they stay.
func (s *Service) Configure(ctx context.Context, k Key, c Change) error {
	s.mu.Lock()
	set, kept := s.kept[k]
	if kept {
		if c.Locked != nil {
			set.Locked = *c.Locked
		}
		if c.WaitingRoom != nil {
			set.WaitingRoom = *c.WaitingRoom
		}
		if c.Capacity != nil {
			set.Capacity = *c.Capacity
		}
		s.kept[k] = set
	}
	s.mu.Unlock()
	err := s.do(ctx, k, false, func(o *owner, now time.Time) error {
		o.machine.configure(c)
		o.machine.settle(now)
		return nil
	})
	if kept && errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		return nil
	}
	return err
}

// Close ends all memberships of a channel with that code, which is channel_closed unless there is a better one, and forgets its settings; or returns channel_not_found.
func (s *Service) Close(ctx context.Context, k Key, why refusal.Code) error {
	s.mu.Lock()
	_, kept := s.kept[k]
	delete(s.kept, k)
	s.mu.Unlock()
	err := s.do(ctx, k, false, func(o *owner, now time.Time) error {
		o.machine.close(now, why)
		return nil
	})
	if kept && errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		return nil
	}
	return err
}

// Kick removes a peer in the operator's name.
func (s *Service) Kick(ctx context.Context, k Key, kick Kick) error {
	return s.do(ctx, k, false, func(o *owner, now time.Time) error {
		defer o.machine.settle(now)
		return o.machine.kick(now, kick)
	})
}

// Command sends an application's message in the name of its server: without From.
func (s *Service) Command(ctx context.Context, k Key, c SendCommand) error {
	return s.do(ctx, k, false, func(o *owner, now time.Time) error {
		defer o.machine.settle(now)
		o.machine.counters.messages++
		return o.machine.command(&Command{To: c.To, Name: c.Name, Data: c.Data})
	})
}

// Stats count what a service holds, and has done since it began.
type Stats struct {
	Channels int // with an owner: somebody is there, or was a moment ago
	Peers    int // members
	Pending  int // who ring or wait
	Projects map[string]ProjectStats

	Joined     uint64 // joins that made or took over a membership
	Resumed    uint64
	Messages   uint64 // numbered ones from clients, and commands of applications
	Delivered  uint64 // numbered events to clients
	Overflowed uint64 // memberships ended by a full mailbox
	Lost       uint64 // memberships ended by the resume window
	Kicked     uint64
}

// ProjectStats count what a service holds for one project.
type ProjectStats struct{ Channels, Peers, Pending int }

type totals struct {
	joined, resumed, messages, delivered, overflowed, lost, kicked atomic.Uint64
}

// Stats returns the counts. It asks no owner, and never waits for one.
func (s *Service) Stats() Stats {
	t := &s.totals
	st := Stats{Projects: map[string]ProjectStats{}, Joined: t.joined.Load(), Resumed: t.resumed.Load(), Messages: t.messages.Load(),
		Delivered: t.delivered.Load(), Overflowed: t.overflowed.Load(), Lost: t.lost.Load(), Kicked: t.kicked.Load()}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k, o := range s.channels {
		sum := o.summary.Load()
		p := st.Projects[k.Project]
		p.Channels++
		p.Peers += sum.Peers
		p.Pending += sum.Pending
		st.Projects[k.Project] = p
		st.Channels++
		st.Peers += sum.Peers
		st.Pending += sum.Pending
	}
	return st
}

// do runs f on the channel's owner. Without create, a channel that nobody owns is channel_not_found.
func (s *Service) do(ctx context.Context, k Key, create bool, f func(o *owner, now time.Time) error) error {
	for {
		o, err := s.owner(k, create)
		if err != nil {
			return err
		}
		var result error
		switch err := o.post(ctx, func(_ *machine, now time.Time) { result = f(o, now) }); {
		case err == nil:
			return result
		case err != errOver:
			return err
		}
		// The owner found the channel empty and ended in between: look again.
	}
}

// owner returns the channel's owner, and starts one if create is set.
func (s *Service) owner(k Key, create bool) (*owner, error) {
	s.mu.RLock()
	o, stopped := s.channels[k], s.stopped
	s.mu.RUnlock()
	if o != nil {
		return o, nil
	}
	if stopped {
		return nil, drainingRefusal()
	}
	if !create {
		return nil, refusal.New(refusal.ChannelNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.channels[k]; o != nil {
		return o, nil
	}
	if s.stopped {
		return nil, drainingRefusal()
	}
	if len(s.channels) >= s.cfg.MaxChannels {
		return nil, refusal.Newf(refusal.QuotaExceeded, "This server holds no more channels.").After(s.cfg.IdleExpiry)
	}
	o = newOwner(s, k, s.kept[k])
	s.channels[k] = o
	return o, nil
}
