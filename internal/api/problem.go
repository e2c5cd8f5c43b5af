package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Problem is the body of every answer that is not a success: RFC 9457, with the members of a refusal. It never repeats a value of the
// request: a secret that was put into the wrong field must not end up in somebody's log.
type Problem struct {
	Type         string         `json:"type" doc:"Names the code as a URI." example:"urn:madang:code:not_found"`
	Title        string         `json:"title" doc:"The code's sentence, in English." example:"There is no such thing here."`
	Status       int            `json:"status" doc:"HTTP status." example:"404"`
	Detail       string         `json:"detail,omitempty" doc:"What was wrong this time, in English, if more can be said."`
	Code         string         `json:"code" doc:"A code of protocol.md, section 8. It never changes its meaning." example:"not_found"`
	Retry        string         `json:"retry" enum:"never,later,resume,join" doc:"Whether the same request may succeed later."`
	RetryAfterMS int64          `json:"retryAfterMs,omitempty" doc:"Milliseconds after which trying again makes sense. The header Retry-After says it in seconds."`
	Facts        map[string]any `json:"facts,omitempty" doc:"Facts for programs, such as the time of the server."`
	Errors       []FieldProblem `json:"errors,omitempty" doc:"The fields that are wrong."`
}

// FieldProblem says what is wrong with one field.
type FieldProblem struct {
	Location string `json:"location" doc:"Where the field stands." example:"body.settings.joinsPerDay"`
	Message  string `json:"message" doc:"What is expected there."`
}

// Error makes a Problem an error for huma.
func (p *Problem) Error() string { return p.Code + ": " + p.Title }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457 §3.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(r *refusal.Refusal) *Problem {
	p := &Problem{
		Type: "urn:madang:code:" + string(r.Code), Title: refusal.New(r.Code).Message, Status: r.Status(), Code: string(r.Code),
		Retry: string(r.Retry()), RetryAfterMS: r.RetryAfter.Milliseconds(), Facts: r.Detail,
	}
	if r.Message != p.Title {
		p.Detail = r.Message
	}
	return p
}

// header returns what goes with the problem.
func (p *Problem) header() http.Header {
	h := http.Header{}
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(float64(p.RetryAfterMS)/1000)), 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="madang"`) // RFC 9110 §11.6.1
	}
	return h
}

// fail makes what a handler returns of an error. What is our own fault is logged here, and nowhere else.
func (a *API) fail(ctx context.Context, err error) error {
	r := refusal.From(err)
	a.logFault(ctx, r)
	p := newProblem(r)
	return huma.ErrorWithHeaders(p, p.header())
}

func (a *API) logFault(ctx context.Context, r *refusal.Refusal) {
	if (r.Code == refusal.Internal || r.Code == refusal.Storage) && ctx.Err() == nil {
		a.log.LogAttrs(ctx, slog.LevelError, "a request failed", slog.String("code", string(r.Code)), slog.String("message", r.Message), slog.Any("cause", r.Unwrap()))
	}
}

// write sends a refusal where huma is not at work.
func (a *API) write(w http.ResponseWriter, r *http.Request, err error) {
	refused := refusal.From(err)
	a.logFault(r.Context(), refused)
	p := newProblem(refused)
	for k, v := range p.header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// huma asks these package variables for the errors that it finds itself. They turn them into problems; they hold no setting, so any number of
// APIs share them.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError { return humaProblem(status, msg, errs) }
	huma.NewErrorWithContext = func(_ huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return humaProblem(status, msg, errs)
	}
	huma.DefaultArrayNullable = false // a list is a list, and never null
	huma.ValidateStrictCasing = true  // "NAME" is not "name"
}

func humaProblem(status int, msg string, errs []error) *Problem {
	code := refusal.Internal
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		code = refusal.Malformed
	case http.StatusUnprocessableEntity:
		code = refusal.InvalidField
	case http.StatusRequestEntityTooLarge:
		code = refusal.MessageTooBig
	case http.StatusRequestTimeout:
		code = refusal.HandshakeTimeout
	case http.StatusNotFound:
		code = refusal.NotFound
	}
	for _, err := range errs {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return newProblem(refusal.New(refusal.MessageTooBig))
		}
	}
	p := newProblem(refusal.New(code))
	if code == refusal.HandshakeTimeout {
		p.Detail = "The request's body did not arrive in time."
	}
	for _, err := range errs {
		f := FieldProblem{Location: "request", Message: "is not as expected"}
		var d huma.ErrorDetailer
		if errors.As(err, &d) {
			// The value of the field, which is here too, stays here.
			if e := d.ErrorDetail(); e != nil {
				f.Location, f.Message = e.Location, e.Message
			}
		}
		// Names of unknown properties are the client's own words: keep them short. So are parts of messages about bad JSON.
		f.Location = clip(f.Location)
		if f.Location == "body" && code == refusal.Malformed {
			f.Message = "expected valid JSON (application/json)"
		}
		f.Message = clip(f.Message)
		p.Errors = append(p.Errors, f)
		if len(p.Errors) == 16 {
			break
		}
	}
	if len(p.Errors) > 0 && p.Detail == "" {
		p.Detail = p.Errors[0].Location + ": " + p.Errors[0].Message
	} else if status == http.StatusBadRequest && p.Detail == "" {
		p.Detail = msg
	}
	return p
}

func clip(s string) string {
	const most = 200
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// invalid refuses a field that only we can judge.
func invalid(location, format string, args ...any) error {
	return refusal.Newf(refusal.InvalidField, "%s %s", location, fmt.Sprintf(format, args...)).With("field", location)
}

// seconds makes a duration of a number of the request.
func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
