// Package signalclient is a client of the native signaling protocol (docs/protocol.md), over WebSocket or SSE with POST: for tests, for load
// tools, and for devices and servers that take part as peers.
//
//	s, err := signalclient.Join(ctx, signalclient.Config{
//		URL:       "http://localhost:8080/v1/signal",
//		Join:      signal.Join{Channel: "demo", Key: key, Name: "camera"},
//		OnMessage: func(m signal.ServerMessage) { … },
//	})
//	err = s.Send(ctx, &signal.Command{Name: "madang.chat", Data: data})
//	err = s.Leave(ctx)
//
// A Session survives the loss of its links: it resumes, and what was sent meanwhile arrives once, in order. If the server does not know it any
// more, it joins anew with the same instance: OnMessage sees another Joined (or Pending) then, and messages that were not acknowledged are gone.
//
// It knows nothing of media.
package signalclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

// Transports of Config.
const (
	WebSocket = "websocket"
	SSE       = "sse"
)

// Config says where and as what to join. URL and Join are required.
type Config struct {
	URL       string                                    // of /v1/signal: http or https
	Join      signal.Join                               // Version and Instance are filled in
	Token     func(ctx context.Context) (string, error) // fetches an access token before each join; nil: Join.Token stays
	Transport string                                    // WebSocket (default) or SSE

	// OnMessage is called with every message of the server that is not about the link alone: all but link, resumed, ack and pong, in order and once, also Joined and Bye. It is
	// called on the session's goroutine: while it runs, nothing more is read. It may call Send with a context, but must not wait for an answer.
	OnMessage func(m signal.ServerMessage)

	HTTPClient *http.Client // default: one without timeout
	Header     http.Header  // of every request, such as Origin
	Backoff    Backoff
	Logger     *slog.Logger // default: none
}

// A Backoff spreads attempts to reconnect: the n-th one waits a random time between 0 and min(Max, Min·2ⁿ) (full jitter), so that clients who lost the
// server together do not come back together.
type Backoff struct {
	Min time.Duration // default 250 ms
	Max time.Duration // default 10 s
}

func (b Backoff) delay(attempt int) time.Duration {
	limit := b.Min
	for ; attempt > 0 && limit < b.Max; attempt-- {
		limit *= 2
	}
	return time.Duration(mrand.Int64N(int64(max(0, min(limit, b.Max))) + 1))
}

// pause is a number of units that a server names: at least none and at most a day, whatever it says.
func pause(n int64, unit time.Duration) time.Duration {
	const most = 24 * time.Hour
	return time.Duration(min(max(n, 0), int64(most/unit))) * unit
}

const (
	sendTimeout      = 10 * time.Second
	handshakeTimeout = 15 * time.Second
	maxOutbox        = 1024 // messages that the server has not acknowledged; Send waits while there are as many
	ackEvery         = 16   // docs/protocol.md §3 wants 32 at the latest
)

// ErrClosed is returned by a Session's methods after Close.
var ErrClosed = errors.New("signalclient: the session is closed")

// A Refused is the server's no: a bye, or an error about one message.
type Refused struct{ signal.Reason }

func (e *Refused) Error() string { return e.Code + ": " + e.Message }

// Is makes errors.Is(err, refusal.New(code)) compare codes.
func (e *Refused) Is(target error) bool {
	r, ok := target.(*refusal.Refusal)
	return ok && string(r.Code) == e.Code
}

// A Session is a membership of a channel. It is safe for concurrent use.
type Session struct {
	cfg    Config
	dial   func(ctx context.Context, cfg *Config) (transport, error)
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing runs any more
	rtt    atomic.Int64
	links  atomic.Uint64 // that were opened

	mu       sync.Mutex
	err      error // why done is closed
	first    chan error
	peer     string
	secrets  [2]string // current, former
	pingEach time.Duration
	received uint64 // from the server
	acked    uint64 // of those, told
	next     uint64 // last number given to a message
	outbox   []outgoing
	sent     int // of outbox, on the present link
	control  [][]byte
	calls    map[uint64]chan error
	room     chan struct{} // closed and replaced when the outbox shrinks
	wake     chan struct{} // capacity 1: there is something to send
	link     transport     // nil: none
	leaving  bool
	lastPong time.Time
}

type outgoing struct {
	seq  uint64
	data []byte
}

