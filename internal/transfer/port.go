package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// A lane carries messages between two ends, in order, whole or not at all. Send and Recv may run at the same time, but each only once at a time.
type lane interface {
	// Send blocks while too much is queued. The two pieces make one message, and are not kept.
	Send(text bool, header, data []byte) error
	// Recv returns the next message; data are the caller's until the next call.
	Recv() (text bool, data []byte, err error)
	// Close ends it at once, and makes Send and Recv return. What was sent shortly before may be lost.
	Close() error
	// Flush waits, for a short while at most, until what was sent is on its way.
	Flush()
	// Limit is the longest message that the other side takes.
	Limit() int
	// String names the kind of path, for people.
	String() string
}

const helloTimeout = 15 * time.Second

// A port runs one lane: it says hello, reads, and writes what is in its outbox and then blocks that next gives.
type port struct {
	id   int
	lane lane
	role string // of the other side
	end  string
	name string
	most int // answers that may wait before more is read; 0: any number

	mu     sync.Mutex
	wake   *sync.Cond
	outbox []*message
	binary [][]byte
	closed bool
	owes   bool // next may have something
	err    error

	sending int // of outbox and binary, taken by the writer
}

func newPort(id int, l lane) *port {
	p := &port{id: id, lane: l}
	p.wake = sync.NewCond(&p.mu)
	return p
}

// hello introduces both sides. The other side must have the role given: whoever says another one is told why, and the lane ends.
func (p *port) hello(ctx context.Context, role, end, name, theirs string) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { p.lane.Close() })
	defer stop()
	if err := p.lane.Send(true, nil, (&message{Type: typeHello, Version: Version, Role: role, End: end, Name: name}).encode()); err != nil {
		return err
	}
	err := p.hearHello(end, theirs)
	var no *refusal.Refusal
	if errors.As(err, &no) {
		if p.lane.Send(true, nil, (&message{Type: typeBye, Code: string(no.Code)}).encode()) == nil {
			p.lane.Flush()
		}
	}
	return err
}

func (p *port) hearHello(end, theirs string) error {
	text, data, err := p.lane.Recv()
	if err != nil {
		return fmt.Errorf("wait for hello: %w", err)
	}
	if !text {
		return malformed("hello comes first")
	}
	m, err := parseMessage(data)
	switch {
	case err != nil:
		return err
	case m.Type != typeHello:
		return malformed("hello comes first")
	case m.Version != Version:
		return refusal.Newf(refusal.VersionUnsupported, "The other side speaks version %d of the transfer protocol.", m.Version)
	case m.End == end:
		return malformed("hello: our own end")
	case m.Role != theirs:
		return malformed("hello: role")
	}
	p.role, p.end, p.name = m.Role, m.End, m.Name
	return nil
}

// post queues a message; it never blocks. What a receiver posts is bounded by what it has to ask; a sender reads no more questions while answers wait.
func (p *port) post(m *message) {
	p.mu.Lock()
	p.outbox = append(p.outbox, m)
	p.wake.Broadcast()
	p.mu.Unlock()
}

func (p *port) postBinary(b []byte) {
	p.mu.Lock()
	p.binary = append(p.binary, b)
	p.wake.Broadcast()
	p.mu.Unlock()
}

// stir makes the writer look for blocks.
func (p *port) stir() {
	p.mu.Lock()
	p.owes = true
	p.wake.Broadcast()
	p.mu.Unlock()
}

// close ends the port after what is in the outbox, if flush, or at once.
func (p *port) close(err error) {
	p.mu.Lock()
	if !p.closed {
		p.closed, p.err = true, err
	}
	p.wake.Broadcast()
	p.mu.Unlock()
	if err != nil {
		p.lane.Close()
	}
}

var errLaneDead = errors.New("nothing was heard on the lane")

// An outBlock is what the writer sends: exactly one block.
type outBlock struct {
	block
	hash Hash
	data []byte
}

