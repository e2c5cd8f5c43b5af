package relay

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/pion/stun/v4"
)

// A clock that a test sets.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time      { return time.Unix(0, c.ns.Load()) }
func (c *clock) add(d time.Duration) { c.ns.Add(int64(d)) }

func TestWrongCredentialsAreChallengedWith401(t *testing.T) {
	clk := newClock()
	n := start(t, func(c *Config) { c.Now = clk.now })
	good := n.Mint("p1", "alice", time.Hour)
	altered := func(f func(*Credentials)) Credentials { c := good; f(&c); return c }
	for _, c := range []struct {
		name   string
		cred   Credentials
		realm  string
		reason string
	}{
		{"wrong password", altered(func(c *Credentials) { c.Credential = "x" }), "madang", "integrity"},
		{"later expiry", altered(func(c *Credentials) { c.Username = "1" + c.Username[1:9] + "9:p1:alice" }), "madang", "integrity"},
		{"other peer", altered(func(c *Credentials) { c.Username = strings.Replace(c.Username, "alice", "mallory", 1) }), "madang", "integrity"},
		{"other project", altered(func(c *Credentials) { c.Username = strings.Replace(c.Username, "p1", "p2", 1) }), "madang", "integrity"},
		{"no structure", altered(func(c *Credentials) { c.Username = "alice" }), "madang", "username"},
		{"foreign secret", Mint([]byte("another secret of sixteen bytes"), "p1", "alice", clk.now(), time.Hour), "madang", "integrity"},
		{"far future", mintFor(clk.now().Add(365 * 24 * time.Hour)), "madang", "username"},
		{"expired", Mint(secret, "p1", "alice", clk.now().Add(-2*time.Hour), time.Hour), "madang", "expired"},
		{"wrong realm", good, "example.org", "realm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := n.Snapshot().AuthFailures[c.reason]
			r := n.raw(t, "udp", c.cred)
			r.challenge(stun.MethodAllocate)
			r.realm = c.realm
			got, m := r.do(stun.MethodAllocate, transportUDP)
			var nonce stun.Nonce
			var realm stun.Realm
			if got != stun.CodeUnauthorized || nonce.GetFrom(m) != nil || realm.GetFrom(m) != nil || realm.String() != "madang" {
				t.Errorf("got %d with nonce %q and realm %q, want 401 with both", got, nonce, realm)
			}
			if after := n.Snapshot().AuthFailures[c.reason]; after != before+1 {
				t.Errorf("counted %d failures of reason %q, want 1", after-before, c.reason)
			}
		})
	}
	if a := n.Snapshot().Allocations; a != 0 {
		t.Errorf("%d allocations were made", a)
	}
	if c := n.raw(t, "udp", good).allocate(); c != 0 {
		t.Errorf("the good ones: got %d", c)
	}
}

// mintFor makes valid credentials that no Mint makes: in force beyond MaxLifetime.
func mintFor(expires time.Time) Credentials {
	u := name{expires.Unix(), "p1", "alice"}.String()
	return Credentials{Username: u, Credential: password(secret, u)}
}

func TestStaleNonceIs438(t *testing.T) {
	n := start(t, nil)
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	r.nonce = "of-another-server"
	if c := r.allocate(); c != stun.CodeStaleNonce {
		t.Errorf("got %d, want 438", c)
	}
}

