package playrtc

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
)

// Token returns the PlayRTC token of a peer, native ones included: 17 characters, since data messages have room for as many, beginning with TKS, by
// which pages recognize one. It keeps 70 of the 80 bits of the peer's id.
func Token(peer string) string {
	if len(peer) < 15 {
		return ""
	}
	return "TKS" + peer[1:15]
}

// newChannelID makes a channel's id: 72 random bits, in letters that need no escaping in a URL.
func newChannelID() string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	id := []byte("CHS")
	var b [64]byte
	for len(id) < 17 {
		rand.Read(b[:])
		for _, c := range b {
			if c < 252 && len(id) < 17 { // 7 × 36: every letter is equally likely
				id = append(id, letters[c%36])
			}
		}
	}
	return string(id)
}

// A room is what is kept of a channel for PlayRTC clients. Guarded by Server.mu.
type room struct {
	key     channel.Key
	name    string
	kind    string // webrtc, broadcast, …: said back, and treated alike
	listed  bool   // a PlayRTC client made it. A native channel's name is its invitation, and is not listed
	made    time.Time
	used    time.Time // when somebody was there last, or was about to be
	tickets map[string]*ticket
}

// A ticket stands behind a token, until its membership has ended. All but what Server.mu guards is set at construction.
type ticket struct {
	key         channel.Key
	token       string
	peer        string // channel.PeerID of instance
	instance    string
	credentials auth.Credentials // with which it was asked for
	uid         string           // guarded by Server.mu until it has a link, then set
	userName    string
	env         json.RawMessage // as of REST; nil: none
	secret      string          // nag's authToken
	expires     time.Time       // for opening a socket
	link        *link           // that the token has opened; guarded by Server.mu
}

// issue makes a token in a channel, which with named becomes a listed one.
func (s *Server) issue(key channel.Key, kind, name string, named bool, t *ticket) error {
	t.key, t.instance, t.secret = key, rand.Text(), rand.Text()
	t.peer = channel.PeerID(key, t.instance)
	t.token = Token(t.peer)
	now := time.Now()
	t.expires = now.Add(s.cfg.TokenLifetime)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tickets) >= s.cfg.MaxTokens {
		return refusal.Newf(refusal.QuotaExceeded, "Too many tokens wait to be used.").After(time.Minute)
	}
	r := s.rooms[key]
	if r == nil {
		if named && len(s.listed[key.Project]) >= s.cfg.MaxChannels {
			return refusal.Newf(refusal.QuotaExceeded, "The project has too many channels.").After(time.Minute)
		}
		r = &room{key: key, name: name, kind: kind, listed: named, made: now, tickets: map[string]*ticket{}}
		s.rooms[key] = r
		if named {
			if s.listed[key.Project] == nil {
				s.listed[key.Project] = map[*room]struct{}{}
			}
			s.listed[key.Project][r] = struct{}{}
		}
	}
	r.used = now
	r.tickets[t.token] = t
	s.tickets[t.token] = t
	return nil
}

// claim gives a token to the socket that shows it first. uid is what the socket says; empty: what REST was told stands.
func (s *Server) claim(l *link, token, channelID, uid string) (*ticket, *refusal.Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tickets[token]
	switch {
	case t == nil || t.link != nil:
		return nil, errToken
	case time.Now().After(t.expires):
		return nil, refusal.New(refusal.TokenExpired)
	case t.key.Channel != channelID:
		return nil, refusal.New(refusal.TokenChannel)
	}
	t.link = l
	t.uid = cmp.Or(uid, t.uid)
	return t, nil
}

// errToken says of a token of PlayRTC's what may be said: there is none, its secret is wrong, or it has opened a socket already.
var errToken = refusal.Newf(refusal.TokenMalformed, "The token is not known, or was used already.")

// release ends a token with the membership that it has opened.
func (s *Server) release(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lost, l)
	if t := l.ticket.Load(); t != nil && t.link == l {
		s.dropTicketLocked(t)
	}
}

func (s *Server) dropTicketLocked(t *ticket) {
	delete(s.tickets, t.token)
	if r := s.rooms[t.key]; r != nil {
		if t.link != nil {
			r.used = time.Now()
		}
		delete(r.tickets, t.token)
		if !r.listed && len(r.tickets) == 0 {
			delete(s.rooms, t.key)
		}
	}
}

// OnPeer has to be told of all peers of all channels (channel.Config.OnPeer): a token whose instance a native client has used opens no socket any more. It comes
// before anybody else can see the token.
func (s *Server) OnPeer(_ channel.Key, peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tickets[Token(peer)]; t != nil && t.link == nil && t.peer == peer {
		s.dropTicketLocked(t)
	}
}

// isWire reports whether a peer is here over this edge. It is asked each time: with the instance a native client can take a membership over.
func (s *Server) isWire(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tickets[Token(peer)]
	return t != nil && t.peer == peer && t.link != nil
}

// forget removes a channel from the list, with its unused tokens.
func (s *Server) forget(key channel.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[key]
	if r == nil {
		return
	}
	for _, t := range r.tickets {
		if t.link == nil {
			s.dropTicketLocked(t)
		}
	}
	s.dropRoomLocked(r)
}

func (s *Server) dropRoomLocked(r *room) {
	delete(s.rooms, r.key)
	if r.listed {
		if delete(s.listed[r.key.Project], r); len(s.listed[r.key.Project]) == 0 {
			delete(s.listed, r.key.Project)
		}
	}
}

// sweepRooms forgets tokens that nobody used, and channels in which nobody was for long.
func (s *Server) sweepRooms() {
	live := map[channel.Key]bool{}
	for _, c := range s.cfg.Channels.List("") {
		if c.Peers+c.Pending > 0 {
			live[c.Key] = true
		}
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tickets {
		// Twice the lifetime: for as long again its bearer is told that it has expired.
		if t.link == nil && now.After(t.expires.Add(s.cfg.TokenLifetime)) {
			s.dropTicketLocked(t)
		}
	}
	for key, r := range s.rooms {
		switch {
		case live[key]:
			r.used = now
		case len(r.tickets) > 0:
		case !r.listed || now.Sub(r.used) > s.cfg.ChannelLifetime:
			s.dropRoomLocked(r)
		}
	}
}

// A roomView is what REST shows of a room.
type roomView struct {
	key        channel.Key
	name, kind string
	made       time.Time
}

func (s *Server) room(key channel.Key) (v roomView, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[key]
	if r == nil {
		return roomView{key: key, kind: defaultKind}, false
	}
	return roomView{r.key, r.name, r.kind, r.made}, r.listed
}

// maxListed bounds one answer.
const maxListed = 1000

// roomsOf returns the newest rooms of a project that match.
func (s *Server) roomsOf(project string, match func(v roomView) bool) []roomView {
	var all []roomView
	s.mu.Lock()
	for r := range s.listed[project] {
		if v := (roomView{r.key, r.name, r.kind, r.made}); match(v) {
			all = append(all, v)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b roomView) int {
		return cmp.Or(b.made.Compare(a.made), strings.Compare(a.key.Channel, b.key.Channel))
	})
	return all[:min(len(all), maxListed)]
}

// ticket returns what stands behind a token of a project.
func (s *Server) ticket(project, token string) (t ticket, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.tickets[token]; found != nil && found.key.Project == project {
		return *found, true
	}
	return t, false
}

// ticketFor returns what stands behind a token, for the one who knows its secret.
func (s *Server) ticketFor(token, secret string) (t ticket, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.tickets[token]; found != nil && subtle.ConstantTimeCompare([]byte(found.secret), []byte(secret)) == 1 {
		return *found, true
	}
	return t, false
}
