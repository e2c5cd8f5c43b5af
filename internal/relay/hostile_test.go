package relay

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// Messages that are no good get no answer, and do not keep the next one from getting its.
func TestMalformedDatagrams(t *testing.T) {
	n := start(t, nil)
	r := n.raw(t, "udp", Credentials{})
	good := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	edit := func(f func([]byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"empty":                      {},
		"one byte":                   {0},
		"half a header":              good[:10],
		"wrong cookie":               edit(func(b []byte) []byte { b[4]++; return b }),
		"length beyond the end":      edit(func(b []byte) []byte { b[3] = 4; return b }),
		"length not a multiple of 4": edit(func(b []byte) []byte { b[3] = 2; return append(b, 0, 0) }),
		"bytes after the end":        edit(func(b []byte) []byte { return append(b, 1, 2, 3, 4) }),
		"DTLS":                       {22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2},
		"RTP":                        {0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"success response":           edit(func(b []byte) []byte { b[0] = 1; b[1] = 1; return b }),
		"error response":             edit(func(b []byte) []byte { b[0] = 1; b[1] = 0x11; return b }),
		"Binding indication":         edit(func(b []byte) []byte { b[1] = 0x11; return b }),
		"Data indication":            edit(func(b []byte) []byte { b[1] = 0x17; return b }),
		"unknown method":             edit(func(b []byte) []byte { b[0] = 0x0A; return b }),
		"Connect":                    edit(func(b []byte) []byte { b[1] = 0x0A; return b }),
		"Send without an allocation": edit(func(b []byte) []byte { b[1] = 0x16; return b }),
		"ChannelData without one":    {0x40, 0, 0, 4, 1, 2, 3, 4},
		"jumbo":                      make([]byte, 9000),
		"attribute beyond the end":   stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), attr(0x0006)).Raw,
	} {
		if name == "attribute beyond the end" {
			binary.BigEndian.PutUint16(b[22:], 0xFFFC)
		}
		r.send(b)
		r.t = t
		r.silent()
		if t.Failed() {
			t.Fatalf("after %s", name)
		}
	}
	// Requests that can be read but say too little are answered.
	if c := code(t, r.request(stun.MethodAllocate, attr(stun.AttrMessageIntegrity, make([]byte, 20)...))); c != stun.CodeBadRequest {
		t.Errorf("integrity without a username: got %d, want 400", c)
	}
	if c := code(t, r.request(stun.MethodBinding, attr(0x7FFF))); c != stun.CodeUnknownAttribute {
		t.Errorf("unknown comprehension-required attribute: got %d, want 420", c)
	}
}

func TestFloodGate(t *testing.T) {
	now := time.Unix(1000, 0)
	g := newFloodGate(10)
	count := func(src string, n int) (admitted int) {
		for range n {
			if g.admit(netip.MustParseAddr(src), now) {
				admitted++
			}
		}
		return admitted
	}
	if got := count("192.0.2.1", 1000); got != 50 {
		t.Errorf("burst: got %d, want 50", got)
	}
	if got := count("192.0.2.2", 20); got != 20 {
		t.Errorf("another source: got %d, want 20", got)
	}
	if got := count("2001:db8::1", 100) + count("2001:db8::ffff:2", 100); got != 50 {
		t.Errorf("two addresses of one /64: got %d, want 50", got)
	}
	now = now.Add(time.Second)
	if got := count("192.0.2.1", 1000); got != 10 {
		t.Errorf("a second later: got %d, want 10", got)
	}
	now = now.Add(time.Minute)
	if g.sweep(now); len(g.by) != 0 {
		t.Errorf("%d sources are remembered after a quiet minute", len(g.by))
	}
	// From more sources than we remember, all the others share one bucket.
	a := netip.MustParseAddr("10.0.0.0")
	for range gateSources {
		g.admit(a, now)
		a = a.Next()
	}
	g.rest = gateBucket{tokens: 3, at: now}
	if got := count("192.0.2.1", 10); got != 3 || len(g.by) != gateSources {
		t.Errorf("got %d admitted and %d remembered, want 3 and %d", got, len(g.by), gateSources)
	}
}

