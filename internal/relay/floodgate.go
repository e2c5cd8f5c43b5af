package relay

import (
	"net/netip"
	"sync"
	"time"
)

// A floodGate limits requests without credentials per source, so that we neither reflect a flood to a forged source nor spend much on one.
// A source is an IPv4 address or an IPv6 /64, what one customer has. Safe for concurrent use.
type floodGate struct {
	rate float64 // requests per second
	mu   sync.Mutex
	by   map[netip.Prefix]*gateBucket
	rest gateBucket // shared by all sources for which there is no room in by
}

type gateBucket struct {
	tokens float64
	at     time.Time
}

const (
	gateSources = 65536 // entries in by: at about 100 bytes each, 7 MiB at most
	gateBurst   = 5     // seconds
)

func newFloodGate(perSecond int) *floodGate {
	return &floodGate{rate: float64(perSecond), by: map[netip.Prefix]*gateBucket{}}
}

// admit takes one request of src.
func (g *floodGate) admit(src netip.Addr, now time.Time) bool {
	bits := 32
	if src.Is6() {
		bits = 64
	}
	p, err := src.Prefix(bits)
	if err != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.by[p]
	if b == nil {
		if len(g.by) >= gateSources {
			b = &g.rest
		} else {
			b = &gateBucket{tokens: g.rate * gateBurst, at: now}
			g.by[p] = b
		}
	}
	b.fill(g.rate, now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *gateBucket) fill(rate float64, now time.Time) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens = min(b.tokens+d*rate, rate*gateBurst)
		b.at = now
	}
}

// sweep forgets sources that have been quiet long enough to have their full burst again.
func (g *floodGate) sweep(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, b := range g.by {
		if now.Sub(b.at) > gateBurst*time.Second {
			delete(g.by, p)
		}
	}
}