func TestACallOutlivesItsCredentials(t *testing.T) {
	clk := newClock()
	n := start(t, func(c *Config) { c.Now = clk.now })
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	check := func(when string, want stun.ErrorCode) {
		t.Helper()
		if c, _ := r.do(stun.MethodRefresh); c != want {
			t.Errorf("%s: Refresh got %d, want %d", when, c, want)
		}
		if c, _ := r.do(stun.MethodCreatePermission, peerAt("8.8.8.8", 1)); c != want {
			t.Errorf("%s: CreatePermission got %d, want %d", when, c, want)
		}
		if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4001), peerAt("8.8.8.8", 1)); c != want {
			t.Errorf("%s: ChannelBind got %d, want %d", when, c, want)
		}
	}
	check("in force", 0)
	clk.add(time.Hour)
	check("expired", 0)
	other := n.raw(t, "udp", r.cred)
	if c := other.allocate(); c != stun.CodeUnauthorized {
		t.Errorf("a new allocation with expired credentials: got %d, want 401", c)
	}
	clk.add(Grace - time.Second)
	check("at the end of the grace", 0)
	renewed := n.Mint("p1", "alice", time.Hour)
	clk.add(time.Second)
	check("after the grace", stun.CodeUnauthorized)
	r.cred = renewed
	check("with renewed credentials", 0)
}

func TestRequestsOnOthersAllocations(t *testing.T) {
	n := start(t, nil)
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	if c, _ := r.do(stun.MethodRefresh); c != stun.CodeAllocMismatch {
		t.Errorf("without an allocation: got %d, want 437", c)
	}
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	if c := r.allocate(); c != stun.CodeAllocMismatch {
		t.Errorf("a second one: got %d, want 437", c)
	}
	r.cred = n.Mint("p1", "bob", time.Hour)
	for _, m := range []stun.Method{stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind} {
		if c, _ := r.do(m, peerAt("8.8.8.8", 1), channelNumber(0x4000)); c != stun.CodeWrongCredentials {
			t.Errorf("%v of another user: got %d, want 441", m, c)
		}
	}
}

// TestReplayedRequests: who has seen a client's requests on their way, and sends them again from elsewhere, is challenged, and cannot answer without the credential.
func TestReplayedRequests(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			n := start(t, nil)
			alice := n.raw(t, network, n.Mint("p1", "alice", time.Hour))
			alice.challenge(stun.MethodAllocate)
			captured := []*stun.Message{alice.signed(stun.MethodAllocate, transportUDP), alice.signed(stun.MethodRefresh),
				alice.signed(stun.MethodCreatePermission, peerAt("8.8.8.8", 1)), alice.signed(stun.MethodChannelBind, channelNumber(0x4000), peerAt("8.8.8.8", 1))}
			ask := func(r *raw, m *stun.Message) stun.ErrorCode {
				t.Helper()
				r.send(m.Raw)
				for {
					if got := r.receive(); got.TransactionID == m.TransactionID {
						return code(t, got)
					}
				}
			}
			for _, m := range captured {
				if c := ask(alice, m); c != 0 {
					t.Fatalf("%v: got %d", m.Type, c)
				}
			}
			replaying := func(when string) {
				t.Helper()
				for _, other := range []string{"udp", "tcp"} {
					mallory := n.raw(t, other, alice.cred)
					for i, m := range captured {
						want := stun.CodeUnauthorized
						if i > 0 {
							want = stun.CodeAllocMismatch // RFC 8656 §5: this 5-tuple has no allocation
						}
						if c := ask(mallory, m); c != want {
							t.Errorf("%s, %v over %s: got %d, want %d", when, m.Type, other, c, want)
						}
					}
				}
			}
			replaying("during the call")
			if s := n.Snapshot(); s.Allocations != 1 || s.AuthFailures["replayed"] != 2 {
				t.Errorf("%d allocations and %d replays counted, want 1 and 2", s.Allocations, s.AuthFailures["replayed"])
			}
			if c := ask(alice, captured[0]); c != 0 {
				t.Errorf("the client's own retransmission: got %d", c)
			}
			if c, _ := alice.do(stun.MethodRefresh, stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)}); c != 0 {
				t.Fatal(c)
			}
			eventually(t, "the allocation is given back", func() bool { return n.Snapshot().Allocations == 0 })
			replaying("after it")
			if a := n.Snapshot().Allocations; a != 0 {
				t.Errorf("%d allocations were made", a)
			}
		})
	}
}