// A flood without credentials is cut; who has an allocation does not notice.
func TestFloodOnTheWire(t *testing.T) {
	n := start(t, func(c *Config) { c.Limits.UnauthenticatedPerSecond = 1 })
	friend := n.raw(t, "udp", n.Mint("p1", "alice", time.Hour))
	if c := friend.allocate(); c != 0 {
		t.Fatal(c)
	}
	flood := n.raw(t, "udp", Credentials{})
	req := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw
	for range 100 {
		flood.send(req)
	}
	for range 20 {
		if c, _ := friend.do(stun.MethodRefresh); c != 0 {
			t.Fatalf("refresh: %d", c)
		}
	}
	answers := 0
	for b := make([]byte, 2048); ; answers++ {
		_ = flood.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		k, err := flood.conn.Read(b)
		if err != nil {
			break
		}
		if k > 8*len(req) {
			t.Errorf("an answer of %d bytes to a request of %d", k, len(req))
		}
	}
	if answers > 6 {
		t.Errorf("%d answers to 100 requests, want at most 6", answers)
	}
	if d := n.Snapshot().Dropped["flood"]; d < 90 {
		t.Errorf("counted %d", d)
	}
}

// One client sends half a message and stalls, another never reads: a third is served all the while.
func TestStalledStreamsDoNotBlockOthers(t *testing.T) {
	n := start(t, nil)
	half := n.raw(t, "tcp", Credentials{})
	half.send(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw[:15])

	peer := sink(t)
	deaf := n.raw(t, "tcp", n.Mint("p1", "deaf", time.Hour))
	if c := deaf.allocate(); c != 0 {
		t.Fatal(c)
	}
	if c, _ := deaf.do(stun.MethodChannelBind, channelNumber(0x4000), peerAddress(addrPort(peer.LocalAddr()))); c != 0 {
		t.Fatal(c)
	}
	_ = deaf.conn.(*net.TCPConn).SetReadBuffer(4096)
	deaf.send([]byte{0x40, 0, 0, 4, 1, 2, 3, 4}) // tells the peer the relayed address
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, relayed, err := peer.ReadFromUDPAddrPort(make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	var flooding sync.WaitGroup
	stop := make(chan struct{})
	flooding.Go(func() {
		b := make([]byte, 1200)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = peer.WriteToUDPAddrPort(b, relayed)
			}
		}
	})
	defer flooding.Wait()
	defer close(stop)
	// Until the way to the deaf client is full: nothing moves on any more.
	last, same := uint64(0), 0
	eventually(t, "the deaf client's connection is full", func() bool {
		now := n.Snapshot().Projects["p1"].DownPackets
		if now == last && now > 0 {
			same++
		} else {
			same = 0
		}
		last = now
		return same > 50
	})
	for _, network := range []string{"tcp", "udp"} {
		echo := peerSocket(t)
		r := n.raw(t, network, n.Mint("p2", "third", time.Hour))
		if c := r.allocate(); c != 0 {
			t.Fatal(c)
		}
		if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4000), peerAddress(addrPort(echo))); c != 0 {
			t.Fatal(c)
		}
		for i := range 100 {
			msg := []byte{0x40, 0, 0, 4, 1, 2, 3, byte(i)}
			r.send(msg)
			b := make([]byte, 8)
			_ = r.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.ReadFull(r.conn, b); err != nil || !bytes.Equal(b, msg) {
				t.Fatalf("%s, packet %d: got %x, %v", network, i, b, err)
			}
		}
	}
	// The server's end does not wait for the deaf one either; the test's cleanup checks that.
}

// Lengths that overflow 16 bits when a header is added have once been complete with zero bytes.
func TestStreamLengthsDoNotOverflow(t *testing.T) {
	n := start(t, nil)
	for _, length := range []int{0xFFFC, 0xFFFF, 0xFFFE, 0xFFF0} {
		r := n.raw(t, "tcp", n.Mint("p1", "alice", time.Hour))
		r.send(append(binary.BigEndian.AppendUint16([]byte{0x40, 0}, uint16(length)), make([]byte, (length+3)&^3)...))
		r.silent() // the message was skipped, and the next one understood
	}
	before := n.Snapshot().Dropped["too_big"]
	if before != 4 {
		t.Errorf("counted %d, want 4", before)
	}
	r := n.raw(t, "tcp", Credentials{})
	r.send([]byte{0, 1, 0xFF, 0xFD, 0x21, 0x12, 0xA4, 0x42}) // a STUN length that is no multiple of 4
	if _, err := r.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on without a message's end")
	}
}

