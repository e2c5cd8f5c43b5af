// Package relay is the load behind "madang bench relay": TURN clients, each with a peer, between whom media-like bursts pass through the server, half
// of them upstream and half downstream. It measures what a relayed packet costs the server. It speaks RFC 8656 alone, so that any TURN server can be
// put under the same load.
package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/bench/measure"
)

// A Credential is a long-term one (RFC 8489 §9.2).
type Credential struct{ Username, Password string }

// Config is a load.
type Config struct {
	Server      string          // host:port
	Transport   string          // to the server: udp, tcp or tls
	Mode        string          // channels or indications
	Process     measure.Process // of the server, if it runs on this machine; 0: its cost is not measured
	Credentials []Credential    // taken in turn
	PeerAddress netip.Addr      // where peers wait
	Clients     int
	Bps         float64 // of one client, both directions together, payload alone
	Payload     int     // bytes of one packet
	Duration    time.Duration
	Rounds      int
}

// A Result is what was seen. Figures about the server are 0 if its process is not known.
type Result struct {
	Transport string        `json:"transport"`
	Mode      string        `json:"mode"`
	Clients   int           `json:"clients"`
	Bps       float64       `json:"bits_per_second_per_client"`
	Payload   int           `json:"payload_bytes"`
	Duration  time.Duration `json:"round_ns"`
	Setup     Setup         `json:"setup"`
	Rounds    []Round       `json:"rounds"`
	Median    Round         `json:"median"`
	RSSMiB    float64       `json:"server_rss_mib"` // at the end
}

// Setup is about making an allocation, with its challenge and channel.
type Setup struct {
	ServerMicros float64 `json:"server_cpu_us"`
	KiB          float64 `json:"server_kib"`
}

// A Round is a stretch of time.
type Round struct {
	PerSecond       float64     `json:"packets_per_second"` // relayed, and arrived
	Sent            int64       `json:"sent"`
	LossPercent     float64     `json:"loss_percent"`
	ServerMicros    float64     `json:"server_cpu_us"` // per relayed packet
	GeneratorMicros float64     `json:"generator_cpu_us"`
	Lag             measure.Lag `json:"lag"` // from one side's write to the other's read
}

const (
	// framesPerSecond is the pace of the bursts: a camera's.
	framesPerSecond = 26
	// maxRun is below the five minutes for which a permission lasts (RFC 8656 §9), so that nothing has to be renewed.
	maxRun = 4 * time.Minute
)

func (c *Config) validate() error {
	switch {
	case !slices.Contains([]string{"udp", "tcp", "tls"}, c.Transport):
		return fmt.Errorf("transport: %q is not udp, tcp or tls", c.Transport)
	case !slices.Contains([]string{"channels", "indications"}, c.Mode):
		return fmt.Errorf("mode: %q is not channels or indications", c.Mode)
	case c.Clients < 1 || c.Clients > 10_000:
		return fmt.Errorf("clients: %d is not between 1 and 10000", c.Clients)
	case c.Bps <= 0 || c.Bps > 1e9:
		return errors.New("rate: must be between 0 and 1000 Mbit/s")
	case c.Payload < 16 || c.Payload > 1400 || c.Payload%4 != 0:
		return fmt.Errorf("payload: %d is not a multiple of 4 between 16 and 1400", c.Payload)
	case c.Duration < time.Second || c.Rounds < 1 || c.Duration*time.Duration(c.Rounds) > maxRun:
		return fmt.Errorf("duration, rounds: at least a second and one round, together at most %v", maxRun)
	case len(c.Credentials) == 0:
		return errors.New("username, credential: the server wants them")
	}
	return nil
}

// A load is a run in progress.
type load struct {
	cfg     Config
	epoch   time.Time
	clients []*client
	lags    atomic.Pointer[measure.Lags] // of the present round
	got     atomic.Int64
}

