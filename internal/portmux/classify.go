package portmux

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"time"
)

// A verdict is what first bytes look like.
type verdict int

const (
	more   verdict = iota // not enough bytes yet
	isHTTP                // or something that the HTTP server will refuse with 400
	isTLS
	isSTUN
)

// classifyBytes is how many bytes classify needs at most: a STUN header up to the end of the magic cookie.
const classifyBytes = 8

// classify tells protocols apart by a connection's first bytes.
//
//   - TLS: a handshake record (RFC 8446 §5.1: type 22), version 3.x. It goes before STUN, whose message type 0x16xx is not assigned.
//   - STUN (RFC 8489 §5): two zero bits, and the magic cookie in bytes 4 to 7. A TURN client's first message is always one of these, since
//     ChannelData needs an allocation.
//   - HTTP otherwise: its methods begin with a letter, above 0x40.
func classify(b []byte) verdict {
	if len(b) == 0 {
		return more
	}
	if b[0] == 0x16 {
		switch {
		case len(b) < 2:
			return more
		case b[1] == 3:
			return isTLS
		}
	}
	if b[0]&0xC0 != 0 {
		return isHTTP
	}
	if len(b) < classifyBytes {
		return more
	}
	if binary.BigEndian.Uint32(b[4:]) == 0x2112A442 {
		return isSTUN
	}
	return isHTTP
}

// decide finds out what a connection speaks, and hands it over.
func (m *Mux) decide(ctx context.Context, u *undecided) {
	defer func() {
		m.mu.Lock()
		m.removeLocked(u)
		m.mu.Unlock()
	}()
	deadline := time.Now().Add(m.cfg.Timeout)
	if err := u.conn.SetDeadline(deadline); err != nil {
		_ = u.conn.Close()
		return
	}
	first, v := peek(u.conn)
	switch v {
	case more:
		_ = u.conn.Close()
		return
	case isHTTP:
		m.deliver(kindHTTP, u, &conn{Conn: u.conn, first: first}, deadline)
		return
	case isSTUN:
		m.deliver(kindTURN, u, &conn{Conn: u.conn, first: first}, deadline)
		return
	}

	if m.tls == nil {
		// RFC 8446 §6: a fatal alert, handshake_failure. The client's message then says what is wrong, instead of "connection reset".
		_, _ = u.conn.Write([]byte{21, 3, 1, 0, 2, 2, 40})
		_ = u.conn.Close()
		return
	}
	t := tls.Server(&conn{Conn: u.conn, first: first}, m.tls)
	hctx, cancel := context.WithDeadline(ctx, deadline)
	err := t.HandshakeContext(hctx)
	cancel()
	if err != nil {
		m.log.Debug("TLS handshake", "client", u.conn.RemoteAddr().String(), "error", err)
		_ = t.Close()
		return
	}
	switch t.ConnectionState().NegotiatedProtocol {
	case "h2", "http/1.1":
		m.deliver(kindHTTPS, u, t, deadline)
	case "stun.turn":
		m.deliver(kindTURN, u, t, deadline)
	case "":
		// No protocol named: browsers' TURN, and plain HTTPS clients. Look inside.
		switch first, v := peek(t); v {
		case isHTTP:
			m.deliver(kindHTTPS, u, &tlsConn{conn{Conn: t, first: first}, t}, deadline)
		case isSTUN:
			m.deliver(kindTURN, u, &tlsConn{conn{Conn: t, first: first}, t}, deadline)
		default: // silence, or TLS in TLS
			_ = t.Close()
		}
	default: // acme-tls/1 (RFC 8737 §3): the handshake was all
		_ = t.Close()
	}
}

// deliver hands c, which stands for u.conn, over. From then on it is decided.
func (m *Mux) deliver(k kind, u *undecided, c net.Conn, deadline time.Time) {
	m.mu.Lock()
	m.removeLocked(u)
	m.mu.Unlock()
	if err := u.conn.SetDeadline(time.Time{}); err != nil {
		_ = c.Close()
		return
	}
	m.listeners[k].hand(c, deadline)
}

// peek reads until classify knows what it sees. It returns what it has read; more means that the client left or was too slow.
func peek(r io.Reader) ([]byte, verdict) {
	// Room for a first message: one read then often takes it whole.
	buf := make([]byte, 0, 256)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if v := classify(buf); v != more {
			return buf, v
		}
		if err != nil {
			return nil, more
		}
	}
}

// A conn gives back first the bytes that were looked at. Like any net.Conn it may be read by one goroutine at a time.
type conn struct {
	net.Conn
	first []byte
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// WriteTo keeps io.Copy from doing without the first bytes, and lets it use the connection's own way afterwards.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	var n int64
	if len(c.first) > 0 {
		k, err := io.Copy(w, bytes.NewReader(c.first))
		n, c.first = k, nil
		if err != nil {
			return n, err
		}
	}
	k, err := io.Copy(w, c.Conn)
	return n + k, err
}

// ReadFrom lets a file be sent by the system (sendfile), where the connection can.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite half-closes the connection, if it can.
func (c *conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// A tlsConn is a conn inside TLS.
type tlsConn struct {
	conn
	tls *tls.Conn
}

// ConnectionState describes the TLS connection.
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
