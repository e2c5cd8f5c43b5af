// Package carrier brings a channel's events to one client: what the edges that keep sockets share. A Queue is a channel.Link that holds
// what has not been written yet; a Socket is a WebSocket that is written from one.
//
// It knows no messages: an edge says how an event is written, and what the last words are.
package carrier

import (
	"sync"
	"sync/atomic"

	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
)

// An Item is an event with its number, or 0.
type Item struct {
	Seq   uint64
	Event channel.Event
}

// Bounds of a queue. A mailbox alone stays below them; but a client can acknowledge what it never read, and ask for answers.
const (
	maxItems = 2048
	maxBytes = 8 << 20
)

// A Queue is the bounded queue of one link, between a channel's owner and whoever writes. It is safe for concurrent use.
type Queue struct {
	// pump makes sure that somebody writes what is queued. It is called with mu held, and must not block.
	pump func()
	cut  atomic.Bool

	mu     sync.Mutex // guards what follows; nothing blocks under it
	items  []Item
	bytes  int // in items, about
	bye    *refusal.Refusal
	closed bool // nothing is written any more
}

var _ channel.Link = (*Queue)(nil)

// Pump sets what is called, with a lock held, whenever something has been queued. It must not block. A Socket sets its own.
func (q *Queue) Pump(f func()) { q.pump = f }

// Deliver implements channel.Link.
func (q *Queue) Deliver(seq uint64, e channel.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.bye != nil {
		return
	}
	q.bytes += channel.EventBytes(e)
	if len(q.items) >= maxItems || q.bytes > maxBytes {
		q.cutLocked()
		return
	}
	q.items = append(q.items, Item{seq, e})
	q.pump()
}

// End implements channel.Link. It is also for refusals from before the link has a membership.
func (q *Queue) End(r *refusal.Refusal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.bye != nil {
		return
	}
	q.bye = r
	q.pump()
}

// Take returns what has to be written next: events; or, after the last of them, the reason for which the link ends. spare is reused.
func (q *Queue) Take(spare []Item) (batch []Item, bye *refusal.Refusal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, nil
	}
	if len(q.items) > 0 {
		batch, q.items, q.bytes = q.items, spare[:0], 0
		return batch, nil
	}
	return nil, q.bye
}

// Ending reports whether the link takes no messages any more.
func (q *Queue) Ending() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed || q.bye != nil
}

// Cut ends the link of a client that does not read: what is queued is dropped, and the last word is slow_client. It is for the client that goes on in time; the
// link of one that does not has to be aborted. A queue that is full cuts itself.
func (q *Queue) Cut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cutLocked()
}

func (q *Queue) cutLocked() {
	q.cut.Store(true)
	q.items, q.bytes = nil, 0
	if q.closed || q.bye != nil {
		return
	}
	q.bye = refusal.New(refusal.SlowClient)
	q.pump()
}

// IsCut reports whether the client has not read for too long. What Take has returned before need not be written any more.
func (q *Queue) IsCut() bool { return q.cut.Load() }

// Detach drops what is queued, unless the last words are to be written.
func (q *Queue) Detach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bye == nil {
		q.closed = true
		q.items = nil
	}
}
