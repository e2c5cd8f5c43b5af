package relay

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
)

const (
	// idleStream is how long a TCP or TLS connection may live without an allocation. A client allocates at once; one whose
	// allocation has expired is gone.
	idleStream = 30 * time.Second
	// stalledWrite is how long one write to a client may take. What a client does not read in that time is no longer of use to a call.
	stalledWrite = 10 * time.Second
)

// A streamEndpoint is a listener for TURN over TCP or TLS, as pion sees it.
type streamEndpoint struct {
	s    *Server
	l    net.Listener
	done sync.Once

	mu      sync.Mutex
	streams map[streamKey]*stream
	byAddr  map[netip.Addr]int
	closed  bool
}

type streamKey struct{ client, server netip.AddrPort }

func newStreamEndpoint(s *Server, l net.Listener) *streamEndpoint {
	return &streamEndpoint{s: s, l: l, streams: map[streamKey]*stream{}, byAddr: map[netip.Addr]int{}}
}

var _ net.Listener = (*streamEndpoint)(nil)

// Accept returns the next connection for pion.
func (e *streamEndpoint) Accept() (net.Conn, error) {
	for pause := time.Duration(0); ; {
		conn, err := e.l.Accept()
		if err != nil {
			// Out of file descriptors passes; anything else is the listener's end.
			if isExhausted(err) && !e.s.closing.Load() {
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				select {
				case <-time.After(pause):
				case <-e.s.stop:
				}
				continue
			}
			e.done.Do(e.s.readers.Done)
			return nil, err
		}
		pause = 0
		st := newStream(e, conn)
		if !e.add(st) {
			e.s.counters.dropped[dropStreams].Add(1)
			conn.Close()
			continue
		}
		return st, nil
	}
}

func (e *streamEndpoint) Close() error   { return e.l.Close() }
func (e *streamEndpoint) Addr() net.Addr { return e.l.Addr() }

func (e *streamEndpoint) add(st *stream) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := st.key.client.Addr()
	if e.closed || len(e.streams) >= e.s.cfg.Limits.Streams || e.byAddr[a] >= e.s.cfg.Limits.StreamsPerAddress {
		return false
	}
	e.streams[st.key] = st
	e.byAddr[a]++
	e.s.readers.Add(1) // pion starts a reader on st, and closes it at the end
	return true
}

func (e *streamEndpoint) remove(st *stream) {
	e.mu.Lock()
	if e.streams[st.key] == st {
		delete(e.streams, st.key)
	}
	a := st.key.client.Addr()
	if e.byAddr[a]--; e.byAddr[a] <= 0 {
		delete(e.byAddr, a)
	}
	e.mu.Unlock()
}

// closeStreams ends all connections, and refuses those that come yet.
func (e *streamEndpoint) closeStreams() {
	e.mu.Lock()
	e.closed = true
	all := make([]*stream, 0, len(e.streams))
	for _, st := range e.streams {
		all = append(all, st)
	}
	e.mu.Unlock()
	for _, st := range all {
		st.abort()
	}
}

func (e *streamEndpoint) register(client, server netip.AddrPort, rc *relayConn) {
	e.mu.Lock()
	st := e.streams[streamKey{client, server}]
	e.mu.Unlock()
	if st == nil {
		return
	}
	st.rc.Store(rc)
	_ = st.Conn.SetReadDeadline(time.Time{}) // the allocation's own lifetime ends it now
	rc.registered(func(rc *relayConn) {
		if st.rc.CompareAndSwap(rc, nil) {
			_ = st.Conn.SetReadDeadline(time.Now().Add(idleStream))
		}
	})
}

// A stream is one client's TCP or TLS connection. Its Read returns whole messages that the guard has passed. pion's own framing must not be
// left alone with the network: it takes 16-bit sums for lengths, so that a ChannelData message of length 65532 is "complete" with
// zero bytes, again and again.
type stream struct {
	net.Conn
	e     *streamEndpoint
	key   streamKey
	guard guard         // owned by the reader
	r     *bufio.Reader // owned by the reader
	tls   bool

	rc        atomic.Pointer[relayConn]
	closeOnce sync.Once

	writeMu       sync.Mutex
	writeDeadline time.Time // guarded by writeMu
}

