package portmux_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/portmux"
)

// FuzzRedirect: whatever a request over plain HTTP says, it is sent to the node's own name, in one header line.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: call.example.com\r\n\r\n", "GET //evil.example/%0d%0aX: y HTTP/1.1\r\nHost: x:8080\r\n\r\n",
		"GET http://evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /a?b#c HTTP/1.0\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", "GET * HTTP/1.1\r\nHost: a@b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x:@evil.example\r\n\r\n", "GET /\\evil.example HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		"HEAD /?#0%0X00 HTTP/1.0\r\n\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, request string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		portmux.RedirectToHTTPS("call.example.com").ServeHTTP(w, r)
		to := w.Header().Get("Location")
		if w.Code == http.StatusBadRequest && to == "" {
			return
		}
		u, err := url.Parse(to)
		if err != nil || w.Code != http.StatusPermanentRedirect || u.Scheme != "https" || u.Hostname() != "call.example.com" || u.User != nil || strings.ContainsAny(to, "\r\n") {
			t.Errorf("%q is sent to %q (%v)", request, to, err)
		}
	})
}
