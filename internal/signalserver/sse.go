package signalserver

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/madang-rtc/madang/internal/carrier"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/throttle"
)

// maxBody bounds a POST: several messages fit, and one of the largest kind.
const maxBody = 256 << 10

// padding is a comment that makes intermediaries who collect the first KiBs of a response pass it on at once.
var padding = ":" + strings.Repeat(" ", 2046) + "\n\n"

// An sseLink is a link over SSE and POST. The handler of the request that opened it writes.
type sseLink struct {
	*link
	wake    chan struct{} // capacity 1: something is queued
	gone    chan struct{} // closed by abort
	aborted sync.Once

	writing atomic.Int64 // when the write that runs now began, since the server's epoch; 0: none
}

func (l *sseLink) isStuck(limit time.Duration) bool {
	since := l.writing.Load()
	return since != 0 && l.server.now()-time.Duration(since) > limit
}

func (s *Server) servePost(w http.ResponseWriter, r *http.Request) {
	address := s.cfg.ClientAddress(r)
	network := throttle.Network(address)
	body, err := s.body(w, r, network)
	if err != nil {
		s.problem(w, 0, refusal.From(err))
		return
	}
	batch, err := signal.ParseBatch(body)
	if err != nil {
		s.problem(w, 0, refusal.From(err))
		return
	}
	if batch.Link == "" {
		if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			s.problem(w, http.StatusNotAcceptable, refusal.Newf(refusal.Malformed, "A request that names no link opens one: accept text/event-stream."))
			return
		}
		s.serveStream(w, r, address, batch.Messages)
		return
	}
	s.mu.Lock()
	l := s.named[batch.Link]
	s.mu.Unlock()
	if l == nil {
		// Those who guess have the budget of those who join: the next thing that an honest client does.
		if refused := s.mayJoin(network); refused != nil {
			s.problem(w, 0, refused)
			return
		}
		s.problem(w, 0, refusal.New(refusal.LinkUnknown))
		return
	}
	if refused := l.receiveAll(batch.Messages); refused != nil {
		s.problem(w, 0, refused)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// receiveAll handles messages in order, until one ends the link.
func (l *link) receiveAll(messages [][]byte) *refusal.Refusal {
	l.reading.Lock()
	defer l.reading.Unlock()
	for _, m := range messages {
		if l.IsCut() {
			return refusal.New(refusal.SlowClient)
		}
		if l.Ending() {
			return refusal.New(refusal.LinkUnknown)
		}
		if refused := l.receive(l.server.work, m); refused != nil {
			return refused
		}
	}
	return nil
}

// serveStream opens a link, and writes to it until it ends.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, address netip.Addr, first [][]byte) {
	rc := http.NewResponseController(w)
	l := &sseLink{link: s.newLink(address, r.Header.Get("Origin")), wake: make(chan struct{}, 1), gone: make(chan struct{})}
	l.name = rand.Text()
	l.Pump(func() {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	})
	l.abort = func() { l.aborted.Do(func() { close(l.gone) }) }
	l.stuck = l.isStuck
	if refused := s.admitLink(l.link); refused != nil {
		s.problem(w, 0, refused)
		return
	}
	defer s.closeLink(l.link)
	defer l.detach()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx
	w.WriteHeader(http.StatusOK)
	name, err := signal.AppendServer(nil, &signal.Link{Link: l.name}, 0)
	if err != nil || l.event(w, rc, []byte(padding), name) != nil {
		return
	}
	l.receiveAll(first) // if that ends the link, bye is queued

	var batch []carrier.Item
	var buf []byte
	for {
		clear(batch)
		var bye *refusal.Refusal
		batch, bye = l.Take(batch)
		switch {
		case bye != nil:
			if data, err := encodeBye(nil, bye); err == nil {
				l.event(w, rc, nil, data)
			}
			return
		case len(batch) == 0:
			if cap(buf) > 16<<10 {
				buf = nil
			}
			if cap(batch) > 64 {
				batch = nil
			}
			select {
			case <-l.wake:
			case <-l.gone:
				return
			case <-r.Context().Done():
				return
			}
			continue
		}
		for _, it := range batch {
			if l.IsCut() {
				break
			}
			if buf, err = l.encode(buf[:0], it); err != nil {
				s.cfg.Logger.Error("encode message", "err", err)
				return
			}
			if l.event(w, rc, nil, buf) != nil {
				return
			}
		}
	}
}

// event writes one event (WHATWG HTML §9.2.6) and flushes it.
func (l *sseLink) event(w http.ResponseWriter, rc *http.ResponseController, before, data []byte) error {
	if bytes.ContainsAny(data, "\r\n") { // white space inside a client's JSON: a line break would end the field
		var compact bytes.Buffer
		if err := json.Compact(&compact, data); err != nil {
			return err
		}
		data = compact.Bytes()
	}
	// The sweep cuts the link after WriteTimeout; a write that comes to its end in the same time again is followed by the reason.
	if err := rc.SetWriteDeadline(time.Now().Add(2 * l.server.cfg.WriteTimeout)); err != nil {
		return err
	}
	l.writing.Store(int64(l.server.now()))
	defer l.writing.Store(0)
	out := make([]byte, 0, len(before)+len(data)+len("data: \n\n"))
	out = append(append(append(append(out, before...), "data: "...), data...), "\n\n"...)
	if _, err := w.Write(out); err != nil {
		return err
	}
	return rc.Flush()
}
