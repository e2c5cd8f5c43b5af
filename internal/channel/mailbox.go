package channel

// A mailbox keeps the numbered events for one peer until the peer has acknowledged them: those with the numbers acked+1 to
// last. It is bounded in number and bytes; add says so when it is full. Not safe for concurrent use.
type mailbox struct {
	acked  uint64
	last   uint64
	events []Event // a ring; events[(head+i)%len] has the number acked+1+i
	head   int
	size   int // bytes of the events, estimated
}

// add appends e and returns its number, or 0 if that would exceed the bounds.
func (b *mailbox) add(e Event, maxEvents, maxBytes int) uint64 {
	n := b.len()
	size := e.bytes()
	if n >= maxEvents || b.size+size > maxBytes {
		return 0
	}
	if n == len(b.events) {
		// Doubling from 4: an idle peer's mailbox costs nothing, and a busy one is settled after a few messages.
		grown := make([]Event, max(4, 2*n))
		for i := range n {
			grown[i] = b.events[(b.head+i)%n]
		}
		b.events, b.head = grown, 0
	}
	b.events[(b.head+n)%len(b.events)] = e
	b.size += size
	b.last++
	return b.last
}

func (b *mailbox) len() int { return int(b.last - b.acked) }

// ack forgets the events up to seq. It reports false if seq was never given out. An old seq changes nothing.
func (b *mailbox) ack(seq uint64) bool {
	if seq > b.last {
		return false
	}
	for b.acked < seq {
		b.size -= b.events[b.head].bytes()
		b.events[b.head] = nil
		b.head = (b.head + 1) % len(b.events)
		b.acked++
	}
	if b.acked == b.last && len(b.events) > 16 {
		b.events, b.head = nil, 0 // a burst is over: give its memory back
	}
	return true
}

// each calls f with every event that is not acknowledged, in order.
func (b *mailbox) each(f func(seq uint64, e Event)) {
	for i := range b.len() {
		f(b.acked+1+uint64(i), b.events[(b.head+i)%len(b.events)])
	}
}
