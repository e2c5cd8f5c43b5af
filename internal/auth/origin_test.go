package auth_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/auth"
)

func TestParseOrigin(t *testing.T) {
	for entry, want := range map[string]string{
		"*": "*", "app": "app", "self": "self",
		"https://example.com":                  "https://example.com",
		"HTTPS://Example.COM":                  "https://example.com",
		"https://example.com:443":              "https://example.com",
		"http://example.com:80":                "http://example.com",
		"http://example.com:443":               "http://example.com:443",
		"http://localhost:5173":                "http://localhost:5173",
		"https://*.example.com":                "https://*.example.com",
		"https://*.example.com:8443":           "https://*.example.com:8443",
		"https://마당.example":                   "https://xn--ok1b32k.example",
		"http://192.168.0.7:8080":              "http://192.168.0.7:8080",
		"http://[::1]:8080":                    "http://[::1]:8080",
		"http://[0:0::1]":                      "http://[::1]",
		"capacitor://localhost":                "capacitor://localhost",
		"chrome-extension://abcdefghijklmnop":  "chrome-extension://abcdefghijklmnop",
		"":                                     "",
		"null":                                 "",
		"example.com":                          "",
		"//example.com":                        "",
		"https://":                             "",
		"https://example.com/":                 "",
		"https://example.com/path":             "",
		"https://example.com?x":                "",
		"https://user@example.com":             "",
		"https://*":                            "",
		"https://*.com":                        "",
		"https://*.*.com":                      "",
		"https://a*.example.com":               "",
		"https://www.*.com":                    "",
		"https://*.192.168.0.1":                "",
		"https://example.com:":                 "",
		"https://example.com:x":                "",
		"https://example.com:0443":             "",
		"https://exa mple.com":                 "",
		"https://example..com":                 "",
		"https://.example.com":                 "",
		"https://[::1":                         "",
		"https://*.example.\x83":               "",
		"https://example.\ufffd":               "",
		"https://::1":                          "",
		"https://[fe80::1%25eth0]":             "",
		"1https://example.com":                 "",
		"https://example.com https://evil.com": "",
		"https://example.com\n":                "",
		"https://" + strings.Repeat("a", 600):  "",
	} {
		got, ok := auth.ParseOrigin(entry)
		if got != want || ok != (want != "") {
			t.Errorf("ParseOrigin(%q): got %q, %v, want %q", entry, got, ok, want)
		}
	}
}

func TestMatchOrigin(t *testing.T) {
	own := []string{"https://call.example.com"}
	for _, c := range []struct {
		list   []string
		header string
		want   bool
	}{
		{[]string{"https://example.com"}, "https://example.com", true},
		{[]string{"https://example.com"}, "https://EXAMPLE.com:443", true},
		{[]string{"https://example.com"}, "http://example.com", false},
		{[]string{"https://example.com"}, "https://example.com:8443", false},
		{[]string{"https://example.com"}, "https://example.com.evil.net", false},
		{[]string{"https://example.com"}, "https://evilexample.com", false},
		{[]string{"https://example.com"}, "https://www.example.com", false},
		{[]string{"https://example.com"}, "null", false},
		{[]string{"https://example.com"}, "https://example.com, https://evil.net", false},
		{[]string{"https://example.com"}, "", false},
		{[]string{"https://*.example.com"}, "https://a.example.com", true},
		{[]string{"https://*.example.com"}, "https://a.b.example.com", true},
		{[]string{"https://*.example.com"}, "https://example.com", false},
		{[]string{"https://*.example.com"}, "https://.example.com", false},
		{[]string{"https://*.example.com"}, "https://evilexample.com", false},
		{[]string{"https://*.example.com"}, "https://*.example.com", false},
		{[]string{"*"}, "https://anything.net", true},
		{[]string{"*"}, "null", true},
		{[]string{"*"}, "", false},
		{[]string{"app"}, "", true},
		{[]string{"app"}, "app", false},
		{[]string{"app"}, "https://app", false},
		{[]string{"self"}, "https://call.example.com", true},
		{[]string{"self"}, "https://example.com", false},
		{[]string{"self"}, "self", false},
		{[]string{"self"}, "", false},
		{nil, "https://example.com", false},
		{nil, "", false},
		{[]string{"http://a.net", "https://b.net"}, "https://b.net", true},
	} {
		if got := auth.MatchOrigin(c.list, c.header, own); got != c.want {
			t.Errorf("MatchOrigin(%q, %q): got %v, want %v", c.list, c.header, got, c.want)
		}
	}
}

