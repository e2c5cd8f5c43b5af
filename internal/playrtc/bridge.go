package playrtc

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/madang-rtc/madang/internal/channel"
)

// Names of the commands by which native peers and clients of this wire speak (docs/protocol.md §6).
const (
	commandUser    = "playrtc.user"     // a user command; data is its value
	commandReady   = "playrtc.ready"    // a newcomer rings
	commandOnReady = "playrtc.on_ready" // the answer: {"status":"yes"|"no"}
	commandChat    = "madang.chat"      // {"text":"…"}
)

// wireData is a signal between two clients of this wire. No native peer makes, gets or could forge one: whether a peer is one of them is known here.
type wireData struct {
	PlayRTC struct {
		Command string          `json:"command"`
		Body    json.RawMessage `json:"body"`
	} `json:"playrtc"`
}

func wireSignal(command string, body []byte) json.RawMessage {
	// Not by json.Marshal, which would rewrite the body.
	return append(append(append(append([]byte(`{"playrtc":{"command":"`), command...), `","body":`...), body...), "}}"...)
}

// A pair is what is known of the connection between this client and a native peer. Guarded by link.mu.
type pair struct {
	pc       string // name of the connection; empty: none yet
	ours     bool   // the client has made the offer
	answered bool
	frozen   bool              // the native peer has begun something that this wire cannot do
	waiting  []json.RawMessage // candidates of the client from before its description
}

// maxWaiting bounds pair.waiting.
const maxWaiting = 64

// nativeSignal is what native peers say to each other (docs/protocol.md §6), as far as this wire can do it.
type nativeSignal struct {
	PC          string            `json:"pc"`
	Description *description      `json:"description,omitempty"`
	Candidates  []json.RawMessage `json:"candidates,omitempty"`
	Sources     map[string]string `json:"sources,omitempty"`
}

type description struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// relay takes sdp and candidate from the client.
func (l *link) relay(m message) {
	o := l.find(m.Header.Receiver.ID)
	if o == nil || len(m.Body) == 0 || m.Body[0] != '{' {
		return
	}
	if l.server.isWire(o.id) {
		l.do(channel.SendSignal{To: o.id, Data: wireSignal(m.Header.Command, m.Body)})
		return
	}
	for _, s := range l.toNative(o, m) {
		data, err := json.Marshal(s)
		if err != nil {
			l.server.cfg.Logger.Error("encode signal", "err", err)
			return
		}
		l.do(channel.SendSignal{To: o.id, Data: data})
	}
}

// toNative turns a client's description or candidate into signals of the native protocol.
func (l *link) toNative(o *other, m message) []nativeSignal {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Header.Command == "candidate" {
		var candidate struct {
			Candidate string `json:"candidate"`
		}
		raw := json.RawMessage(m.Data.Candidate)
		if json.Unmarshal(raw, &candidate) != nil || candidate.Candidate == "" {
			return nil
		}
		if o.pc != "" {
			return []nativeSignal{{PC: o.pc, Candidates: []json.RawMessage{raw}}}
		}
		// Native peers drop what comes before the description.
		if len(o.waiting) < maxWaiting {
			o.waiting = append(o.waiting, raw)
		}
		return nil
	}
	var d description
	if json.Unmarshal([]byte(m.Data.SDP), &d) != nil || d.SDP == "" {
		return nil
	}
	if d.Type == "" {
		d.Type = m.Data.Type
	}
	switch d.Type {
	case "offer":
		o.pc, o.ours, o.answered, o.frozen = "v3-"+l.token+"-"+o.token, true, false, false
	case "answer":
		if o.pc == "" || o.ours || o.answered {
			return nil
		}
		o.answered = true
	default:
		return nil
	}
	signals := []nativeSignal{{PC: o.pc, Description: &d, Sources: sources(d.SDP)}}
	if len(o.waiting) > 0 {
		signals = append(signals, nativeSignal{PC: o.pc, Candidates: o.waiting})
		o.waiting = nil
	}
	return signals
}

// sources names what the media sections of a description send, by their mid (RFC 8829 §5.2.1). This wire has one stream of a peer: microphone and camera.
func sources(sdp string) map[string]string {
	found := map[string]string{}
	var mid, source string
	sends := false
	end := func() {
		if mid != "" && source != "" && sends {
			found[mid] = source
		}
	}
	for line := range strings.Lines(sdp) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "m="):
			end()
			mid, source, sends = "", "", true // RFC 8866 §6.7: sendrecv if nothing is said
			switch {
			case strings.HasPrefix(line, "m=audio "):
				source = "microphone"
			case strings.HasPrefix(line, "m=video "):
				source = "camera"
			}
		case strings.HasPrefix(line, "a=mid:"):
			mid = line[len("a=mid:"):]
		case line == "a=recvonly" || line == "a=inactive":
			sends = false
		}
	}
	end()
	return found
}

// signal writes what another peer has sent.
func (w *writer) signal(e *channel.Signal) error {
	w.mu.Lock()
	o := w.byID[e.From]
	w.mu.Unlock()
	if o == nil {
		return nil
	}
	if !w.server.isWire(o.id) {
		var s nativeSignal
		if json.Unmarshal(e.Data, &s) != nil || s.PC == "" {
			return nil
		}
		return w.fromNative(o, s)
	}
	var s wireData
	if json.Unmarshal(e.Data, &s) != nil {
		return nil
	}
	switch s.PlayRTC.Command {
	case "sdp", "candidate":
		return w.relayed(s.PlayRTC.Command, o.token, s.PlayRTC.Body)
	case "ready":
		return w.req("on_ready", ringData{ChannelID: w.room, TargetID: o.token, UID: orNone(o.uid)})
	case "on_ready":
		return w.decided(o, s.PlayRTC.Body)
	}
	return nil
}

