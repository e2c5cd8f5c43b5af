package transfer

import (
	"context"
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/madang-rtc/madang/internal/config"
	nodeserver "github.com/madang-rtc/madang/internal/server"
)

const testPatience = time.Minute

// startNode runs a node in this process.
func startNode(t *testing.T) Server {
	t.Helper()
	var c config.Config
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--data", t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	node, err := nodeserver.New(nodeserver.Config{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan nodeserver.Ready, 1), make(chan error, 1)
	go func() { ended <- node.Run(ctx, func(r nodeserver.Ready) { ready <- r }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("node: %v", err)
		}
	})
	select {
	case r := <-ready:
		return Server{URL: r.HTTP}
	case err := <-ended:
		ended <- nil
		t.Fatalf("node: %v", err)
	}
	panic("unreachable")
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	t.Cleanup(cancel)
	return ctx
}

// An honest is a Send or Receive that runs beside the test, and is ended with it.
type honest struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}
	result Result
	err    error

	mu     sync.Mutex
	events []Event
	last   Progress
	moved  chan struct{} // capacity 1
}

func newHonest(t *testing.T) (*honest, context.Context) {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	h := &honest{t: t, cancel: cancel, ended: make(chan struct{}), moved: make(chan struct{}, 1)}
	t.Cleanup(func() { cancel(); <-h.ended })
	return h, ctx
}

func (h *honest) onEvent(e Event)       { h.change(func() { h.events = append(h.events, e) }) }
func (h *honest) onProgress(p Progress) { h.change(func() { h.last = p }) }
func (h *honest) change(f func()) {
	h.mu.Lock()
	f()
	h.mu.Unlock()
	select {
	case h.moved <- struct{}{}:
	default:
	}
}

// until waits for what is seen of its events and its progress.
func (h *honest) until(what string, seen func() bool) {
	h.t.Helper()
	timer := time.After(testPatience)
	for {
		h.mu.Lock()
		ok := seen()
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-h.moved:
		case <-h.ended:
			h.t.Fatalf("ended without %s: %v", what, h.err)
		case <-timer:
			h.t.Fatalf("no %s", what)
		}
	}
}

func (h *honest) wait() error {
	h.t.Helper()
	select {
	case <-h.ended:
	case <-time.After(testPatience):
		h.t.Fatal("does not end")
	}
	return h.err
}

// sends starts Send, and waits until a receiver can come.
func sends(t *testing.T, cfg SendConfig) *honest {
	t.Helper()
	h, ctx := newHonest(t)
	ready := make(chan struct{})
	cfg.NoCode = true
	cfg.OnReady = func(string, string) { close(ready) }
	cfg.OnEvent, cfg.OnProgress = h.onEvent, h.onProgress
	go func() { defer close(h.ended); h.err = Send(ctx, cfg) }()
	select {
	case <-ready:
	case <-h.ended:
		t.Fatalf("send: %v", h.err)
	}
	return h
}

// receives starts Receive.
func receives(t *testing.T, cfg ReceiveConfig) *honest {
	t.Helper()
	h, ctx := newHonest(t)
	cfg.OnEvent, cfg.OnProgress = h.onEvent, h.onProgress
	go func() { defer close(h.ended); h.result, h.err = Receive(ctx, cfg) }()
	return h
}

// A stranger has the link and the protocol, and does what it likes with them.
type stranger struct {
	t     *testing.T
	m     *meeting
	lanes chan lane
	moved chan struct{} // capacity 1: others have come or gone
}

func joins(t *testing.T, server Server, ticket Ticket, role string) *stranger {
	t.Helper()
	s := &stranger{t: t, lanes: make(chan lane, 16), moved: make(chan struct{}, 1)}
	m, err := meet(within(t), server, ticket, role, handlers{
		members: func() {
			select {
			case s.moved <- struct{}{}:
			default:
			}
		},
		lie: func() {},
		lane: func(_ string, l lane) {
			t.Cleanup(func() { l.Close() })
			s.lanes <- l
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	t.Cleanup(m.close)
	return s
}

// met waits until somebody with the role is there.
func (s *stranger) met(role string) member {
	s.t.Helper()
	for timer := time.After(testPatience); ; {
		if list := s.m.with(role); len(list) > 0 {
			return list[0]
		}
		select {
		case <-s.moved:
		case <-timer:
			s.t.Fatalf("no %s has come", role)
		}
	}
}

// dial makes a lane to whoever has the role.
func (s *stranger) dial(role string) *spoken {
	s.t.Helper()
	l, err := s.m.dial(within(s.t), s.met(role), true)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	return &spoken{s.t, l}
}

// answer takes a lane that somebody makes.
func (s *stranger) answer() *spoken {
	s.t.Helper()
	select {
	case l := <-s.lanes:
		return &spoken{s.t, l}
	case <-time.After(testPatience):
		s.t.Fatal("nobody has made a lane")
	}
	panic("unreachable")
}

// A spoken is a lane on which a test speaks itself.
type spoken struct {
	t *testing.T
	l lane
}

func (s *spoken) say(m message) {
	s.t.Helper()
	if err := s.l.Send(true, nil, m.encode()); err != nil {
		s.t.Fatalf("say %s: %v", m.Type, err)
	}
}

func (s *spoken) hello(role, end string) {
	s.t.Helper()
	s.say(message{Type: typeHello, Version: Version, Role: role, End: end})
}

// hear reads on to a message of the type; nil: the lane has ended without one.
func (s *spoken) hear(kind string) *message {
	s.t.Helper()
	timer := time.AfterFunc(testPatience, func() { s.l.Close() })
	defer timer.Stop()
	for {
		text, data, err := s.l.Recv()
		if err != nil {
			if !timer.Stop() {
				s.t.Fatalf("no %q in time", kind)
			}
			return nil
		}
		if !text {
			if kind == "block" {
				return &message{}
			}
			continue
		}
		m, err := parseMessage(data)
		if err != nil {
			s.t.Fatal(err)
		}
		if m.Type == kind {
			return m
		}
	}
}

// block sends a block whole.
func (s *spoken) block(b block, data []byte) {
	s.t.Helper()
	p := part{File: b.file, Block: b.index, Length: len(data), Hash: sha256.Sum256(data)}
	if err := s.l.Send(false, p.appendHeader(nil), data); err != nil {
		s.t.Fatalf("block: %v", err)
	}
}

// closed waits for the end of the lane.
func (s *spoken) closed() {
	s.t.Helper()
	s.hear("")
}