func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		entry, address string
		want           bool
	}{
		{"203.0.113.7", "203.0.113.7", true},
		{"203.0.113.7", "203.0.113.8", false},
		{"203.0.113.7", "::ffff:203.0.113.7", true}, // a dual-stack socket names IPv4 clients so
		{"::ffff:203.0.113.7", "203.0.113.7", true},
		{"::ffff:203.0.113.0/120", "203.0.113.9", true},
		{"::ffff:0:0/90", "203.0.113.9", false}, // reaches beyond the mapped addresses: no entry at all
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.9.9.9/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"2001:db8::/32", "2001:db8:1::1", true},
		{"2001:db8::/32", "2001:db9::1", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"0.0.0.0/0", "8.8.8.8", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "8.8.8.8", false},
		{"10.0.0.0/33", "10.0.0.1", false},
		{"*", "10.0.0.1", false},
		{"", "10.0.0.1", false},
		{"fe80::1%eth0", "fe80::1", false},
	} {
		if got := auth.MatchNetwork([]string{c.entry}, netip.MustParseAddr(c.address)); got != c.want {
			t.Errorf("MatchNetwork(%q, %s): got %v, want %v", c.entry, c.address, got, c.want)
		}
	}
	if auth.MatchNetwork([]string{"0.0.0.0/0", "::/0"}, netip.Addr{}) {
		t.Error("an unknown address is on the list")
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"*", "app", "https://example.com", "https://*.example.com:8443", "http://[::1]:80", "null", "https://마당.example", "a://b", "https://%41.com", "https://a.example.com."} {
		f.Add(s, s)
		f.Add("https://*.example.com", s)
	}
	f.Fuzz(func(t *testing.T, entry, header string) {
		canonical, ok := auth.ParseOrigin(entry)
		if !ok {
			if entry != auth.OriginAny && auth.MatchOrigin([]string{entry}, header, nil) && entry != auth.OriginApp {
				t.Errorf("entry %q is none, but matches %q", entry, header)
			}
			return
		}
		if again, ok := auth.ParseOrigin(canonical); !ok || again != canonical {
			t.Errorf("canonical form %q of %q becomes %q, %v", canonical, entry, again, ok)
		}
		if auth.MatchOrigin([]string{entry}, header, nil) != auth.MatchOrigin([]string{canonical}, header, nil) {
			t.Errorf("%q and its canonical form %q differ about %q", entry, canonical, header)
		}
		// Only "*" may match what is no origin.
		if _, valid := auth.ParseOrigin(header); !valid && header != "" && canonical != auth.OriginAny && auth.MatchOrigin([]string{entry}, header, nil) {
			t.Errorf("entry %q matches %q, which is no origin", entry, header)
		}
		// A subdomain pattern never matches beyond its domain.
		if domain, found := strings.CutPrefix(canonical, "https://*."); found && auth.MatchOrigin([]string{canonical}, header, nil) {
			page, _ := auth.ParseOrigin(header)
			if !strings.HasSuffix(page, "."+domain) || !strings.HasPrefix(page, "https://") {
				t.Errorf("%q matches %q", canonical, header)
			}
		}
	})
}

func FuzzNetwork(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::ffff:10.0.0.0/104", "::1", "fe80::1%eth0", "1.2.3.4/33", "2001:db8::/32"} {
		f.Add(s, []byte{10, 0, 0, 1})
	}
	f.Fuzz(func(t *testing.T, entry string, raw []byte) {
		p, ok := auth.ParseNetwork(entry)
		address, _ := netip.AddrFromSlice(raw)
		match := auth.MatchNetwork([]string{entry}, address)
		if !ok {
			if match {
				t.Errorf("%q is no network, but matches %s", entry, address)
			}
			return
		}
		if again, ok := auth.ParseNetwork(p.String()); !ok || again != p {
			t.Errorf("canonical form %s of %q becomes %s, %v", p, entry, again, ok)
		}
		if p.Addr().Is4In6() {
			t.Errorf("%q is IPv4, but is kept as %s", entry, p)
		}
		if match && !p.Contains(address.Unmap()) {
			t.Errorf("%s matches %s", p, address)
		}
	})
}