func TestReplayMemoryIsBounded(t *testing.T) {
	var r replays
	from := netip.MustParseAddrPort("192.0.2.1:1")
	other := netip.MustParseAddrPort("192.0.2.2:1")
	now := time.Now()
	integrity := func(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 12), uint64(n)) }
	for i := range 3 * maxReplays {
		if !r.isFirst(integrity(i), from, now) {
			t.Fatalf("a new request is taken for a replay, the %dth", i)
		}
	}
	if n := len(r.young) + len(r.old); n > 2*maxReplays {
		t.Errorf("%d are remembered", n)
	}
	last := integrity(3*maxReplays - 1)
	if r.isFirst(last, other, now) || !r.isFirst(last, from, now) {
		t.Error("the last one was forgotten")
	}
	if now = now.Add(nonceLifetime); r.isFirst(last, other, now) {
		t.Error("it was forgotten while its nonce may be good")
	}
	r.isFirst(integrity(-1), from, now.Add(nonceLifetime))
	if len(r.young)+len(r.old) > 2 {
		t.Errorf("%d are remembered when their nonces are stale", len(r.young)+len(r.old))
	}
}

func TestRetransmittedAllocateGetsTheSameAnswer(t *testing.T) {
	n := start(t, func(c *Config) { c.Limits.AllocationsPerUser = 1 })
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	r.challenge(stun.MethodAllocate)
	m := r.signed(stun.MethodAllocate, transportUDP)
	var relayed []string
	for range 2 {
		r.send(m.Raw)
		got := r.receive()
		var a stun.XORMappedAddress
		if code(t, got) != 0 || a.GetFromAs(got, stun.AttrXORRelayedAddress) != nil {
			t.Fatalf("got %v", got)
		}
		relayed = append(relayed, a.String())
	}
	if relayed[0] != relayed[1] {
		t.Errorf("got %v, want the same address twice", relayed)
	}
}

// RFC 8656 §7.2: without REQUESTED-ADDRESS-FAMILY the relayed address is IPv4, over whatever family the client came.
func TestAddressFamilies(t *testing.T) {
	for _, c := range []struct {
		listen string
		attrs  []stun.Setter
		v4, v6 bool // relays of the server
		want   stun.ErrorCode
		is4    bool
	}{
		{"[::1]:0", nil, true, true, 0, true},
		{"127.0.0.1:0", nil, true, true, 0, true},
		{"[::1]:0", []stun.Setter{family(1)}, true, true, 0, true},
		{"[::1]:0", []stun.Setter{family(2)}, true, true, 0, false},
		{"127.0.0.1:0", []stun.Setter{family(2)}, true, true, 0, false},
		{"127.0.0.1:0", []stun.Setter{family(2)}, true, false, stun.CodeAddrFamilyNotSupported, false},
		{"[::1]:0", []stun.Setter{family(1)}, false, true, stun.CodeAddrFamilyNotSupported, false},
		{"[::1]:0", nil, false, true, 0, false}, // the deviation: better an IPv6 relay than none
		{"127.0.0.1:0", []stun.Setter{family(3)}, true, true, stun.CodeAddrFamilyNotSupported, false},
		// ADDITIONAL-ADDRESS-FAMILY is ignored: an IPv4 relay.
		{"[::1]:0", []stun.Setter{attr(0x8000, 2, 0, 0, 0)}, true, true, 0, true},
		{"127.0.0.1:0", []stun.Setter{family(2), attr(stun.AttrEvenPort, 0x80)}, true, true, stun.CodeInsufficientCapacity, false},
	} {
		n := start(t, func(cfg *Config) {
			cfg.UDP[0].Close()
			udp, err := ListenUDP(t.Context(), c.listen)
			if err != nil {
				t.Fatal(err)
			}
			cfg.UDP = []*net.UDPConn{udp}
			if !c.v4 {
				cfg.ExternalIPv4 = netip.Addr{}
			}
			if !c.v6 {
				cfg.ExternalIPv6 = netip.Addr{}
			}
		})
		r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
		got, m := r.do(stun.MethodAllocate, append([]stun.Setter{transportUDP}, c.attrs...)...)
		if got != c.want {
			t.Errorf("%+v: got %d", c, got)
			continue
		}
		var a stun.XORMappedAddress
		if got == 0 && (a.GetFromAs(m, stun.AttrXORRelayedAddress) != nil || (a.IP.To4() != nil) != c.is4) {
			t.Errorf("%+v: relayed address %v", c, a)
		}
		n.stop()
	}
}

