package signalserver

import "time"

// A bucket is a token bucket that may go into debt. Times are counted from the server's epoch. Not safe for concurrent use.
type bucket struct {
	tokens float64
	at     time.Duration
}

// take takes one token and returns 0; or, if there is none, how long until there is one. It takes it then too, until the debt is as large as
// allowed; with broke it would become larger: somebody goes on regardless, instead of waiting.
func (b *bucket) take(now time.Duration, perSecond, burst, debt float64) (wait time.Duration, broke bool) {
	b.tokens = min(burst, b.tokens+(now-b.at).Seconds()*perSecond)
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return 0, false
	}
	if broke = b.tokens-1 < -debt; !broke {
		b.tokens--
	}
	return max(time.Millisecond, time.Duration((1-b.tokens)/perSecond*float64(time.Second))), broke
}
