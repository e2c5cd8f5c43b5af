package linkem

import (
	"context"
	"io"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestRateQueuesThenDrops(t *testing.T) {
	// 1 Mbit/s is 125 bytes a millisecond; the queue holds 10 frames of 1,250 bytes, of 10 ms each.
	s := newShaper(Config{RateBps: 1_000_000, QueueBytes: 12_500}, 0)
	for i := range 10 {
		due, ok := s.admit(epoch, 1250)
		if want := epoch.Add(time.Duration(i+1) * 10 * time.Millisecond); !ok || !due.Equal(want) {
			t.Fatalf("frame %d: got %v, %v, want %v", i, due.Sub(epoch), ok, want.Sub(epoch))
		}
	}
	if _, ok := s.admit(epoch, 1250); ok {
		t.Fatal("a frame passed through a full queue")
	}
	if _, ok := s.admit(epoch.Add(10*time.Millisecond), 1250); !ok {
		t.Fatal("no room after a frame was sent")
	}
	if got, want := s.counters, (Counters{Passed: 11, Overflowed: 1}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestJitterIsBoundedAndKeepsOrder(t *testing.T) {
	s := newShaper(Config{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Seed: 7}, 0)
	var last time.Time
	lowest, highest := time.Hour, time.Duration(0)
	for i := range 2000 {
		now := epoch.Add(time.Duration(i) * 100 * time.Millisecond) // far apart, so that order does not push frames
		due, ok := s.admit(now, 100)
		if !ok || due.Before(last) {
			t.Fatalf("frame %d: lost or out of order", i)
		}
		last = due
		lowest, highest = min(lowest, due.Sub(now)), max(highest, due.Sub(now))
	}
	if lowest < 30*time.Millisecond || lowest > 31*time.Millisecond || highest > 70*time.Millisecond || highest < 69*time.Millisecond {
		t.Fatalf("got %v to %v, want 30ms to 70ms", lowest, highest)
	}
	// Close together, a frame never overtakes another.
	for i := range 2000 {
		due, _ := s.admit(last.Add(time.Duration(i)*time.Millisecond), 100)
		if due.Before(s.lastDelivery) {
			t.Fatal("out of order")
		}
	}
}

func TestLossIsAsAskedAndRepeatable(t *testing.T) {
	const frames = 200_000
	for _, test := range []struct{ loss, burst float64 }{{0.02, 0}, {0.2, 1}, {0.05, 4}, {0.2, 10}} {
		run := func() (lost, bursts int, pattern uint64) {
			s := newShaper(Config{Loss: test.loss, MeanBurst: test.burst, Seed: 42}, 1)
			before := true
			for i := range frames {
				_, ok := s.admit(epoch, 100)
				if !ok {
					lost++
					if before {
						bursts++
					}
					pattern = pattern*31 + uint64(i)
				}
				before = ok
			}
			return lost, bursts, pattern
		}
		lost, bursts, pattern := run()
		if got := float64(lost) / frames; math.Abs(got-test.loss) > 0.1*test.loss {
			t.Errorf("%+v: lost %.4f of all", test, got)
		}
		// Independent losses come in runs of 1/(1-loss).
		want := max(test.burst, 1/(1-test.loss))
		if got := float64(lost) / float64(bursts); math.Abs(got-want) > 0.1*want {
			t.Errorf("%+v: mean run of losses %.2f, want %.2f", test, got, want)
		}
		if _, _, again := run(); again != pattern {
			t.Errorf("%+v: the same seed gave other losses", test)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{Delay: -1}, {Loss: 1.1}, {Loss: -0.1}, {Jitter: 1}, {RateBps: -1}, {Loss: 1, MeanBurst: 2}, {QueueBytes: -1}} {
		if _, err := New(c, nil, nil); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// pipePort is one side of two pipes: frames are what is written at once.
type pipePort struct {
	io.Reader
	io.Writer
	close func() error
}

func (p pipePort) Close() error { return p.close() }

func newPort() (port Port, in *io.PipeWriter, out *io.PipeReader) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	return pipePort{inR, outW, func() error { _ = inR.Close(); return outW.Close() }}, inW, outR
}

func TestLinkDelaysAndCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, aIn, _ := newPort()
		b, _, bOut := newPort()
		link, err := New(Config{Delay: 40 * time.Millisecond}, a, b)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- link.Run(ctx) }()
		buf := make([]byte, 100)
		for range 3 {
			start := time.Now()
			if _, err := aIn.Write([]byte("frame")); err != nil {
				t.Fatal(err)
			}
			n, err := bOut.Read(buf)
			if got := time.Since(start); err != nil || string(buf[:n]) != "frame" || got != 40*time.Millisecond {
				t.Fatalf("got %q, %v after %v, want the frame after 40ms", buf[:n], err, got)
			}
		}
		link.Cut(true)
		if _, err := aIn.Write([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		link.Cut(false)
		if err := link.Set(Config{Delay: time.Second}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, _ = aIn.Write([]byte("late"))
		n, _ := bOut.Read(buf)
		if got := time.Since(start); string(buf[:n]) != "late" || got != time.Second {
			t.Fatalf("got %q after %v, want \"late\" after 1s", buf[:n], got)
		}
		ab, ba := link.Counters()
		if want := (Counters{Passed: 4, Cut: 1}); ab != want || ba != (Counters{}) {
			t.Fatalf("got %+v and %+v, want %+v and none", ab, ba, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