func TestTCPRelaysAreRefusedWith442(t *testing.T) {
	n := start(t, nil)
	r := n.raw(t, "tcp", n.Mint("p1", "alice", time.Hour))
	if c, _ := r.do(stun.MethodAllocate, attr(stun.AttrRequestedTransport, 6, 0, 0, 0)); c != stun.CodeUnsupportedTransProto {
		t.Errorf("got %d, want 442", c)
	}
	// RFC 6062's other requests have nothing to work on, and must not make us connect anywhere.
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	r.send(r.signed(stun.MethodConnect, peerAt("8.8.8.8", 80)).Raw)
	r.silent()
}

func TestRevoke(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			n := start(t, nil)
			old := n.Mint("p1", "alice", time.Hour)
			alice, bob := n.raw(t, network, old), n.raw(t, network, n.Mint("p1", "bob", time.Hour))
			carol := n.raw(t, network, n.Mint("p2", "carol", time.Hour))
			for _, r := range []*raw{alice, bob, carol} {
				if c := r.allocate(); c != 0 {
					t.Fatal(c)
				}
			}
			n.Revoke("p1", "alice")
			if c, _ := alice.do(stun.MethodRefresh); c != stun.CodeUnauthorized {
				t.Errorf("refresh of a revoked peer: got %d, want 401", c)
			}
			if c := n.raw(t, network, old).allocate(); c != stun.CodeUnauthorized {
				t.Errorf("new allocation of a revoked peer: got %d, want 401", c)
			}
			if c, _ := bob.do(stun.MethodRefresh); c != 0 {
				t.Errorf("another peer: got %d, want success", c)
			}
			if a := n.Snapshot().Projects["p1"].Allocations; a != 1 {
				t.Errorf("%d allocations are left, want 1", a)
			}
			// Credentials that are made at the same moment, for a renewal, open nothing.
			if c := n.raw(t, network, n.Mint("p1", "alice", time.Hour)).allocate(); c != stun.CodeUnauthorized {
				t.Errorf("after Mint: got %d, want 401", c)
			}
			n.Readmit("p1", "alice")
			if c := n.raw(t, network, n.Mint("p1", "alice", time.Hour)).allocate(); c != 0 {
				t.Errorf("after Readmit: got %d", c)
			}
			n.Revoke("p1", "")
			if c := n.raw(t, network, n.Mint("p1", "dave", time.Hour)).allocate(); c != stun.CodeUnauthorized {
				t.Errorf("peer of a revoked project: got %d, want 401", c)
			}
			if s := n.Snapshot(); s.Projects["p1"].Allocations != 0 || s.Projects["p2"].Allocations != 1 {
				t.Errorf("got %+v", s.Projects)
			}
			n.Readmit("p1", "")
			if c := n.raw(t, network, n.Mint("p1", "dave", time.Hour)).allocate(); c != 0 {
				t.Errorf("after Readmit: got %d", c)
			}
		})
	}
}

