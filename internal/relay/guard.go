package relay

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/pion/stun/v4"
)

// A guard looks at every message from a client before pion does. It belongs to one reading goroutine.
//
//	             not STUN, no ChannelData, response ──► dropped
//	ChannelData, Send without an allocation         ──► dropped (RFC 8656 §5)
//	Binding, requests without credentials           ──► flood gate ──► pion answers, or challenges with 401
//	wrong, expired, revoked or replayed credentials ──► flood gate ──► pion, without its attributes: challenged with 401 (RFC 8489 §9.2.4)
//	right credentials, but refused                  ──► answered here: 403, 437, 440, 441, 442, 486, 508, with MESSAGE-INTEGRITY
//	the rest                                        ──► pion
type guard struct {
	s     *Server
	msg   stun.Message
	reply stun.Message
}

type verdict int

const (
	pass   verdict = iota // give the returned bytes to pion
	drop                  // forget it
	answer                // send the returned bytes to the client
)

const (
	stunHeaderSize = 20
	magicCookie    = 0x2112A442
	// inboundMTU is one more than the largest message from a client that is handled: a path's 1500 bytes, a Send
	// indication's 36 and room. pion drops what fills its buffer, since it may have been cut.
	inboundMTU = 1600
)

// Message types (RFC 8489 §5: method and class interleaved).
const (
	typeBinding          = 0x0001
	typeAllocate         = 0x0003
	typeRefresh          = 0x0004
	typeSend             = 0x0016
	typeCreatePermission = 0x0008
	typeChannelBind      = 0x0009
)

// inspect decides about one message. rc is the allocation of its 5-tuple, or nil; src is the client's end of that. The bytes
// returned are valid until the next call.
func (g *guard) inspect(b []byte, src netip.AddrPort, rc *relayConn) ([]byte, verdict) {
	c := &g.s.counters
	// RFC 8656 §12 has channel numbers from 0x4000 to 0x4FFF, RFC 5766 §11 up to 0x7FFF, and coturn's clients use them.
	if len(b) >= 4 && b[0]&0xC0 == 0x40 {
		if rc == nil || int(binary.BigEndian.Uint16(b[2:]))+4 > len(b) {
			c.dropped[dropNoAllocation].Add(1)
			return nil, drop
		}
		return b, pass
	}
	if !isSTUN(b) {
		c.dropped[dropMalformed].Add(1)
		return nil, drop
	}
	switch binary.BigEndian.Uint16(b) {
	case typeBinding:
		if !g.s.gate.admit(src.Addr(), time.Now()) {
			c.dropped[dropFlood].Add(1)
			return nil, drop
		}
		c.bindings.Add(1)
		return b, pass
	case typeSend:
		if rc == nil {
			c.dropped[dropNoAllocation].Add(1)
			return nil, drop
		}
		return b, pass
	case typeAllocate, typeRefresh, typeCreatePermission, typeChannelBind:
		return g.request(b, src, rc)
	}
	c.dropped[dropUnsupported].Add(1) // indications, responses, and methods that we do not offer (RFC 8489 §6.3)
	return nil, drop
}

// isSTUN checks what RFC 8489 §5 and §6.3 say about a message as a whole.
func isSTUN(b []byte) bool {
	return len(b) >= stunHeaderSize && b[0]&0xC0 == 0 && binary.BigEndian.Uint32(b[4:]) == magicCookie &&
		len(b)%4 == 0 && int(binary.BigEndian.Uint16(b[2:]))+stunHeaderSize == len(b)
}

// challenge reduces a request to its header: pion answers it as one without credentials, with 401, realm and a fresh nonce.
func challenge(b []byte) []byte {
	b[2], b[3] = 0, 0
	return b[:stunHeaderSize]
}

func (g *guard) request(b []byte, src netip.AddrPort, rc *relayConn) ([]byte, verdict) {
	s := g.s
	// A 5-tuple with an allocation has shown credentials once; only its failures count for the flood gate.
	if rc == nil && !s.gate.admit(src.Addr(), time.Now()) {
		s.counters.dropped[dropFlood].Add(1)
		return nil, drop
	}
	g.msg.Raw = append(g.msg.Raw[:0], b...)
	if g.msg.Decode() != nil {
		s.counters.dropped[dropMalformed].Add(1)
		return nil, drop
	}
	key, n, reason := g.authenticate(rc)
	if reason == authOK && rc == nil && g.msg.Type.Method == stun.MethodAllocate {
		if integrity, err := g.msg.Get(stun.AttrMessageIntegrity); err == nil && !s.replays.isFirst(integrity, src, time.Now()) {
			reason = authReplayed
		}
	}
	if reason != authOK {
		if rc != nil && !s.gate.admit(src.Addr(), time.Now()) {
			s.counters.dropped[dropFlood].Add(1)
			return nil, drop
		}
		if reason == authMissing {
			return b, pass // pion: 401, or 400 if it is only half there
		}
		s.counters.authFailures[reason].Add(1)
		return challenge(b), pass
	}
	if code := g.refuses(n, rc); code != 0 {
		if err := g.buildError(code, key); err != nil {
			s.log.Error("relay: cannot build an error response", "code", int(code), "error", err)
			return nil, drop
		}
		return g.reply.Raw, answer
	}
	return b, pass
}

