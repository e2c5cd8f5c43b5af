// Package portmux lets HTTP, HTTPS, TURN over TCP and TURN over TLS share one TCP port. It looks at the first bytes that a client sends, ends
// TLS where it is spoken, looks again inside, and hands the connection to the listener of its protocol.
//
// It is for protocols in which the client speaks first. It knows nothing of addresses behind a proxy.
package portmux

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Config says what a Mux does. Only Listener is needed.
type Config struct {
	// Listener is the TCP port. The Mux closes it.
	Listener net.Listener
	// TLS ends TLS; nil: the port speaks none, and a client that tries is told so by a TLS alert. The Mux works with a copy, to
	// which it adds the protocols h2, http/1.1 and stun.turn (RFC 7443) where NextProtos lacks them.
	TLS *tls.Config
	// Timeout is how long a client may take for its first bytes, the TLS handshake included. Default: 10 s.
	Timeout time.Duration
	// MaxUndecided bounds the connections that have not said yet what they are. When there is one more, the oldest is closed: an honest client
	// is decided within a round trip, so those who wait are hit first. Default: 4096.
	MaxUndecided int
	// MaxUndecidedPerAddress is the same per address (IPv6: per /64). Default: 256.
	MaxUndecidedPerAddress int
	// Logger gets the log. Default: none.
	Logger *slog.Logger
}

// Protocols of connections.
type kind int

const (
	kindHTTP  kind = iota // plain HTTP
	kindHTTPS             // HTTP inside TLS
	kindTURN              // STUN and TURN, plain or inside TLS
	kinds
)

// A Mux shares one port. Its methods are safe for concurrent use.
type Mux struct {
	cfg       Config
	tls       *tls.Config
	log       *slog.Logger
	listeners [kinds]*listener

	stop     chan struct{} // closed by shutdown
	stopOnce sync.Once
	workers  sync.WaitGroup // one for each undecided connection

	mu        sync.Mutex
	undecided map[*undecided]struct{}
	head      *undecided // of the list of all, oldest first
	tail      *undecided
	byAddr    map[netip.Prefix]int
	evicted   uint64
}

// An undecided connection. The list pointers are guarded by Mux.mu.
type undecided struct {
	conn       net.Conn
	from       netip.Prefix
	prev, next *undecided
}

// New prepares a Mux. On success cfg.Listener belongs to it: end with Run or Close.
func New(cfg Config) (*Mux, error) {
	if cfg.Listener == nil {
		return nil, errors.New("portmux: Listener is missing")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.MaxUndecided <= 0 {
		cfg.MaxUndecided = 4096
	}
	if cfg.MaxUndecidedPerAddress <= 0 {
		cfg.MaxUndecidedPerAddress = 256
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mux{
		cfg: cfg, log: cfg.Logger,
		stop:      make(chan struct{}),
		undecided: map[*undecided]struct{}{},
		byAddr:    map[netip.Prefix]int{},
	}
	if cfg.TLS != nil {
		m.tls = cfg.TLS.Clone()
		for _, p := range []string{"h2", "http/1.1", "stun.turn"} {
			if !slices.Contains(m.tls.NextProtos, p) {
				m.tls.NextProtos = append(m.tls.NextProtos, p)
			}
		}
	}
	for k := range m.listeners {
		m.listeners[k] = &listener{mux: m, conns: make(chan net.Conn), closed: make(chan struct{})}
	}
	return m, nil
}

// HTTP returns the listener for plain HTTP. On a port with TLS, these are clients that forgot the s of https: serve RedirectToHTTPS there.
func (m *Mux) HTTP() net.Listener { return m.listeners[kindHTTP] }

// HTTPS returns the listener for HTTP inside TLS. A connection that has negotiated its protocol is a *tls.Conn, so that http.Server does HTTP/2; others have
// the method ConnectionState, which http.Server uses to set Request.TLS.
func (m *Mux) HTTPS() net.Listener { return m.listeners[kindHTTPS] }

// TURN returns the listener for STUN and TURN, plain and inside TLS. Connections with TLS have the method ConnectionState.
func (m *Mux) TURN() net.Listener { return m.listeners[kindTURN] }

// Run accepts connections until ctx ends or the port fails. When it returns, the port and the three listeners are closed, and no
// goroutine of the Mux is left; connections that were handed over live on. It can be called once.
func (m *Mux) Run(ctx context.Context) error {
	defer m.workers.Wait()
	defer m.shutdown()
	unwatch := context.AfterFunc(ctx, m.shutdown)
	defer unwatch()
	for pause := time.Duration(0); ; {
		conn, err := m.cfg.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil || m.stopped() {
				return nil
			}
			if !isPassing(err) {
				return fmt.Errorf("portmux: %w", err)
			}
			// Out of file descriptors or memory: that passes, and meanwhile trying at full speed would not help.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			m.log.Warn("cannot accept a connection", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-m.stop:
			}
			continue
		}
		pause = 0
		u := m.enter(conn)
		if u == nil {
			conn.Close()
			continue
		}
		m.workers.Go(func() { m.decide(ctx, u) })
	}
}

