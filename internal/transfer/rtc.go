package transfer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/signal"
)

// Of a WebRTC lane.
const (
	laneLabel     = "madang.transfer"
	laneProtocol  = "madang-transfer/1"
	laneID        = 1
	bufferHigh    = 2 << 20
	bufferLow     = 1 << 20
	sctpReceive   = 16 << 20
	flushPatience = 2 * time.Second
)

// NewCertificate makes the one that all lanes of a process show. Its serial number is random: Firefox refuses a second certificate of the same issuer and number.
func NewCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "madang"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func certificateHash(c tls.Certificate) Hash { return sha256.Sum256(c.Certificate[0]) }

// newPeerConnection makes one with a lane's data channel, tuned for bulk.
func newPeerConnection(c tls.Certificate, ice signal.ICE, loopback bool) (*webrtc.PeerConnection, *webrtc.DataChannel, error) {
	sockets, err := newBulkNet()
	if err != nil {
		return nil, nil, err
	}
	var s webrtc.SettingEngine
	s.SetNet(sockets)
	s.DetachDataChannels()
	s.SetSCTPMaxReceiveBufferSize(sctpReceive)
	s.SetSCTPMaxMessageSize(maxMessage)
	s.EnableSCTPZeroChecksum(true) // RFC 9653: DTLS protects already
	s.SetIncludeLoopbackCandidate(loopback)
	s.SetSrflxAcceptanceMinWait(reflexiveWait)
	s.SetPrflxAcceptanceMinWait(reflexiveWait)
	s.SetRelayAcceptanceMinWait(relayWait)
	config := webrtc.Configuration{Certificates: []webrtc.Certificate{webrtc.CertificateFromX509(c.PrivateKey, c.Leaf)}, ICEServers: iceServers(ice)}
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(&webrtc.MediaEngine{})).NewPeerConnection(config)
	if err != nil {
		return nil, nil, err
	}
	dc, err := pc.CreateDataChannel(laneLabel, &webrtc.DataChannelInit{Negotiated: new(true), ID: new(uint16(laneID))})
	if err != nil {
		pc.Close()
		return nil, nil, err
	}
	return pc, dc, nil
}

func iceServers(ice signal.ICE) (servers []webrtc.ICEServer) {
	for _, s := range ice.Servers {
		servers = append(servers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return servers
}

// An rtcLane is a data channel of a PeerConnection of its own.
type rtcLane struct {
	pc    *webrtc.PeerConnection
	dc    *webrtc.DataChannel
	raw   datachannel.ReadWriteCloserDeadliner
	limit int
	path  string
	buf   []byte
	out   []byte

	once   sync.Once
	closed chan struct{}
	low    chan struct{} // capacity 1
}

// newRTCLane takes over a connection whose data channel is open.
func newRTCLane(pc *webrtc.PeerConnection, dc *webrtc.DataChannel) (*rtcLane, error) {
	raw, err := dc.DetachWithDeadline()
	if err != nil {
		return nil, err
	}
	l := &rtcLane{pc: pc, dc: dc, raw: raw, limit: maxMessage, buf: make([]byte, maxMessage+partHeader), closed: make(chan struct{}), low: make(chan struct{}, 1)}
	if n := pc.SCTP().GetCapabilities().MaxMessageSize; n > partHeader && int(n) < l.limit {
		l.limit = int(n)
	}
	l.path = "webrtc"
	if pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair(); err == nil && pair != nil {
		l.path = fmt.Sprintf("webrtc %s-%s %s", pair.Local.Typ, pair.Remote.Typ, pair.Local.Protocol)
	}
	dc.SetBufferedAmountLowThreshold(bufferLow)
	dc.OnBufferedAmountLow(func() {
		select {
		case l.low <- struct{}{}:
		default:
		}
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed || s == webrtc.PeerConnectionStateClosed {
			l.Close()
		}
	})
	return l, nil
}

func (l *rtcLane) Send(text bool, header, data []byte) error {
	for l.dc.BufferedAmount() > bufferHigh {
		select {
		case <-l.low:
		case <-l.closed:
			return io.ErrClosedPipe
		}
	}
	l.out = append(append(l.out[:0], header...), data...)
	_, err := l.raw.WriteDataChannel(l.out, text)
	return err
}

func (l *rtcLane) Recv() (text bool, data []byte, err error) {
	n, text, err := l.raw.ReadDataChannel(l.buf)
	return text, l.buf[:n], err
}

func (l *rtcLane) Flush() {
	deadline := time.NewTimer(flushPatience)
	defer deadline.Stop()
	l.dc.SetBufferedAmountLowThreshold(0)
	for l.dc.BufferedAmount() > 0 {
		select {
		case <-l.low:
		case <-l.closed:
			return
		case <-deadline.C:
			return
		}
	}
}

func (l *rtcLane) Close() error {
	l.once.Do(func() {
		close(l.closed)
		// The channel first: the other side learns of it, and a reader of ours returns.
		go func() { _ = errors.Join(l.raw.Close(), l.pc.Close()) }()
	})
	return nil
}

func (l *rtcLane) Limit() int     { return l.limit }
func (l *rtcLane) String() string { return l.path }
