package signalserver

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// problem answers with an RFC 9457 problem document. status 0 is that of the code.
func (s *Server) problem(w http.ResponseWriter, status int, r *refusal.Refusal) {
	s.counts.refused.Add(1)
	if status == 0 {
		status = r.Status()
	}
	doc := struct {
		Type         string         `json:"type"`
		Title        string         `json:"title"`
		Status       int            `json:"status"`
		Detail       string         `json:"detail"`
		Code         refusal.Code   `json:"code"`
		Retry        refusal.Retry  `json:"retry"`
		RetryAfterMs int64          `json:"retryAfterMs,omitempty"`
		Facts        map[string]any `json:"facts,omitempty"`
	}{"about:blank", http.StatusText(status), status, r.Message, r.Code, r.Retry(), r.RetryAfter.Milliseconds(), r.Detail}
	body, err := json.Marshal(doc)
	if err != nil {
		s.cfg.Logger.Error("encode problem document", "code", r.Code, "err", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if r.RetryAfter > 0 {
		// RFC 9110 §10.2.3: whole seconds, so that less than one is one.
		h.Set("Retry-After", strconv.FormatInt(int64((r.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(status)
	w.Write(body)
}
