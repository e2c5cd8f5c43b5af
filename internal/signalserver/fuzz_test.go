package signalserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalserver"
)

// FuzzPost sends any body to the URL of the protocol, as the first request of a link. What comes back is a problem, or a stream of messages.
func FuzzPost(f *testing.F) {
	channels, err := channel.New(channel.Config{ResumeWindow: time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	server, err := signalserver.New(signalserver.Config{Channels: channels, Authorize: authorize, JoinsPerSecond: 1e9, JoinBurst: 1e9})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { channels.Run(ctx); done <- struct{}{} }()
	go func() { server.Run(ctx); done <- struct{}{} }()
	f.Cleanup(func() { cancel(); <-done; <-done })

	for _, s := range []string{
		`{"messages":[` + hello + `]}`,
		`{"messages":[` + hello + `,{"type":"command","seq":1,"name":"x","data":{"a":` + "\n" + `1},"reply":true},{"type":"ping","t":1,"ack":0},{"type":"ice","seq":2},{"type":"leave"}]}`,
		`{"messages":[` + hello + `,{"type":"update","seq":1,"info":[1],"media":{"audio":"on"}},{"type":"kick","seq":2,"peer":"p"},{"type":"configure","seq":4}]}`,
		`{"messages":[{"type":"resume","peer":"p","secret":"s","received":9}]}`,
		`{"link":"nobody's","messages":[{"type":"leave"}]}`,
		`{"messages":[]}`, `{"messages":[1,[],"x"]}`, `{"link":"","messages":[{}]}`, `[`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	over, end := context.WithCancel(context.Background())
	end()
	f.Fuzz(func(t *testing.T, body []byte, stream bool) {
		r := httptest.NewRequest("POST", "/v1/signal", bytes.NewReader(body)).WithContext(over) // the client has gone: the answer ends when there is no more
		if stream {
			r.Header.Set("Accept", "text/event-stream")
		}
		w := &response{httptest.NewRecorder()}
		server.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			var p struct {
				Status int
				Code   refusal.Code
				Title  string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Code == refusal.Internal {
				t.Fatalf("%q: %d %s (%v)", body, w.Code, w.Body, err)
			}
			refusal.New(p.Code) // panics at a code that is not in the table
			return
		}
		ended := false
		for event := range strings.SplitSeq(strings.TrimSuffix(w.Body.String(), "\n\n"), "\n\n") {
			data, ok := strings.CutPrefix(event, "data: ")
			if !ok && strings.HasPrefix(event, ":") {
				continue
			}
			m, _, err := signal.ParseServer([]byte(data))
			if err != nil || m == nil || ended {
				t.Fatalf("%q: event %q (%v)", body, event, err)
			}
			bye, is := m.(*signal.Bye)
			if ended = is; is && bye.Code == string(refusal.Internal) {
				t.Errorf("%q: %s", body, data)
			}
		}
		if n := server.Stats().SSE; n != 0 {
			t.Errorf("%q: %d links are left", body, n)
		}
	})
}

// A response has the deadlines of a real one.
type response struct{ *httptest.ResponseRecorder }

func (*response) SetReadDeadline(time.Time) error  { return nil }
func (*response) SetWriteDeadline(time.Time) error { return nil }
func (r *response) FlushError() error              { return nil }
