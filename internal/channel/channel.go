// Package channel knows who is where: the channels, their peers, and what peers may do to each other. It is the only place that does, and it
// knows no wire: an edge turns bytes into the operations of this package, and its events back into bytes. Peers that came
// over different edges meet here without knowing it.
//
// # Use
//
//	s, err := channel.New(channel.Config{})        // the zero Config is good for production
//	go s.Run(ctx)                                  // returns when everything has stopped
//	m, err := s.Join(ctx, channel.JoinRequest{Grant: grant, Instance: instance, Link: link})
//	m.Do(ctx, 1, false, channel.SendSignal{To: id, Data: data})
//
// The answer to a join comes as the first event on the link, and everything else after it, in order. An edge implements Link, which must
// never block.
//
// # Lives
//
// A membership (a peer in a channel), its link (a socket) and its media are separate lives. A link may be lost and replaced: the membership
// ends by leaving, by a refusal, or when the resume window has passed without a new link. The mailbox belongs to the membership: it is
// bounded, numbered and acknowledged, and a full one ends the membership and never blocks the channel.
//
// # Owners
//
// Every channel has one owner, which runs a state machine without I/O, locks or clock (machine.go), one input at a time. Peers
// are addressed by id and links by number, never by pointer: an owner on another node could take the same operations as messages. What is local to this
// process is the table from channel to owner (Service.channels), the one from peer id to channel (Service.peers), and
// the Links that an owner calls.
//
// Not here: authentication (auth), ICE servers (an edge adds them), media, storage. A channel lives in memory alone.
package channel

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
)

// A Key names a channel: names are unique within a project.
type Key struct {
	Project string
	Channel string
}

// A MediaState says what a peer does with one medium.
type MediaState string

const (
	MediaOn    MediaState = "on"
	MediaMuted MediaState = "muted"
	MediaOff   MediaState = "off"
)

// Media says what a peer sends. It is what the peer claims, for the others to show.
type Media struct {
	Audio, Video, Screen MediaState
}

// merged returns m with the members of change that are not empty; members empty in both are off.
func (m Media) merged(change Media) Media {
	pick := func(old, new MediaState) MediaState {
		switch {
		case new != "":
			return new
		case old != "":
			return old
		}
		return MediaOff
	}
	return Media{Audio: pick(m.Audio, change.Audio), Video: pick(m.Video, change.Video), Screen: pick(m.Screen, change.Screen)}
}

// A Peer is a member of a channel, or somebody who waits to become one. Values are snapshots: nobody changes one.
type Peer struct {
	ID            string
	UID           string // the application's name for the user; may be empty
	Name          string
	Role          auth.Role
	Info          json.RawMessage // JSON of the application; nil: none
	Media         Media
	Authenticated bool // a token vouches for UID
}

// A PeerView is a peer as one other peer sees it.
type PeerView struct {
	*Peer
	Polite bool // the one who sees is the polite side of the pair (W3C webrtc-pc, "Perfect negotiation example")
	Offer  bool // the one who sees makes the first offer
}

// Settings are a channel's.
type Settings struct {
	Channel     string
	Locked      bool
	WaitingRoom bool
	Capacity    int // members; those who wait do not count
}

// A Change of settings; nil members stay as they are.
type Change struct {
	Locked      *bool
	WaitingRoom *bool
	Capacity    *int
}

// A LinkID names a link within one process. Zero is none.
type LinkID uint64

// A Link carries events to one peer. Its methods are called by the channel's owner, one at a time, on any goroutine, with the channel locked; they must not
// block, nor call back into this package. After End no other call follows.
type Link interface {
	// Deliver hands one event over. seq is its number, or 0 for an event that is not numbered. Events come in the order in which they have to be
	// sent. The event is shared with other links: it must not be changed.
	Deliver(seq uint64, e Event)
	// End says that this link is over, and why. What was delivered before has still to be sent, as far as possible.
	End(r *refusal.Refusal)
}