// Join joins a channel and returns when the server has answered with joined or pending. Its error is a *Refused if the server said no. The Session then lives
// until Leave, Close, or a bye that allows no return; ctx bounds only the joining.
func Join(ctx context.Context, cfg Config) (*Session, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("signalclient: URL %q is not an http or https one", cfg.URL)
	}
	s := &Session{done: make(chan struct{}), first: make(chan error, 1), calls: map[uint64]chan error{}, room: make(chan struct{}), wake: make(chan struct{}, 1)}
	switch cfg.Transport {
	case "", WebSocket:
		s.dial = dialWebSocket
	case SSE:
		s.dial = dialSSE
	default:
		return nil, fmt.Errorf("signalclient: unknown transport %q", cfg.Transport)
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = http.DefaultClient
	}
	if cfg.OnMessage == nil {
		cfg.OnMessage = func(signal.ServerMessage) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Backoff.Min = cmp.Or(cfg.Backoff.Min, 250*time.Millisecond)
	cfg.Backoff.Max = cmp.Or(cfg.Backoff.Max, 10*time.Second)
	cfg.Join.Version = signal.Version
	cfg.Join.Instance = cmp.Or(cfg.Join.Instance, rand.Text())
	s.cfg = cfg
	s.pingEach = 15 * time.Second

	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	stop := context.AfterFunc(ctx, cancel)
	go s.run(run)
	select {
	case err = <-s.first:
	case <-s.done:
		err = s.Err()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return s, nil
}

// Peer returns the session's own peer id.
func (s *Session) Peer() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer
}

// RTT returns the round trip time of the latest ping; 0: none yet.
func (s *Session) RTT() time.Duration { return time.Duration(s.rtt.Load()) }

// Links returns how many links the session has opened so far.
func (s *Session) Links() int { return int(s.links.Load()) }

// Linked reports whether there is a link to the server now, as far as is known.
func (s *Session) Linked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link != nil
}

// Done is closed when the session has ended and none of its goroutines is left.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session ended: ErrClosed, or a *Refused (with the code left after Leave). Before Done is closed it is nil.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Send queues a numbered message. It waits only while too many are not acknowledged. What the server says to it comes to OnMessage.
func (s *Session) Send(ctx context.Context, m signal.ClientMessage) error {
	return s.send(ctx, m, nil)
}

