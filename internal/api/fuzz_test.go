package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// FuzzRequest sends what nobody should to all operations, as the administrator: the answer is a success or a problem with a code of the table, and never a
// fault of ours.
func FuzzRequest(f *testing.F) {
	db, err := store.Open(f.Context(), store.Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	projects, err := project.New(f.Context(), project.Config{DB: db})
	if err != nil {
		f.Fatal(err)
	}
	authorizer, err := auth.New(auth.Config{Directory: projects.Directory()})
	if err != nil {
		f.Fatal(err)
	}
	m := &meeting{}
	m.open("home", "demo", "p1")
	depots, err := depot.Load(depot.Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	a, err := api.New(api.Config{DB: db, Projects: projects, Authorizer: authorizer, TURN: relay{}, Channels: m, Depots: depots})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []struct{ method, target, header, body string }{
		{"POST", "/v1/projects", "", `{"name":"x","settings":{"joinsPerDay":1}}`},
		{"POST", "/v1/projects", "Idempotency-Key: k", `{"name":"x"}`},
		{"PATCH", "/v1/projects/home", `If-Match: "1"`, `{"name":"y","settings":{"joinsPerSecond":1e308}}`},
		{"PATCH", "/v1/projects/home", `If-Match: W/"1", "2"`, `{}`},
		{"GET", "/v1/projects?limit=3&cursor=aG9tZQ", "", ""},
		{"GET", "/v1/projects/home/usage?from=2026-01-01&to=2026-01-31", "", ""},
		{"POST", "/v1/projects/home/keys", "", `{"kind":"server","name":"k","cidrs":["10.0.0.0/8","::1"]}`},
		{"POST", "/v1/projects/home/keys", "", `{"kind":"browser","name":"k","origins":["https://*.example.com","app"]}`},
		{"POST", "/v1/projects/home/secrets", "", `{"name":"s"}`},
		{"POST", "/v1/tokens", "", `{"project":"home","channels":["a","*"],"role":"host","grants":["create"],"ttlSeconds":10}`},
		{"POST", "/v1/turn-credentials", "", `{"project":"home","name":"x:y%3A"}`},
		{"POST", "/v1/channels", "", `{"project":"home","name":"demo","capacity":3}`},
		{"GET", "/v1/channels?project=home", "Accept: application/cbor", ""},
		{"PATCH", "/v1/channels/demo?project=home", "", `{"locked":true}`},
		{"DELETE", "/v1/channels/demo/peers/p1?project=home&reason=%ff%00&banSeconds=0", "", ""},
		{"POST", "/v1/channels/demo/commands?project=home", "", "{\"name\":\"x\",\"data\":\"\xff\",\"to\":[\"p1\"]}"},
		{"POST", "/v1/channels/%2e%2e%2f/commands?project=home", "Content-Type: text/plain", `{"name":"x"}`},
		{"PUT", "/v1/depots/abcdefghij234567", "Origin: https://x.example", `{"key":"k","upload":"` + strings.Repeat("A", 43) + `","read":"` + strings.Repeat("B", 43) + `"}`},
		{"POST", "/v1/depots/abcdefghij234567/objects", "Content-Type: application/octet-stream", "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x1c0123456789012345678901234567"},
		{"GET", "/v1/depots/abcdefghij234567/objects?numbers=0-3,17", "", ""},
		{"PUT", "/v1/depots/abcdefghij234567/taker", "", `{"taker":"AAAAAAAAAAAAAAAAAAAA"}`},
		{"OPTIONS", "/v1/projects/home/../../x//y", "X-HTTP-Method-Override: DELETE", ""},
	} {
		f.Add(s.method, s.target, s.header, []byte(s.body))
	}
	f.Fuzz(func(t *testing.T, method, target, header string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") || method == "" || strings.ContainsAny(method, " \r\n") {
			return // net/http answers these
		}
		r := &http.Request{Method: method, URL: u, RequestURI: target, Host: "node", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
			Body: http.NoBody, RemoteAddr: "192.0.2.1:9"}
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Set(name, value)
		}
		if len(body) > 0 {
			r.Body, r.ContentLength = readCloser{bytes.NewReader(body)}, int64(len(body))
		}
		w := httptest.NewRecorder()
		a.ControlHandler().ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code < 400 {
			return
		}
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %q %q %q: %s", method, target, header, body, w.Body)
		}
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Title == "" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Fatalf("%s %q: %d %s %s (%v)", method, target, w.Code, w.Header().Get("Content-Type"), w.Body, err)
		}
		refusal.New(refusal.Code(p.Code)) // panics at a code that is not in the table
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// FuzzPaging: a cursor or an ETag that is taken is one that the server gives.
func FuzzPaging(f *testing.F) {
	for _, s := range []string{"", "aG9tZQ", "aG9tZR", "aG9t\nZQ", `"1"`, `"01"`, `"+1"`, `W/"1"`, "*", `""`, `"9223372036854775808"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if after, err := (api.Paging{Cursor: text}).After(); err == nil && text != "" {
			if page := api.Cut([]string{after, "z"}, 1); page.Next != text {
				t.Errorf("cursor %q says after %q, which the server writes as %q", text, after, page.Next)
			}
		}
		if version, err := (api.IfMatch{IfMatch: text}).Version(); err == nil && version != 0 && api.ETag(version) != text {
			t.Errorf("ETag %q is taken for version %d", text, version)
		}
	})
}

// A command whose data a receiver could not read would end its link with each resume anew.
func TestCommandsThatNoClientCanReadAreRefused(t *testing.T) {
	m := &meeting{}
	n := start(t, options{meeting: m})
	m.open("home", "demo", "p1")
	const path = "/v1/channels/demo/commands?project=home"
	for _, data := range []string{"\"\xff\"", "{\"\xed\xa0\x80\":1}", strings.Repeat("[", 32) + strings.Repeat("]", 32), strings.Repeat("[", 9000) + strings.Repeat("]", 9000)} {
		n.refused(t, refusal.InvalidField, "POST", path, []byte(`{"name":"x","data":`+data+`}`))
	}
	must[struct{}](t, n, "POST", path, []byte(`{"name":"x","data": {"a":[1,"\ud83d\ude00"]} }`))
}

// The text of an idempotency key is free again when the administrator's token is another one: the former answers cannot be opened, and are not needed.
func TestIdempotencyKeysGoWithTheAdminToken(t *testing.T) {
	n := start(t, options{})
	send := func(token, name string) (*http.Response, []byte) {
		return n.sendWith(t, "POST", "/v1/projects", object{"name": name}, http.Header{"Authorization": {"Bearer " + token}, "Idempotency-Key": {"k"}})
	}
	if res, b := send(n.admin, "one"); res.StatusCode != 201 {
		t.Fatalf("got %s %s", res.Status, b)
	}
	next := must[struct{ Token string }](t, n, "POST", "/v1/admin-token", nil)
	res, b := send(next.Token, "one")
	if res.StatusCode != 201 || res.Header.Get("Idempotency-Replayed") != "" {
		t.Errorf("got %s %s", res.Status, b)
	}
	res, b = send(n.admin, "one")
	wantProblem(t, "the former token", res, b, refusal.KeyUnknown)
}
