package relay

import (
	"math"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/turn/v5"
	"golang.org/x/time/rate"
)

type userKey struct{ project, peer string }

// String is the user id that pion knows. Unlike the username it stays the same when credentials are renewed, so that an allocation can be
// refreshed with newer ones.
func (k userKey) String() string { return projectEscaper.Replace(k.project) + ":" + k.peer }

func parseUserKey(id string) userKey {
	project, peer, _ := strings.Cut(id, ":")
	return userKey{projectUnescaper.Replace(project), peer}
}

// A user is a peer that has allocations, or has had some since the last report.
type user struct {
	key     userKey
	project *project
	bucket  atomic.Pointer[rate.Limiter] // nil: no limit; changed with Server.mu held
	live    map[*relayConn]struct{}      // guarded by Server.mu

	upBytes, upPackets, downBytes, downPackets atomic.Uint64

	reported Usage // sums at the last report; owned by report
}

// A project has the counters that outlive its users.
type project struct {
	allocations int          // running; guarded by Server.mu
	total       uint64       // ever made; guarded by Server.mu
	gone        Usage        // of users that are gone; guarded by Server.mu
	denied      atomic.Int64 // 403, 486 and 508
}

// take pays for n bytes from the user's bandwidth.
func (u *user) take(n int) bool {
	bucket := u.bucket.Load()
	return bucket == nil || bucket.AllowN(time.Now(), n)
}

// limit sets the user's bandwidth; 0: no limit.
func (u *user) limit(bytesPerSecond int64) {
	if bytesPerSecond == 0 {
		u.bucket.Store(nil)
		return
	}
	// The largest datagram passes whatever the rate.
	limit, burst := rate.Limit(bytesPerSecond), int(min(max(bytesPerSecond, 2*inboundMTU), math.MaxInt32))
	if bucket := u.bucket.Load(); bucket == nil {
		u.bucket.Store(rate.NewLimiter(limit, burst))
	} else if bucket.Limit() != limit {
		bucket.SetLimit(limit)
		bucket.SetBurst(burst)
	}
}

// LimitBandwidth bounds what is relayed for each peer of a project, both directions together, from now on; above it, packets are dropped as a slow line would. A
// second's worth may come at once. 0: no limit, as there is for a project of which nothing was said.
func (s *Server) LimitBandwidth(project string, bytesPerSecond int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rates[project] == bytesPerSecond {
		return
	}
	if bytesPerSecond == 0 {
		delete(s.rates, project)
	} else {
		s.rates[project] = bytesPerSecond
	}
	for k, u := range s.users {
		if k.project == project {
			u.limit(bytesPerSecond)
		}
	}
}

func (s *Server) projectLocked(id string) *project {
	p := s.projects[id]
	if p == nil {
		p = &project{}
		s.projects[id] = p
	}
	return p
}

func (s *Server) hasRoom(k userKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasRoomLocked(k)
}

func (s *Server) hasRoomLocked(k userKey) bool {
	if u := s.users[k]; u != nil && len(u.live) >= s.cfg.Limits.AllocationsPerUser {
		return false
	}
	p := s.projects[k.project]
	return p == nil || p.allocations < s.cfg.Limits.AllocationsPerProject
}

// admit makes rc one of k's allocations. It checks again what the guard has checked, since endpoints work side by side.
func (s *Server) admit(k userKey, rc *relayConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosing
	}
	if !s.hasRoomLocked(k) {
		return errQuota
	}
	u := s.users[k]
	if u == nil {
		u = &user{key: k, project: s.projectLocked(k.project), live: map[*relayConn]struct{}{}}
		u.limit(s.rates[k.project])
		u.reported = Usage{Project: k.project, Peer: k.peer}
		s.users[k] = u
	}
	u.live[rc] = struct{}{}
	u.project.allocations++
	u.project.total++
	rc.user = u
	s.readers.Add(1) // pion starts a reader on rc; undone when its ReadFrom fails
	s.relaysMu.Lock()
	s.relays[rc.addr] = rc
	s.relaysMu.Unlock()
	return nil
}

func (s *Server) remove(rc *relayConn) {
	s.mu.Lock()
	delete(rc.user.live, rc)
	rc.user.project.allocations--
	s.relaysMu.Lock()
	if s.relays[rc.addr] == rc {
		delete(s.relays, rc.addr)
	}
	s.relaysMu.Unlock()
	s.mu.Unlock()
}

// live returns the relay with the external address ap, or nil.
func (s *Server) live(ap netip.AddrPort) *relayConn {
	s.relaysMu.RLock()
	defer s.relaysMu.RUnlock()
	return s.relays[ap]
}

func (s *Server) isLive(ap netip.AddrPort) bool { return s.live(ap) != nil }

// isOurs reports whether a packet from a may come from one of our own relays, on the inside.
func (s *Server) isOurs(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a == s.bind4 || a == s.bind6 || s.policy.isRelayed(a)
}