// authenticate checks the long-term credentials of g.msg (RFC 8489 §9.2.4) but for the nonce, which is pion's.
func (g *guard) authenticate(rc *relayConn) (key []byte, n name, reason authFailure) {
	m := &g.msg
	username, err1 := m.Get(stun.AttrUsername)
	realm, err2 := m.Get(stun.AttrRealm)
	if !m.Contains(stun.AttrMessageIntegrity) || !m.Contains(stun.AttrNonce) || err1 != nil || err2 != nil {
		return nil, n, authMissing
	}
	if string(realm) != g.s.cfg.Realm {
		return nil, n, authRealm
	}
	u := string(username)
	n, err := parseName(u)
	if err != nil {
		return nil, n, authUsername
	}
	now := g.s.cfg.Now()
	limit := n.expiry
	if rc != nil && m.Type.Method != stun.MethodAllocate {
		limit += int64(Grace / time.Second)
	}
	if now.Unix() >= limit {
		return nil, n, authExpired
	}
	if n.expiry > now.Add(MaxLifetime+time.Minute).Unix() {
		return nil, n, authUsername // nobody made this one
	}
	key = longTermKey(u, g.s.cfg.Realm, password(g.s.cfg.Secret, u))
	if stun.MessageIntegrity(key).Check(m) != nil {
		return nil, n, authIntegrity
	}
	if g.s.isRevoked(userKey{n.project, n.peer}) {
		return nil, n, authRevoked
	}
	return key, n, authOK
}

// refuses returns the error with which an authenticated request is refused here, or 0.
func (g *guard) refuses(n name, rc *relayConn) stun.ErrorCode {
	s, m := g.s, &g.msg
	k := userKey{n.project, n.peer}
	if m.Type.Method == stun.MethodAllocate {
		if rc != nil {
			return 0 // pion: a retransmission gets its answer again, anything else 437 (RFC 8656 §7.2, step 2)
		}
		// RFC 8656 §7.2, step 3. The attribute's first byte is the protocol number; a malformed one is pion's to refuse (400).
		if t, err := m.Get(stun.AttrRequestedTransport); err == nil && len(t) == 4 && t[0] != 17 {
			return stun.CodeUnsupportedTransProto
		}
		// RFC 8656 §7.2, step 7: a family that we have no relays for.
		family := byte(1)
		if f, err := m.Get(stun.AttrRequestedAddressFamily); err == nil && len(f) == 4 {
			family = f[0]
		} else if !s.bind4.IsValid() {
			family = 2
		}
		if family == 1 && !s.bind4.IsValid() || family == 2 && !s.bind6.IsValid() {
			return stun.CodeAddrFamilyNotSupported
		}
		// pion keeps a reservation's port and forgets its family: the second allocation would get an IPv4 address. RFC 8656 §7.2, step 6
		// has 508 for an EVEN-PORT that cannot be satisfied.
		if e, err := m.Get(stun.AttrEvenPort); err == nil && family == 2 && len(e) == 1 && e[0]&0x80 != 0 {
			return stun.CodeInsufficientCapacity
		}
		if s.cfg.Permit != nil {
			if err := s.cfg.Permit(n.project, n.peer); err != nil {
				return s.denied(n.project, permitCode(err))
			}
		}
		if !s.hasRoom(k) {
			return s.denied(n.project, stun.CodeAllocQuotaReached)
		}
		return 0
	}

	if rc == nil {
		return stun.CodeAllocMismatch // RFC 8656 §5
	}
	if rc.user.key != k {
		return stun.CodeWrongCredentials // RFC 8656 §5
	}
	if m.Type.Method == stun.MethodRefresh {
		return 0
	}
	channel, bind := -1, m.Type.Method == stun.MethodChannelBind
	if bind {
		if v, err := m.Get(stun.AttrChannelNumber); err == nil && len(v) == 4 {
			channel = int(binary.BigEndian.Uint16(v))
		}
	}
	var code stun.ErrorCode
	fresh := 0
	_ = m.ForEach(stun.AttrXORPeerAddress, func(m *stun.Message) error {
		var a stun.XORMappedAddress
		if code != 0 || a.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
			return nil // pion answers a malformed one with 400
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			return nil
		}
		// The policy goes before the family (443): whoever asks for a denied address learns that it is denied.
		ok = s.policy.permits(ip)
		if ok && bind {
			ok = s.policy.permitsPort(netip.AddrPortFrom(ip, uint16(a.Port)), s.isLive)
		}
		if !ok {
			code = s.denied(n.project, stun.CodeForbidden)
		}
		if !rc.hasPermission(plain(ip)) {
			fresh++
		}
		return nil
	})
	if code == 0 && !rc.hasRoom(fresh, channel) {
		code = s.denied(n.project, stun.CodeInsufficientCapacity)
	}
	return code
}

func permitCode(err error) stun.ErrorCode {
	if errors.Is(err, refusal.New(refusal.QuotaExceeded)) {
		return stun.CodeAllocQuotaReached
	}
	return stun.CodeForbidden
}

// denied counts a refusal for the metrics, and returns its code.
func (s *Server) denied(project string, code stun.ErrorCode) stun.ErrorCode {
	s.mu.Lock()
	p := s.projectLocked(project)
	s.mu.Unlock()
	p.denied.Add(1)
	return code
}

// buildError makes the error response to g.msg in g.reply, with integrity (RFC 8489 §9.2.4) and, if the client used it, a fingerprint.
func (g *guard) buildError(code stun.ErrorCode, key []byte) error {
	g.reply.Reset()
	g.reply.TransactionID = g.msg.TransactionID
	g.reply.Type = stun.NewType(g.msg.Type.Method, stun.ClassErrorResponse)
	g.reply.WriteHeader()
	setters := []stun.Setter{code, stun.MessageIntegrity(key)}
	if g.msg.Contains(stun.AttrFingerprint) {
		setters = append(setters, stun.Fingerprint)
	}
	for _, s := range setters {
		if err := s.AddTo(&g.reply); err != nil {
			return err
		}
	}
	return nil
}

// addrPort returns the transport address in a, plain. It is the one place where pion's net.Addr becomes ours.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(plain(ap.Addr()), ap.Port())
}