// A JoinRequest is the wish for a membership, with what the peer may do.
type JoinRequest struct {
	Grant    auth.Grant
	Instance string          // secret of the client for this session; the same one gives the same peer id. Empty: a random one
	Info     json.RawMessage // at most a few KiB of JSON, which the edge has checked; nil: none
	Media    Media
	Ring     bool // ask the members first
	Address  netip.Addr
	Link     Link
}

// A ResumeRequest is the wish to go on with a membership on a new link.
type ResumeRequest struct {
	Peer     string
	Secret   string
	Received uint64 // highest number that the client has received
	Link     Link
}

// PeerID returns the id that a client with this instance has in this channel. It shows nothing of the instance, and is the same after a restart
// of the server, so that others recognize a peer that comes back.
func PeerID(k Key, instance string) string {
	h := sha256.New()
	for _, field := range []string{k.Project, k.Channel, instance} {
		// A length before each field keeps ("ab","c") and ("a","bc") apart.
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		h.Write([]byte(field))
	}
	// 80 bits: no two of the peers that ever exist in one server share an id by chance.
	return "p" + peerIDEncoding.EncodeToString(h.Sum(nil)[:10])
}

var peerIDEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// polite reports whether the peer a is the polite side towards b. Both sides get opposite answers, before and after a restart.
func polite(a, b string) bool { return a < b }

// An Event is what a link carries to its peer. The concrete types are those of this file.
type Event interface {
	// bytes estimates what the event occupies in a mailbox.
	bytes() int
}

// The answer to a join or a resume, without number.
type (
	// Joined says that the peer is a member.
	Joined struct {
		Project      string
		Peer         *Peer
		Settings     Settings
		Peers        []PeerView // the other members, in the order in which they came
		Secret       string
		ResumeWindow time.Duration
	}
	// Pending says that the members, or the hosts, are being asked.
	Pending struct {
		Reason       RingReason
		Peer         *Peer
		Secret       string
		ResumeWindow time.Duration
	}
	// Resumed says that the membership goes on.
	Resumed struct {
		Secret   string
		Received uint64 // highest number that the server has from the client
	}
)

// Without number: about the link itself.
type (
	// Pong answers Membership.Ping.
	Pong struct {
		T        json.RawMessage
		Received uint64
	}
	// Acked tells the client up to which number the server has its messages.
	Acked struct {
		Received uint64
	}
)

// Numbered: they stay in the mailbox until they are acknowledged.
type (
	// Admitted says that a pending peer is a member now.
	Admitted struct {
		Project  string
		Peer     *Peer
		Settings Settings
		Peers    []PeerView
	}
	// PeerJoined tells of a new member.
	PeerJoined struct{ Peer PeerView }
	// PeerLeft tells that a member is gone. Reason is a word of docs/protocol.md §5 or a code.
	PeerLeft struct{ ID, Reason string }
	// PeerUpdated tells what changed about a member, or about oneself; nil members did not change. Info is the JSON value null when it was removed.
	PeerUpdated struct {
		ID    string
		Name  *string
		Role  *auth.Role
		Info  json.RawMessage
		Media *Media
	}
	// Signal is for one peer; nobody looks inside.
	Signal struct {
		From string
		Data json.RawMessage
	}
	// Command is an application's message. From is empty when the application's server sent it; To is nil when it went to all others.
	Command struct {
		From string
		To   []string
		Name string
		Data json.RawMessage
	}
	// Ring asks whether Peer may come in.
	Ring struct {
		Peer   PeerView
		Reason RingReason
	}
	// RingEnded ends a Ring.
	RingEnded struct{ ID, Reason string }
	// SettingsChanged tells the channel's settings, all of them.
	SettingsChanged struct{ Settings Settings }
	// Done says that the client's message Re succeeded.
	Done struct{ Re uint64 }
	// Failed says that the client's message Re failed; 0: one without number.
	Failed struct {
		Re      uint64
		Refusal *refusal.Refusal
	}
	// Note is an event that an edge makes for its own client, to be numbered and kept with the others. Only that edge understands it.
	Note struct {
		Value any
		Size  int // bytes, about
	}
)