// After Revoke nothing of a running call gets through any more.
func TestRevokeStopsTheData(t *testing.T) {
	n := start(t, nil)
	peer := peerSocket(t)
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4000), peerAddress(addrPort(peer))); c != 0 {
		t.Fatal(c)
	}
	r.send([]byte{0x40, 0, 0, 2, 'h', 'i', 0, 0})
	b := make([]byte, 64)
	if k, err := r.conn.Read(b); err != nil || !bytes.Equal(b[:k], []byte{0x40, 0, 0, 2, 'h', 'i', 0, 0}) {
		t.Fatalf("got %x, %v", b[:k], err)
	}
	n.Revoke("p1", "alice")
	r.send([]byte{0x40, 0, 0, 2, 'h', 'i', 0, 0})
	r.silent()
}

func TestQuotas(t *testing.T) {
	n := start(t, func(c *Config) {
		c.Limits.AllocationsPerUser, c.Limits.AllocationsPerProject = 2, 3
		c.Limits.PeersPerAllocation = 2
	})
	alice, bob := n.Mint("p1", "alice", time.Hour), n.Mint("p1", "bob", time.Hour)
	first := n.raw(t, "udp", alice)
	for i, r := range []*raw{first, n.raw(t, "tcp", alice)} {
		if c := r.allocate(); c != 0 {
			t.Fatalf("%d: got %d", i, c)
		}
	}
	if c := n.raw(t, "udp", alice).allocate(); c != stun.CodeAllocQuotaReached {
		t.Errorf("third of a user: got %d, want 486", c)
	}
	if c := n.raw(t, "udp", bob).allocate(); c != 0 {
		t.Errorf("another user: got %d", c)
	}
	if c := n.raw(t, "udp", n.Mint("p1", "carol", time.Hour)).allocate(); c != stun.CodeAllocQuotaReached {
		t.Errorf("fourth of a project: got %d, want 486", c)
	}
	if c := n.raw(t, "udp", n.Mint("p2", "carol", time.Hour)).allocate(); c != 0 {
		t.Errorf("another project: got %d", c)
	}
	// Ending one makes room (RFC 8656 §7.3: a lifetime of zero).
	if c, _ := first.do(stun.MethodRefresh, attr(stun.AttrLifetime, 0, 0, 0, 0)); c != 0 {
		t.Fatal(c)
	}
	r := n.raw(t, "udp", alice)
	if c := r.allocate(); c != 0 {
		t.Errorf("after one has ended: got %d", c)
	}

	for i, want := range []stun.ErrorCode{0, 0, 508} {
		if c, _ := r.do(stun.MethodCreatePermission, peerAt("8.8.8.8", 1), peerAddress(netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, 8, byte(7 + i)}), 1))); c != want {
			t.Errorf("permission %d: got %d, want %d", i, c, want)
		}
	}
	for i, want := range []stun.ErrorCode{0, 0, 508} {
		if c, _ := r.do(stun.MethodChannelBind, channelNumber(uint16(0x4000+i)), peerAt("8.8.8.8", uint16(1+i))); c != want {
			t.Errorf("channel %d: got %d, want %d", i, c, want)
		}
	}
	if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4000), peerAt("8.8.8.8", 1)); c != 0 {
		t.Errorf("refreshing a channel at the limit: got %d", c)
	}
}

func TestPermitIsAskedBeforeAndDuring(t *testing.T) {
	var refused atomic.Pointer[refusal.Refusal]
	n := start(t, func(c *Config) {
		c.ReportEvery = 5 * time.Millisecond
		c.Permit = func(project, peer string) error {
			if r := refused.Load(); r != nil && project == "p1" {
				return r
			}
			return nil
		}
	})
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	refused.Store(refusal.New(refusal.QuotaExceeded))
	eventually(t, "the allocation is ended", func() bool { return n.Snapshot().Allocations == 0 })
	if c, _ := r.do(stun.MethodRefresh); c != stun.CodeAllocMismatch {
		t.Errorf("refresh: got %d, want 437", c)
	}
	if c := n.raw(t, "udp", r.cred).allocate(); c != stun.CodeAllocQuotaReached {
		t.Errorf("quota: got %d, want 486", c)
	}
	refused.Store(refusal.New(refusal.ProjectOff))
	if c := n.raw(t, "udp", r.cred).allocate(); c != stun.CodeForbidden {
		t.Errorf("project off: got %d, want 403", c)
	}
	refused.Store(nil)
	if c := n.raw(t, "udp", r.cred).allocate(); c != 0 {
		t.Errorf("on again: got %d", c)
	}
}

