package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v4"
)

// A client is one TURN client (RFC 8656) with one allocation and, behind it, one peer: a UDP socket of ours. It does what a measurement needs and no
// more: pion's client, which tests use, would cost more than the server under load.
type client struct {
	conn     net.Conn
	stream   *bufio.Reader // TCP and TLS; nil: UDP
	relayed  netip.AddrPort
	peer     *net.UDPConn
	peerAddr netip.AddrPort

	realm    stun.Realm
	nonce    stun.Nonce
	username stun.Username
	key      stun.MessageIntegrity

	up    []byte // a message to the server: header, then the payload at offset
	bytes []byte // the payload within it
	read  []byte // owned by receive
	inner stun.Message
}

const (
	channelNumber = 0x4000
	patience      = 10 * time.Second
	maxMessage    = 2048
	// socketBuffer keeps our own sockets from losing what the server delivered in a burst.
	socketBuffer = 4 << 20
)

// open connects, allocates, and binds a channel to the peer.
func open(ctx context.Context, cfg *Config, credential Credential) (_ *client, err error) {
	c := &client{read: make([]byte, maxMessage), username: stun.NewUsername(credential.Username)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.peer, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(cfg.PeerAddress, 0))); err != nil {
		return nil, err
	}
	_ = c.peer.SetReadBuffer(socketBuffer)
	c.peerAddr = c.peer.LocalAddr().(*net.UDPAddr).AddrPort()
	dialer := &net.Dialer{Timeout: patience}
	switch cfg.Transport {
	case "udp":
		if c.conn, err = dialer.DialContext(ctx, "udp", cfg.Server); err == nil {
			_ = c.conn.(*net.UDPConn).SetReadBuffer(socketBuffer)
		}
	case "tcp":
		c.conn, err = dialer.DialContext(ctx, "tcp", cfg.Server)
	case "tls":
		// Whom we load is not a secret, and no password passes: any certificate will do.
		c.conn, err = (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", cfg.Server)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Transport != "udp" {
		c.stream = bufio.NewReaderSize(c.conn, 32<<10)
	}
	if err := c.allocate(credential); err != nil {
		return nil, fmt.Errorf("allocate: %w", err)
	}
	peer := xorPeer{netip.AddrPortFrom(c.peerAddr.Addr().Unmap(), c.peerAddr.Port())}
	header := binary.BigEndian.AppendUint16(nil, channelNumber)
	switch cfg.Mode {
	case "channels":
		number := stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{channelNumber >> 8, channelNumber & 0xff, 0, 0}}
		if _, err := c.request(stun.MethodChannelBind, number, peer); err != nil {
			return nil, fmt.Errorf("bind a channel: %w", err)
		}
		c.up = append(binary.BigEndian.AppendUint16(header, uint16(cfg.Payload)), make([]byte, cfg.Payload)...) // RFC 8656 §12.4
		c.bytes = c.up[4:]
	case "indications":
		if _, err := c.request(stun.MethodCreatePermission, peer); err != nil {
			return nil, fmt.Errorf("create a permission: %w", err)
		}
		data := stun.RawAttribute{Type: stun.AttrData, Value: make([]byte, cfg.Payload)}
		m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peer, data)
		if err != nil {
			return nil, err
		}
		c.up = m.Raw
		c.bytes = c.up[len(c.up)-cfg.Payload:] // the last attribute; Payload is a multiple of 4
	}
	return c, nil
}

// xorPeer is XOR-PEER-ADDRESS.
type xorPeer struct{ netip.AddrPort }

