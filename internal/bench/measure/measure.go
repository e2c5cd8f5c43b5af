// Package measure is what the load generators share: the server under load, which runs as a process of its own so that its cost can be told from
// the generator's, and the arithmetic of the figures.
//
//	node, err := measure.StartNode(ctx)
//	defer node.Stop()
//	before, err := node.Usage()
//
// CPU time and memory come from Linux's /proc; elsewhere Usage is an error, and the figures are left out.
package measure

import (
	"context"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// Median returns the middle of what f says about items, or the mean of the two in the middle; 0 of none.
func Median[T any](items []T, f func(T) float64) float64 {
	n := len(items)
	if n == 0 {
		return 0
	}
	v := make([]float64, 0, n)
	for _, item := range items {
		v = append(v, f(item))
	}
	slices.Sort(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// Sleep waits for d, or until ctx ends, whose error it returns then.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// subBuckets is how many buckets an octave has: a quantile is right within 1/64 of its value.
const subBuckets = 64

// Lags collects durations. The zero value is empty; Add may be called by many at a time, and takes no lock.
type Lags struct {
	buckets [58 * subBuckets]atomic.Uint64
}

// Add counts one. Negative durations count as 0.
func (l *Lags) Add(d time.Duration) {
	l.buckets[bucket(uint64(max(0, d)))].Add(1)
}

// bucket returns which one holds a value: values below subBuckets have one each, every octave above has subBuckets.
func bucket(v uint64) int {
	octave := max(0, bits.Len64(v)-bits.Len64(subBuckets))
	return octave*subBuckets + int(v>>octave)
}

// middle returns the middle of a bucket.
func middle(b int) uint64 {
	octave := max(0, b/subBuckets-1)
	low := uint64(b-octave*subBuckets) << octave
	return low + (1<<octave)/2
}

// Lag is a distribution in milliseconds.
type Lag struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
}

// Quantiles returns the distribution so far.
func (l *Lags) Quantiles() Lag {
	var total uint64
	for i := range l.buckets {
		total += l.buckets[i].Load()
	}
	at := func(q float64) float64 {
		rank := uint64(q * float64(total))
		for i := range l.buckets {
			n := l.buckets[i].Load()
			if rank < n {
				return float64(middle(i)) / 1e6
			}
			rank -= n
		}
		return 0
	}
	return Lag{at(0.50), at(0.95), at(0.99)}
}

// MedianLag takes the median of each quantile.
func MedianLag[T any](items []T, f func(T) Lag) Lag {
	return Lag{
		P50: Median(items, func(t T) float64 { return f(t).P50 }),
		P95: Median(items, func(t T) float64 { return f(t).P95 }),
		P99: Median(items, func(t T) float64 { return f(t).P99 }),
	}
}
