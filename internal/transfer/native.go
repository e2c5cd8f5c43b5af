package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// native makes lanes between two ends that are not browsers (docs/transfer.md §14): TLS over TCP where one can reach the other.
type native struct {
	m        *meeting
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	waiting map[Hash][]*arrival // by the certificate of the other side
}

// An arrival waits for a connection from the other side.
type arrival struct{ conn chan net.Conn } // capacity 1

const (
	maxAddresses   = 16
	handshakeLimit = 64 // connections that have not said who they are
)

// nativeText is TEXT of §14.
type nativeText struct {
	Fingerprint string   `json:"fingerprint"`
	TCP         []string `json:"tcp,omitempty"`
	Ufrag       string   `json:"ufrag,omitempty"`
	Pwd         string   `json:"pwd,omitempty"`
}

func isLoopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && a.IsLoopback()
}

func listenNative(m *meeting) (*native, error) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, err
	}
	n := &native{m: m, listener: listener, waiting: map[Hash][]*arrival{}}
	n.wg.Go(n.accept)
	return n, nil
}

func (n *native) close() {
	n.listener.Close()
	n.wg.Wait()
}

// addresses are where this end can be reached over TCP, if anywhere.
func (n *native) addresses() (list []string) {
	if n.m.server.Lanes == LanesQUIC {
		return nil
	}
	port := uint16(n.listener.Addr().(*net.TCPAddr).Port)
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range interfaces {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		if ip.IsLinkLocalUnicast() || ip.IsLoopback() && !n.m.loopback || len(list) == maxAddresses {
			continue
		}
		list = append(list, netip.AddrPortFrom(ip, port).String())
	}
	return list
}

// config is for both sides: the certificate of the other one is all that counts, and it comes from a description that the secret has authenticated.
func (n *native) config(verify func(Hash) bool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{n.m.cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{laneProtocol}, ClientAuth: tls.RequireAnyClientCert,
		InsecureSkipVerify: true, // there is no authority: VerifyPeerCertificate compares with the authenticated fingerprint
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !verify(sha256.Sum256(raw[0])) {
				return errNotAuthentic
			}
			return nil
		},
		SessionTicketsDisabled: true,
	}
}

func (n *native) accept() {
	slots := make(chan struct{}, handshakeLimit)
	for {
		raw, err := n.listener.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			raw.Close()
			continue
		}
		n.wg.Go(func() {
			defer func() { <-slots }()
			var from Hash
			conn := tls.Server(raw, n.config(func(h Hash) bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				from = h
				return len(n.waiting[h]) > 0
			}))
			ctx, cancel := context.WithTimeout(n.m.ctx, nativeTimeout)
			defer cancel()
			if err := conn.HandshakeContext(ctx); err != nil {
				raw.Close()
				return
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if list := n.waiting[from]; len(list) > 0 {
				n.waiting[from] = list[1:]
				list[0].conn <- conn
				return
			}
			conn.Close()
		})
	}
}

func (n *native) expect(h Hash) (*arrival, func()) {
	a := &arrival{make(chan net.Conn, 1)}
	n.mu.Lock()
	n.waiting[h] = append(n.waiting[h], a)
	n.mu.Unlock()
	return a, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for i, o := range n.waiting[h] {
			if o == a {
				n.waiting[h] = append(n.waiting[h][:i:i], n.waiting[h][i+1:]...)
			}
		}
		if len(n.waiting[h]) == 0 {
			delete(n.waiting, h)
		}
		select {
		case conn := <-a.conn:
			conn.Close()
		default:
		}
	}
}

func (n *native) text(path *icePath) (string, error) {
	own := certificateHash(n.m.cert)
	b, err := json.Marshal(nativeText{b64.EncodeToString(own[:]), n.addresses(), path.ufrag, path.pwd})
	return string(b), err
}

func (n *native) parse(text string) (nativeText, Hash, error) {
	var t nativeText
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return t, Hash{}, malformed("native")
	}
	b, err := b64.DecodeString(t.Fingerprint)
	if err != nil || len(b) != len(Hash{}) || len(t.TCP) > maxAddresses {
		return t, Hash{}, malformed("native")
	}
	for _, a := range t.TCP {
		if _, err := netip.ParseAddrPort(a); err != nil {
			return t, Hash{}, malformed("native")
		}
	}
	h := Hash(b)
	if h == certificateHash(n.m.cert) {
		return t, h, errNotAuthentic
	}
	return t, h, nil
}

// offer makes a lane to a peer.
func (n *native) offer(ctx context.Context, c *conn) (lane, error) {
	ctx, cancel := context.WithTimeout(ctx, nativeTimeout)
	defer cancel()
	path, err := n.newICEPath(c)
	if err != nil {
		return nil, err
	}
	l, err := n.offerOver(ctx, c, path)
	path.release(l)
	return l, err
}