func (p xorPeer) AddTo(m *stun.Message) error {
	return stun.XORMappedAddress{IP: p.Addr().AsSlice(), Port: int(p.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

var udpTransport = stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}

// allocate asks without credentials for realm and nonce, and then with them (RFC 8489 §9.2).
func (c *client) allocate(credential Credential) error {
	challenge, err := c.exchange(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), udpTransport))
	if err != nil {
		return err
	}
	if err := errors.Join(c.realm.GetFrom(challenge), c.nonce.GetFrom(challenge)); err != nil {
		return fmt.Errorf("the server asks for no credentials: %w", err)
	}
	c.realm, c.nonce = slices.Clone(c.realm), slices.Clone(c.nonce) // they alias the message
	c.key = stun.NewLongTermIntegrity(credential.Username, c.realm.String(), credential.Password)
	answer, err := c.request(stun.MethodAllocate, udpTransport)
	if err != nil {
		return err
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(answer, stun.AttrXORRelayedAddress); err != nil {
		return err
	}
	ip, _ := netip.AddrFromSlice(relayed.IP)
	c.relayed = netip.AddrPortFrom(ip.Unmap(), uint16(relayed.Port))
	return nil
}

// request makes a signed request. An error response is an error.
func (c *client) request(method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
	m, err := stun.Build(append(setters, c.username, c.realm, c.nonce, c.key)...)
	if err != nil {
		return nil, err
	}
	answer, err := c.exchange(m)
	if err != nil {
		return nil, err
	}
	if answer.Type.Class == stun.ClassErrorResponse {
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(answer); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the server answers %d %s", code.Code, code.Reason)
	}
	return answer, nil
}

// exchange sends a request and waits for its response. Over UDP it is sent again as RFC 8489 §6.2.1 wants.
func (c *client) exchange(m *stun.Message) (*stun.Message, error) {
	deadline := time.Now().Add(patience)
	for timeout := 500 * time.Millisecond; time.Now().Before(deadline); timeout *= 2 {
		if _, err := c.conn.Write(m.Raw); err != nil {
			return nil, err
		}
		until := time.Now().Add(timeout)
		if c.stream != nil || until.After(deadline) {
			until = deadline
		}
		if err := c.conn.SetReadDeadline(until); err != nil {
			return nil, err
		}
		for {
			b, err := c.next()
			if err != nil {
				var timeout net.Error
				if c.stream == nil && errors.As(err, &timeout) && timeout.Timeout() {
					break
				}
				return nil, err
			}
			answer := &stun.Message{Raw: slices.Clone(b)}
			if answer.Decode() == nil && answer.TransactionID == m.TransactionID {
				return answer, c.conn.SetReadDeadline(time.Time{})
			}
		}
	}
	return nil, errors.New("no answer")
}

// next reads one message: a datagram, or what a stream's framing says (RFC 8656 §12.5: channel data is padded to 4 bytes there).
func (c *client) next() ([]byte, error) {
	if c.stream == nil {
		n, err := c.conn.Read(c.read)
		return c.read[:n], err
	}
	if _, err := io.ReadFull(c.stream, c.read[:4]); err != nil {
		return nil, err
	}
	size := 4 + int(binary.BigEndian.Uint16(c.read[2:]))
	rest := (size + 3) &^ 3
	if c.read[0]&0xc0 == 0 { // STUN
		size += 16
		rest = size
	}
	if rest > len(c.read) {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	_, err := io.ReadFull(c.stream, c.read[4:rest])
	return c.read[:size], err
}

// receive returns the next payload that the peer has sent; what is not one is nil. It is valid until the next call.
func (c *client) receive() ([]byte, error) {
	b, err := c.next()
	if err != nil || len(b) < 4 {
		return nil, err
	}
	if b[0]&0xc0 == 0x40 {
		return b[4:min(len(b), 4+int(binary.BigEndian.Uint16(b[2:])))], nil
	}
	c.inner.Raw = b
	if c.inner.Decode() != nil || c.inner.Type != stun.NewType(stun.MethodData, stun.ClassIndication) {
		return nil, nil
	}
	data, err := c.inner.Get(stun.AttrData)
	if err != nil {
		return nil, nil
	}
	return data, nil
}

// close ends both sides. The allocation ends with the connection, or when its time is over; a refresh to 0 frees it at once.
func (c *client) close() {
	if c.conn != nil {
		if c.relayed.IsValid() {
			zero := stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)}
			if m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodRefresh, stun.ClassRequest), zero, c.username, c.realm, c.nonce, c.key); err == nil {
				_, _ = c.conn.Write(m.Raw)
			}
		}
		c.conn.Close()
	}
	if c.peer != nil {
		c.peer.Close()
	}
}