// Small ChannelData over TCP is relayed at once, not with the next message.
func TestSmallChannelDataOverTCP(t *testing.T) {
	n := start(t, nil)
	peer := sink(t)
	r := n.raw(t, "tcp", n.Mint("p1", "alice", time.Hour))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4000), peerAddress(addrPort(peer.LocalAddr()))); c != 0 {
		t.Fatal(c)
	}
	for size := range 6 {
		r.send(append([]byte{0x40, 0, 0, byte(size)}, make([]byte, (size+3)&^3)...))
		_ = peer.SetReadDeadline(time.Now().Add(5 * time.Second))
		if k, err := peer.Read(make([]byte, 64)); err != nil || k != size {
			t.Errorf("got %d bytes, %v; want %d", k, err, size)
		}
	}
}

func TestStreamLimits(t *testing.T) {
	n := start(t, func(c *Config) { c.Limits.StreamsPerAddress = 2 })
	a, b := n.raw(t, "tcp", Credentials{}), n.raw(t, "tcp", Credentials{})
	a.silent()
	b.silent()
	c := n.raw(t, "tcp", Credentials{})
	if _, err := c.conn.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection is open")
	}
	a.conn.Close()
	eventually(t, "the closed connection is gone", func() bool { return n.Snapshot().Streams == 1 })
	n.raw(t, "tcp", Credentials{}).silent()
}

// A closed TCP connection ends its allocation at once.
func TestClosedStreamEndsItsAllocation(t *testing.T) {
	n := start(t, nil)
	r := n.raw(t, "tcp", n.Mint("p1", "alice", time.Hour))
	if c := r.allocate(); c != 0 {
		t.Fatal(c)
	}
	r.conn.Close()
	eventually(t, "the allocation is gone", func() bool { return n.Snapshot().Allocations == 0 })
}

func TestModerateLoadLosesNothing(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			n := start(t, nil)
			const clients, packets, window = 5, 2000, 16
			var wg sync.WaitGroup
			for i := range clients {
				r := n.raw(t, network, n.Mint("p1", string(rune('a'+i)), time.Hour))
				echo := peerSocket(t)
				if c := r.allocate(); c != 0 {
					t.Fatal(c)
				}
				if c, _ := r.do(stun.MethodChannelBind, channelNumber(0x4000), peerAddress(addrPort(echo))); c != 0 {
					t.Fatal(c)
				}
				wg.Go(func() {
					const size = 1200
					msg := append([]byte{0x40, 0, size >> 8, size & 0xFF}, make([]byte, size)...)
					b := make([]byte, len(msg))
					free := make(chan struct{}, window)
					wg.Go(func() {
						for k := range packets {
							free <- struct{}{}
							out := bytes.Clone(msg)
							binary.BigEndian.PutUint32(out[4:], uint32(k))
							if _, err := r.conn.Write(out); err != nil {
								t.Error(err)
								return
							}
						}
					})
					for k := range packets {
						_ = r.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
						if _, err := io.ReadFull(r.conn, b); err != nil || binary.BigEndian.Uint32(b[4:]) != uint32(k) {
							t.Errorf("client %d, packet %d: got %x, %v", i, k, b[:8], err)
							for len(free) > 0 {
								<-free
							}
							return
						}
						<-free
					}
				})
			}
			wg.Wait()
			if p := n.Snapshot().Projects["p1"]; p.UpPackets != clients*packets || p.DownPackets != clients*packets {
				t.Errorf("got %+v", p.Usage)
			}
		})
	}
}

