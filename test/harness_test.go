//go:build linux

package test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// sandboxKey is the browser key of the sandbox project.
const sandboxKey = "60ba608a-e228-4530-8711-fa38004719c1"

//go:embed pages/peer.js
var peerScript string

func buildContext() context.Context { return context.Background() }

// serve starts a node on loopback.
func serve(t testing.TB, config lab.NodeConfig) *lab.Node {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	config.Program = path
	return lab.StartNode(t, config)
}

// within bounds a step of a test; deadlines are generous, since the machine may be busy, and failures are rare.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

const patience = 45 * time.Second

// blankPages serves empty pages on an origin of its own, as a foreign site that uses the SDK. Paths in extra are served as HTML.
func blankPages(t testing.TB, ns *lab.Namespace, extra map[string]string) string {
	t.Helper()
	ln, err := ns.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/favicon.ico" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if page, ok := extra[r.URL.Path]; ok {
			fmt.Fprint(w, page)
			return
		}
		fmt.Fprint(w, `<!doctype html><html lang="en"><meta charset="utf-8"><title>blank</title><body></body></html>`)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// A member is a page that is a peer of a channel by way of pages/peer.js.
type member struct {
	*browser.Page
	t    testing.TB
	name string
}

// newMember opens a page and loads the SDK from server into it.
func newMember(t testing.TB, b *browser.Browser, page, server, name string) *member {
	t.Helper()
	m := &member{b.Open(t, page), t, name}
	m.do(patience, fmt.Sprintf("const server = %s;\n%s", js(server), peerScript), nil)
	return m
}

// join joins a channel with camera and microphone. options override.
func (m *member) join(channel string, options map[string]any) {
	m.t.Helper()
	all := map[string]any{"channel": channel, "key": sandboxKey, "name": m.name}
	for k, v := range options {
		all[k] = v
	}
	m.do(patience, fmt.Sprintf("return lab.join(%s)", js(all)), nil)
}

// do runs a script's body in the page.
func (m *member) do(d time.Duration, body string, out any) {
	m.t.Helper()
	if err := m.Eval(within(m.t, d), body, out); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
}

// await waits until an expression is true in the page.
func (m *member) await(d time.Duration, format string, args ...any) {
	m.t.Helper()
	if err := m.WaitFor(within(m.t, d), fmt.Sprintf(format, args...)); err != nil {
		m.t.Fatalf("%s: %v\n%s", m.name, err, m.figures())
	}
}

// figures says what a member sends and receives, for the message of a test that fails.
func (m *member) figures() string {
	// The test's own context may be what has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), 10*time.Second)
	defer cancel()
	var text string
	if err := m.Eval(ctx, "return lab.figures()", &text); err != nil {
		return err.Error()
	}
	return text
}

type received struct {
	Frames  int     `json:"frames"`
	Energy  float64 `json:"energy"`
	Streams int     `json:"streams"`
}

func (m *member) received() (r received) {
	m.t.Helper()
	m.do(patience, "return lab.received()", &r)
	return r
}

// awaitMedia waits until this many streams have delivered, and then frames and sound go on coming.
func (m *member) awaitMedia(streams int) {
	m.t.Helper()
	m.await(patience, "lab.received().then((r) => r.streams >= %d)", streams)
	m.awaitMore()
}

// awaitMore waits until 20 more frames have been decoded and more sound was heard.
func (m *member) awaitMore() {
	m.t.Helper()
	before := m.received()
	m.await(patience, "lab.received().then((r) => r.frames >= %d && r.energy > %g)", before.Frames+20, before.Energy)
}

// chat sends a line and waits until the others have it, once.
func chat(from *member, text string, to ...*member) {
	from.t.Helper()
	from.do(patience, fmt.Sprintf("await lab.channel.sendChat(%s)", js(text)), nil)
	for _, m := range to {
		m.await(patience, "lab.chats.filter((c) => c.text === %s && c.from === %s).length === 1", js(text), js(from.name))
	}
}

// js is a value as a JavaScript literal.
func js(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a mistake of the test's
	}
	return string(b)
}

// channelName makes a name for a test's channel.
func channelName(t testing.TB) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '.'
	}, t.Name())
}