func isPassing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close ends a Mux on which Run was never called; otherwise it makes Run return. It does not wait.
func (m *Mux) Close() error { m.shutdown(); return nil }

func (m *Mux) shutdown() {
	m.stopOnce.Do(func() {
		close(m.stop)
		_ = m.cfg.Listener.Close()
		for _, l := range m.listeners {
			l.Close()
		}
		m.mu.Lock()
		for u := range m.undecided {
			_ = u.conn.Close()
		}
		m.mu.Unlock()
	})
}

func (m *Mux) stopped() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

// Stats are what operations want to know.
type Stats struct {
	Undecided int    // connections that have not said yet what they are
	Evicted   uint64 // closed because there were too many of these
}

// Stats returns the present figures.
func (m *Mux) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Undecided: len(m.undecided), Evicted: m.evicted}
}

// enter adds a connection to the undecided ones, and closes the oldest of its address, or of all, if they are too many. It returns nil while stopping.
func (m *Mux) enter(conn net.Conn) *undecided {
	u := &undecided{conn: conn, from: source(conn.RemoteAddr())}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped() {
		return nil
	}
	if m.byAddr[u.from] >= m.cfg.MaxUndecidedPerAddress {
		for old := m.head; old != nil; old = old.next {
			if old.from == u.from {
				m.evictLocked(old)
				break
			}
		}
	} else if len(m.undecided) >= m.cfg.MaxUndecided {
		m.evictLocked(m.head)
	}
	u.prev = m.tail
	if m.tail != nil {
		m.tail.next = u
	} else {
		m.head = u
	}
	m.tail = u
	m.undecided[u] = struct{}{}
	m.byAddr[u.from]++
	return u
}

// evictLocked closes a connection; its goroutine sees that and ends.
func (m *Mux) evictLocked(u *undecided) {
	m.evicted++
	m.removeLocked(u)
	_ = u.conn.Close()
}

func (m *Mux) removeLocked(u *undecided) {
	if _, ok := m.undecided[u]; !ok {
		return
	}
	delete(m.undecided, u)
	if u.prev != nil {
		u.prev.next = u.next
	} else {
		m.head = u.next
	}
	if u.next != nil {
		u.next.prev = u.prev
	} else {
		m.tail = u.prev
	}
	if m.byAddr[u.from]--; m.byAddr[u.from] == 0 {
		delete(m.byAddr, u.from)
	}
}

// source is the address, or the IPv6 /64, that a connection counts for.
func source(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// A listener hands out the connections of one protocol.
type listener struct {
	mux    *Mux
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

var _ net.Listener = (*listener)(nil)

// Accept waits for the next connection. After Close, of the listener or of the Mux, it returns net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes connections of this protocol be closed on arrival. The port stays open for the others.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the address of the port.
func (l *listener) Addr() net.Addr { return l.mux.cfg.Listener.Addr() }

// hand gives c to whoever accepts on l, until deadline. It closes c if nobody does.
func (l *listener) hand(c net.Conn, deadline time.Time) {
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close()
	case <-t.C:
		_ = c.Close()
	}
}