// Call sends a numbered message and waits for the server's answer: nil, or a *Refused. It must not be called by OnMessage.
func (s *Session) Call(ctx context.Context, m signal.ClientMessage) error {
	answer := make(chan error, 1)
	if err := s.send(ctx, m, answer); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Session) send(ctx context.Context, m signal.ClientMessage, answer chan error) error {
	if _, numbered := m.ClientType(); !numbered {
		return fmt.Errorf("signalclient: %T is not for Send", m)
	}
	for {
		s.mu.Lock()
		room := s.room
		if len(s.outbox) < maxOutbox {
			defer s.mu.Unlock()
			select {
			case <-s.done:
				return s.err
			default:
			}
			data, err := signal.AppendClient(nil, m, s.next+1, answer != nil)
			if err != nil {
				return err
			}
			s.next++
			if answer != nil {
				s.calls[s.next] = answer
			}
			s.outbox = append(s.outbox, outgoing{s.next, data})
			s.signalLocked()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-room:
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Leave ends the membership, and returns when the server has said so or ctx ends.
func (s *Session) Leave(ctx context.Context) error {
	s.mu.Lock()
	s.leaving = true
	s.signalLocked()
	s.mu.Unlock()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.Close()
		return ctx.Err()
	}
	if errors.Is(s.err, refusal.New(refusal.Left)) || errors.Is(s.err, refusal.New(refusal.ResumeUnknown)) { // or gone before we could say it
		return nil
	}
	return s.err
}

// Close ends the session without telling the server, which keeps the membership for the resume window. It waits for the session's goroutines.
func (s *Session) Close() {
	s.cancel()
	<-s.done
}

// Drop closes the present link as a lost network would: the session resumes on another one.
func (s *Session) Drop() {
	s.mu.Lock()
	link := s.link
	s.mu.Unlock()
	if link != nil {
		link.close()
	}
}

func (s *Session) signalLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run opens links until one ends for good.
func (s *Session) run(ctx context.Context) {
	defer s.cancel()
	attempt := 0
	var err error
	for ctx.Err() == nil {
		before := s.progress()
		var wait time.Duration
		wait, err = s.attempt(ctx)
		if err == nil { // ended by us, or for good
			break
		}
		if s.Peer() == "" {
			break // the first join failed: for the caller to decide
		}
		if s.progress() != before {
			attempt = 0
		}
		delay := max(wait, s.cfg.Backoff.delay(attempt))
		attempt++
		s.cfg.Logger.Debug("link lost", "err", err, "delay", delay)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
	case err == nil || ctx.Err() != nil: // whatever a link said that Close has closed
		s.err = ErrClosed
	default:
		s.err = err
	}
	close(s.done)
}

// progress changes whenever the server has accepted a link.
func (s *Session) progress() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets[0]
}

// attempt opens one link and serves it. A nil error means that the session is over (s.err says why, if not by Close); else the next attempt should come after
// wait at the earliest.
func (s *Session) attempt(ctx context.Context) (wait time.Duration, err error) {
	opening, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	first, resuming, err := s.firstMessage(opening)
	if err != nil {
		return 0, err
	}
	link, err := s.dial(opening, &s.cfg)
	if err != nil {
		return retryAfter(err), err
	}
	s.links.Add(1)
	defer link.close()
	stop := context.AfterFunc(ctx, link.close)
	defer stop()
	if err := link.send(opening, [][]byte{first}); err != nil {
		return retryAfter(err), err
	}
	disarm := context.AfterFunc(opening, func() {
		if errors.Is(opening.Err(), context.DeadlineExceeded) {
			link.close()
		}
	})
	defer disarm()
	data, err := link.recv(ctx)
	if err != nil {
		return 0, fmt.Errorf("wait for the answer: %w", err)
	}
	m, _, err := signal.ParseServer(data)
	if err != nil {
		return 0, err
	}
	switch m := m.(type) {
	case *signal.Joined:
		s.begin(m.Peer, m.Resume.Secret, m.PingMs)
	case *signal.Pending:
		s.begin(m.Peer, m.Resume.Secret, m.PingMs)
	case *signal.Resumed:
		s.resumed(m)
	case *signal.Bye:
		return s.bye(m, resuming)
	default:
		return 0, fmt.Errorf("the server answers with %T", m)
	}
	disarm()
	cancel()
	if _, ok := m.(*signal.Resumed); !ok {
		s.cfg.OnMessage(m)
	}
	select {
	case s.first <- nil:
	default:
	}
	return s.serve(ctx, link)
}

func retryAfter(err error) time.Duration {
	var e *httpError
	if errors.As(err, &e) {
		return e.retryAfter
	}
	return 0
}

func (s *Session) firstMessage(ctx context.Context) (data []byte, resuming bool, err error) {
	s.mu.Lock()
	resume := signal.Resume{Peer: s.peer, Secret: s.secrets[0], Received: s.received}
	s.mu.Unlock()
	if resume.Secret != "" {
		data, err = signal.AppendClient(nil, &resume, 0, false)
		return data, true, err
	}
	join := s.cfg.Join
	if s.cfg.Token != nil {
		if join.Token, err = s.cfg.Token(ctx); err != nil {
			return nil, false, fmt.Errorf("fetch an access token: %w", err)
		}
	}
	data, err = signal.AppendClient(nil, &join, 0, false)
	return data, false, err
}

// begin starts the numbers anew: the server has made a signaling session.
func (s *Session) begin(peer, secret string, pingMs int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.peer != ""
	s.peer, s.secrets = peer, [2]string{secret}
	if pingMs > 0 {
		s.pingEach = pause(pingMs, time.Millisecond)
	}
	s.received, s.acked, s.sent = 0, 0, 0
	if !again {
		return // messages may have been queued already
	}
	s.next = 0
	s.outbox = nil
	for seq, answer := range s.calls {
		answer <- &Refused{signal.Reason{Code: string(refusal.ResumeUnknown), Message: "The session was lost before the server answered.", Retry: string(refusal.RetryJoin)}}
		delete(s.calls, seq)
	}
	close(s.room)
	s.room = make(chan struct{})
}

func (s *Session) resumed(m *signal.Resumed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = [2]string{m.Secret, s.secrets[0]}
	s.acked = s.received // resume said so
	s.acknowledgedLocked(m.Received)
	s.sent = 0 // what is left goes out again
}

// bye decides what follows the end of a link that the server wants.
func (s *Session) bye(m *signal.Bye, resuming bool) (time.Duration, error) {
	no := &Refused{m.Reason}
	wait := pause(m.RetryAfterMs, time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	over := func() (time.Duration, error) {
		s.err = no
		s.mu.Unlock()
		s.cfg.OnMessage(m)
		s.mu.Lock()
		return 0, nil
	}
	if s.peer == "" {
		return 0, no // Join returns it
	}
	switch {
	case m.Code == string(refusal.ResumeUnknown) && resuming && s.secrets[1] != "":
		// The answer to an earlier resume may have been lost, or ours never arrived: the former secret is good in that case.
		s.secrets = [2]string{s.secrets[1]}
		return 0, no
	case m.Retry == string(refusal.RetryJoin):
		if s.leaving {
			return over()
		}
		s.secrets = [2]string{}
		return wait, no
	case m.Retry == string(refusal.RetryResume):
		return wait, no
	case m.Retry == string(refusal.RetryLater) && (m.Code == string(refusal.RateLimited) || m.Code == string(refusal.Internal) || m.Code == string(refusal.Storage) ||
		m.Code == string(refusal.HandshakeTimeout)):
		// The server is in trouble, not we. If it was the session's own link that ended, resume_unknown will follow.
		return wait, no
	}
	return over()
}

// serve reads and writes on an accepted link until it ends.
func (s *Session) serve(ctx context.Context, link transport) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	s.mu.Lock()
	s.link = link
	s.lastPong = time.Now()
	s.signalLocked()
	s.mu.Unlock()
	writer.Go(func() {
		if err := s.write(ctx, link); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("write", "err", err)
		}
		link.close()
	})
	defer func() {
		cancel()
		link.close()
		writer.Wait()
		s.mu.Lock()
		s.link, s.sent, s.control = nil, 0, nil
		s.mu.Unlock()
	}()
	for {
		data, err := link.recv(ctx)
		if err != nil {
			return 0, fmt.Errorf("read: %w", err)
		}
		m, seq, err := signal.ParseServer(data)
		if err != nil {
			return 0, err
		}
		if bye, ok := m.(*signal.Bye); ok {
			return s.bye(bye, false)
		}
		fresh, err := s.note(m, seq)
		if err != nil {
			return 0, err
		}
		if fresh {
			s.cfg.OnMessage(m)
		}
	}
}

