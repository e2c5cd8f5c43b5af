package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimited bounds the memory of a limiter. An attacker with more addresses than that gets each one's burst anew, and no memory.
const maxLimited = 10_000

// A limiter holds each of many to a rate, with bursts of four seconds' worth.
type limiter struct {
	mu sync.Mutex
	of map[string]*limited
}

type limited struct {
	*rate.Limiter
	last time.Time
}

func newLimiter() *limiter { return &limiter{of: map[string]*limited{}} }

// wait returns how long id has to wait; 0: go on. take says whether this one counts, or only asks.
func (l *limiter) wait(id string, perSecond float64, take bool) time.Duration {
	now := time.Now()
	burst := max(1, int(4*perSecond))
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.of[id]
	if e == nil {
		if !take {
			return 0
		}
		l.makeRoom(now)
		e = &limited{Limiter: rate.NewLimiter(rate.Limit(perSecond), burst)}
		l.of[id] = e
	}
	e.last = now
	if e.Limit() != rate.Limit(perSecond) || e.Burst() != burst { // the project's settings have changed
		e.SetLimitAt(now, rate.Limit(perSecond))
		e.SetBurstAt(now, burst)
	}
	r := e.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 || !take {
		r.CancelAt(now)
	}
	return wait
}

// makeRoom forgets those who have been quiet long enough to have their whole burst back, or, if nobody was, everybody.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.of) < maxLimited {
		return
	}
	for id, e := range l.of {
		if now.Sub(e.last) > 4*time.Second {
			delete(l.of, id)
		}
	}
	if len(l.of) >= maxLimited {
		clear(l.of)
	}
}