// fromNative writes what a native peer has sent. This wire knows one offer and one answer: what would negotiate again is dropped, and a new connection is
// shown as a peer that has come back.
func (w *writer) fromNative(o *other, s nativeSignal) error {
	if d := s.Description; d != nil {
		again := false
		w.mu.Lock()
		use := false
		switch {
		case !utf8.ValidString(d.SDP) || d.SDP == "":
		case d.Type == "offer" && s.PC == o.pc:
			o.frozen = true
		case d.Type == "offer":
			again = o.pc != ""
			o.pair = pair{pc: s.PC}
			use = true
		case d.Type == "answer" && s.PC == o.pc && o.ours && !o.answered:
			o.answered = true
			use = true
		}
		w.mu.Unlock()
		if !use {
			return nil
		}
		if again {
			if err := w.req("on_close", closeData{w.room, o.token, orNone(o.uid), "reconnect"}); err != nil {
				return err
			}
			if err := w.req("on_connect", othersData{w.room, []peerData{o.data()}}); err != nil {
				return err
			}
		}
		text, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if err := w.say("sdp", o, struct {
			Type string `json:"type"`
			SDP  string `json:"sdp"`
		}{d.Type, string(text)}); err != nil {
			return err
		}
	}
	w.mu.Lock()
	ours := s.PC == o.pc && !o.frozen
	w.mu.Unlock()
	if !ours {
		return nil
	}
	for _, c := range s.Candidates {
		var candidate struct {
			Candidate string `json:"candidate"`
		}
		if json.Unmarshal(c, &candidate) != nil || candidate.Candidate == "" {
			continue // this wire has no end of candidates
		}
		if err := w.say("candidate", o, struct {
			Candidate string `json:"candidate"`
		}{string(c)}); err != nil {
			return err
		}
	}
	return nil
}

// say writes a message of a native peer's.
func (w *writer) say(command string, from *other, data any) error {
	body, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return err
	}
	return w.relayed(command, from.token, body)
}

// ring takes ready: the client, who is in the channel already, asks a peer whether it may call.
func (l *link) ring(m message) {
	o := l.find(m.Data.TargetID)
	switch {
	case o == nil:
	case l.server.isWire(o.id):
		l.do(channel.SendSignal{To: o.id, Data: wireSignal("ready", []byte("{}"))})
	default:
		l.do(channel.SendCommand{To: []string{o.id}, Name: commandReady, Data: json.RawMessage("{}")})
	}
}

// answerRing takes on_ready: yes or no to a ring, of one who is in the channel or, natively, waits to be admitted.
func (l *link) answerRing(m message) {
	o := l.find(m.Data.TargetID)
	if o == nil || m.Data.Status != "yes" && m.Data.Status != "no" {
		return
	}
	l.mu.Lock()
	waits := o.ringing
	l.mu.Unlock()
	status := json.RawMessage(`{"status":"` + m.Data.Status + `"}`)
	switch {
	case waits && m.Data.Status == "yes":
		l.do(channel.Accept{Peer: o.id})
	case waits:
		l.do(channel.Reject{Peer: o.id})
	case l.server.isWire(o.id):
		l.do(channel.SendSignal{To: o.id, Data: wireSignal("on_ready", status)})
	default:
		l.do(channel.SendCommand{To: []string{o.id}, Name: commandOnReady, Data: status})
	}
}

// decided tells the client what the peer that it has rung says.
func (w *writer) decided(o *other, answer json.RawMessage) error {
	var a struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(answer, &a) != nil || a.Status != "yes" && a.Status != "no" {
		return nil
	}
	return w.res("ready", ringData{ChannelID: w.room, TargetID: o.token, UID: orNone(o.uid), Status: a.Status})
}

// command takes userdefined.
func (l *link) command(m message) {
	data := m.Data.UserData
	if data == nil {
		data = json.RawMessage("null")
	}
	if m.Header.Broadcast == "yes" {
		l.do(channel.SendCommand{Name: commandUser, Data: data})
		return
	}
	told := map[string]bool{}
	for _, target := range m.Header.Receiver.Targets {
		// One by one: of a list nobody gets it when one of them has just left.
		if o := l.find(target.ID); o != nil && !told[o.id] {
			told[o.id] = true
			l.do(channel.SendCommand{To: []string{o.id}, Name: commandUser, Data: data})
		}
	}
}

// commanded writes the commands that this wire knows. Those of the application's server have no sender, without which clients ignore them.
func (w *writer) commanded(e *channel.Command) error {
	w.mu.Lock()
	o := w.byID[e.From]
	w.mu.Unlock()
	if o == nil {
		return nil
	}
	switch e.Name {
	case commandReady:
		return w.req("on_ready", ringData{ChannelID: w.room, TargetID: o.token, UID: orNone(o.uid)})
	case commandOnReady:
		return w.decided(o, e.Data)
	case commandUser:
		data := e.Data
		if data == nil {
			data = json.RawMessage("null")
		}
		return w.req("on_userdefined", commandData{w.room, o.token, data})
	case commandChat:
		var chat struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(e.Data, &chat) != nil || chat.Text == "" {
			return nil
		}
		data, err := json.Marshal(chat.Text)
		if err != nil {
			return err
		}
		return w.req("on_userdefined", commandData{w.room, o.token, data})
	}
	return nil
}
