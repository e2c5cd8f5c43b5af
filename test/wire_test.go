//go:build linux

package test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
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

// joinWire joins a channel with the sandbox key.
func joinWire(ctx context.Context, t testing.TB, base, channel, name string) *wire {
	t.Helper()
	w := dialWire(ctx, t, base)
	w.send(ctx, message{"type": "join", "version": 1, "channel": channel, "key": sandboxKey, "instance": rand.Text(), "name": name})
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
