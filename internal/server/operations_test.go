package server

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whoever asks whether the node is ready, and however often, makes it write once a second at most.
func TestReadinessIsAskedOnceASecond(t *testing.T) {
	var asked atomic.Int64
	broken := errors.New("the disk is full")
	p := &probe{ask: func() error { asked.Add(1); return broken }}
	started := time.Now()
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			if err := p.look(); err != broken {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if n, most := asked.Load(), 1+int64(time.Since(started)/time.Second); n < 1 || n > most {
		t.Errorf("asked %d times, want at most %d", n, most)
	}
	p.at = p.at.Add(-time.Second)
	before := asked.Load()
	p.look()
	if asked.Load() == before {
		t.Error("an answer is kept for longer than a second")
	}
}
