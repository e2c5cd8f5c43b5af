package carrier

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/refusal"
)

// SocketConfig says how an edge speaks over a Socket. All but Subprotocols is required.
type SocketConfig struct {
	Subprotocols []string // the client must offer one of them, if there are any
	MaxMessage   int      // bytes
	MaxSkipped   int      // bytes of a larger message that Read skips; 0: none, the socket is over
	// Write writes an event, in no, one or several frames. An error ends the socket.
	Write func(f *Frames, it Item) error
	// Goodbye writes the last words, if there are any, and says with what the WebSocket is closed.
	Goodbye func(f *Frames, r *refusal.Refusal) (websocket.StatusCode, string)
	// Tasks are counted up while a goroutine of the socket runs. Whoever calls Accept holds one of them until Close has returned.
	Tasks *sync.WaitGroup
}

// A Socket is the server's end of a WebSocket. Its user reads; a goroutine of its own runs only while there is something to write.
//
// Contexts given to the websocket package never end: it would make a timer or a callback for every read and write, and close the connection when one
// ends. The user's sweep looks at Stuck and calls Cut or Abort instead.
type Socket struct {
	// Set at construction.
	cfg      SocketConfig
	queue    *Queue
	began    time.Time
	finished chan struct{} // closed by the writer after the last write

	writing atomic.Int64 // when the write that runs now began, since began; 0: none

	// Guarded by queue.mu.
	conn    *websocket.Conn // set once
	network net.Conn        // below conn; likewise
	aborted bool
	pumping bool // a goroutine is writing
}

// NewSocket returns a Socket that will write what comes into q. Before Accept it can be aborted already, and its queue filled.
func NewSocket(q *Queue, cfg SocketConfig) *Socket {
	s := &Socket{cfg: cfg, queue: q, began: time.Now(), finished: make(chan struct{})}
	q.Pump(s.pumpLocked)
	return s
}

// Accept upgrades the request. After an error the client has been answered.
//
// The handler should return after it, and Read be called on another goroutine: with the handler go the request, its headers and the large stack on which
// net/http serves, so that an idle link keeps only what it needs.
func (s *Socket) Accept(w http.ResponseWriter, r *http.Request) error {
	h := &hijacker{ResponseWriter: w}
	conn, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       s.cfg.Subprotocols,
		InsecureSkipVerify: true, // of the origin: keys have lists of their own
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return err
	}
	conn.SetReadLimit(-1) // Read has its own, which lets the edge say goodbye
	s.queue.mu.Lock()
	s.conn, s.network = conn, h.conn
	if len(s.queue.items) > 0 || s.queue.bye != nil { // the server is draining already
		s.pumpLocked()
	}
	aborted := s.aborted
	s.queue.mu.Unlock()
	if aborted {
		h.conn.Close()
	}
	return nil
}

// A hijacker keeps the connection that is taken over: the websocket package has no way to close one while it waits for a client's close frame. It
// also exchanges net/http's buffers, of 4 KiB in each direction, for smaller ones, since an idle socket keeps them.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	if err == nil && rw.Reader.Buffered() == 0 { // else the client has sent more than it was asked for, and it is in that buffer
		rw = bufio.NewReadWriter(bufio.NewReaderSize(conn, frameBuffer), bufio.NewWriterSize(conn, frameBuffer))
	}
	return conn, rw, err
}

// frameBuffer lets most messages pass with one system call: candidates, and what applications say to each other. A description takes a few.
const frameBuffer = 1536

// buffers are for messages while they are read or written. Most are small; those that have grown large are not kept.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

const keptBuffer = 16 << 10

// ErrSkipped says that a message was too big, and that the next one can be read.
var ErrSkipped = errors.New("carrier: a message was too big")

// Read hands one message to f, which must not keep it, and returns nil. Its errors are refusals for what the client did (malformed: a binary frame;
// message_too_big), ErrSkipped, or others when the connection is over.
func (s *Socket) Read(f func(data []byte)) error {
	typ, r, err := s.conn.Reader(context.Background())
	if err != nil {
		return err
	}
	if typ != websocket.MessageText {
		return refusal.Newf(refusal.Malformed, "Messages are text frames.")
	}
	buf := buffers.Get().(*[]byte)
	data, err := s.readMessage(r, (*buf)[:0])
	if err == nil {
		f(data)
	}
	if cap(data) <= keptBuffer {
		*buf = data[:0]
		buffers.Put(buf)
	}
	return err
}