// write sends until the port is closed. next may be nil; it gives a block, or nil if there is nothing to send now. It may take its time until its ctx ends, for a stream that gives nothing or at a
// user's limit: messages go out meanwhile, and tell the other side that the lane lives.
func (p *port) write(ctx context.Context, next func(ctx context.Context) (*outBlock, error)) error {
	defer p.lane.Close()
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	// Under p.mu: what next has given, and whether it is at it.
	var given *outBlock
	var failed error
	var busy bool
	for {
		p.mu.Lock()
		for len(p.outbox) == 0 && len(p.binary) == 0 && !p.closed && given == nil && failed == nil && !(p.owes && next != nil && !busy) {
			p.wake.Wait()
		}
		outbox, binary, closed, b, err := p.outbox, p.binary, p.closed, given, failed
		p.outbox, p.binary, given = nil, nil, nil
		p.sending = len(outbox) + len(binary)
		ask := p.owes && next != nil && !busy && b == nil && err == nil && !closed // what next posts comes after the block before
		if ask {
			p.owes, busy = false, true
		}
		p.mu.Unlock()
		if ask {
			asking.Go(func() {
				b, err := next(ctx)
				p.mu.Lock()
				given, failed, busy = b, err, false
				p.wake.Broadcast()
				p.mu.Unlock()
			})
		}
		for _, m := range outbox {
			if err := p.lane.Send(true, nil, m.encode()); err != nil {
				return err
			}
		}
		for _, b := range binary {
			if err := p.lane.Send(false, nil, b); err != nil {
				return err
			}
		}
		p.mu.Lock()
		p.sending = 0
		p.wake.Broadcast()
		p.mu.Unlock()
		switch {
		case closed:
			p.lane.Flush()
			return nil
		case err != nil:
			return err
		case b == nil:
			continue
		}
		if err := p.sendBlock(b); err != nil {
			return err
		}
		p.stir()
	}
}

// partMost is the most of a block that one message carries. A receiver hears of a block by its parts: where a whole block takes longer than laneDead, smaller ones
// show that the lane lives.
const partMost = 64 << 10

// sendBlock sends a block in as few parts of equal size as there can be.
func (p *port) sendBlock(b *outBlock) error {
	room := min(p.lane.Limit()-partHeader, partMost)
	n := (len(b.data) + room - 1) / room
	size := (len(b.data) + n - 1) / n
	var header [partHeader]byte
	for offset := 0; offset < len(b.data); offset += size {
		data := b.data[offset:min(offset+size, len(b.data))]
		h := (&part{File: b.file, Block: b.index, Length: len(b.data), Offset: offset, Hash: b.hash}).appendHeader(header[:0])
		if err := p.lane.Send(false, h, data); err != nil {
			return err
		}
	}
	return nil
}

// An inbox takes what a port reads. Its methods are called on the reader's goroutine.
type inbox interface {
	onMessage(p *port, m *message) error
	onHashes(p *port, l *hashList) error
	// onPart hears that a block is coming.
	onPart(p *port)
	// onBlock gets a block whose hash has been compared; data are the port's until it returns.
	onBlock(p *port, b block, hash Hash, data []byte) error
	onCorrupt(p *port, b block) error
}

// read hands over what arrives until the lane ends. An error that is a refusal is the other side's fault.
func (p *port) read(in inbox) error {
	var (
		parts part   // header of the block whose parts are coming
		buf   []byte // and what has come of it
	)
	for {
		p.mu.Lock()
		for p.most > 0 && len(p.outbox)+len(p.binary)+p.sending > p.most && !p.closed {
			p.wake.Wait()
		}
		p.mu.Unlock()
		text, data, err := p.lane.Recv()
		if err != nil {
			return err
		}
		if text {
			m, err := parseMessage(data)
			if err == nil {
				err = in.onMessage(p, m)
			}
			if err != nil {
				return err
			}
			continue
		}
		part, list, err := parseBinary(data)
		if err == nil && list != nil {
			err = in.onHashes(p, list)
		}
		if err != nil {
			return err
		}
		if list != nil {
			continue
		}
		if len(buf) == 0 {
			parts = *part
		} else if part.File != parts.File || part.Block != parts.Block || part.Length != parts.Length || part.Hash != parts.Hash {
			return malformed("a part of another block")
		}
		if part.Offset != len(buf) {
			return malformed("a part is missing")
		}
		whole := part.Data
		if len(whole) < part.Length {
			if buf == nil {
				buf = make([]byte, 0, BlockSize)
			}
			if buf = append(buf, part.Data...); len(buf) < part.Length {
				in.onPart(p)
				continue
			}
			whole = buf
		}
		buf = buf[:0]
		b := block{parts.File, parts.Block}
		if sha256.Sum256(whole) != parts.Hash {
			err = in.onCorrupt(p, b)
		} else {
			err = in.onBlock(p, b, parts.Hash, whole)
		}
		if err != nil {
			return err
		}
	}
}
