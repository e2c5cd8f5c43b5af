// Package linkem emulates a network link in user space: delay, jitter, random and bursty loss, rate and queue. Frames are read from one
// port, kept as long as the emulated link would, and written to the other one. It is for machines whose kernel has no netem, and for tests
// that need the same losses again: all randomness comes from a seed.
//
// It is not for high rates: each frame costs two system calls and a wake-up. Some 50,000 frames a second pass on a 2 GHz core.
package linkem

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// Config describes a link; each direction behaves so, independently of the other. The zero value passes everything at once.
type Config struct {
	// Delay is the time from one port to the other, beside serialisation and queueing.
	Delay time.Duration
	// Jitter is the greatest deviation from Delay, uniform to both sides. Frames are not reordered by it, as on most real paths.
	Jitter time.Duration
	// Loss is the share of frames that are lost, 0 to 1.
	Loss float64
	// MeanBurst is the mean number of frames lost in a row. Up to 1 losses are independent; above, they follow the two-state model of
	// Gilbert (1960), which keeps Loss as the mean.
	MeanBurst float64
	// RateBps is the capacity in bits of frames per second; 0 is unlimited.
	RateBps int64
	// QueueBytes bounds what waits for its turn to be sent; frames that find no room are dropped (drop-tail). 0 is the bandwidth-delay product of
	// 100 ms, and at least 16 KiB. It has no effect without RateBps.
	QueueBytes int
	// Seed makes losses and jitter repeatable; the two directions take different sequences from it.
	Seed uint64
}

func (c Config) validate() error {
	switch {
	case c.Delay < 0, c.Jitter < 0, c.RateBps < 0, c.QueueBytes < 0:
		return errors.New("linkem: negative value")
	case c.Jitter > c.Delay:
		return fmt.Errorf("linkem: Jitter %v is more than Delay %v", c.Jitter, c.Delay)
	case c.Loss < 0 || c.Loss > 1:
		return fmt.Errorf("linkem: Loss %v is not within 0 to 1", c.Loss)
	case c.MeanBurst > 1 && c.Loss == 1:
		return errors.New("linkem: MeanBurst means nothing when all is lost")
	}
	return nil
}

// A Port is where frames come and go: each Read returns one, each Write takes one. Close must end a blocked Read.
type Port io.ReadWriteCloser

// Counters count frames of one direction.
type Counters struct {
	Passed, Lost, Overflowed, Cut uint64
}

// A Link joins two ports. Its methods may be called concurrently.
type Link struct {
	ports      [2]Port
	directions [2]*direction // [0] is from ports[0] to ports[1]
}

// New makes a link, which works while Run does. The ports are closed by Run.
func New(config Config, a, b Port) (*Link, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	l := &Link{ports: [2]Port{a, b}}
	for i := range l.directions {
		l.directions[i] = &direction{shaper: newShaper(config, uint64(i)), wake: make(chan struct{}, 1)}
	}
	return l, nil
}

// Set changes the link from the next frame on. Those on their way are not touched. The seed starts anew.
func (l *Link) Set(config Config) error {
	if err := config.validate(); err != nil {
		return err
	}
	for i, d := range l.directions {
		d.mu.Lock()
		next := newShaper(config, uint64(i))
		next.cut, next.counters = d.shaper.cut, d.shaper.counters
		next.lastDelivery, next.busyUntil = d.shaper.lastDelivery, d.shaper.busyUntil
		d.shaper = next
		d.mu.Unlock()
	}
	return nil
}

// Cut makes the link lose everything, like a pulled plug, until Cut(false).
func (l *Link) Cut(cut bool) {
	for _, d := range l.directions {
		d.mu.Lock()
		d.shaper.cut = cut
		d.mu.Unlock()
	}
}

// Counters returns what happened from the first port to the second, and back.
func (l *Link) Counters() (ab, ba Counters) {
	var c [2]Counters
	for i, d := range l.directions {
		d.mu.Lock()
		c[i] = d.shaper.counters
		d.mu.Unlock()
	}
	return c[0], c[1]
}

// Run forwards frames until ctx ends; then it closes the ports and returns when its goroutines have ended. It returns an error if a port fails.
func (l *Link) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i, d := range l.directions {
		from, to := l.ports[i], l.ports[1-i]
		wg.Go(func() { cancel(d.read(from)) })
		wg.Go(func() { cancel(d.write(ctx, to)) })
	}
	<-ctx.Done()
	// Both closed before the wait: each ends a reader.
	errs := []error{l.ports[0].Close(), l.ports[1].Close()}
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		errs = append(errs, cause)
	}
	return errors.Join(errs...)
}

// direction is one way of a link.
type direction struct {
	wake chan struct{} // a frame has been queued that is due before all others

	mu     sync.Mutex // guards what follows; held for no I/O
	shaper *shaper
	queue  frames
	order  uint64
}

