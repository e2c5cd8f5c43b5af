// Package signal is the load behind "madang bench signal": many peers, two to a channel, that mostly do nothing, and among whom so many messages a
// second pass. It measures what a message and an idle connection cost the server.
//
// The peers are signalclient's, so the load is the whole protocol: heartbeats, acknowledgements, a resume if a link is lost.
package signal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/bench/measure"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

// Config is a load. Server and Key are required.
type Config struct {
	Server    string          // base URL
	Key       string          // browser key
	Process   measure.Process // of the server, if it runs on this machine; 0: its cost is not measured
	Transport string          // signalclient.WebSocket (default) or signalclient.SSE
	Peers     int             // all that are connected
	Talking   int             // of them: those among whom messages pass; 0: all
	PerSecond int             // messages, of all together
	Bytes     int             // of one message's data
	Duration  time.Duration   // of a round
	Rounds    int
}

// A Result is what was seen. Figures about the server are 0 if its process is not known.
type Result struct {
	Transport string        `json:"transport"`
	Peers     int           `json:"peers"`
	Talking   int           `json:"talking"`
	PerSecond int           `json:"wanted_messages_per_second"`
	Bytes     int           `json:"message_bytes"`
	Duration  time.Duration `json:"round_ns"`
	Joins     Joins         `json:"joins"`
	Idle      Idle          `json:"idle"`
	Rounds    []Round       `json:"rounds"`
	Median    Round         `json:"median"`
	Memory    Memory        `json:"memory"`
	// Links that were lost, and opened again.
	Reconnects int `json:"reconnects"`
}

// Joins are about connecting all peers, as fast as the server takes them.
type Joins struct {
	PerSecond    float64 `json:"per_second"`
	ServerMicros float64 `json:"server_cpu_us"` // for one
}

// Idle is the time when all are connected and only heartbeats pass: of rounds of half a minute and more, one interval of theirs.
type Idle struct {
	ServerPercent float64 `json:"server_cpu_percent"` // of one core
}

// A Round is a stretch of time in which messages pass.
type Round struct {
	PerSecond       float64     `json:"messages_per_second"`
	Sent            int64       `json:"sent"`
	Lost            int64       `json:"lost"`
	ServerMicros    float64     `json:"server_cpu_us"` // per message, heartbeats and all
	GeneratorMicros float64     `json:"generator_cpu_us"`
	Lag             measure.Lag `json:"lag"` // from one peer's Send to the other's OnMessage
}

// Memory is the server's resident set, looked at once a second while messages pass, and its live heap, every five seconds: the resident set rises in steps where the collector
// lets garbage wait, and what is live shows whether anything is kept. The live heap is 0 if the server does not show its metrics to us.
type Memory struct {
	EmptyMiB   float64 `json:"empty_mib"`    // before the first peer
	IdleMiB    float64 `json:"idle_mib"`     // all connected
	KiBPerPeer float64 `json:"kib_per_peer"` // the difference
	FirstMiB   float64 `json:"first_third_mib"`
	LastMiB    float64 `json:"last_third_mib"`
	MaxMiB     float64 `json:"max_mib"`

	LiveIdleMiB  float64 `json:"live_idle_mib"`
	LiveFirstMiB float64 `json:"live_first_third_mib"`
	LiveLastMiB  float64 `json:"live_last_third_mib"`

	// Samples are all of them, in order.
	Samples     []float64 `json:"samples_mib"`
	LiveSamples []float64 `json:"live_samples_mib"`
}

// What one client may do, with room for heartbeats (docs/protocol.md §7).
const (
	mostPerPeer = 80
	leastBytes  = 64
	mostBytes   = 60 << 10
)

func (c *Config) validate() error {
	c.Talking = cmp.Or(c.Talking, c.Peers)
	switch {
	case c.Peers < 2 || c.Peers%2 != 0:
		return fmt.Errorf("peers: %d is not an even number from 2", c.Peers)
	case c.Talking < 2 || c.Talking%2 != 0 || c.Talking > c.Peers:
		return fmt.Errorf("talking: %d is not an even number from 2 to %d", c.Talking, c.Peers)
	case c.PerSecond < 1 || c.PerSecond > c.Talking*mostPerPeer:
		return fmt.Errorf("rate: %d messages a second is not between 1 and what %d peers may send, %d", c.PerSecond, c.Talking, c.Talking*mostPerPeer)
	case c.Bytes < leastBytes || c.Bytes > mostBytes:
		return fmt.Errorf("bytes: %d is not between %d and %d", c.Bytes, leastBytes, mostBytes)
	case c.Duration < time.Second || c.Rounds < 1:
		return errors.New("duration, rounds: at least a second, and one round")
	}
	return nil
}

// A load is a run in progress.
type load struct {
	cfg   Config
	epoch time.Time
	peers []*signalclient.Session
	live  []float64                    // of the heap, in MiB
	lags  atomic.Pointer[measure.Lags] // of the present round
	got   atomic.Int64
}