// note keeps the books about a message, and reports whether the application should see it.
func (s *Session) note(m signal.ServerMessage, seq uint64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[1] = "" // the server goes on with the current one
	switch m := m.(type) {
	case *signal.Pong:
		s.lastPong = time.Now()
		if t, err := strconv.ParseInt(string(m.T), 10, 64); err == nil {
			s.rtt.Store(time.Now().UnixMicro()*1000 - t*1000)
		}
		s.acknowledgedLocked(m.Ack)
		return false, nil
	case *signal.Ack:
		s.acknowledgedLocked(m.Seq)
		return false, nil
	}
	if seq == 0 {
		return false, nil // of a type without number that we do not know
	}
	if seq <= s.received {
		return false, nil
	}
	if seq != s.received+1 {
		return false, fmt.Errorf("message %d is missing", s.received+1)
	}
	s.received = seq
	if s.received-s.acked >= ackEvery {
		s.acked = s.received
		if data, err := signal.AppendClient(nil, &signal.Ack{Seq: s.acked}, 0, false); err == nil {
			s.control = append(s.control, data)
			s.signalLocked()
		}
	}
	switch m := m.(type) {
	case *signal.OK:
		s.answerLocked(m.Re, nil)
	case *signal.Error:
		s.answerLocked(m.Re, &Refused{m.Reason})
	}
	return m != nil, nil
}

func (s *Session) answerLocked(re uint64, err error) {
	if answer := s.calls[re]; answer != nil {
		delete(s.calls, re)
		answer <- err
	}
}

func (s *Session) acknowledgedLocked(seq uint64) {
	n := 0
	for n < len(s.outbox) && s.outbox[n].seq <= seq {
		n++
	}
	if n > 0 {
		s.outbox = append([]outgoing(nil), s.outbox[n:]...)
		s.sent = max(0, s.sent-n)
		close(s.room)
		s.room = make(chan struct{})
	}
}

// write sends what is queued, and pings.
func (s *Session) write(ctx context.Context, link transport) error {
	s.mu.Lock()
	each := s.pingEach
	s.mu.Unlock()
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	for {
		var messages [][]byte
		s.mu.Lock()
		messages, s.control = s.control, nil
		for ; s.sent < len(s.outbox); s.sent++ {
			messages = append(messages, s.outbox[s.sent].data)
		}
		if s.leaving {
			leave, err := signal.AppendClient(nil, &signal.Leave{}, 0, false)
			if err != nil {
				s.mu.Unlock()
				return err
			}
			messages = append(messages, leave)
		}
		leaving := s.leaving
		s.mu.Unlock()
		if len(messages) > 0 {
			sending, cancel := context.WithTimeout(ctx, sendTimeout)
			err := link.send(sending, messages)
			cancel()
			if err != nil {
				return err
			}
		}
		wake := s.wake
		if leaving {
			wake = nil // nothing more to say
		}
		select {
		case <-wake:
		case <-ticker.C:
			s.mu.Lock()
			if time.Since(s.lastPong) > 2*each {
				s.mu.Unlock()
				return errors.New("no pong")
			}
			s.acked = s.received
			ping, err := signal.AppendClient(nil, &signal.Ping{T: json.RawMessage(strconv.FormatInt(time.Now().UnixMicro(), 10)), Ack: s.received}, 0, false)
			s.control = append(s.control, ping)
			s.mu.Unlock()
			if err != nil {
				return err
			}
		case <-ctx.Done():
			if leaving {
				return nil
			}
			return ctx.Err()
		}
	}
}