func (n *native) offerOver(ctx context.Context, c *conn, path *icePath) (lane, error) {
	text, err := n.text(path)
	if err != nil {
		return nil, err
	}
	if err := n.m.say(ctx, c.peer, signalData{PC: c.pc, Native: text, MAC: n.m.keys.nativeOffer(c.pc, text)}); err != nil {
		return nil, err
	}
	for {
		select {
		case <-ctx.Done():
			return nil, refusal.New(refusal.NoPath).Because(ctx.Err())
		case d := <-c.signals:
			if d.Close {
				return nil, closedWith(d.Code)
			}
			if d.Native == "" {
				continue
			}
			if err := checkMAC(d.MAC, n.m.keys.nativeAnswer(c.pc, text, d.Native)); err != nil {
				return nil, err
			}
			t, h, err := n.parse(d.Native)
			if err != nil {
				return nil, err
			}
			a, unexpect := n.expect(h)
			defer unexpect()
			return n.race(ctx, t, h, a, path, true)
		}
	}
}

func (n *native) answer(ctx context.Context, c *conn, first signalData) (lane, error) {
	ctx, cancel := context.WithTimeout(ctx, nativeTimeout)
	defer cancel()
	if err := checkMAC(first.MAC, n.m.keys.nativeOffer(c.pc, first.Native)); err != nil {
		return nil, err
	}
	t, h, err := n.parse(first.Native)
	if err != nil {
		return nil, err
	}
	path, err := n.newICEPath(c)
	if err != nil {
		return nil, err
	}
	l, err := n.answerOver(ctx, c, first, t, h, path)
	path.release(l)
	return l, err
}

func (n *native) answerOver(ctx context.Context, c *conn, first signalData, t nativeText, h Hash, path *icePath) (lane, error) {
	text, err := n.text(path)
	if err != nil {
		return nil, err
	}
	// Connections may come before the other side has read the answer's end.
	a, unexpect := n.expect(h)
	defer unexpect()
	if err := n.m.say(ctx, c.peer, signalData{PC: c.pc, Native: text, MAC: n.m.keys.nativeAnswer(c.pc, first.Native, text)}); err != nil {
		return nil, err
	}
	return n.race(ctx, t, h, a, path, false)
}

// dialAfter is how long the answering side waits before it dials, so that one side's attempt wins where both could.
const dialAfter = 500 * time.Millisecond

// race takes the first lane of those that we dial, those that come, and QUIC.
func (n *native) race(ctx context.Context, t nativeText, h Hash, a *arrival, path *icePath, offering bool) (lane, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	made := make(chan *streamLane)
	offer := func(l *streamLane) {
		select {
		case made <- l:
		case <-ctx.Done():
			l.Close()
		}
	}
	for _, address := range t.TCP {
		wg.Go(func() {
			if !offering && !sleep(ctx, dialAfter) {
				return
			}
			if l := n.dialTCP(ctx, address, h); l != nil {
				offer(l)
			}
		})
	}
	wg.Go(func() { path.exchange(ctx) })
	wg.Go(func() {
		l, err := path.lane(ctx, t, h, offering, func() bool { return sleep(ctx, quicGrace) })
		if err != nil {
			n.m.server.Logger.Debug("quic", "err", err)
			return
		}
		offer(l)
	})
	select {
	case l := <-made:
		return l, nil
	case conn := <-a.conn:
		return newStreamLane(conn, "tcp "+conn.RemoteAddr().String()), nil
	case <-ctx.Done():
		return nil, refusal.New(refusal.NoPath).Because(ctx.Err())
	}
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dialTCP returns nil if there is no way.
func (n *native) dialTCP(ctx context.Context, address string, h Hash) *streamLane {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil
	}
	conn := tls.Client(raw, n.config(func(got Hash) bool { return got == h }))
	if conn.HandshakeContext(ctx) != nil {
		raw.Close()
		return nil
	}
	// The other side takes one connection of ours, and says hello on it.
	l := newStreamLane(conn, "tcp "+address)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if _, err := l.in.Peek(1); err != nil || !stop() {
		conn.Close()
		return nil
	}
	return l
}

// A stream is a connection that carries frames: TLS over TCP, or a QUIC stream.
type stream interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
}

type streamLane struct {
	stream stream
	in     *bufio.Reader
	out    []byte
	buf    []byte
	path   string
	once   sync.Once
	ended  chan struct{} // closed when Recv has failed
}

func newStreamLane(s stream, path string) *streamLane {
	return &streamLane{stream: s, in: bufio.NewReaderSize(s, 128<<10), path: path, buf: make([]byte, maxMessage+partHeader), ended: make(chan struct{})}
}

func (l *streamLane) Send(text bool, header, data []byte) error {
	l.out = append(appendFrameHeader(l.out[:0], text, len(header)+len(data)), header...)
	l.out = append(l.out, data...)
	_, err := l.stream.Write(l.out)
	return err
}

func (l *streamLane) Recv() (text bool, data []byte, err error) {
	text, data, err = readFrame(l.in, l.buf)
	if errors.Is(err, errFrame) {
		err = fmt.Errorf("%w: %w", malformed("frame"), err)
	}
	if err != nil {
		l.once.Do(func() { close(l.ended) })
	}
	return text, data, err
}

func (l *streamLane) Close() error { return l.stream.Close() }

// Flush ends our direction and waits for the end of the other one: closing while something is unread would make the kernel throw away what we sent.
func (l *streamLane) Flush() {
	if c, ok := l.stream.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		return
	}
	timer := time.NewTimer(flushPatience)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	}
}

func (l *streamLane) Limit() int     { return maxMessage + partHeader }
func (l *streamLane) String() string { return l.path }