// liveAt returns the relay whose local or external address is ap, or nil.
func (s *Server) liveAt(ap netip.AddrPort) *relayConn {
	external := s.cfg.ExternalIPv4
	if ap.Addr().Is6() {
		external = s.cfg.ExternalIPv6
	}
	rc := s.live(netip.AddrPortFrom(external, ap.Port()))
	if rc != nil && (rc.local == ap || rc.addr == ap) {
		return rc
	}
	return nil
}

// eventHandler keeps what pion knows about allocations where the guard sees it. register puts an allocation on its 5-tuple.
func (s *Server) eventHandler(register func(client, server netip.AddrPort, rc *relayConn)) turn.EventHandler {
	find := func(relay net.Addr) *relayConn { return s.live(addrPort(relay)) }
	return turn.EventHandler{
		OnAllocationCreated: func(src, dst net.Addr, _, _, _ string, relay net.Addr, _ int) {
			if rc := find(relay); rc != nil {
				register(addrPort(src), addrPort(dst), rc)
				s.log.Info("allocation made", "project", rc.user.key.project, "peer", rc.user.key.peer, "client", src.String(), "relay", rc.addr.String())
			}
		},
		OnPermissionCreated: func(_, _ net.Addr, _, _, _ string, relay net.Addr, peer net.IP) {
			if rc := find(relay); rc != nil {
				if a, ok := netip.AddrFromSlice(peer); ok {
					rc.mu.Lock()
					rc.permissions[plain(a)] = struct{}{}
					rc.mu.Unlock()
				}
			}
		},
		OnPermissionDeleted: func(_, _ net.Addr, _, _, _ string, relay net.Addr, peer net.IP) {
			if rc := find(relay); rc != nil {
				if a, ok := netip.AddrFromSlice(peer); ok {
					rc.mu.Lock()
					delete(rc.permissions, plain(a))
					rc.mu.Unlock()
				}
			}
		},
		OnChannelCreated: func(_, _ net.Addr, _, _, _ string, relay, _ net.Addr, number uint16) {
			if rc := find(relay); rc != nil {
				rc.mu.Lock()
				rc.channels[number] = struct{}{}
				rc.mu.Unlock()
			}
		},
		OnChannelDeleted: func(_, _ net.Addr, _, _, _ string, relay, _ net.Addr, number uint16) {
			if rc := find(relay); rc != nil {
				rc.mu.Lock()
				delete(rc.channels, number)
				rc.mu.Unlock()
			}
		},
	}
}

// registered makes rc known to an endpoint that finds it by its 5-tuple, and lets it undo that when rc closes.
func (c *relayConn) registered(undo func(*relayConn)) {
	c.mu.Lock()
	c.unregister = undo
	c.mu.Unlock()
	if c.closed.Load() { // closed meanwhile: Close may have come too early to see undo
		undo(c)
	}
}

// enforce asks Permit about every peer that has allocations, and ends those of the ones that it refuses.
func (s *Server) enforce() {
	if s.cfg.Permit == nil {
		return
	}
	s.mu.Lock()
	keys := make([]userKey, 0, len(s.users))
	for k, u := range s.users {
		if len(u.live) > 0 {
			keys = append(keys, k)
		}
	}
	s.mu.Unlock()
	for _, k := range keys {
		err := s.cfg.Permit(k.project, k.peer)
		if err == nil {
			continue
		}
		s.mu.Lock()
		var end []*relayConn
		if u := s.users[k]; u != nil {
			for rc := range u.live {
				end = append(end, rc)
			}
		}
		s.mu.Unlock()
		for _, rc := range end {
			rc.Close()
		}
		if len(end) > 0 {
			s.log.Info("allocations ended", "project", k.project, "peer", k.peer, "count", len(end), "reason", err.Error())
		}
	}
}

// usage returns the sums of u so far.
func (u *user) usage() Usage {
	return Usage{
		Project: u.key.project, Peer: u.key.peer,
		UpBytes: u.upBytes.Load(), UpPackets: u.upPackets.Load(),
		DownBytes: u.downBytes.Load(), DownPackets: u.downPackets.Load(),
	}
}

func (a Usage) minus(b Usage) Usage {
	a.UpBytes -= b.UpBytes
	a.UpPackets -= b.UpPackets
	a.DownBytes -= b.DownBytes
	a.DownPackets -= b.DownPackets
	return a
}

func (a *Usage) add(b Usage) {
	a.UpBytes += b.UpBytes
	a.UpPackets += b.UpPackets
	a.DownBytes += b.DownBytes
	a.DownPackets += b.DownPackets
}

// report tells OnUsage what was relayed since the last time, and forgets users that have no allocation any more.
func (s *Server) report() {
	var out []Usage
	s.mu.Lock()
	for k, u := range s.users {
		now := u.usage()
		delta := now.minus(u.reported)
		delta.Allocations = len(u.live)
		u.reported = now
		if delta.UpPackets+delta.DownPackets > 0 {
			out = append(out, delta)
		}
		if len(u.live) == 0 {
			u.project.gone.add(now)
			delete(s.users, k)
		}
	}
	s.mu.Unlock()
	if len(out) > 0 && s.cfg.OnUsage != nil {
		s.cfg.OnUsage(out)
	}
}
