package transfer

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/signalserver"
)

// A blackout is a network in memory between two ends and the server. While it is out, what is sent is lost, and connections from before are worth nothing any more.
type blackout struct {
	incoming chan net.Conn // to the server
	closed   chan struct{}

	mu     sync.Mutex
	epoch  int
	back   chan struct{} // nil: it works
	sender *meeting
	lanes  int
}

// A strand is one side of a connection, with a buffer such as a system's.
type strand struct {
	net.Conn
	b      *blackout
	epoch  int
	queue  chan []byte
	once   sync.Once
	closed chan struct{} // by this side
	ended  chan struct{} // pump
}

func (b *blackout) strand(c net.Conn) *strand {
	epoch, _ := b.state()
	s := &strand{Conn: c, b: b, epoch: epoch, queue: make(chan []byte, 8), closed: make(chan struct{}), ended: make(chan struct{})}
	go s.pump()
	return s
}

// pump ends with the connection.
func (s *strand) pump() {
	defer close(s.ended)
	defer s.Conn.Close()
	for {
		var p []byte
		select {
		case p = <-s.queue:
		case <-s.closed:
			select {
			case p = <-s.queue: // what was written before is still sent
			default:
				return
			}
		}
		epoch, back := s.b.state()
		if back == nil && epoch != s.epoch {
			return
		}
		if back == nil {
			if _, err := s.Conn.Write(p); err != nil {
				return
			}
		}
	}
}

func (s *strand) Write(p []byte) (int, error) {
	if epoch, back := s.b.state(); back == nil && epoch != s.epoch {
		s.Conn.Close()
		return 0, syscall.ECONNRESET
	}
	select {
	case s.queue <- slices.Clone(p):
		return len(p), nil
	case <-s.closed:
		return 0, net.ErrClosed
	case <-s.ended:
		return 0, syscall.EPIPE
	}
}

func (s *strand) Close() error {
	s.once.Do(func() {
		s.Conn.SetDeadline(time.Now().Add(time.Second)) // whether or not anybody reads
		close(s.closed)
	})
	return nil
}

func (b *blackout) state() (epoch int, back chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.epoch, b.back
}

// wait returns when the network works, or with ctx.
func (b *blackout) wait(ctx context.Context) error {
	_, back := b.state()
	if back == nil {
		return nil
	}
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *blackout) pipe() (near, far net.Conn) {
	near, far = net.Pipe()
	return b.strand(near), b.strand(far)
}

// Accept, Close and Addr make it the server's listener.
func (b *blackout) Accept() (net.Conn, error) {
	select {
	case c := <-b.incoming:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}
func (b *blackout) Close() error   { close(b.closed); return nil }
func (b *blackout) Addr() net.Addr { return packetAddress }

func (b *blackout) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if err := b.wait(ctx); err != nil {
			return nil, err
		}
		near, far := b.pipe()
		select {
		case b.incoming <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}}
}

func (b *blackout) joined(role string, m *meeting) {
	if role == roleSender {
		b.mu.Lock()
		b.sender = m
		b.mu.Unlock()
	}
}

func (b *blackout) dial(ctx context.Context, peer string) (lane, error) {
	if err := b.wait(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	sender := b.sender
	b.lanes++
	b.mu.Unlock()
	if peer != sender.session.Peer() { // that of before
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := b.pipe()
	sender.on.lane("receiver", newStreamLane(far, "pipe"))
	return newStreamLane(near, "pipe"), nil
}

// Both ends lose the network for ten minutes: the server forgets them after one, and no lane lives so long. When it is back the transfer goes on where it was, by itself.
func TestATransferOutlivesTenMinutesWithoutANetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blackout{incoming: make(chan net.Conn), closed: make(chan struct{})}
		channels, err := channel.New(channel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		signaling, err := signalserver.New(signalserver.Config{Channels: channels, Authorize: func(_ context.Context, c auth.Credentials) (auth.Grant, error) {
			return auth.Grant{Project: "p1", Channel: c.Channel}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { channels.Run(ctx) })
		running.Go(func() { signaling.Run(ctx) })
		front := &http.Server{Handler: signaling}
		running.Go(func() { front.Serve(b) })

		const size = 8<<20 + 17
		dir := t.TempDir()
		file := filepath.Join(dir, "film.mkv")
		if err := os.WriteFile(file, pattern(size), 0o600); err != nil {
			t.Fatal(err)
		}
		server := Server{URL: "http://madang.test", Key: "key", HTTPClient: b.client(), Lanes: LanesWebRTC, network: b}
		ticket := NewTicket()
		ready, sent := make(chan struct{}), make(chan error, 1)
		go func() {
			sent <- Send(ctx, SendConfig{Server: server, Ticket: ticket, Paths: []string{file}, Receivers: 1, NoCode: true, LimitBps: 8 << 20, OnReady: func(string, string) { close(ready) }})
		}()
		<-ready
		half := make(chan struct{})
		var once sync.Once
		received := make(chan error, 1)
		var result Result
		go func() {
			var err error
			result, err = Receive(ctx, ReceiveConfig{Server: server, Ticket: ticket, Dir: filepath.Join(dir, "out"), OnProgress: func(p Progress) {
				if p.Bytes > size/2 {
					once.Do(func() { close(half) })
				}
			}})
			received <- err
		}()
		select {
		case <-half:
		case err := <-received:
			t.Fatal(err)
		}
		b.mu.Lock()
		b.epoch, b.back = b.epoch+1, make(chan struct{})
		before := b.lanes
		b.mu.Unlock()
		time.Sleep(10 * time.Minute)
		b.mu.Lock()
		close(b.back)
		b.back = nil
		b.mu.Unlock()
		woken := time.Now()
		if err := <-received; err != nil {
			t.Errorf("receive: %v", err)
			cancel()
		}
		if err := <-sent; err != nil {
			t.Errorf("send: %v", err)
		}
		took := time.Since(woken)
		t.Logf("everything is there %v after the network; %d lanes before, %d after; %d bytes came, %d of them again", took, before, b.lanes-before, result.Arrived, result.Arrived-size)
		if took > time.Minute || result.Arrived > size+2<<20 {
			t.Error("that is too long, or too much")
		}
		if got, err := os.ReadFile(filepath.Join(dir, "out", "film.mkv")); err != nil || string(got) != string(pattern(size)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		cancel()
		front.Close()
		running.Wait()
	})
}
