//go:build linux

package test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// The NAT table: every kind of host calls every kind. What must come of it is computed from RFC 4787's words alone, here:

// A nat is what matters of a host's kind for hole punching.
type nat struct {
	udp       bool
	family    int
	maps      bool // it has another address outside than its own
	symmetric bool // mapping is address and port-dependent: nobody can know the port for a new destination
	filter    int  // 0: lets everybody in; 1: addresses that were written to; 2: addresses and ports
}

var nats = map[lab.Kind]nat{
	lab.Open:              {udp: true, family: 4},
	lab.FullCone:          {udp: true, family: 4, maps: true},
	lab.AddressRestricted: {udp: true, family: 4, maps: true, filter: 1},
	lab.PortRestricted:    {udp: true, family: 4, maps: true, filter: 2},
	lab.Symmetric:         {udp: true, family: 4, maps: true, filter: 2, symmetric: true},
	lab.DoubleNAT:         {udp: true, family: 4, maps: true, filter: 2},
	lab.UDPBlocked:        {family: 4, maps: true},
	lab.TCP443Only:        {family: 4, maps: true},
	lab.IPv6Only:          {udp: true, family: 6},
}

// direct says whether two hosts can reach each other without a relay. With endpoint-independent mappings on both sides each knows where to
// send, and by sending opens its own filter. A symmetric NAT sends from a port that the other side cannot know in advance, so the other side's
// filter must not ask for it.
func direct(a, b lab.Kind) bool {
	x, y := nats[a], nats[b]
	switch {
	case !x.udp || !y.udp || x.family != y.family:
		return false
	case x.symmetric && y.symmetric:
		return false
	case x.symmetric:
		return y.filter < 2
	case y.symmetric:
		return x.filter < 2
	}
	return true
}

// types are the candidate types that the address from which a host of the kind sends without a relay can have (RFC 8445 §4). Without a NAT it is its own. A mapping that is
// the same for all destinations is the one that STUN has shown, unless a check was faster than STUN (§7.2.5.3.1); one that is new for each destination, STUN never shows.
func types(k lab.Kind) []string {
	switch n := nats[k]; {
	case !n.maps:
		return []string{"host"}
	case n.symmetric:
		return []string{"prflx"}
	default:
		return []string{"srflx", "prflx"}
	}
}

// base is what pion calls a local candidate without a relay, behind whatever NAT: it names a pair after the address that it sends from (RFC 8445 §4, "base").
var base = []string{"host"}

// check says what is wrong with the path that a host of kind own sees to one of kind other; "" if nothing. local are the types that its own candidate can have without a relay.
func (p path) check(own, other lab.Kind, local []string) string {
	want := func(what string, got string, of ...string) string {
		if slices.Contains(of, got) {
			return ""
		}
		return fmt.Sprintf("want %s of %s", what, strings.Join(of, " or "))
	}
	if direct(own, other) {
		if p.Protocol != "udp" {
			return "want a path over UDP"
		}
		return cmp.Or(want("a local candidate", p.Local, local...), want("a remote candidate", p.Remote, types(other)...))
	}
	if !p.relayed() {
		return "want a relayed path"
	}
	// Who can send no UDP can only send to its own relay: over TCP if it can, since RFC 8656 knows nothing that TLS would add to what is encrypted already.
	switch {
	case own == lab.UDPBlocked:
		return cmp.Or(want("a local candidate", p.Local, "relay"), want("a relay", p.RelayProtocol, "tcp"))
	case own == lab.TCP443Only:
		return cmp.Or(want("a local candidate", p.Local, "relay"), want("a relay", p.RelayProtocol, "tls"))
	case p.Local == "relay":
		return want("a relay", p.RelayProtocol, "udp")
	default:
		return cmp.Or(want("a local candidate", p.Local, local...), want("a remote candidate", p.Remote, "relay"))
	}
}

// pairs lists the pairs of the table, or with -short one of each sort.
func pairs() [][2]lab.Kind {
	if testing.Short() {
		return [][2]lab.Kind{
			{lab.Open, lab.PortRestricted}, {lab.PortRestricted, lab.PortRestricted}, {lab.PortRestricted, lab.Symmetric}, {lab.Open, lab.UDPBlocked},
			{lab.TCP443Only, lab.PortRestricted}, {lab.Open, lab.IPv6Only},
		}
	}
	var all [][2]lab.Kind
	for i, a := range lab.Kinds() {
		for _, b := range lab.Kinds()[i:] {
			all = append(all, [2]lab.Kind{a, b})
		}
	}
	return all
}

// A table collects results, for people to read.
type table struct {
	mu    sync.Mutex
	cells map[[2]lab.Kind]string
}

func (r *table) set(a, b lab.Kind, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cells == nil {
		r.cells = map[[2]lab.Kind]string{}
	}
	r.cells[[2]lab.Kind{a, b}] = fmt.Sprintf(format, args...)
}

