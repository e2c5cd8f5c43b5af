//go:build linux

package test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/lab"
)

// A wire is a client written from docs/protocol.md, that does only what its test tells it to. A well-behaved one is internal/signalclient.
type wire struct {
	conn *websocket.Conn
	t    testing.TB
	peer string
}

type message map[string]any

func (m message) kind() string { s, _ := m["type"].(string); return s }
func (m message) code() string { s, _ := m["code"].(string); return s }

// dialWire opens a WebSocket to a node and says nothing yet.
func dialWire(ctx context.Context, t testing.TB, base string) *wire {
	t.Helper()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(base, "http")+"/v1/signal", &websocket.DialOptions{Subprotocols: []string{"madang.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &wire{conn: conn, t: t}
}

func joinMessage(channel, name string) message {
	return message{"type": "join", "version": 1, "channel": channel, "key": sandboxKey, "instance": rand.Text(), "name": name}
}

// joinWire joins a channel with the sandbox key.
func joinWire(ctx context.Context, t testing.TB, base, channel, name string) *wire {
	t.Helper()
	w := dialWire(ctx, t, base)
	w.send(ctx, joinMessage(channel, name))
	m := w.await(ctx, "joined", "bye")
	if m.kind() != "joined" {
		t.Fatalf("got %v, want joined", m)
	}
	w.peer, _ = m["peer"].(string)
	return w
}

func (w *wire) send(ctx context.Context, m message) {
	w.t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.conn.Write(ctx, websocket.MessageText, b); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// next reads one message.
func (w *wire) next(ctx context.Context) (message, error) {
	_, b, err := w.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w in %q", err, b)
	}
	return m, nil
}

// await reads until a message of one of the types comes, and returns it.
func (w *wire) await(ctx context.Context, types ...string) message {
	w.t.Helper()
	for {
		m, err := w.next(ctx)
		if err != nil {
			w.t.Fatalf("waiting for %v: %v", types, err)
		}
		for _, kind := range types {
			if m.kind() == kind {
				return m
			}
		}
	}
}

// An sse is the same over SSE and POST.
type sse struct {
	url, link string
	lines     *bufio.Scanner
	t         testing.TB
}

// dialSSE opens a link with its first message.
func dialSSE(ctx context.Context, t testing.TB, base string, first message) *sse {
	t.Helper()
	s := &sse{url: base + "/v1/signal", t: t}
	res := s.post(ctx, message{"messages": []message{first}})
	t.Cleanup(func() { res.Body.Close() })
	s.lines = bufio.NewScanner(res.Body)
	s.lines.Buffer(nil, 1<<20)
	m, err := s.next(ctx)
	if err != nil || m.kind() != "link" {
		t.Fatalf("the stream begins with %v, %v", m, err)
	}
	s.link, _ = m["link"].(string)
	return s
}

func (s *sse) post(ctx context.Context, body message) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(js(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

// send posts one message, and returns the problem document of one that is refused.
func (s *sse) send(ctx context.Context, m message) (problem message) {
	s.t.Helper()
	res := s.post(ctx, message{"link": s.link, "messages": []message{m}})
	defer res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(res.Body).Decode(&problem); err != nil {
			s.t.Fatalf("%s: %v", res.Status, err)
		}
	}
	return problem
}

// next reads one message; the context of dialSSE bounds it.
func (s *sse) next(context.Context) (m message, err error) {
	for s.lines.Scan() {
		if data, ok := strings.CutPrefix(s.lines.Text(), "data: "); ok {
			return m, json.Unmarshal([]byte(data), &m)
		}
	}
	return nil, cmp.Or(s.lines.Err(), io.EOF)
}

// serveRefused starts a node that must not come up, and returns why it did not.
func serveRefused(t testing.TB, config lab.NodeConfig) (exitCode int, log string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	config.Program = path
	return lab.RunNode(t, config)
}
