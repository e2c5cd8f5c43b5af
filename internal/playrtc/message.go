package playrtc

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// Bounds of what comes over a socket, in bytes.
const (
	maxMessage = 128 << 10 // an offer is 3 to 10 KiB
	maxSkipped = 4 << 20   // a larger message than maxMessage is ignored; one of this size ends the socket
	maxTargets = 1000
)

// A message is one that a client sent, as far as the server reads it.
type message struct {
	Header struct {
		Command   string `json:"command"`
		Token     string `json:"token"`
		Broadcast string `json:"broadcast"`
		Sender    struct {
			ID  string          `json:"id"`
			Env json.RawMessage `json:"env"`
		} `json:"sender"`
		Receiver struct {
			ID      string `json:"id"`
			Targets []struct {
				ID string `json:"id"`
			} `json:"targets"`
		} `json:"receiver"`
	} `json:"header"`
	// Body is relayed as it is between clients of this wire.
	Body json.RawMessage `json:"body"`
	Data data            `json:"-"` // of Body
}

// data are the members of body.data that any command has.
type data struct {
	UID       text            `json:"uid"`
	ChannelID string          `json:"channelId"`
	TargetID  string          `json:"targetId"`
	Status    string          `json:"status"`
	Type      string          `json:"type"`
	SDP       string          `json:"sdp"`
	Candidate string          `json:"candidate"`
	UserData  json.RawMessage `json:"userData"`
}

var errMessage = errors.New("not a message of this protocol")

// parse reads a frame. The result holds no part of it.
func parse(frame []byte) (m message, err error) {
	// What is relayed must be text for the receiver's WebSocket too (RFC 6455 §8.1).
	if !utf8.Valid(frame) {
		return m, errMessage
	}
	if err := json.Unmarshal(frame, &m); err != nil {
		return m, err
	}
	if m.Header.Command == "" || len(m.Header.Receiver.Targets) > maxTargets {
		return m, errMessage
	}
	m.Header.Command = strings.ToLower(m.Header.Command)
	if m.Body == nil {
		return m, nil
	}
	var body struct {
		Data data `json:"data"`
	}
	if err := json.Unmarshal(m.Body, &body); err != nil {
		return m, err
	}
	m.Data = body.Data
	return m, nil
}

// none is how this wire writes that there is no value.
const none = "none"

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func notNone(s string) string {
	if s == none {
		return ""
	}
	return s
}

// A party is the sender or receiver of a message.
type party struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

var fromServer = party{"server", none}

// header is that of a server's message. Clients of Android want every member, of the right type, and commands in lower case.
type header struct {
	Command     string `json:"command"`
	CommandType string `json:"commandType"`
	Token       string `json:"token"`
	ExpireTime  string `json:"expireTime,omitempty"`
	Broadcast   string `json:"broadcast,omitempty"`
	Sender      party  `json:"sender"`
	Receiver    party  `json:"receiver"`
}

// appendRelayed writes a message of another client: body as it is.
func appendRelayed(dst []byte, command, from, to string, body []byte) []byte {
	h, _ := json.Marshal(header{Command: command, CommandType: "req", Token: to, Sender: party{"peer", from}, Receiver: party{"peer", to}}) // strings alone
	dst = append(append(dst, `{"header":`...), h...)
	return append(append(append(dst, `,"body":`...), body...), '}')
}

// appendServer writes a message of the server's own. A res must have a code.
func appendServer(dst []byte, command, to string, res *status, data any) ([]byte, error) {
	h := header{Command: command, CommandType: "req", Token: to, ExpireTime: none, Broadcast: none, Sender: fromServer, Receiver: party{"peer", to}}
	var body struct {
		Header *resHeader `json:"header,omitempty"`
		Data   any        `json:"data"`
	}
	if res != nil {
		h.CommandType = "res"
		body.Header = &resHeader{res.code, res.name}
	}
	body.Data = data
	m, err := json.Marshal(struct {
		Header header `json:"header"`
		Body   any    `json:"body"`
	}{h, body})
	return append(dst, m...), err
}

type resHeader struct {
	Code string `json:"code"`
	Desc string `json:"desc"`
}

// An info is what peers of both wires say in `info` for PlayRTC's sake: {"playrtc": info}.
type info struct {
	Env      json.RawMessage `json:"env,omitempty"`
	UserName string          `json:"userName,omitempty"`
	Wire     string          `json:"wire,omitempty"` // "v3": this peer speaks this wire
}

func readInfo(raw json.RawMessage) info {
	var i struct {
		PlayRTC info `json:"playrtc"`
	}
	if raw != nil {
		_ = json.Unmarshal(raw, &i) // it is the application's: anything
	}
	return i.PlayRTC
}

// emptyEnv is for clients that sent no env.
var emptyEnv = json.RawMessage(`{"platformType":"","browser":{"name":"","version":""},"sdk":{"type":"","version":""},"networkType":""}`)

// nativeEnv is for native peers that say nothing. Clients choose the form of data messages by it, for sending and reading: this one makes those that know the newer form
// (web 2.2.17, Android 2.2.9, iOS 2.2.8) choose it, which needs one of the platforms that they know.
var nativeEnv = json.RawMessage(`{"platformType":"linux","browser":{"name":"","version":""},"sdk":{"type":"web","version":"2.2.21"},"networkType":""}`)

// completeEnv returns env if it has what clients read without looking whether it is there, and otherwise the other one.
func completeEnv(env, otherwise json.RawMessage) json.RawMessage {
	var e struct {
		PlatformType *string `json:"platformType"`
		Browser      *struct {
			Name    *string `json:"name"`
			Version *string `json:"version"`
		} `json:"browser"`
		SDK *struct {
			Type    *string `json:"type"`
			Version *string `json:"version"`
		} `json:"sdk"`
	}
	if env == nil || json.Unmarshal(env, &e) != nil || e.PlatformType == nil || e.Browser == nil || e.Browser.Name == nil || e.Browser.Version == nil || e.SDK == nil ||
		e.SDK.Type == nil || e.SDK.Version == nil {
		return otherwise
	}
	return env
}