const maxFrame = 64 << 10

// maxInFlight bounds the frames on the emulated wire: 100,000 full frames a second for a second are more than linkem can pass.
const maxInFlight = 100_000

// read takes frames from the port until it fails, which Close makes it do.
func (d *direction) read(from Port) error {
	buf := make([]byte, maxFrame)
	for {
		n, err := from.Read(buf)
		if err != nil {
			if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
				return nil
			}
			return err
		}
		now := time.Now()
		d.mu.Lock()
		due, ok := d.shaper.admit(now, n)
		if ok && len(d.queue) < maxInFlight {
			d.order++
			heap.Push(&d.queue, frame{due: due, order: d.order, data: append([]byte(nil), buf[:n]...)})
		} else if ok {
			d.shaper.counters.Overflowed++
		}
		first := ok && len(d.queue) > 0 && d.queue[0].order == d.order
		d.mu.Unlock()
		if first {
			select {
			case d.wake <- struct{}{}:
			default:
			}
		}
	}
}

// write delivers frames when they are due.
func (d *direction) write(ctx context.Context, to Port) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		d.mu.Lock()
		var data []byte
		wait := time.Hour
		if len(d.queue) > 0 {
			if wait = time.Until(d.queue[0].due); wait <= 0 {
				data = heap.Pop(&d.queue).(frame).data
			}
		}
		d.mu.Unlock()
		if data != nil {
			if _, err := to.Write(data); err != nil {
				if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
					return nil
				}
				if transient(err) {
					continue // the interface is down or its queue full: a frame is lost, as it is on such a link
				}
				return err
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-d.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// frame is one on its way. Frames due at the same instant keep their order.
type frame struct {
	due   time.Time
	order uint64
	data  []byte
}

type frames []frame

func (f frames) Len() int { return len(f) }
func (f frames) Less(i, j int) bool {
	if f[i].due.Equal(f[j].due) {
		return f[i].order < f[j].order
	}
	return f[i].due.Before(f[j].due)
}
func (f frames) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *frames) Push(x any)   { *f = append(*f, x.(frame)) }
func (f *frames) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = frame{}
	*f = (*f)[:last]
	return x
}

// shaper decides what becomes of a frame. It does no I/O and reads no clock.
type shaper struct {
	config        Config
	random        *rand.Rand
	cut           bool
	inBurst       bool // Gilbert's bad state, in which everything is lost
	toBad, toGood float64
	busyUntil     time.Time // when the last queued bit will have been sent
	lastDelivery  time.Time
	counters      Counters
}

func newShaper(config Config, stream uint64) *shaper {
	s := &shaper{config: config, random: rand.New(rand.NewPCG(config.Seed, stream))}
	if config.MeanBurst > 1 {
		// The bad state lasts 1/toGood frames on average, and its share of all frames, toBad/(toBad+toGood), is the loss.
		s.toGood = 1 / config.MeanBurst
		s.toBad = s.toGood * config.Loss / (1 - config.Loss)
	}
	if s.config.RateBps > 0 && s.config.QueueBytes == 0 {
		s.config.QueueBytes = max(16<<10, int(s.config.RateBps/8/10))
	}
	return s
}

// admit says when a frame of n bytes that comes now leaves the link; ok is false if it never does.
func (s *shaper) admit(now time.Time, n int) (due time.Time, ok bool) {
	if s.cut {
		s.counters.Cut++
		return time.Time{}, false
	}
	if s.lose() {
		s.counters.Lost++
		return time.Time{}, false
	}
	due = now
	if s.config.RateBps > 0 {
		start := now
		if s.busyUntil.After(now) {
			start = s.busyUntil
		}
		waiting := start.Sub(now).Seconds() * float64(s.config.RateBps) / 8
		if int(waiting)+n > s.config.QueueBytes {
			s.counters.Overflowed++
			return time.Time{}, false
		}
		due = start.Add(time.Duration(float64(n) * 8 / float64(s.config.RateBps) * float64(time.Second)))
		s.busyUntil = due
	}
	due = due.Add(s.config.Delay)
	if s.config.Jitter > 0 {
		due = due.Add(time.Duration(s.random.Int64N(int64(2*s.config.Jitter)+1)) - s.config.Jitter)
	}
	if due.Before(s.lastDelivery) {
		due = s.lastDelivery
	}
	s.lastDelivery = due
	s.counters.Passed++
	return due, true
}

func (s *shaper) lose() bool {
	if s.config.MeanBurst <= 1 {
		return s.config.Loss > 0 && s.random.Float64() < s.config.Loss
	}
	if s.inBurst {
		s.inBurst = s.random.Float64() >= s.toGood
	} else {
		s.inBurst = s.random.Float64() < s.toBad
	}
	return s.inBurst
}
