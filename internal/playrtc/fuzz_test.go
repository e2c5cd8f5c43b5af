package playrtc

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// What comes over a socket is relayed inside of messages of ours: these must stay messages, with the body as it was.
func FuzzParse(f *testing.F) {
	for _, frame := range []string{
		`{"header":{"command":"connect","commandType":"req","token":"TKS8a1f0c3e5b7d92","expireTime":"none","broadcast":"none","sender":{"type":"peer","id":"none","env":{"platformType":"mac","browser":{"name":"chrome","version":"52"},"sdk":{"type":"web","version":"2.2.15"},"networkType":"wired"}},"receiver":{"type":"server","id":"none"}},"body":{"data":{"uid":"alice","channelId":"CHS4k2q9x0d7r1m5z"}}}`,
		`{"header":{"command":"SDP","token":"TKS8a1f0c3e5b7d92","sender":{"type":"peer","id":"TKS8a1f0c3e5b7d92"},"receiver":{"type":"peer","id":"TKS"}},"body":{"data":{"type":"offer","sdp":"{\"type\":\"offer\",\"sdp\":\"v=0\\r\\nm=audio 9 x 0\\r\\na=mid:audio\\r\\n\"}"}}}`,
		`{"header":{"command":"candidate"},"body":{"data":{"candidate":"{\"candidate\":\"candidate:1\",\"sdpMLineIndex\":0}"}}}`,
		`{"header":{"command":"userdefined","broadcast":"no","receiver":{"targets":[{"id":"a"},{"id":7}]}},"body":{"data":{"userData":[1,{"x":null}]}}}`,
		`{"header":{"command":"on_ready","commandType":"res"},"body":{"header":{"code":"20001"},"data":{"status":"yes","targetId":"TKS"}}}`,
		`{"header":{"command":"x"},"body":null}`, `null`, `[`, "",
	} {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := parse(frame)
		if err != nil {
			return
		}
		if m.Header.Command != strings.ToLower(m.Header.Command) {
			t.Errorf("command %q", m.Header.Command)
		}
		completeEnv(m.Header.Sender.Env, emptyEnv)
		readInfo(m.Header.Sender.Env)
		if len(m.Body) == 0 || m.Body[0] != '{' {
			return
		}
		var s wireData
		if err := json.Unmarshal(wireSignal("sdp", m.Body), &s); err != nil || !bytes.Equal(s.PlayRTC.Body, m.Body) {
			t.Fatalf("the body %q came through as %q: %v", m.Body, s.PlayRTC.Body, err)
		}
		relayed := appendRelayed(nil, "sdp", m.Header.Token, m.Header.Receiver.ID, s.PlayRTC.Body)
		var again struct {
			Header header          `json:"header"`
			Body   json.RawMessage `json:"body"`
		}
		if err := json.Unmarshal(relayed, &again); err != nil || !utf8.Valid(relayed) || !bytes.Equal(again.Body, m.Body) {
			t.Fatalf("relayed as %q: %v", relayed, err)
		}

		// To a native peer, and back from it.
		l := &link{token: "TKS00000000000001"}
		for _, command := range []string{m.Header.Command, "candidate", "sdp"} {
			m.Header.Command = command
			o := &other{token: "TKS00000000000002"}
			for _, signal := range l.toNative(o, m) {
				b, err := json.Marshal(signal)
				if err != nil {
					t.Fatalf("%+v: %v", signal, err)
				}
				var d nativeSignal
				if err := json.Unmarshal(b, &d); err != nil || d.PC == "" {
					t.Fatalf("native signal %s: %v", b, err)
				}
			}
		}
	})
}

func FuzzSearchTerms(f *testing.F) {
	for _, query := range []string{"f=CHANNEL_NAME&q=a&b%", "q=x&f=CHANNEL_ID", "f=%2&q=%zz", "&&q=", "f=a+b&q=c+d"} {
		f.Add(query, true)
		f.Add(query, false)
	}
	f.Fuzz(func(t *testing.T, raw string, native bool) {
		field, query := searchTerms(raw, native)
		if len(field)+len(query) > len(raw) {
			t.Errorf("%q gave %q and %q", raw, field, query)
		}
	})
}
