package portmux

import (
	"net"
	"net/http"
	"strconv"
	"strings"
)

// RedirectToHTTPS answers plain HTTP on a port with TLS: requests that only read are sent on to the same place with https, on the same port; others, which may carry
// secrets that were just sent in the clear, get 400 and a sentence. host, if not empty, is the name to redirect to; else the one that the client asked for.
func RedirectToHTTPS(host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		to := r.Host
		if host != "" {
			to = host
			if _, port, err := net.SplitHostPort(r.Host); err == nil && !strings.Contains(host, ":") {
				if n, err := strconv.ParseUint(port, 10, 16); err == nil { // "x:@evil.example" has a port too, as SplitHostPort sees it
					to = net.JoinHostPort(host, strconv.FormatUint(n, 10))
				}
			}
		}
		if to == "" || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Upgrade") != "" || !strings.HasPrefix(r.URL.RequestURI(), "/") {
			http.Error(w, "This port speaks HTTPS. Use https:// (or wss://) instead of http:// (or ws://).", http.StatusBadRequest)
			return
		}
		// A request has no fragment (RFC 9112 §3.2): its # is a character like others, and would be one in a Location.
		target := strings.ReplaceAll(r.URL.RequestURI(), "#", "%23")
		http.Redirect(w, r, "https://"+to+target, http.StatusPermanentRedirect)
	})
}
