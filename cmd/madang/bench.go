package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/bench/measure"
	benchrelay "github.com/madang-rtc/madang/internal/bench/relay"
	benchsignal "github.com/madang-rtc/madang/internal/bench/signal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

// benchCmd measures. Without --server it starts a node of its own on loopback, as a process of its own, and ends it afterwards.
type benchCmd struct {
	Signal benchSignalCmd `cmd:"" help:"Load signaling: many idle peers, and messages between pairs of them."`
	Relay  benchRelayCmd  `cmd:"" help:"Load a TURN server: packets through allocations, both ways."`

	Transfer benchTransferCmd `cmd:"" help:"Send a file from end to end on this machine, over each kind of connection."`
}

// benchFlags are those of all loads.
type benchFlags struct {
	Duration time.Duration `help:"How long one round lasts." default:"10s"`
	Rounds   int           `help:"How many rounds; the medians count." default:"3"`
	PID      int           `name:"pid" help:"Process of --server on this machine, to measure its CPU time and memory." placeholder:"N"`
	JSON     bool          `name:"json" help:"Print JSON."`
}

func (f benchFlags) print(w io.Writer, result any, text func()) error {
	if !f.JSON {
		text()
		return nil
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(result)
}

type benchSignalCmd struct {
	benchFlags `embed:""`
	Server     string `help:"Base URL of a node that runs already, such as http://127.0.0.1:8080." placeholder:"URL"`
	Key        string `help:"Browser key for --server." placeholder:"KEY"`
	Transport  string `help:"websocket or sse." default:"websocket" enum:"websocket,sse"`
	Peers      int    `help:"Peers that are connected, two to a channel." default:"2000"`
	Talking    int    `help:"How many of them talk. Default: all." placeholder:"N"`
	Rate       int    `help:"Messages a second, of all together." default:"2000"`
	Bytes      int    `help:"Size of a message's data." default:"1024"`
}

func (c *benchSignalCmd) Run(ctx context.Context, s streams) error {
	process := measure.Process(c.PID)
	if c.Server == "" {
		node, err := measure.StartNode(ctx)
		if err != nil {
			return err
		}
		defer node.Stop()
		c.Server, c.Key, process = node.HTTP, node.Key, node.Process
	}
	r, err := benchsignal.Run(ctx, benchsignal.Config{
		Server: strings.TrimRight(c.Server, "/"), Key: c.Key, Process: process, Transport: c.Transport,
		Peers: c.Peers, Talking: c.Talking, PerSecond: c.Rate, Bytes: c.Bytes, Duration: c.Duration, Rounds: c.Rounds,
	})
	if err != nil {
		return err
	}
	return c.print(s.out, r, func() {
		m := r.Median
		fmt.Fprintf(s.out, "%d peers over %s, %d of them talk, %d messages/s of %d bytes, %d rounds of %v\n",
			r.Peers, r.Transport, r.Talking, r.PerSecond, r.Bytes, len(r.Rounds), r.Duration)
		fmt.Fprintf(s.out, "  messages    %.0f/s, %d lost, %d links lost\n", m.PerSecond, m.Lost, r.Reconnects)
		fmt.Fprintf(s.out, "  latency     %s\n", lagText(m.Lag))
		if process != 0 {
			fmt.Fprintf(s.out, "  server      %.1f µs CPU per message (%s); idle %.1f %% of a core\n", m.ServerMicros,
				spread(r.Rounds, func(r benchsignal.Round) float64 { return r.ServerMicros }), r.Idle.ServerPercent)
			fmt.Fprintf(s.out, "  memory      %.1f MiB empty, %.1f MiB with idle peers: %.1f KiB each; under load %.1f MiB in the first third, %.1f in the last\n",
				r.Memory.EmptyMiB, r.Memory.IdleMiB, r.Memory.KiBPerPeer, r.Memory.FirstMiB, r.Memory.LastMiB)
			if r.Memory.LiveIdleMiB > 0 {
				fmt.Fprintf(s.out, "  live heap   %.1f MiB with idle peers; under load %.1f MiB in the first third, %.1f in the last\n",
					r.Memory.LiveIdleMiB, r.Memory.LiveFirstMiB, r.Memory.LiveLastMiB)
			}
		}
		fmt.Fprintf(s.out, "  joins       %.0f/s, %.0f µs CPU each\n", r.Joins.PerSecond, r.Joins.ServerMicros)
		fmt.Fprintf(s.out, "  generator   %.1f µs CPU per message\n", m.GeneratorMicros)
	})
}

type benchRelayCmd struct {
	benchFlags  `embed:""`
	Server      string     `help:"TURN server that runs already, such as turn:127.0.0.1:3478?transport=udp or turns:…; it must let its clients reach --peer-address." placeholder:"URL"`
	Username    string     `help:"Username for --server." placeholder:"NAME"`
	Credential  string     `help:"Password for --server." placeholder:"SECRET" env:"MADANG_BENCH_CREDENTIAL"`
	PeerAddress netip.Addr `name:"peer-address" help:"Address of this machine at which the server reaches the peers." default:"127.0.0.1" placeholder:"IP"`
	Transport   string     `help:"udp, tcp or tls, to our own node." default:"udp" enum:"udp,tcp,tls"`
	Mode        string     `help:"channels or indications." default:"channels" enum:"channels,indications"`
	Clients     int        `help:"Allocations." default:"50"`
	Rate        float64    `help:"Mbit/s of each client, half of it upstream and half downstream." default:"4"`
	Payload     int        `help:"Bytes of one packet." default:"1200"`
}

func (c *benchRelayCmd) Run(ctx context.Context, s streams) error {
	cfg := benchrelay.Config{
		Transport: c.Transport, Mode: c.Mode, Process: measure.Process(c.PID), PeerAddress: c.PeerAddress,
		Clients: c.Clients, Bps: c.Rate * 1e6, Payload: c.Payload, Duration: c.Duration, Rounds: c.Rounds,
	}
	if c.Server != "" {
		var err error
		if cfg.Server, cfg.Transport, err = turnServer(c.Server); err != nil {
			return err
		}
		cfg.Credentials = []benchrelay.Credential{{Username: c.Username, Password: c.Credential}}
	} else {
		node, err := measure.StartNode(ctx, "--relay-allow", netip.PrefixFrom(c.PeerAddress, c.PeerAddress.BitLen()).String())
		if err != nil {
			return err
		}
		defer node.Stop()
		cfg.Process = node.Process
		switch c.Transport {
		case "udp":
			cfg.Server = node.UDP
		case "tcp":
			cfg.Server = strings.TrimPrefix(node.HTTP, "http://")
		case "tls":
			cfg.Server = strings.TrimPrefix(node.HTTPS, "https://")
		}
		if cfg.Credentials, err = relayCredentials(ctx, node, c.Clients); err != nil {
			return err
		}
	}
	r, err := benchrelay.Run(ctx, cfg)
	if err != nil {
		return err
	}
	return c.print(s.out, r, func() {
		m := r.Median
		fmt.Fprintf(s.out, "%d clients over %s, %s, %g Mbit/s each in packets of %d bytes, %d rounds of %v\n",
			r.Clients, r.Transport, r.Mode, r.Bps/1e6, r.Payload, len(r.Rounds), r.Duration)
		fmt.Fprintf(s.out, "  packets     %.0f/s, %.2f %% lost\n", m.PerSecond, m.LossPercent)
		fmt.Fprintf(s.out, "  latency     %s\n", lagText(m.Lag))
		if cfg.Process != 0 {
			fmt.Fprintf(s.out, "  server      %.1f µs CPU per relayed packet (%s); %.1f MiB, %.1f KiB and %.0f µs CPU for an allocation\n", m.ServerMicros,
				spread(r.Rounds, func(r benchrelay.Round) float64 { return r.ServerMicros }), r.RSSMiB, r.Setup.KiB, r.Setup.ServerMicros)
		}
		fmt.Fprintf(s.out, "  generator   %.1f µs CPU per packet\n", m.GeneratorMicros)
	})
}

// turnServer reads a URI of RFC 7065.
func turnServer(uri string) (hostPort, transport string, err error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "turn" && u.Scheme != "turns" || u.Opaque == "" {
		return "", "", fmt.Errorf("server: %q is not a URI such as turn:host:3478?transport=udp", uri)
	}
	transport, port := "udp", "3478"
	switch {
	case u.Scheme == "turns":
		transport, port = "tls", "5349"
	case u.Query().Get("transport") == "tcp":
		transport = "tcp"
	}
	if hostPort = u.Opaque; !strings.Contains(hostPort[strings.LastIndexByte(hostPort, ']')+1:], ":") {
		hostPort += ":" + port
	}
	return hostPort, transport, nil
}

// relayCredentials joins the node as a browser does, and takes the credentials that every member gets. An allocation may have a user of its own; more than a
// few users show nothing more.
func relayCredentials(ctx context.Context, node *measure.Node, clients int) ([]benchrelay.Credential, error) {
	const users = 20
	var all []benchrelay.Credential
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range min(users, clients) {
		var ice signal.ICE
		session, err := signalclient.Join(ctx, signalclient.Config{
			URL: node.HTTP + "/v1/signal", Join: signal.Join{Channel: "bench-" + strconv.Itoa(i), Key: node.Key},
			Header: http.Header{"Origin": {node.HTTP}}, // as the node's own pages do
			OnMessage: func(m signal.ServerMessage) {
				if joined, ok := m.(*signal.Joined); ok {
					ice = joined.ICE
				}
			},
		})
		if err != nil {
			return nil, fmt.Errorf("fetch credentials: %w", err)
		}
		session.Close()
		for _, server := range ice.Servers {
			if server.Credential != "" {
				all = append(all, benchrelay.Credential{Username: server.Username, Password: server.Credential})
			}
		}
	}
	return all, nil
}

func lagText(l measure.Lag) string {
	return fmt.Sprintf("%.2f / %.2f / %.2f ms (p50 / p95 / p99)", l.P50, l.P95, l.P99)
}

// spread is the least and the most.
func spread[T any](rounds []T, f func(T) float64) string {
	least, most := f(rounds[0]), f(rounds[0])
	for _, r := range rounds[1:] {
		least, most = min(least, f(r)), max(most, f(r))
	}
	return fmt.Sprintf("%.1f–%.1f", least, most)
}
