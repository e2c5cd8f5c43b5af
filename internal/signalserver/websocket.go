package signalserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

// A wsLink is a link over WebSocket. One goroutine reads; another runs only while there is something to write.
//
// Contexts given to the websocket package never end: it would make a timer or a callback for every read and write, and close the connection when one
// ends. The sweep closes it instead.
type wsLink struct {
	*link
	conn     *websocket.Conn // set once, under mu
	network  net.Conn        // below conn; likewise
	aborted  bool            // guarded by mu
	finished chan struct{}   // closed by the writer after the last write
}

func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if !headerHas(r.Header, "Sec-Websocket-Protocol", signal.Subprotocol) {
		s.problem(w, http.StatusBadRequest, refusal.Newf(refusal.VersionUnsupported, "The WebSocket subprotocol must be %s.", signal.Subprotocol))
		return
	}
	l := &wsLink{link: s.newLink(s.cfg.ClientAddress(r), r.Header.Get("Origin")), finished: make(chan struct{})}
	l.pump = l.pumpLocked
	l.abort = l.abortNow
	if refused := s.admitLink(l.link); refused != nil {
		s.problem(w, 0, refused)
		return
	}
	h := &hijacker{ResponseWriter: w}
	conn, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       []string{signal.Subprotocol},
		InsecureSkipVerify: true, // of the origin: Authorize does it, by the key's list
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil { // the client has been answered
		s.counts.refused.Add(1)
		s.closeLink(l.link)
		return
	}
	conn.SetReadLimit(-1) // read has its own, which says goodbye
	l.mu.Lock()
	l.conn, l.network = conn, h.conn
	if l.bye != nil { // the server is draining already
		l.pump()
	}
	aborted := l.aborted
	l.mu.Unlock()
	if aborted {
		h.conn.Close()
	}
	// The handler returns, and with it go the request, its headers and the large stack on which net/http serves: an idle link
	// keeps only what it needs.
	go l.read()
}

// A hijacker keeps the connection that is taken over: the websocket package has no way to close one while it waits for a client's close frame.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err
}

// readBuffers are for messages while they are parsed. Most are small; those that have grown large are not kept.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// read handles the client's messages until the link ends. It is the link's task.
func (l *wsLink) read() {
	defer l.server.closeLink(l.link)
	for {
		typ, r, err := l.conn.Reader(context.Background())
		if err != nil {
			break
		}
		if typ != websocket.MessageText {
			l.fail(l.server.work, refusal.Newf(refusal.Malformed, "Messages are text frames."))
			break
		}
		buf := readBuffers.Get().(*[]byte)
		data, err := readMessage(r, (*buf)[:0])
		if err == nil {
			l.reading.Lock()
			if !l.ending() {
				l.receive(l.server.work, data)
			}
			l.reading.Unlock()
		}
		if cap(data) <= 16<<10 {
			*buf = data[:0]
			readBuffers.Put(buf)
		}
		if errors.Is(err, refusal.New(refusal.MessageTooBig)) {
			l.fail(l.server.work, refusal.New(refusal.MessageTooBig))
		}
		if err != nil {
			break
		}
	}
	l.detach()
	l.mu.Lock()
	goodbye := l.bye != nil && !l.closed
	l.mu.Unlock()
	if goodbye {
		<-l.finished // the sweep watches the link until then
	}
	l.conn.CloseNow()
}

// readMessage reads one message into buf, which grows up to the limit.
func readMessage(r io.Reader, buf []byte) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > signal.MaxMessage {
			return buf, refusal.New(refusal.MessageTooBig)
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// closeWait is how long a client has to answer our close frame.
const closeWait = 2 * time.Second

// pumpLocked starts the writer if it does not run.
func (l *wsLink) pumpLocked() {
	if l.pumping || l.conn == nil {
		return
	}
	l.pumping = true
	l.server.tasks.Add(1) // read is one, and ends only after closed or bye is set
	go l.write()
}

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// write writes what is queued, and returns when nothing is.
func (l *wsLink) write() {
	defer l.server.tasks.Done()
	buf := writeBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 16<<10 {
			writeBuffers.Put(buf)
		}
	}()
	var batch []item
	for {
		var bye *refusal.Refusal
		clear(batch)
		batch, bye = l.take(batch)
		if bye != nil {
			l.goodbye(bye)
			return
		}
		if len(batch) == 0 {
			l.mu.Lock()
			if l.closed || len(l.queue) == 0 && l.bye == nil {
				l.pumping = false
				if cap(l.queue) > 8 {
					l.queue = nil
				}
				l.mu.Unlock()
				return
			}
			l.mu.Unlock()
			continue
		}
		for _, it := range batch {
			data, err := l.encode((*buf)[:0], it)
			if err != nil {
				l.server.cfg.Logger.Error("encode message", "err", err)
				l.finish()
				return
			}
			*buf = data
			if l.frame(data) != nil {
				l.finish()
				return
			}
		}
	}
}

func (l *wsLink) frame(data []byte) error {
	l.writing.Store(int64(l.server.now()))
	err := l.conn.Write(context.Background(), websocket.MessageText, data)
	l.writing.Store(0)
	return err
}

// goodbye says why the link ends, and closes it. Nothing is written after it.
func (l *wsLink) goodbye(r *refusal.Refusal) {
	data, err := encodeBye(nil, r)
	if err == nil && l.frame(data) == nil {
		// Waits for the client to close too (RFC 6455 §7.1.1): closing first, with something of the client's unread, would reset the connection, and
		// the client might lose what was sent last.
		l.network.SetReadDeadline(time.Now().Add(closeWait))
		l.conn.Close(closeStatus(r.Code), string(r.Code))
	}
	l.finish()
}

// finish ends all writing and closes the connection. The writer calls it once, as its last act.
func (l *wsLink) finish() {
	l.mu.Lock()
	l.closed = true
	l.queue = nil
	l.mu.Unlock()
	close(l.finished)
	l.conn.CloseNow()
}

// closeStatus is the WebSocket close code (RFC 6455 §7.4.1) for a code of ours.
func closeStatus(c refusal.Code) websocket.StatusCode {
	switch c {
	case refusal.Left:
		return websocket.StatusNormalClosure
	case refusal.MessageTooBig:
		return websocket.StatusMessageTooBig
	case refusal.ServerDraining:
		return websocket.StatusServiceRestart
	case refusal.Internal:
		return websocket.StatusInternalError
	}
	return websocket.StatusPolicyViolation
}

// abortNow closes the connection, on a goroutine of its own: with TLS closing may wait for the network, and its callers must not.
func (l *wsLink) abortNow() {
	l.mu.Lock()
	first := !l.aborted
	l.aborted = true
	network := l.network
	l.mu.Unlock()
	if first && network != nil {
		l.server.tasks.Add(1) // the link is one, and still runs
		go func() {
			defer l.server.tasks.Done()
			network.Close()
		}()
	}
}
