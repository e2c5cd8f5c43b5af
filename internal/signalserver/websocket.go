package signalserver

import (
	"errors"
	"net/http"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/carrier"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

// A wsLink is a link over WebSocket.
type wsLink struct {
	*link
	socket *carrier.Socket
}

func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if !headerHas(r.Header, "Sec-Websocket-Protocol", signal.Subprotocol) {
		s.problem(w, http.StatusBadRequest, refusal.Newf(refusal.VersionUnsupported, "The WebSocket subprotocol must be %s.", signal.Subprotocol))
		return
	}
	l := &wsLink{link: s.newLink(s.cfg.ClientAddress(r), r.Header.Get("Origin"))}
	l.socket = carrier.NewSocket(&l.Queue, carrier.SocketConfig{
		Subprotocols: []string{signal.Subprotocol}, MaxMessage: signal.MaxMessage, Write: l.write, Goodbye: goodbye, Tasks: &s.tasks,
	})
	l.abort, l.stuck = l.socket.Abort, l.socket.Stuck
	if refused := s.admitLink(l.link); refused != nil {
		s.problem(w, 0, refused)
		return
	}
	if err := l.socket.Accept(w, r); err != nil { // the client has been answered
		s.counts.refused.Add(1)
		s.closeLink(l.link)
		return
	}
	go l.read()
}

// read handles the client's messages until the link ends. It is the link's task.
func (l *wsLink) read() {
	defer l.server.closeLink(l.link)
	for {
		err := l.socket.Read(func(data []byte) {
			l.reading.Lock()
			defer l.reading.Unlock()
			if !l.Ending() {
				l.receive(l.server.work, data)
			}
		})
		if r := (*refusal.Refusal)(nil); errors.As(err, &r) {
			l.fail(l.server.work, r)
		}
		if err != nil {
			break
		}
	}
	l.detach()
	l.socket.Close()
}

// write writes one event.
func (l *wsLink) write(f *carrier.Frames, it carrier.Item) error {
	data, err := l.encode(f.Buffer[:0], it)
	if err != nil {
		l.server.cfg.Logger.Error("encode message", "err", err)
		return err
	}
	f.Buffer = data
	return f.Write(data)
}

func goodbye(f *carrier.Frames, r *refusal.Refusal) (websocket.StatusCode, string) {
	data, err := encodeBye(f.Buffer[:0], r)
	if err != nil || f.Write(data) != nil {
		return 0, ""
	}
	return closeStatus(r.Code), string(r.Code)
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