// Run makes the load and returns when all peers have gone.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l := &load{cfg: cfg, epoch: time.Now(), peers: make([]*signalclient.Session, cfg.Peers)}
	l.lags.Store(&measure.Lags{})
	res := &Result{Transport: cmp.Or(cfg.Transport, signalclient.WebSocket), Peers: cfg.Peers, Talking: cfg.Talking, PerSecond: cfg.PerSecond,
		Bytes: cfg.Bytes, Duration: cfg.Duration}
	defer l.close()

	empty, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := l.join(ctx); err != nil {
		return nil, err
	}
	joined, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	res.Joins = Joins{PerSecond: float64(cfg.Peers) / time.Since(began).Seconds(), ServerMicros: measure.CPUBetween(empty, joined, int64(cfg.Peers))}

	calm := min(heartbeats, cfg.Duration/2)
	if err := measure.Sleep(ctx, calm); err != nil { // the last joins are being digested
		return nil, err
	}
	before, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	if err := measure.Sleep(ctx, calm); err != nil {
		return nil, err
	}
	idle, err := cfg.Process.Usage()
	if err != nil {
		return nil, err
	}
	res.Idle.ServerPercent = 100 * (idle.CPU - before.CPU).Seconds() / calm.Seconds()
	res.Memory = Memory{EmptyMiB: measure.MiB(empty.RSS), IdleMiB: measure.MiB(idle.RSS), KiBPerPeer: float64(idle.RSS-empty.RSS) / 1024 / float64(cfg.Peers)}

	res.Memory.LiveIdleMiB = measure.MiB(measure.LiveHeap(ctx, cfg.Server))

	var memory []float64
	for range cfg.Rounds {
		round, err := l.round(ctx, &memory)
		if err != nil {
			return nil, err
		}
		res.Rounds = append(res.Rounds, round)
	}
	res.Median = median(res.Rounds)
	m := &res.Memory
	m.Samples, m.LiveSamples = memory, l.live
	m.FirstMiB, m.LastMiB, m.MaxMiB = thirds(m.Samples)
	m.LiveFirstMiB, m.LiveLastMiB, _ = thirds(m.LiveSamples)
	for _, p := range l.peers {
		res.Reconnects += p.Links() - 1
	}
	return res, nil
}

// heartbeats is how often each idle peer is heard (docs/protocol.md §3): a shorter look at idle peers sees a part of what they cost, or nothing of it right after they joined.
const heartbeats = 15 * time.Second

const (
	joiners      = 32  // at a time
	perAddress   = 100 // peers that come from one address, where we can choose it: below the server's limits for one
	joinPatience = time.Minute
)