func (r *table) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	b.WriteString("|")
	for _, k := range lab.Kinds() {
		fmt.Fprintf(&b, " | %s", k)
	}
	b.WriteString(" |\n|" + strings.Repeat("---|", len(lab.Kinds())+1) + "\n")
	for _, row := range lab.Kinds() {
		fmt.Fprintf(&b, "| **%s**", row)
		for _, column := range lab.Kinds() {
			fmt.Fprintf(&b, " | %s", r.cells[[2]lab.Kind{row, column}])
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// twoOfEach makes two hosts of every kind that is in the pairs.
func twoOfEach(n *network) (first, second map[lab.Kind]*lab.Host) {
	first, second = map[lab.Kind]*lab.Host{}, map[lab.Kind]*lab.Host{}
	for _, pair := range pairs() {
		if first[pair[0]] == nil {
			first[pair[0]] = n.Host(pair[0].String()+"-a", lab.HostConfig{Kind: pair[0]})
		}
		if second[pair[1]] == nil {
			second[pair[1]] = n.Host(pair[1].String()+"-b", lab.HostConfig{Kind: pair[1]})
		}
	}
	return first, second
}

// TestChromiumThroughEveryNAT makes the whole table with the SDK in Chromium, one browser on each host.
func TestChromiumThroughEveryNAT(t *testing.T) {
	n := newNetwork(t)
	first, second := twoOfEach(n)
	browsers := map[*lab.Host]*browser.Browser{}
	for _, hosts := range []map[lab.Kind]*lab.Host{first, second} {
		for _, h := range hosts {
			browsers[h] = n.browser(t, browser.Chromium, h)
		}
	}
	var results table
	t.Run("pairs", func(t *testing.T) {
		for _, pair := range pairs() {
			t.Run(pair[0].String()+"-"+pair[1].String(), func(t *testing.T) {
				t.Parallel()
				hosts := [2]*lab.Host{first[pair[0]], second[pair[1]]}
				var members [2]*member
				for i, h := range hosts {
					members[i] = n.member(t, browsers[h], h, []string{"Mina", "Jun"}[i])
				}
				channel := channelName(t)
				started := time.Now()
				for _, m := range members {
					m.join(channel, map[string]any{"withMedia": false})
				}
				results.set(pair[0], pair[1], "–")
				// Something arrives on the other side and comes back: connected is more than a state.
				members[1].await(patience, `lab.channel.peers.size === 1 && lab.peer("Mina").connection === "connected"`)
				members[1].do(patience, `const link = await lab.peer("Mina").openData("ping", {}); await link.send("are you there?");`, nil)
				members[0].await(patience, `lab.blobs.ping?.[0] === "are you there?"`)
				took := time.Since(started)
				var cell []string
				for i, m := range members {
					own, other := pair[i], pair[1-i]
					// A worse pair may be chosen first, and be left for a better one.
					var got path
					settled := within(t, patience)
					for got.check(own, other, types(own)) != "" {
						if m.WaitForValue(settled, fmt.Sprintf("lab.path().then((p) => p && JSON.stringify(p) !== %s && p)", js(js(got))), &got) != nil {
							break
						}
					}
					if complaint := got.check(own, other, types(own)); complaint != "" {
						t.Errorf("%v to %v: got the path %v, %s", own, other, got, complaint)
					}
					cell = append(cell, got.String())
				}
				results.set(pair[0], pair[1], "%s %d", cell[0], took.Milliseconds())
			})
		}
	})
	t.Logf("Chromium: path as the row sees it, and milliseconds from join to the first message\n%s", &results)
}

// pionHasNoPath says for which pairs pion's agent has no candidates that meet: it gathers relayed ones over IPv4 only (pion/ice v4.4.2,
// gather.go: "IPv6 TURN support is not finished yet"), so that a host with IPv6 alone meets its like alone. Browsers do better, as their table shows.
func pionHasNoPath(a, b lab.Kind) bool { return nats[a].family != nats[b].family }

// TestGoPeersThroughEveryNAT makes the whole table with Go peers, which connect as a device or a server would.
func TestGoPeersThroughEveryNAT(t *testing.T) {
	n := newNetwork(t)
	first, second := twoOfEach(n)
	var results table
	t.Run("pairs", func(t *testing.T) {
		for _, pair := range pairs() {
			t.Run(pair[0].String()+"-"+pair[1].String(), func(t *testing.T) {
				t.Parallel()
				hosts := [2]*lab.Host{first[pair[0]], second[pair[1]]}
				if pionHasNoPath(pair[0], pair[1]) {
					// Pairs are ordered, and this kind is the last.
					r := startGoPeer(t, hosts[1], n.certificate.CertFile, goPeerOrders{URL: n.site(hosts[1]), Channel: channelName(t), Name: "alone", GatherOnly: true})()
					if r.Error != "" || len(r.Gathered) == 0 {
						t.Errorf("gathered %v, %s", r.Gathered, r.Error)
					}
					if slices.Contains(r.Gathered, "relay") {
						t.Errorf("pion has learned to gather relayed candidates over IPv6: this pair can be tried")
					}
					results.set(pair[0], pair[1], "none")
					return
				}
				var reports [2]func() goPeerReport
				for i, h := range hosts {
					reports[i] = startGoPeer(t, h, n.certificate.CertFile, goPeerOrders{URL: n.site(h), Channel: channelName(t), Name: []string{"Mina", "Jun"}[i]})
				}
				var cell []string
				for i, report := range reports {
					r := report()
					if r.Error != "" {
						t.Errorf("%v to %v: %s", pair[i], pair[1-i], r.Error)
						cell = append(cell, "failed 0")
						continue
					}
					if complaint := r.Path.check(pair[i], pair[1-i], base); complaint != "" {
						t.Errorf("%v to %v: got the path %v, %s", pair[i], pair[1-i], r.Path, complaint)
					}
					cell = append(cell, fmt.Sprintf("%v %d", r.Path, r.MS))
				}
				results.set(pair[0], pair[1], "%s", cell[0])
			})
		}
	})
	t.Logf("Go peers: path as the row sees it, and milliseconds from the start of its process to the first message\n%s", &results)
}
