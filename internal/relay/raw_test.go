package relay

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// A raw is a TURN client that sends whatever a test wants.
type raw struct {
	t            testing.TB
	conn         net.Conn
	cred         Credentials
	realm, nonce string
}

func (n *node) raw(t testing.TB, network string, c Credentials) *raw {
	t.Helper()
	addr := n.udp
	if network == "tcp" {
		addr = n.tcp
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn, cred: c, realm: "madang"}
}

// receive returns the next STUN message.
func (r *raw) receive() *stun.Message {
	r.t.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 2048)
	var n int
	var err error
	if r.conn.RemoteAddr().Network() == "udp" {
		n, err = r.conn.Read(b)
	} else if _, err = io.ReadFull(r.conn, b[:20]); err == nil {
		n = 20 + int(binary.BigEndian.Uint16(b[2:]))
		_, err = io.ReadFull(r.conn, b[20:n])
	}
	if err != nil {
		r.t.Fatalf("no answer: %v", err)
	}
	m := &stun.Message{Raw: b[:n]}
	if err := m.Decode(); err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// request sends a request without credentials.
func (r *raw) request(method stun.Method, attrs ...stun.Setter) *stun.Message {
	r.t.Helper()
	m := stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)...)
	r.send(m.Raw)
	for {
		if got := r.receive(); got.TransactionID == m.TransactionID {
			return got
		}
	}
}

// signed builds a request with credentials.
func (r *raw) signed(method stun.Method, attrs ...stun.Setter) *stun.Message {
	r.t.Helper()
	set := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)
	set = append(set, stun.NewUsername(r.cred.Username), stun.NewRealm(r.realm), stun.NewNonce(r.nonce),
		stun.NewLongTermIntegrity(r.cred.Username, r.realm, r.cred.Credential), stun.Fingerprint)
	m, err := stun.Build(set...)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// do sends a request with credentials, gets a nonce first where it needs one, and returns the error code: 0 is success.
func (r *raw) do(method stun.Method, attrs ...stun.Setter) (stun.ErrorCode, *stun.Message) {
	r.t.Helper()
	if r.nonce == "" {
		r.challenge(method)
	}
	m := r.signed(method, attrs...)
	r.send(m.Raw)
	for {
		got := r.receive()
		if got.TransactionID == m.TransactionID {
			return code(r.t, got), got
		}
	}
}

func (r *raw) challenge(method stun.Method) {
	r.t.Helper()
	got := r.request(method)
	var nonce stun.Nonce
	if c := code(r.t, got); c != stun.CodeUnauthorized || nonce.GetFrom(got) != nil {
		r.t.Fatalf("got %d without credentials, want 401 with a nonce", c)
	}
	r.nonce = nonce.String()
}

func code(t testing.TB, m *stun.Message) stun.ErrorCode {
	t.Helper()
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var e stun.ErrorCodeAttribute
	if err := e.GetFrom(m); err != nil {
		t.Fatalf("an error response without a code: %v", m)
	}
	return e.Code
}

func (r *raw) allocate(attrs ...stun.Setter) stun.ErrorCode {
	r.t.Helper()
	c, _ := r.do(stun.MethodAllocate, append([]stun.Setter{transportUDP}, attrs...)...)
	return c
}

// silent checks that nothing comes, once what was sent before has been dealt with. Messages of one 5-tuple are dealt with in their order, so the
// answer to a binding request would come after.
func (r *raw) silent() {
	r.t.Helper()
	m := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	r.send(m.Raw)
	if got := r.receive(); got.TransactionID != m.TransactionID {
		r.t.Errorf("got %v, want nothing", got)
	}
}

func attr(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

var transportUDP = attr(stun.AttrRequestedTransport, 17, 0, 0, 0)

func family(f byte) stun.Setter { return attr(stun.AttrRequestedAddressFamily, f, 0, 0, 0) }

func channelNumber(n uint16) stun.Setter {
	return attr(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0)
}

// peerAddress writes XOR-PEER-ADDRESS (RFC 8489 §14.2) as it is told: an IPv4-mapped address stays an IPv6 one, as a hostile client would have it.
type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	ap := netip.AddrPort(p)
	ip := ap.Addr().AsSlice()
	v := []byte{0, 1, 0, 0}
	if len(ip) == 16 {
		v[1] = 2
	}
	binary.BigEndian.PutUint16(v[2:], ap.Port()^uint16(magicCookie>>16))
	key := append(binary.BigEndian.AppendUint32(nil, magicCookie), m.TransactionID[:]...)
	for i, b := range ip {
		v = append(v, b^key[i])
	}
	m.Add(stun.AttrXORPeerAddress, v)
	return nil
}

func peerAt(ip string, port uint16) peerAddress {
	return peerAddress(netip.AddrPortFrom(netip.MustParseAddr(ip), port))
}

// sink is a UDP socket that only receives.
func sink(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// got reports whether anything waits on c. On loopback a datagram is there when its send has returned.
func got(t testing.TB, c *net.UDPConn) bool {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := c.Read(make([]byte, 2048))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

func portOf(c net.PacketConn) uint16 { return addrPort(c.LocalAddr()).Port() }

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}
