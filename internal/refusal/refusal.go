// Package refusal holds the one table of codes with which the product refuses something, on every wire: signaling, REST,
// TURN, the command line. codes.json is the table; docs/protocol.md §8 and sdk/src/codes.ts are generated from it.
//
// Use it wherever somebody outside has to be told no. Errors that only our own code sees are ordinary errors.
package refusal

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

//go:generate go run ./gen

//go:embed codes.json
var codesJSON []byte

// A Code names a reason for a refusal. Codes are part of the protocol: they are never renamed and never reused.
type Code string

// Retry says what helps after a refusal.
type Retry string

const (
	RetryNever  Retry = "never"  // something has to be changed first
	RetryLater  Retry = "later"  // the same again, after a pause
	RetryResume Retry = "resume" // open a new link and resume the session
	RetryJoin   Retry = "join"   // join anew
)

// An Entry is one row of the table.
type Entry struct {
	Code   Code   `json:"code"`
	Status int    `json:"status"` // HTTP status, where the wire is HTTP
	Retry  Retry  `json:"retry"`
	En     string `json:"en"`
	Ko     string `json:"ko"`
}

var (
	table  []Entry
	byCode = map[Code]Entry{}
)

func init() {
	if err := json.Unmarshal(codesJSON, &table); err != nil {
		panic("refusal: codes.json: " + err.Error())
	}
	for _, e := range table {
		byCode[e.Code] = e
	}
}

// Table returns a copy of all rows, in the order of codes.json.
func Table() []Entry { return append([]Entry(nil), table...) }

// Look returns a code's row, if there is one: a code that came from another program may be newer than this one.
func Look(c Code) (Entry, bool) {
	e, ok := byCode[c]
	return e, ok
}

// A Refusal is an error that somebody outside is told. It holds no secret: its text and details may be sent and logged.
type Refusal struct {
	Code       Code
	Message    string         // English; the table's sentence, or one that says more
	RetryAfter time.Duration  // how long to wait; zero: unknown
	Detail     map[string]any // facts for programs, such as the name of a field
	Advice     string         // what an operator can do, for the command line; empty: Message says it
	err        error          // the cause, for our own log
}

// New returns a refusal with the table's sentence.
func New(c Code) *Refusal { return &Refusal{Code: c, Message: c.entry().En} }

// Newf returns a refusal with a sentence of its own.
func Newf(c Code, format string, args ...any) *Refusal {
	return &Refusal{Code: c, Message: fmt.Sprintf(format, args...)}
}

// After sets the pause after which trying again makes sense, and returns r.
func (r *Refusal) After(d time.Duration) *Refusal { r.RetryAfter = d; return r }

// With adds a fact for programs, and returns r.
func (r *Refusal) With(key string, value any) *Refusal {
	if r.Detail == nil {
		r.Detail = map[string]any{}
	}
	r.Detail[key] = value
	return r
}

// Advise sets what an operator can do, and returns r.
func (r *Refusal) Advise(advice string) *Refusal { r.Advice = advice; return r }

// Hint returns Advice.
func (r *Refusal) Hint() string { return r.Advice }

// Because keeps the cause for our own log, and returns r. The cause is never sent.
func (r *Refusal) Because(err error) *Refusal { r.err = err; return r }

// Status returns the HTTP status of the code.
func (r *Refusal) Status() int { return r.Code.entry().Status }

// Retry returns what helps.
func (r *Refusal) Retry() Retry { return r.Code.entry().Retry }

func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Message }
func (r *Refusal) Unwrap() error { return r.err }

// Is makes errors.Is(err, refusal.New(code)) compare codes.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Code == r.Code
}

// From returns the refusal in err's chain; an error without one becomes Internal, which keeps err as its cause.
func From(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return New(Internal).Because(err)
}

func (c Code) entry() Entry {
	e, ok := byCode[c]
	if !ok {
		panic("refusal: code not in codes.json: " + string(c))
	}
	return e
}
