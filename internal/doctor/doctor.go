// Package doctor looks at a node from outside, as browsers and phones do, and says in plain words what is wrong and which key of the configuration
// to change. `madang doctor` prints what it finds.
//
// It uses what every client may use: DNS, HTTP, the signaling protocol, STUN, TURN. Only the checks of the machine look at this machine, and only if the
// node is on it. It changes nothing: it joins a channel that nobody else knows, for an instant, and makes a few TURN allocations, which it ends.
package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"
)

// A Status is what came of a check.
type Status string

const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, but not for everybody, or not for long
	Fail Status = "fail"
	Skip Status = "skip" // it could not be looked at, or there is nothing to look at
)

// A Text is a sentence in both languages of the product.
type Text struct {
	En string `json:"en"`
	Ko string `json:"ko"`
}

// In returns the text in a language: "ko", or English for every other.
func (t Text) In(language string) string {
	if language == "ko" {
		return t.Ko
	}
	return t.En
}

// text formats both sentences with the same arguments.
func text(en, ko string, args ...any) Text {
	if len(args) == 0 {
		return Text{en, ko}
	}
	return Text{fmt.Sprintf(en, args...), fmt.Sprintf(ko, args...)}
}

// A Result is what one check found out about one thing. It holds no credentials.
type Result struct {
	ID      string         `json:"id"`               // of the check: "dns", "turn.tls"
	Target  string         `json:"target,omitempty"` // what was looked at, where a check looks at several things
	Status  Status         `json:"status"`
	Message Text           `json:"message"`
	Hint    Text           `json:"hint,omitzero"`     // what to do
	Setting string         `json:"setting,omitempty"` // the key of the node's configuration that the hint is about
	Facts   map[string]any `json:"facts,omitempty"`   // for programs
}

// hint adds what to do, and the configuration key that it is about, or "".
func (r Result) hint(setting, en, ko string, args ...any) Result {
	r.Setting, r.Hint = setting, text(en, ko, args...)
	return r
}

// fact adds a fact.
func (r Result) fact(key string, value any) Result {
	if r.Facts == nil {
		r.Facts = map[string]any{}
	}
	r.Facts[key] = value
	return r
}

// A subject is what a check looks at; it makes the check's results.
type subject struct{ id, target string }

func (s subject) result(status Status, en, ko string, args ...any) Result {
	return Result{ID: s.id, Target: s.target, Status: status, Message: text(en, ko, args...)}
}
func (s subject) ok(en, ko string, args ...any) Result   { return s.result(OK, en, ko, args...) }
func (s subject) warn(en, ko string, args ...any) Result { return s.result(Warn, en, ko, args...) }
func (s subject) fail(en, ko string, args ...any) Result { return s.result(Fail, en, ko, args...) }
func (s subject) skip(en, ko string, args ...any) Result { return s.result(Skip, en, ko, args...) }

// Config says which node to look at, and how. URL is required.
type Config struct {
	URL       string         // of the node: http or https, without a path
	Addresses []netip.Addr   // connect there instead of asking DNS, for a name that does not lead to the node yet
	Key       string         // browser key to join with; default: that of the node's own pages
	Origin    string         // page that Key is used on; default: the node's own
	Token     string         // access token to join with in place of a key; over https it is sent only to a server that has proven its name
	Channel   string         // to join; default: one that nobody else knows
	Data      string         // the node's data directory, if it runs on this machine
	Roots     *x509.CertPool // default: the system's
}

// Bounds on how long a check takes after what it waits for is known.
const (
	dnsTimeout     = 5 * time.Second
	connectTimeout = 5 * time.Second
	requestTimeout = 8 * time.Second
	signalTimeout  = 6 * time.Second
	stunTimeout    = 4 * time.Second
	turnTimeout    = 6 * time.Second
	reachTimeout   = 3 * time.Second
)

// Run looks at the node. Checks run side by side; report is called with their results on the caller's goroutine, in the order in which one thing
// stands on another. The error is about cfg, or that of ctx: what is wrong with the node is in the results.
func Run(ctx context.Context, cfg Config, report func(Result)) error {
	e, err := examine(cfg)
	if err != nil {
		return err
	}
	checks := []func(context.Context) []Result{
		e.checkDNS, e.checkTCP, e.checkTLS, e.checkHTTP, e.checkClock, e.checkWebSocket, e.checkSSE, e.checkSTUN,
	}
	for i := range e.turn {
		checks = append(checks, e.turn[i].check)
	}
	checks = append(checks, e.checkRelay, e.checkMachine)
	done := make([]chan []Result, len(checks))
	for i, check := range checks {
		done[i] = make(chan []Result, 1)
		go func() { done[i] <- check(ctx) }()
	}
	for _, results := range done {
		for _, r := range <-results {
			if ctx.Err() == nil { // else it says nothing about the node
				report(e.withoutSecrets(r))
			}
		}
	}
	return ctx.Err()
}

// A promise is a value that one check finds out and others wait for. Its maker keeps it whatever happens, and in bounded time.
type promise[T any] struct {
	done  chan struct{}
	value T
}

func newPromise[T any]() *promise[T] { return &promise[T]{done: make(chan struct{})} }

func (p *promise[T]) keep(v T) { p.value = v; close(p.done) }
func (p *promise[T]) wait() T  { <-p.done; return p.value }
