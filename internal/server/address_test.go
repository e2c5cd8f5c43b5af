package server

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestForwardedAddressIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	address := clientAddress([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")})
	for name, c := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                        {"192.0.2.1:999", nil, "192.0.2.1"},
		"direct, with a forged header":  {"192.0.2.1:999", []string{"198.51.100.7"}, "192.0.2.1"},
		"through a proxy":               {"10.0.0.1:999", []string{"198.51.100.7"}, "198.51.100.7"},
		"forged before the proxy":       {"10.0.0.1:999", []string{"203.0.113.1, 198.51.100.7"}, "198.51.100.7"},
		"two proxies, two header lines": {"10.0.0.1:999", []string{"203.0.113.1, 198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		"rubbish":                       {"10.0.0.1:999", []string{"unknown"}, "10.0.0.1"},
		"proxy without the header":      {"10.0.0.1:999", nil, "10.0.0.1"},
		"IPv4-mapped":                   {"[::ffff:192.0.2.1]:999", nil, "192.0.2.1"},
		"IPv6 through a proxy":          {"[fd00::1]:999", []string{"2001:db8::7"}, "2001:db8::7"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := address(r).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
