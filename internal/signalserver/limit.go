package signalserver

import "time"

// A bucket is a token bucket that may go into debt. Times are counted from the server's epoch. Not safe for concurrent use.
type bucket struct {
	tokens float64
	at     time.Duration
}

// take takes one token and returns 0; or, if there is none, how long until there is one. It still takes it then, until the debt is as
// large as allowed: so that somebody who goes on regardless can be told from somebody who waits.
func (b *bucket) take(now time.Duration, perSecond, burst, debt float64) time.Duration {
	b.tokens = min(burst, b.tokens+(now-b.at).Seconds()*perSecond)
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	wait := time.Duration((1 - b.tokens) / perSecond * float64(time.Second))
	if b.tokens-1 >= -debt {
		b.tokens--
	}
	return max(wait, time.Millisecond)
}