// Run makes the load, and returns when all is closed.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l := &load{cfg: cfg, epoch: time.Now()}
	l.lags.Store(&measure.Lags{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer func() {
		for _, c := range l.clients {
			c.close()
		}
	}()
	res := &Result{Transport: cfg.Transport, Mode: cfg.Mode, Clients: cfg.Clients, Bps: cfg.Bps, Payload: cfg.Payload, Duration: cfg.Duration}
	before, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	for i := range cfg.Clients {
		c, err := open(ctx, &cfg, cfg.Credentials[i%len(cfg.Credentials)])
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		l.clients = append(l.clients, c)
		readers.Go(func() { l.readClient(c) })
		readers.Go(func() { l.readPeer(c) })
	}
	after, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	res.Setup = Setup{ServerMicros: measure.CPUBetween(before, after, int64(cfg.Clients)), KiB: float64(after.RSS-before.RSS) / 1024 / float64(cfg.Clients)}
	for range cfg.Rounds {
		r, err := l.round(ctx)
		if err != nil {
			return nil, err
		}
		res.Rounds = append(res.Rounds, r)
	}
	res.Median = median(res.Rounds)
	end, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	res.RSSMiB = measure.MiB(end.RSS)
	return res, nil
}

// A payload begins with the time of its sending, in nanoseconds since epoch.
func (l *load) stamp(b []byte) { binary.BigEndian.PutUint64(b, uint64(time.Since(l.epoch))) }

func (l *load) arrived(b []byte) {
	if len(b) != l.cfg.Payload {
		return
	}
	l.lags.Load().Add(time.Since(l.epoch) - time.Duration(binary.BigEndian.Uint64(b)))
	l.got.Add(1)
}

// readClient and readPeer end when their sockets are closed.
func (l *load) readClient(c *client) {
	for {
		b, err := c.receive()
		if err != nil {
			return
		}
		l.arrived(b)
	}
}

func (l *load) readPeer(c *client) {
	buf := make([]byte, maxMessage)
	for {
		n, _, err := c.peer.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		l.arrived(buf[:n])
	}
}

// lossPatience is how long a packet may take before it counts as lost.
const lossPatience = 2 * time.Second

func (l *load) round(ctx context.Context) (Round, error) {
	lags := &measure.Lags{}
	l.lags.Store(lags)
	l.got.Store(0)
	self, err := measure.Self().Usage()
	known := err == nil
	before, err := l.cfg.Process.Usage()
	if err != nil {
		return Round{}, err
	}
	began := time.Now()
	var senders sync.WaitGroup
	var sent [2]int64
	var failed [2]error
	senders.Go(func() {
		sent[0], failed[0] = l.pace(ctx, began, func(c *client) error {
			l.stamp(c.bytes)
			_, err := c.conn.Write(c.up)
			return err
		})
	})
	senders.Go(func() {
		packet := make([]byte, l.cfg.Payload)
		sent[1], failed[1] = l.pace(ctx, began, func(c *client) error {
			l.stamp(packet)
			_, err := c.peer.WriteToUDPAddrPort(packet, c.relayed)
			return err
		})
	})
	senders.Wait()
	seconds := time.Since(began).Seconds()
	if err := errors.Join(failed[:]...); err != nil {
		return Round{}, err
	}
	all := sent[0] + sent[1]
	for deadline := time.Now().Add(lossPatience); l.got.Load() < all && time.Now().Before(deadline); {
		if err := measure.Sleep(ctx, 10*time.Millisecond); err != nil {
			return Round{}, err
		}
	}
	after, err := l.cfg.Process.Usage()
	if err != nil {
		return Round{}, err
	}
	got := l.got.Load()
	r := Round{PerSecond: float64(got) / seconds, Sent: all, LossPercent: 100 * float64(all-got) / float64(max(1, all)),
		ServerMicros: measure.CPUBetween(before, after, got), Lag: lags.Quantiles()}
	if now, err := measure.Self().Usage(); err == nil && known {
		r.GeneratorMicros = measure.CPUBetween(self, now, got)
	}
	return r, nil
}

// pace calls send at half of every client's rate until Duration has passed: a burst for each frame, the clients' frames spread evenly over time.
func (l *load) pace(ctx context.Context, began time.Time, send func(*client) error) (sent int64, err error) {
	perFrame := l.cfg.Bps / 2 / 8 / float64(l.cfg.Payload) / framesPerSecond
	slot := float64(time.Second) / framesPerSecond / float64(len(l.clients))
	slots := int(l.cfg.Duration.Seconds() * framesPerSecond * float64(len(l.clients)))
	for i := range slots {
		if err := measure.Sleep(ctx, time.Duration(float64(i)*slot)-time.Since(began)); err != nil {
			return sent, err
		}
		frame, c := i/len(l.clients), l.clients[i%len(l.clients)]
		for range int(float64(frame+1)*perFrame) - int(float64(frame)*perFrame) {
			if err := send(c); err != nil {
				return sent, err
			}
			sent++
		}
	}
	return sent, nil
}

func median(rounds []Round) Round {
	of := func(f func(Round) float64) float64 { return measure.Median(rounds, f) }
	return Round{
		PerSecond:       of(func(r Round) float64 { return r.PerSecond }),
		Sent:            int64(of(func(r Round) float64 { return float64(r.Sent) })),
		LossPercent:     of(func(r Round) float64 { return r.LossPercent }),
		ServerMicros:    of(func(r Round) float64 { return r.ServerMicros }),
		GeneratorMicros: of(func(r Round) float64 { return r.GeneratorMicros }),
		Lag:             measure.MedianLag(rounds, func(r Round) measure.Lag { return r.Lag }),
	}
}