// A RingReason says why the members are asked.
type RingReason string

const (
	ReasonRing        RingReason = "ring"         // the peer asked to ring
	ReasonWaitingRoom RingReason = "waiting_room" // the channel has a waiting room
)

// eventBytes is what an event costs beside its contents: the struct, its strings, its place in the mailbox.
const eventBytes = 128

func (e *Joined) bytes() int          { return eventBytes }
func (e *Pending) bytes() int         { return eventBytes }
func (e *Resumed) bytes() int         { return eventBytes }
func (e *Pong) bytes() int            { return eventBytes }
func (e *Acked) bytes() int           { return eventBytes }
func (e *Admitted) bytes() int        { return eventBytes * (1 + len(e.Peers)) }
func (e *PeerJoined) bytes() int      { return eventBytes + e.Peer.bytes() }
func (e *PeerLeft) bytes() int        { return eventBytes }
func (e *PeerUpdated) bytes() int     { return eventBytes + len(e.Info) }
func (e *Signal) bytes() int          { return eventBytes + len(e.Data) }
func (e *Command) bytes() int         { return eventBytes + len(e.Data) + 32*len(e.To) }
func (e *Ring) bytes() int            { return eventBytes + e.Peer.bytes() }
func (e *RingEnded) bytes() int       { return eventBytes }
func (e *SettingsChanged) bytes() int { return eventBytes }
func (e *Done) bytes() int            { return eventBytes }
func (e *Failed) bytes() int          { return eventBytes }
func (e *Note) bytes() int            { return eventBytes + e.Size }

func (v PeerView) bytes() int { return eventBytes + len(v.Info) + len(v.Name) }

// EventBytes estimates what an event occupies, for edges that bound their own queues.
func EventBytes(e Event) int { return e.bytes() }

// An Operation is what a peer does with a numbered message. The concrete types are those below. Edges check their form (lengths,
// known words); the channel checks what depends on its state.
type Operation interface{ operation() }

type (
	// SendSignal sends data to one member.
	SendSignal struct {
		To   string
		Data json.RawMessage
	}
	// SendCommand sends an application's message to members, or (To nil) to all others. If one of To is missing, nobody gets it.
	SendCommand struct {
		To   []string
		Name string
		Data json.RawMessage
	}
	// Update changes what the others see; nil and empty members stay. An Info of null removes it.
	Update struct {
		Name  *string
		Info  json.RawMessage
		Media *Media
	}
	// Accept admits a pending peer. The first answer decides.
	Accept struct{ Peer string }
	// Reject turns a pending peer away.
	Reject struct {
		Peer string
		Busy bool
	}
	// Kick removes a peer, and keeps it out for Ban (nil: Config.Ban; 0: it may come back at once).
	Kick struct {
		Peer   string
		Reason string // shown to the kicked peer
		Ban    *time.Duration
	}
	// SetRole changes a member's role.
	SetRole struct {
		Peer string
		Role auth.Role
	}
	// Configure changes the settings.
	Configure struct{ Change Change }
	// PostNote puts an event of the edge's own into the peer's mailbox.
	PostNote struct{ Note *Note }
	// Refused uses up the message's number and answers with the refusal: the edge would not let the message through.
	Refused struct{ Refusal *refusal.Refusal }
)

func (SendSignal) operation()  {}
func (SendCommand) operation() {}
func (Update) operation()      {}
func (Accept) operation()      {}
func (Reject) operation()      {}
func (Kick) operation()        {}
func (SetRole) operation()     {}
func (Configure) operation()   {}
func (PostNote) operation()    {}
func (Refused) operation()     {}
