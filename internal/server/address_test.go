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

// FuzzForwardedAddress: what a stranger writes never decides from where a request comes.
func FuzzForwardedAddress(f *testing.F) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	address := clientAddress(trusted)
	for _, s := range []string{"", "198.51.100.7", "203.0.113.1, 198.51.100.7", "10.0.0.2,10.0.0.3", "unknown", "::ffff:10.0.0.9", "[2001:db8::7]:80", "198.51.100.7:80", ",,,", "fd00::1%eth0", "\x00"} {
		f.Add(s, "10.0.0.1:999")
		f.Add(s, "192.0.2.1:999")
		f.Add(s, "@")
	}
	f.Fuzz(func(t *testing.T, forwarded, remote string) {
		from := func(header ...string) netip.Addr {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = remote
			r.Header["X-Forwarded-For"] = header
			return address(r)
		}
		direct := from()
		peer, err := netip.ParseAddrPort(remote)
		if got := from(forwarded); err != nil || !trusted[0].Contains(peer.Addr().Unmap()) && !trusted[1].Contains(peer.Addr().WithZone("")) {
			if got != direct || (err == nil) != got.IsValid() {
				t.Errorf("%q of the stranger %s: got %s", forwarded, remote, got)
			}
			return
		} else if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q through %s: got %s", forwarded, remote, got)
		}
		// The proxy adds where it was asked from, on the same line or on one of its own.
		const client = "198.51.100.7"
		for _, header := range [][]string{{forwarded + ", " + client}, {forwarded, client}, {forwarded, client + ",10.0.0.2"}} {
			if got := from(header...).String(); got != client {
				t.Errorf("%q through %s: got %s, want %s", header, remote, got, client)
			}
		}
	})
}