// join connects all peers. On loopback they come from many addresses, as they do in life.
func (l *load) join(ctx context.Context) error {
	server, err := url.Parse(l.cfg.Server)
	if err != nil {
		return err
	}
	address := net.ParseIP(server.Hostname())
	loopback := address.To4() != nil && address.IsLoopback()
	client := func(i int) *http.Client {
		dialer := &net.Dialer{}
		if loopback {
			n := i / perAddress
			dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 9, byte(n/250), byte(1+n%250))}
		}
		return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: perAddress}}
	}
	clients := make([]*http.Client, (l.cfg.Peers+perAddress-1)/perAddress)
	for i := range clients {
		clients[i] = client(i * perAddress)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range joiners {
		wg.Go(func() {
			for i := range next {
				s, err := l.joinOne(ctx, clients[i/perAddress], i)
				if err != nil {
					cancel(fmt.Errorf("peer %d: %w", i, err))
					return
				}
				l.peers[i] = s
			}
		})
	}
feed:
	for i := range l.cfg.Peers {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// joinOne tries again when the server says that we are too fast.
func (l *load) joinOne(ctx context.Context, client *http.Client, i int) (*signalclient.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for {
		s, err := signalclient.Join(ctx, signalclient.Config{
			URL: l.cfg.Server + "/v1/signal", Transport: l.cfg.Transport, HTTPClient: client, OnMessage: l.receive,
			Header: http.Header{"Origin": {l.cfg.Server}}, // as the server's own pages do
			Join:   signal.Join{Channel: "bench-" + strconv.Itoa(i/2), Key: l.cfg.Key},
		})
		var no *signalclient.Refused
		if !errors.As(err, &no) || no.Code != string(refusal.RateLimited) {
			return s, err
		}
		if err := measure.Sleep(ctx, time.Duration(no.RetryAfterMs)*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// stamp begins each message's data: the time of its sending follows, in nanoseconds since epoch.
const stamp = `{"t":`

// receive is OnMessage of all peers.
func (l *load) receive(m signal.ServerMessage) {
	s, ok := m.(*signal.FromSignal)
	if !ok {
		return
	}
	digits, ok := bytes.CutPrefix(s.Data, []byte(stamp))
	end := bytes.IndexByte(digits, ',')
	if !ok || end < 0 {
		return
	}
	if sent, err := strconv.ParseInt(string(digits[:end]), 10, 64); err == nil {
		l.lags.Load().Add(time.Since(l.epoch) - time.Duration(sent))
		l.got.Add(1)
	}
}

// liveEvery is how many looks at the memory have one at the live heap: the server has to collect all its metrics for it.
const liveEvery = 5

// lossPatience is how long a message may take before it counts as lost.
const lossPatience = 5 * time.Second

// round sends for Duration, at an even pace, each message from the next peer to its partner.
func (l *load) round(ctx context.Context, memory *[]float64) (Round, error) {
	lags := &measure.Lags{}
	l.lags.Store(lags)
	l.got.Store(0)
	self, err := measure.Self().Usage()
	known := err == nil
	before, err := l.cfg.Process.Usage()
	if err != nil {
		return Round{}, err
	}
	padding := bytes.Repeat([]byte("."), l.cfg.Bytes)
	total := int64(l.cfg.Duration.Seconds() * float64(l.cfg.PerSecond))
	gap := float64(time.Second) / float64(l.cfg.PerSecond)
	began := time.Now()
	every := min(time.Second, l.cfg.Duration/10)
	look := began
	var sent int64
	for ; sent < total; sent++ {
		if err := measure.Sleep(ctx, time.Duration(float64(sent)*gap)-time.Since(began)); err != nil {
			return Round{}, err
		}
		if now := time.Now(); now.Sub(look) >= every {
			look = now
			u, err := l.cfg.Process.Usage()
			if err != nil {
				return Round{}, err
			}
			*memory = append(*memory, measure.MiB(u.RSS))
			if len(*memory)%liveEvery == 0 {
				l.live = append(l.live, measure.MiB(measure.LiveHeap(ctx, l.cfg.Server)))
			}
		}
		from := int(sent % int64(l.cfg.Talking))
		data := make([]byte, 0, l.cfg.Bytes)
		data = append(strconv.AppendInt(append(data, stamp...), int64(time.Since(l.epoch)), 10), `,"pad":"`...)
		data = append(append(data, padding[:l.cfg.Bytes-len(data)-len(`"}`)]...), `"}`...)
		if err := l.peers[from].Send(ctx, &signal.Signal{To: l.peers[from^1].Peer(), Data: json.RawMessage(data)}); err != nil {
			return Round{}, fmt.Errorf("peer %d: %w", from, err)
		}
	}
	seconds := time.Since(began).Seconds()
	for deadline := time.Now().Add(lossPatience); l.got.Load() < sent && time.Now().Before(deadline); {
		if err := measure.Sleep(ctx, 10*time.Millisecond); err != nil {
			return Round{}, err
		}
	}
	after, err := l.cfg.Process.Usage()
	if err != nil {
		return Round{}, err
	}
	got := l.got.Load()
	r := Round{PerSecond: float64(got) / seconds, Sent: sent, Lost: sent - got, ServerMicros: measure.CPUBetween(before, after, got), Lag: lags.Quantiles()}
	if now, err := measure.Self().Usage(); err == nil && known {
		r.GeneratorMicros = measure.CPUBetween(self, now, got)
	}
	return r, nil
}

// close ends all peers, many at a time: each waits for its link.
func (l *load) close() {
	var wg sync.WaitGroup
	next := make(chan *signalclient.Session)
	for range joiners {
		wg.Go(func() {
			for s := range next {
				s.Close()
			}
		})
	}
	for _, s := range l.peers {
		if s != nil {
			next <- s
		}
	}
	close(next)
	wg.Wait()
}

func median(rounds []Round) Round {
	of := func(f func(Round) float64) float64 { return measure.Median(rounds, f) }
	return Round{
		PerSecond:       of(func(r Round) float64 { return r.PerSecond }),
		Sent:            int64(of(func(r Round) float64 { return float64(r.Sent) })),
		Lost:            int64(of(func(r Round) float64 { return float64(r.Lost) })),
		ServerMicros:    of(func(r Round) float64 { return r.ServerMicros }),
		GeneratorMicros: of(func(r Round) float64 { return r.GeneratorMicros }),
		Lag:             measure.MedianLag(rounds, func(r Round) measure.Lag { return r.Lag }),
	}
}

// thirds takes the mean of the first and of the last third of the samples, and the largest: equal means say that memory is flat.
func thirds(samples []float64) (first, last, most float64) {
	third := len(samples) / 3
	if third == 0 {
		return 0, 0, 0
	}
	mean := func(v []float64) float64 {
		sum := 0.0
		for _, x := range v {
			sum += x
		}
		return sum / float64(len(v))
	}
	return mean(samples[:third]), mean(samples[len(samples)-third:]), slices.Max(samples)
}