func newStream(e *streamEndpoint, conn net.Conn) *stream {
	_, isTLS := conn.(interface{ ConnectionState() tls.ConnectionState })
	st := &stream{
		Conn: conn, e: e, tls: isTLS, guard: guard{s: e.s},
		key: streamKey{addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())},
		r:   bufio.NewReaderSize(conn, 2*inboundMTU),
	}
	_ = conn.SetReadDeadline(time.Now().Add(idleStream))
	return st
}

var errNotTURN = errors.New("the stream does not carry STUN messages or ChannelData")

// noop is a Binding indication (RFC 8489 §5: method 0x001, class 0b01), which asks for nothing.
var noop = stun.MustBuild(stun.NewType(stun.MethodBinding, stun.ClassIndication)).Raw

// Read puts one message into p. p must have room for inboundMTU bytes.
func (st *stream) Read(p []byte) (int, error) {
	for {
		b, err := st.next(p)
		if err != nil {
			return 0, err
		}
		out, v := st.guard.inspect(b, st.key.client, st.rc.Load())
		switch v {
		case drop:
			continue
		case answer:
			if _, err := st.Write(out); err != nil {
				return 0, err
			}
			continue
		}
		n := len(out)
		if n < 9 {
			// pion wants nine bytes before it looks at a message. An empty or four-byte ChannelData would wait for the next one.
			n += copy(p[n:], noop)
		}
		return n, nil
	}
}

// next reads one message from the wire into p (RFC 8656 §12.5: over a stream, ChannelData is padded to a multiple of four). Messages too
// long to be handled are skipped, like the datagrams.
func (st *stream) next(p []byte) ([]byte, error) {
	for {
		h, err := st.r.Peek(4)
		if err != nil {
			return nil, err
		}
		var n int
		switch h[0] >> 6 {
		case 0:
			if h, err = st.r.Peek(8); err != nil {
				return nil, err
			}
			n = int(binary.BigEndian.Uint16(h[2:])) + stunHeaderSize
			if binary.BigEndian.Uint32(h[4:]) != magicCookie || n%4 != 0 {
				st.e.s.counters.dropped[dropMalformed].Add(1)
				return nil, errNotTURN // without a message's end there is no next one
			}
		case 1:
			n = (int(binary.BigEndian.Uint16(h[2:])) + 4 + 3) &^ 3
		default:
			st.e.s.counters.dropped[dropMalformed].Add(1)
			return nil, errNotTURN
		}
		if n >= inboundMTU || n > len(p) {
			st.e.s.counters.dropped[dropTooBig].Add(1)
			if _, err := st.r.Discard(n); err != nil {
				return nil, err
			}
			continue
		}
		if _, err := io.ReadFull(st.r, p[:n]); err != nil {
			return nil, err
		}
		return p[:n], nil
	}
}

// Write sends one message whole, or ends the connection: after half a message the client could read nothing any more.
func (st *stream) Write(p []byte) (int, error) {
	st.writeMu.Lock()
	defer st.writeMu.Unlock()
	// Moving the deadline costs a little, so it is moved once a second.
	if now := time.Now(); st.writeDeadline.Sub(now) < stalledWrite-time.Second {
		st.writeDeadline = now.Add(stalledWrite)
		if err := st.Conn.SetWriteDeadline(st.writeDeadline); err != nil {
			return 0, err
		}
	}
	n, err := st.Conn.Write(p)
	if err != nil {
		st.abort()
	}
	return n, err
}

// abort cuts the connection. pion's reader sees it, deletes the allocation and calls Close.
func (st *stream) abort() { _ = st.Conn.Close() }

// Close is pion's last call.
func (st *stream) Close() error {
	err := st.Conn.Close()
	st.closeOnce.Do(func() {
		st.e.remove(st)
		st.e.s.readers.Done()
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