func TestBandwidthOfAUser(t *testing.T) {
	n := start(t, nil)
	n.LimitBandwidth("p1", 5000)
	victim := sink(t)
	r := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4000), peerAddress(addrPort(victim.LocalAddr()))); c != 0 {
		t.Fatal(c)
	}
	msg := append([]byte{0x40, 0, 3, 232}, make([]byte, 1000)...)
	for range 50 {
		r.send(msg)
	}
	r.silent()
	received := 0
	for got(t, victim) {
		received++
	}
	if received < 5 || received > 20 {
		t.Errorf("%d of 50 packets of 1000 bytes passed, want about 5", received)
	}
	if d := n.Snapshot().Dropped["bandwidth"]; d != uint64(50-received) {
		t.Errorf("counted %d, want %d", d, 50-received)
	}
	// A change holds at once, for allocations that run too.
	for _, bytesPerSecond := range []int64{1 << 40, 0} {
		n.LimitBandwidth("p1", 5000)
		n.LimitBandwidth("p1", bytesPerSecond)
		for range 50 {
			r.send(msg)
			if !got(t, victim) {
				t.Fatalf("a packet is lost at %d bytes a second", bytesPerSecond)
			}
		}
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		endpoint   Endpoint
		stun, turn []string
	}{
		{Endpoint{Host: "call.example.com", UDPPort: 3478, TCPPort: 443, TLSPort: 443}, []string{"stun:call.example.com:3478"},
			[]string{"turn:call.example.com:3478?transport=udp", "turn:call.example.com:443?transport=tcp", "turns:call.example.com:443?transport=tcp"}},
		{Endpoint{Host: "[2001:db8::1]", UDPPort: 1}, []string{"stun:[2001:db8::1]:1"}, []string{"turn:[2001:db8::1]:1?transport=udp"}},
		{Endpoint{Host: "192.0.2.1", TLSPort: 443}, nil, []string{"turns:192.0.2.1:443?transport=tcp"}},
	} {
		if stun, turn := c.endpoint.URLs(); !reflect.DeepEqual(stun, c.stun) || !reflect.DeepEqual(turn, c.turn) {
			t.Errorf("%+v: got %v, %v, want %v, %v", c.endpoint, stun, turn, c.stun, c.turn)
		}
	}
}

func TestNames(t *testing.T) {
	for _, n := range []name{{1, "p", "q"}, {1795353816, "a:b%c", "x:y"}, {9, "프로젝트", "peer id"}} {
		if got, err := parseName(n.String()); err != nil || got != n {
			t.Errorf("%q: got %+v, %v; want %+v", n, got, err, n)
		}
	}
	for _, s := range []string{"", "1", "1:", "1:p", "1:p:", ":p:q", "-1:p:q", "0:p:q", "+1:p:q", "01:p:q", "1e3:p:q", "99999999999999999999:p:q", "1:%3a:q", "1:%41%:q", "1::q", strings.Repeat("1", 600)} {
		if n, err := parseName(s); err == nil {
			t.Errorf("%q: got %+v, want an error", s, n)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("1795353816:p1:alice")
	f.Add("1:a%3Ab%25:x:y")
	f.Add("::")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseName(s)
		if err != nil {
			return
		}
		if n.String() != s {
			t.Fatalf("%q is taken as %+v, which is written %q", s, n, n.String())
		}
		if k := (userKey{n.project, n.peer}); parseUserKey(k.String()) != k {
			t.Fatalf("%+v becomes %+v", k, parseUserKey(k.String()))
		}
	})
}
