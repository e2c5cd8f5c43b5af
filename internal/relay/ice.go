package relay

import (
	"net"
	"strconv"
	"strings"
)

// Endpoint is where clients reach the service. A port of zero: not offered.
type Endpoint struct {
	Host    string // name or address literal, without brackets; for TLS the name of the certificate
	UDPPort uint16 // STUN and TURN over UDP
	TCPPort uint16 // TURN over TCP
	TLSPort uint16 // TURN over TLS; 443 passes where only HTTPS does
}

// URLs returns the STUN and TURN URLs (RFC 7064, RFC 7065), the cheapest way first.
func (e Endpoint) URLs() (stun, turn []string) {
	at := func(port uint16) string {
		return net.JoinHostPort(strings.Trim(e.Host, "[]"), strconv.Itoa(int(port)))
	}
	if e.UDPPort != 0 {
		stun = append(stun, "stun:"+at(e.UDPPort))
		turn = append(turn, "turn:"+at(e.UDPPort)+"?transport=udp")
	}
	if e.TCPPort != 0 {
		turn = append(turn, "turn:"+at(e.TCPPort)+"?transport=tcp")
	}
	if e.TLSPort != 0 {
		turn = append(turn, "turns:"+at(e.TLSPort)+"?transport=tcp")
	}
	return stun, turn
}
