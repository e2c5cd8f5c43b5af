//go:build linux

package test

import (
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// A network is a lab with one node on its public segment, at port 443 for all that goes over TCP, with a certificate of its own.
type network struct {
	*lab.Lab
	server      *lab.Host
	node        *lab.Node
	certificate lab.Certificate
	site4       string // the node's origin for hosts with IPv4
	site6       string // and for those with IPv6 only
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{Lab: lab.New(t)}
	n.server = n.Server()
	n.certificate = lab.NewCertificate(t, n.server.Addr4, n.server.Addr6)
	n.site4 = "https://" + n.server.Addr4.String()
	n.site6 = "https://[" + n.server.Addr6.String() + "]"
	n.node = serve(t, lab.NodeConfig{
		Namespace: n.server.Namespace, Listen: "[::]:443", UDP: "[::]:3478",
		Args: []string{"--tls-cert", n.certificate.CertFile, "--tls-key", n.certificate.KeyFile},
	})
	return n
}

// site is the node's origin as this host reaches it.
func (n *network) site(h *lab.Host) string {
	if h.Kind == lab.IPv6Only {
		return n.site6
	}
	return n.site4
}

// browser starts a browser on a host.
func (n *network) browser(t testing.TB, engine browser.Engine, h *lab.Host) *browser.Browser {
	t.Helper()
	return browser.Start(t, engine, browser.Options{Namespace: h.Namespace, TrustedSPKI: []string{n.certificate.SPKI}})
}

// member opens a page of the node's own origin on a host: a firewall may let nothing else through.
func (n *network) member(t testing.TB, b *browser.Browser, h *lab.Host, name string) *member {
	t.Helper()
	site := n.site(h)
	return newMember(t, b, site+"/docs/", site, name)
}

// block makes a host unreachable: what is sent to it, and what it sends, is lost, until the returned function is called.
func block(t testing.TB, h *lab.Host) (unblock func()) {
	t.Helper()
	if err := h.NFT(`table inet outage {
chain in { type filter hook input priority filter; iifname != "lo" drop; }
chain out { type filter hook output priority filter; oifname != "lo" drop; }
}`); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := h.NFT("delete table inet outage"); err != nil {
			t.Fatal(err)
		}
	}
}

// A path is the selected candidate pair as one side sees it, in the words of W3C webrtc-stats.
type path struct {
	Local         string `json:"local"` // host, srflx, prflx, relay
	Remote        string `json:"remote"`
	Protocol      string `json:"protocol"`      // udp, tcp
	RelayProtocol string `json:"relayProtocol"` // of a local relay candidate, to the server: udp, tcp, tls
}

func (p path) relayed() bool { return p.Local == "relay" || p.Remote == "relay" }

func (p path) String() string {
	local := p.Local
	if p.RelayProtocol != "" {
		local += "/" + p.RelayProtocol
	}
	return local + "-" + p.Remote
}
