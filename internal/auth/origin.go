package auth

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Entries of a browser key's list that are not origins.
const (
	OriginAny  = "*"    // every web page
	OriginApp  = "app"  // clients that send no Origin header: native applications, devices, the command line
	OriginSelf = "self" // the node's own pages
)

// ParseOrigin reads an entry of a browser key's list and returns its canonical form: "*", "app", "self", an origin
// ("https://example.com:8443", "capacitor://localhost"), or all subdomains of a domain ("https://*.example.com", which does not include
// https://example.com itself). ok is false for everything else.
func ParseOrigin(entry string) (canonical string, ok bool) {
	switch entry {
	case OriginAny, OriginApp, OriginSelf:
		return entry, true
	}
	o, ok := parseOrigin(entry, true)
	if !ok {
		return "", false
	}
	return o.String(), true
}

// MatchOrigin reports whether an Origin header is on a browser key's list. An empty header matches only "app". own are the
// origins of the node's own pages: what "self" stands for; they are entries like those of the list.
func MatchOrigin(list []string, header string, own []string) bool {
	if header == "" {
		return slices.Contains(list, OriginApp)
	}
	page, ok := parseOrigin(header, false)
	for _, entry := range list {
		switch entry {
		case OriginAny:
			return true // "null", the origin of files and sandboxed frames, too
		case OriginSelf:
			if matchOwn(own, header, page, ok) {
				return true
			}
		default:
			if pattern, valid := parseOrigin(entry, true); ok && valid && pattern.matches(page) {
				return true
			}
		}
	}
	return false
}

func matchOwn(own []string, header string, page origin, ok bool) bool {
	for _, entry := range own {
		if entry == OriginAny {
			return true
		}
		if pattern, valid := parseOrigin(entry, true); ok && valid && pattern.matches(page) {
			return true
		}
	}
	return false
}

// An origin is a scheme, host and port (RFC 6454 §4).
type origin struct {
	scheme, host, port string // lower case; host in ASCII (RFC 6454 §4, step 5); port "" is the scheme's default
	subdomains         bool   // host stands for all names below it
}

func (o origin) String() string {
	s := o.scheme + "://"
	if o.subdomains {
		s += "*."
	}
	s += o.host
	if o.port != "" {
		s += ":" + o.port
	}
	return s
}

func (o origin) matches(page origin) bool {
	if o.scheme != page.scheme || o.port != page.port {
		return false
	}
	if !o.subdomains {
		return o.host == page.host
	}
	label, found := strings.CutSuffix(page.host, "."+o.host)
	return found && label != ""
}

// parseOrigin reads the serialization of an origin (RFC 6454 §6.2), and with wildcard also "*." before the host.
func parseOrigin(s string, wildcard bool) (o origin, ok bool) {
	if len(s) > 512 {
		return o, false
	}
	scheme, rest, found := strings.Cut(s, "://")
	if !found || rest == "" || strings.ContainsAny(rest, "/?#@\\ \t\r\n%") {
		return o, false
	}
	if wildcard {
		rest, o.subdomains = strings.CutPrefix(rest, "*.")
	}
	if strings.Contains(rest, "*") {
		return o, false
	}
	// url.Parse judges the scheme, the brackets of an IPv6 address and the port.
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil || u.Host != rest || u.Hostname() == "" || strings.HasSuffix(rest, ":") {
		return o, false
	}
	o.scheme = u.Scheme // lower case already
	o.port = u.Port()
	if len(o.port) > 5 || (len(o.port) > 1 && o.port[0] == '0') {
		return o, false
	}
	if (o.scheme == "http" && o.port == "80") || (o.scheme == "https" && o.port == "443") {
		o.port = ""
	}
	host := u.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		if o.subdomains || a.Zone() != "" || a.Is6() != strings.HasPrefix(rest, "[") {
			return o, false
		}
		o.host = a.String()
		if a.Is6() {
			o.host = "[" + o.host + "]"
		}
		return o, true
	}
	if strings.Contains(host, ":") {
		return o, false
	}
	if o.scheme == "http" || o.scheme == "https" {
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return o, false
		}
		// What is no UTF-8 has a name in ASCII too, as U+FFFD, which is none when it is read again.
		if again, err := idna.Lookup.ToASCII(host); err != nil || again != host {
			return o, false
		}
	}
	o.host = strings.ToLower(host)
	for label := range strings.SplitSeq(o.host, ".") {
		if label == "" {
			return o, false
		}
	}
	// "https://*.com" is a mistake, or an attack.
	if o.subdomains && !strings.Contains(o.host, ".") {
		return o, false
	}
	return o, true
}

// ParseNetwork reads an entry of a server key's list, an address or a network in CIDR notation, and returns its canonical form: a network.
// IPv4-mapped IPv6 forms become IPv4. ok is false for everything else.
func ParseNetwork(entry string) (network netip.Prefix, ok bool) {
	if p, err := netip.ParsePrefix(entry); err == nil {
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return netip.Prefix{}, false
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(entry)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// MatchNetwork reports whether an address is on a server key's list.
func MatchNetwork(list []string, address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	if !address.IsValid() {
		return false
	}
	for _, entry := range list {
		if p, ok := ParseNetwork(entry); ok && p.Contains(address) {
			return true
		}
	}
	return false
}
