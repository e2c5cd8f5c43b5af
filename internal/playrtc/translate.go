package playrtc

import (
	"encoding/json"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/carrier"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
)

// An other is a peer as one client knows it. Guarded by link.mu but for what is set at construction.
type other struct {
	// Set at construction.
	id    string
	token string
	uid   string

	env     json.RawMessage
	ringing bool // a native peer that is not a member yet
	pair
}

// The data of messages to clients.
type (
	peerData struct {
		ID  string          `json:"id"`
		UID string          `json:"uid"`
		Env json.RawMessage `json:"env"`
	}
	othersData struct {
		ChannelID string     `json:"channelId"`
		Others    []peerData `json:"others"`
	}
	channelData struct {
		ChannelID string `json:"channelId"`
	}
	closeData struct {
		ChannelID string `json:"channelId"`
		TargetID  string `json:"targetId"`
		UID       string `json:"uid"`
		Reason    string `json:"reason"`
	}
	ringData struct {
		ChannelID string `json:"channelId"`
		TargetID  string `json:"targetId"`
		UID       string `json:"uid"`
		Status    string `json:"status,omitempty"`
	}
	commandData struct {
		ChannelID string          `json:"channelId"`
		TargetID  string          `json:"targetId"`
		UserData  json.RawMessage `json:"userData"`
	}
)

func (o *other) data() peerData { return peerData{o.token, orNone(o.uid), o.env} }

// A writer writes one event's frames.
type writer struct {
	*link
	frames *carrier.Frames
	to     string // token of the client
	room   string // id of the channel
}

// write is what the socket does with an event.
func (l *link) write(f *carrier.Frames, it carrier.Item) error {
	w := &writer{link: l, frames: f}
	if t := l.ticket.Load(); t != nil {
		w.to, w.room = t.token, t.key.Channel
	}
	if err := w.event(it.Event); err != nil {
		return err
	}
	if it.Seq >= l.acked+ackEvery {
		if m := l.member.Load(); m != nil { // nil: Join is about to return
			l.acked = it.Seq
			m.Ack(l.server.work, it.Seq)
		}
	}
	return nil
}

func (w *writer) req(command string, data any) error { return w.send(command, nil, data) }

func (w *writer) res(command string, data any) error { return w.send(command, &success, data) }

func (w *writer) send(command string, res *status, data any) (err error) {
	if w.frames.Buffer, err = appendServer(w.frames.Buffer[:0], command, w.to, res, data); err != nil {
		w.server.cfg.Logger.Error("encode message", "err", err)
		return err
	}
	return w.frames.Write(w.frames.Buffer)
}

func (w *writer) relayed(command, from string, body []byte) error {
	w.frames.Buffer = appendRelayed(w.frames.Buffer[:0], command, from, w.to, body)
	return w.frames.Write(w.frames.Buffer)
}

func (w *writer) event(e channel.Event) error {
	switch e := e.(type) {
	case *channel.Joined:
		return w.welcome(e.Peer.Role, e.Peers)
	case *channel.Admitted:
		return w.welcome(e.Peer.Role, e.Peers)
	case *channel.PeerJoined:
		o := w.add(e.Peer.Peer)
		w.mu.Lock()
		rang := o.ringing
		o.ringing = false
		w.mu.Unlock()
		if rang {
			return nil // it was shown when it rang
		}
		return w.req("on_connect", othersData{w.room, []peerData{o.data()}})
	case *channel.PeerLeft:
		return w.left(e.ID, reasonOf(e.Reason))
	case *channel.PeerUpdated:
		w.update(e)
	case *channel.Signal:
		return w.signal(e)
	case *channel.Command:
		return w.commanded(e)
	case *channel.Ring:
		o := w.add(e.Peer.Peer)
		w.mu.Lock()
		o.ringing = true
		w.mu.Unlock()
		// Android makes its peer at on_connect, and looks for it at on_ready.
		if err := w.req("on_connect", othersData{w.room, []peerData{o.data()}}); err != nil {
			return err
		}
		return w.req("on_ready", ringData{ChannelID: w.room, TargetID: o.token, UID: orNone(o.uid)})
	case *channel.RingEnded:
		if e.Reason != "accepted" {
			return w.left(e.ID, "disconnect")
		}
	}
	return nil
}

// reasonOf turns a reason of docs/protocol.md §5 into PlayRTC's word.
func reasonOf(reason string) string {
	switch reason {
	case string(refusal.Replaced):
		return "reconnect"
	case "lost":
		return "timeout"
	}
	return "disconnect"
}

// add makes a peer known, before the client hears of it: its answers come back to somebody.
func (w *writer) add(p *channel.Peer) *other {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.byID[p.ID]; o != nil && o.ringing {
		return o
	}
	o := &other{id: p.ID, token: Token(p.ID), uid: p.UID, env: nativeEnv}
	told := readInfo(p.Info)
	if w.server.isWire(p.ID) {
		o.env = completeEnv(told.Env, emptyEnv)
	} else {
		o.env = completeEnv(told.Env, nativeEnv)
	}
	w.byID[o.id], w.byToken[o.token] = o, o
	return o
}

// welcome answers connect.
func (w *writer) welcome(role auth.Role, peers []channel.PeerView) error {
	body := othersData{w.room, []peerData{}}
	for _, p := range peers {
		body.Others = append(body.Others, w.add(p.Peer).data())
	}
	w.mu.Lock()
	w.role = role
	w.mu.Unlock()
	w.heard.Store(int64(w.server.now())) // one who waited to be admitted said nothing meanwhile
	w.welcomed.Store(true)
	return w.res("connect", body)
}

// left tells of a peer that is gone, if the client knows it.
func (w *writer) left(id, reason string) error {
	w.mu.Lock()
	o := w.byID[id]
	if o != nil {
		delete(w.byID, id)
		delete(w.byToken, o.token)
	}
	w.mu.Unlock()
	if o == nil {
		return nil
	}
	return w.req("on_close", closeData{w.room, o.token, orNone(o.uid), reason})
}

func (w *writer) update(e *channel.PeerUpdated) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.ticket.Load(); t != nil && t.peer == e.ID && e.Role != nil {
		w.role = *e.Role
	}
	if o := w.byID[e.ID]; o != nil && e.Info != nil && !w.server.isWire(o.id) {
		o.env = completeEnv(readInfo(e.Info).Env, nativeEnv)
	}
}

// goodbye writes the last words: close to one who was a member, the answer to connect to one who was not.
func (l *link) goodbye(f *carrier.Frames, r *refusal.Refusal) (websocket.StatusCode, string) {
	l.mu.Lock()
	w := &writer{link: l, frames: f, to: l.token}
	l.mu.Unlock()
	if t := l.ticket.Load(); t != nil {
		w.to, w.room = t.token, t.key.Channel
	}
	var err error
	switch {
	case r.Code == refusal.ServerDraining:
		return websocket.StatusServiceRestart, string(r.Code)
	case r.Code == refusal.Replaced && l.welcomed.Load():
		// The client has come back under another token, and must not take this for an end.
	case !l.welcomed.Load():
		st := statusOf(r)
		err = w.send("connect", &st, othersData{w.room, []peerData{}})
	default:
		err = w.req("close", channelData{w.room})
	}
	if err != nil {
		return 0, ""
	}
	return websocket.StatusNormalClosure, string(r.Code)
}