// RFC 5769 §2: the vectors, against the code with which guard and pion read messages.
func TestRFC5769(t *testing.T) {
	decode := func(s string) *stun.Message {
		t.Helper()
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if !isSTUN(b) {
			t.Errorf("isSTUN refuses %s", s)
		}
		m := &stun.Message{Raw: b}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		return m
	}
	short := stun.NewShortTermIntegrity("VOkJxbRl1RmTxUk/WvJxBt")
	t.Run("2.1 request", func(t *testing.T) {
		m := decode("000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36" +
			"000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf")
		if err := m.Check(short, stun.Fingerprint); err != nil {
			t.Error(err)
		}
		m.Raw[30]++
		if m.Check(short) == nil || m.Check(stun.Fingerprint) == nil {
			t.Error("an altered message passes")
		}
	})
	for name, v := range map[string]struct{ hex, addr string }{
		"2.2 IPv4 response": {"0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643" +
			"000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96", "192.0.2.1:32853"},
		"2.3 IPv6 response": {"010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9" +
			"00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"},
	} {
		t.Run(name, func(t *testing.T) {
			m := decode(v.hex)
			if err := m.Check(short, stun.Fingerprint); err != nil {
				t.Error(err)
			}
			var a stun.XORMappedAddress
			if err := a.GetFrom(m); err != nil || a.String() != v.addr {
				t.Errorf("got %v, %v; want %s", a, err, v.addr)
			}
		})
	}
	t.Run("2.4 long-term credentials", func(t *testing.T) {
		m := decode("000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341" +
			"0014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666")
		key := longTermKey("マトリックス", "example.org", "TheMatrIX")
		if err := stun.MessageIntegrity(key).Check(m); err != nil {
			t.Error(err)
		}
	})
}

// What a stranger may send over TCP, cut anywhere, never panics, never yields a message that is none, and ends.
func FuzzStream(f *testing.F) {
	bind := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	f.Add(bind, 1)
	f.Add(append(bytes.Clone(bind), 0x40, 0, 0, 3, 1, 2, 3, 0), 7)
	f.Add([]byte{0x40, 0, 0xFF, 0xFC, 1, 2, 3, 4, 5}, 2)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 4)
	udp, err := ListenUDP(f.Context(), "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{Secret: secret, UDP: []*net.UDPConn{udp}, ExternalIPv4: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	e := newStreamEndpoint(s, nil)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		st := newStream(e, &scripted{data: b, cut: max(1, cut%64)})
		st.rc.Store(&relayConn{}) // as if it had an allocation: ChannelData passes
		p := make([]byte, inboundMTU)
		for total := 0; ; {
			n, err := st.Read(p)
			if err != nil {
				return
			}
			if n == 0 || !isSTUN(p[:n]) && p[0]&0xC0 != 0x40 {
				t.Fatalf("got %x", p[:n])
			}
			if total += n; total > 20+8*len(b) {
				t.Fatal("more comes out than went in")
			}
		}
	})
}

// Datagrams: the guard neither panics nor lets through what is no message.
func FuzzDatagram(f *testing.F) {
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw, false)
	f.Add([]byte{0x40, 0, 0, 1, 2}, true)
	cred := Mint(secret, "p", "q", time.Now(), time.Hour)
	for _, m := range []stun.Method{stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind} {
		f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(m, stun.ClassRequest), transportUDP, peerAt("10.0.0.1", 1), channelNumber(0x4000),
			stun.NewUsername(cred.Username), stun.NewRealm("madang"), stun.NewNonce("n"), stun.NewLongTermIntegrity(cred.Username, "madang", cred.Credential)).Raw, true)
	}
	udp, err := ListenUDP(f.Context(), "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{Secret: secret, UDP: []*net.UDPConn{udp}, ExternalIPv4: netip.MustParseAddr("127.0.0.1"), Limits: Limits{UnauthenticatedPerSecond: 1 << 30}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	g := guard{s: s}
	u := &user{key: userKey{"p", "q"}}
	f.Fuzz(func(t *testing.T, b []byte, allocated bool) {
		var rc *relayConn
		if allocated {
			rc = &relayConn{s: s, user: u}
		}
		in := bytes.Clone(b)
		out, v := g.inspect(in, netip.MustParseAddrPort("192.0.2.1:1"), rc)
		if v == pass && !isSTUN(out) && !(allocated && len(out) >= 4 && out[0]&0xC0 == 0x40) {
			t.Fatalf("passed %x", out)
		}
		if v == answer && !isSTUN(out) {
			t.Fatalf("answered %x", out)
		}
	})
}

// A scripted connection gives data in pieces of cut bytes, then ends.
type scripted struct {
	net.Conn
	data []byte
	cut  int
}

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.cut)], s.data)
	s.data = s.data[n:]
	return n, nil
}
func (s *scripted) Write(p []byte) (int, error) { return len(p), nil }
func (s *scripted) Close() error                { return nil }
func (s *scripted) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
}
func (s *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2} }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }
