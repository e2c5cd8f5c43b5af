// Package throttle has what edges hold clients to limits with: a token bucket of two words, the network that counts as one client's address, a
// bucket for each such network, and slots for each.
package throttle

import (
	"net/netip"
	"sync"
	"time"
)

// A Bucket is a token bucket that may go into debt. Times are counted from an epoch of its user's. Not safe for concurrent use.
type Bucket struct {
	Tokens float64
	At     time.Duration // when Tokens was right
}

// Take takes one token and returns 0; or, if there is none, how long until there is one. It takes it then too, until the debt is as large as
// allowed; with broke it would become larger: somebody goes on regardless, instead of waiting.
func (b *Bucket) Take(now time.Duration, perSecond, burst, debt float64) (wait time.Duration, broke bool) {
	b.Tokens = min(burst, b.Tokens+(now-b.At).Seconds()*perSecond)
	b.At = now
	if b.Tokens >= 1 {
		b.Tokens--
		return 0, false
	}
	if broke = b.Tokens-1 < -debt; !broke {
		b.Tokens--
	}
	return max(time.Millisecond, time.Duration((1-b.Tokens)/perSecond*float64(time.Second))), broke
}

// Network is what counts as one address: an IPv4 address, or the /64 that one IPv6 subscriber has.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Budgets are buckets by network, made when a network is first heard of. Safe for concurrent use.
type Budgets struct {
	perSecond, burst float64

	mu      sync.Mutex
	buckets map[netip.Prefix]*Bucket
}

// NewBudgets gives each network a bucket of that rate and size.
func NewBudgets(perSecond float64, burst int) *Budgets {
	return &Budgets{perSecond: perSecond, burst: float64(burst), buckets: map[netip.Prefix]*Bucket{}}
}

// Take takes one token of the network and returns 0; or, if there is none, how long until there is one.
func (b *Budgets) Take(network netip.Prefix, now time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	bucket := b.buckets[network]
	if bucket == nil {
		bucket = &Bucket{Tokens: b.burst, At: now}
		b.buckets[network] = bucket
	}
	wait, _ := bucket.Take(now, b.perSecond, b.burst, 0)
	return wait
}

// Forget lets go of the buckets that must be full again.
func (b *Budgets) Forget(now time.Duration) {
	full := time.Duration(b.burst / b.perSecond * float64(time.Second))
	b.mu.Lock()
	defer b.mu.Unlock()
	for network, bucket := range b.buckets {
		if now-bucket.At > full {
			delete(b.buckets, network)
		}
	}
}

// Slots are places for what costs memory before anything is known of it, so many for each network: links that have not joined yet, bodies that are being read.
// Not safe for concurrent use: they stand beside what they count, under its lock.
type Slots struct {
	limit int
	sum   int
	taken map[netip.Prefix]int
}

// NewSlots gives each network that many.
func NewSlots(limit int) *Slots {
	return &Slots{limit: limit, taken: map[netip.Prefix]int{}}
}

// Take takes one of the network's, if there is one.
func (s *Slots) Take(network netip.Prefix) bool {
	if s.taken[network] >= s.limit {
		return false
	}
	s.taken[network]++
	s.sum++
	return true
}

// Give returns one that was taken.
func (s *Slots) Give(network netip.Prefix) {
	if s.taken[network]--; s.taken[network] == 0 {
		delete(s.taken, network)
	}
	s.sum--
}

// Taken is the number of those of all networks.
func (s *Slots) Taken() int { return s.sum }
