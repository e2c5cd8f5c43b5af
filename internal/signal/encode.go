package signal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/madang-rtc/madang/internal/refusal"
)

// AppendClient appends a client's message. seq is left out for messages without a number.
func AppendClient(dst []byte, m ClientMessage, seq uint64, reply bool) ([]byte, error) {
	typ, numbered := m.ClientType()
	dst = head(dst, typ, numbered, seq)
	if numbered && reply {
		dst = append(dst, `,"reply":true`...)
	}
	if s, ok := m.(*Signal); ok {
		dst = appendText(append(dst, `,"to":`...), s.To)
		return append(appendRaw(append(dst, `,"data":`...), s.Data), '}'), nil
	}
	return rest(dst, m)
}

// AppendServer appends a server's message. seq is left out for messages without a number. Raw JSON inside is copied as it is.
func AppendServer(dst []byte, m ServerMessage, seq uint64) ([]byte, error) {
	typ, numbered := m.ServerType()
	dst = head(dst, typ, numbered, seq)
	switch m := m.(type) { // what is sent most, without reflection
	case *FromSignal:
		dst = appendText(append(dst, `,"from":`...), m.From)
		return append(appendRaw(append(dst, `,"data":`...), m.Data), '}'), nil
	case *FromCommand:
		if m.From != "" {
			dst = appendText(append(dst, `,"from":`...), m.From)
		}
		dst = appendText(append(dst, `,"name":`...), m.Name)
		dst = appendRaw(append(dst, `,"data":`...), m.Data)
		for i, to := range m.To {
			if i == 0 {
				dst = append(dst, `,"to":[`...)
			} else {
				dst = append(dst, ',')
			}
			dst = appendText(dst, to)
		}
		if len(m.To) > 0 {
			dst = append(dst, ']')
		}
		return append(dst, '}'), nil
	case *Pong:
		if m.T != nil {
			dst = appendRaw(append(dst, `,"t":`...), m.T)
		}
		return append(strconv.AppendUint(append(dst, `,"ack":`...), m.Ack, 10), '}'), nil
	case *OK:
		return append(strconv.AppendUint(append(dst, `,"re":`...), m.Re, 10), '}'), nil
	}
	return rest(dst, m)
}

func head(dst []byte, typ string, numbered bool, seq uint64) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, typ...)
	dst = append(dst, '"')
	if numbered {
		dst = strconv.AppendUint(append(dst, `,"seq":`...), seq, 10)
	}
	return dst
}

// rest appends the members of m and the closing brace.
func rest(dst []byte, m any) ([]byte, error) {
	// Not json.Marshal, which makes six bytes of each < > & inside raw JSON: info that was within its limit would be beyond it.
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	members := bytes.TrimRight(body.Bytes()[1:], "\n")
	if len(members) > len("}") {
		dst = append(dst, ',')
	}
	return append(dst, members...), nil
}

func appendRaw(dst []byte, raw json.RawMessage) []byte {
	if raw == nil {
		return append(dst, "null"...)
	}
	return append(dst, raw...)
}

func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			b, _ := json.Marshal(s) // cannot fail on a string
			return append(dst, b...)
		}
	}
	dst = append(append(dst, '"'), s...)
	return append(dst, '"')
}

// ParseServer reads one message of a server. An unknown type gives a nil message, its seq (0: none) and no error: a client ignores it, but
// counts its number (docs/protocol.md). The result keeps no reference to data.
func ParseServer(data []byte) (ServerMessage, uint64, error) {
	var h struct {
		Type string `json:"type"`
		Seq  uint64 `json:"seq"`
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, 0, fmt.Errorf("read server message: %w", err)
	}
	var m ServerMessage
	switch h.Type {
	case "link":
		m = &Link{}
	case "joined":
		m = &Joined{}
	case "pending":
		m = &Pending{}
	case "resumed":
		m = &Resumed{}
	case "pong":
		m = &Pong{}
	case "ack":
		m = &Ack{}
	case "bye":
		m = &Bye{}
	case "admitted":
		m = &Admitted{}
	case "peer-joined":
		m = &PeerJoined{}
	case "peer-left":
		m = &PeerLeft{}
	case "peer-updated":
		m = &PeerUpdated{}
	case "signal":
		m = &FromSignal{}
	case "command":
		m = &FromCommand{}
	case "ring":
		m = &Ring{}
	case "ring-ended":
		m = &RingEnded{}
	case "channel":
		m = &ChannelSettings{}
	case "ice":
		m = &ICEServers{}
	case "ok":
		m = &OK{}
	case "error":
		m = &Error{}
	default:
		return nil, h.Seq, nil
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, 0, fmt.Errorf("read server message %q: %w", h.Type, err)
	}
	if h.Type == "ack" {
		h.Seq = 0 // it is what the message says, and no number of its own
	}
	if _, numbered := m.ServerType(); numbered == (h.Seq == 0) {
		return nil, 0, fmt.Errorf("read server message %q: seq %d", h.Type, h.Seq)
	}
	return m, h.Seq, nil
}

// A Batch is the body of a POST (§1): the name of a link, absent in the first one, and messages.
type Batch struct {
	Link     string
	Messages [][]byte // each a JSON value; they alias the parsed bytes
}

// maxBatch is how many messages one POST may carry: what the rate limit lets through in a burst (§7).
const maxBatch = 400

// ParseBatch reads the body of a POST. Errors are *refusal.Refusal. The messages themselves are checked by ParseClient.
func ParseBatch(data []byte) (Batch, error) {
	var o object
	if err := o.parse(data, batchDepth); err != nil {
		return Batch{}, malformedBatch(err.Error())
	}
	d := decoder{o: &o}
	b := Batch{Link: d.text("link", MaxIdentifier, optional)}
	list := o.get("messages")
	if d.err != nil || list == nil || list[0] != '[' {
		return Batch{}, malformedBatch("without a list of messages")
	}
	s := scanner{b: list, i: 1, depth: batchDepth}
	for s.space(); s.peek() != ']'; s.space() {
		if s.peek() == ',' { // the list's syntax is checked already
			s.i++
			s.space()
		}
		start := s.i
		if err := s.value(1); err != nil {
			return Batch{}, malformedBatch(err.Error())
		}
		if len(b.Messages) == maxBatch {
			return Batch{}, malformedBatch("too long a list")
		}
		b.Messages = append(b.Messages, list[start:s.i])
	}
	return b, nil
}

func malformedBatch(why string) error {
	return refusal.Newf(refusal.Malformed, "The body is %s.", why)
}

// AppendBatch appends a POST's body. link may be empty; messages are JSON objects.
func AppendBatch(dst []byte, link string, messages ...[]byte) []byte {
	dst = append(dst, '{')
	if link != "" {
		dst = append(appendText(append(dst, `"link":`...), link), ',')
	}
	dst = append(dst, `"messages":[`...)
	dst = append(dst, bytes.Join(messages, []byte(","))...)
	return append(dst, "]}"...)
}
