package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/api"
)

type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzAnswer: whatever stands at the URL that an operator has named, the command says what is wrong in a line that leaves the terminal alone.
func FuzzAnswer(f *testing.F) {
	f.Add(404, []byte(`{"type":"urn:madang:code:not_found","title":"There is no such thing here.","status":404,"code":"not_found","retry":"never"}`))
	f.Add(429, []byte(`{"code":"rate_limited","title":"Slowly.","retryAfterMs":9223372036854775807}`))
	f.Add(422, []byte(`{"code":"invalid_field","detail":"`+"\\u001b[2J"+`","facts":{"field":7},"errors":[{}]}`))
	f.Add(500, []byte("{\"code\":\"\x1b]0;x\x07\"}"))
	f.Add(400, []byte("{\"code\":\"a\x7fb\"}")) // found by this target: the code went to the terminal as it came
	f.Add(502, []byte(`<html>`))
	f.Add(200, []byte(`{"id":1}`))
	f.Add(200, []byte(`{"id":"home","settings":{"joinsPerDay":1e400}}`))
	f.Add(204, []byte(``))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := &nodeClient{base: "http://node", http: &http.Client{Transport: answers(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
		})}, token: "mad_secret"}
		var p api.Project
		err := c.do(t.Context(), http.MethodGet, "/v1/projects/home", nil, &p)
		if err == nil {
			if status < 200 || status > 299 {
				t.Errorf("%d %q is taken for a success", status, body)
			}
			return
		}
		text := err.Error()
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			text += h.Hint()
		}
		if strings.Contains(text, "mad_secret") || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("%d %q: %q", status, body, text)
		}
	})
}