// readMessage reads one message into buf, which grows up to the limit.
func (s *Socket) readMessage(r io.Reader, buf []byte) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > s.cfg.MaxMessage {
			if err == nil && s.cfg.MaxSkipped > 0 {
				_, err = io.CopyN(io.Discard, r, int64(s.cfg.MaxSkipped))
			}
			if err == io.EOF {
				return buf, ErrSkipped
			}
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

// Close ends the socket when the last message was read: after the last words, if there are any. Those that are stuck on the way are Stuck.
func (s *Socket) Close() {
	s.queue.mu.Lock()
	goodbye := s.queue.bye != nil && !s.queue.closed
	s.queue.mu.Unlock()
	if goodbye {
		<-s.finished
	}
	s.conn.CloseNow()
}

// closeWait is how long a client has to answer our close frame.
const closeWait = 2 * time.Second

// pumpLocked starts the writer if it does not run.
func (s *Socket) pumpLocked() {
	if s.pumping || s.conn == nil {
		return
	}
	s.pumping = true
	s.cfg.Tasks.Add(1) // the reader is one, and ends only after closed or bye is set
	go s.write()
}

// Frames writes frames.
type Frames struct {
	Buffer []byte // for the user's own use: it is kept from one message to the next
	socket *Socket
}

// Write writes one text frame.
func (f *Frames) Write(data []byte) error {
	s := f.socket
	s.writing.Store(int64(time.Since(s.began)))
	err := s.conn.Write(context.Background(), websocket.MessageText, data)
	s.writing.Store(0)
	return err
}

// write writes what is queued, and returns when nothing is.
func (s *Socket) write() {
	defer s.cfg.Tasks.Done()
	buf := buffers.Get().(*[]byte)
	frames := &Frames{Buffer: (*buf)[:0], socket: s}
	defer func() {
		if cap(frames.Buffer) <= keptBuffer {
			*buf = frames.Buffer[:0]
			buffers.Put(buf)
		}
	}()
	q := s.queue
	var batch []Item
	for {
		var bye *refusal.Refusal
		clear(batch)
		batch, bye = q.Take(batch)
		if bye != nil {
			s.goodbye(frames, bye)
			return
		}
		if len(batch) == 0 {
			q.mu.Lock()
			if q.closed || len(q.items) == 0 && q.bye == nil {
				s.pumping = false
				if cap(q.items) > 8 {
					q.items = nil
				}
				q.mu.Unlock()
				return
			}
			q.mu.Unlock()
			continue
		}
		for _, it := range batch {
			if q.IsCut() {
				break
			}
			if s.cfg.Write(frames, it) != nil {
				s.finish()
				return
			}
		}
	}
}

// goodbye says why the link ends, and closes it. Nothing is written after it.
func (s *Socket) goodbye(f *Frames, r *refusal.Refusal) {
	status, reason := s.cfg.Goodbye(f, r)
	if status != 0 {
		// Waits for the client to close too (RFC 6455 §7.1.1): closing first, with something of the client's unread, would reset the connection, and
		// the client might lose what was sent last.
		s.network.SetReadDeadline(time.Now().Add(closeWait))
		s.conn.Close(status, reason)
	}
	s.finish()
}

// finish ends all writing and closes the connection. The writer calls it once, as its last act.
func (s *Socket) finish() {
	s.queue.mu.Lock()
	s.queue.closed = true
	s.queue.items = nil
	s.queue.mu.Unlock()
	close(s.finished)
	s.conn.CloseNow()
}

// Stuck reports whether one write has taken longer than limit: the client does not read.
func (s *Socket) Stuck(limit time.Duration) bool {
	since := s.writing.Load()
	return since != 0 && time.Since(s.began)-time.Duration(since) > limit
}

// Abort closes the connection at once, without goodbye. It does not block: closing may wait for the network with TLS, and so happens on a
// goroutine of its own. Calling it twice is harmless. A task must be held while it is called.
func (s *Socket) Abort() {
	s.queue.mu.Lock()
	first := !s.aborted
	s.aborted = true
	network := s.network
	s.queue.mu.Unlock()
	if first && network != nil {
		s.cfg.Tasks.Add(1)
		go func() {
			defer s.cfg.Tasks.Done()
			network.Close()
		}()
	}
}
