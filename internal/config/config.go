// Package config is the one document that says how a node runs. A key has the same name everywhere: `public-url` in the YAML
// file, `--public-url` as a flag, `MADANG_PUBLIC_URL` in the environment; the later of file, environment, flag wins.
//
// Only cmd and server import it: every other package has a Config of its own.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Config is decoded by kong: the tags are flags, environment variables and help at once.
type Config struct {
	Listen         string         `help:"TCP address for HTTP, WebSocket and TURN over TCP and TLS. Default: ':8080', with --domain ':443'." env:"MADANG_LISTEN" placeholder:"ADDR"`
	UDP            string         `name:"udp" help:"UDP address for STUN and TURN." default:":3478" env:"MADANG_UDP" placeholder:"ADDR"`
	Data           string         `help:"Folder for the node's data." default:"./madang-data" env:"MADANG_DATA" placeholder:"DIR"`
	PublicURL      string         `name:"public-url" help:"Where browsers reach this node, if a proxy stands in front. With https:// it turns on production mode, as --domain does." env:"MADANG_PUBLIC_URL" placeholder:"URL"`
	ExternalIP     []netip.Addr   `name:"external-ip" help:"Public address of this machine, if it stands behind a NAT; one of each family at most." env:"MADANG_EXTERNAL_IP" placeholder:"IP"`
	Domain         string         `help:"Public host name. Turns on HTTPS with automatic certificates (ports 443 and 80) and production mode." env:"MADANG_DOMAIN" placeholder:"NAME"`
	TLSCert        string         `name:"tls-cert" help:"Certificate chain (PEM) of your own." env:"MADANG_TLS_CERT" placeholder:"FILE"`
	TLSKey         string         `name:"tls-key" help:"Private key (PEM) of --tls-cert." env:"MADANG_TLS_KEY" placeholder:"FILE"`
	ACMEDirectory  string         `name:"acme-directory" help:"ACME directory to get certificates from. Default: Let's Encrypt." env:"MADANG_ACME_DIRECTORY" placeholder:"URL"`
	ACMERoot       string         `name:"acme-root" help:"Root certificates (PEM) to trust for --acme-directory." env:"MADANG_ACME_ROOT" placeholder:"FILE"`
	ACMEEmail      string         `name:"acme-email" help:"Contact that the certificate authority may warn." env:"MADANG_ACME_EMAIL" placeholder:"MAIL"`
	ListenHTTP     string         `name:"listen-http" help:"With --domain: TCP address that answers certificate challenges and redirects to HTTPS." default:":80" env:"MADANG_LISTEN_HTTP" placeholder:"ADDR"`
	ListenMetrics  string         `name:"listen-metrics" help:"TCP address that answers GET /metrics to whoever reaches it, without a token: 127.0.0.1:9464, say. Default: none." env:"MADANG_LISTEN_METRICS" placeholder:"ADDR"`
	RelayPorts     PortRange      `name:"relay-ports" help:"UDP ports that TURN allocations use." default:"49152-65535" env:"MADANG_RELAY_PORTS" placeholder:"MIN-MAX"`
	RelayAllow     []netip.Prefix `name:"relay-allow" help:"Networks that TURN may reach although they are private (closed networks, tests)." env:"MADANG_RELAY_ALLOW" placeholder:"CIDR"`
	TrustedProxies []netip.Prefix `name:"trusted-proxies" help:"Networks of proxies whose X-Forwarded-For is believed." env:"MADANG_TRUSTED_PROXIES" placeholder:"CIDR"`
	FrameAncestors []string       `name:"frame-ancestors" help:"Origins whose pages may show this node's pages in a frame, such as https://www.example.com or https://*.example.com; * is any. Default: the node's own." env:"MADANG_FRAME_ANCESTORS" placeholder:"ORIGIN"`
	ResumeWindow   time.Duration  `name:"resume-window" help:"How long a signaling session outlives its link." default:"60s" env:"MADANG_RESUME_WINDOW" placeholder:"TIME"`
	DrainTimeout   time.Duration  `name:"drain-timeout" help:"How long a stop waits for work in hand." default:"10s" env:"MADANG_DRAIN_TIMEOUT" placeholder:"TIME"`
	LogLevel       string         `name:"log-level" help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error" env:"MADANG_LOG_LEVEL"`
	LogFormat      string         `name:"log-format" help:"text or json." default:"text" enum:"text,json" env:"MADANG_LOG_FORMAT"`
}

// Development reports whether the node runs without a public name, its own or that of a proxy in front: the sandbox key works.
func (c *Config) Development() bool {
	return c.Domain == "" && !strings.HasPrefix(strings.ToLower(c.PublicURL), "https://")
}

// ListenAddress is Listen with its default, which depends on Domain.
func (c *Config) ListenAddress() string {
	switch {
	case c.Listen != "":
		return c.Listen
	case c.Domain != "":
		return ":443"
	default:
		return ":8080"
	}
}

// An Error says which key is wrong, why, and what to do.
type Error struct {
	Key    string
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Key, e.Reason) }

var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// frameAncestor is a source of CSP's frame-ancestors that names an origin, or several by *. (CSP Level 3 §2.3.1); nothing in it ends the directive.
var frameAncestor = regexp.MustCompile(`^(\*|https?://(\*\.)?(([A-Za-z0-9-]+\.)*[A-Za-z0-9-]+|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}|\*))?)$`)

// Validate names the first key that makes no sense. It is called by kong after decoding.
func (c *Config) Validate() error {
	wrong := func(key, format string, args ...any) error {
		return &Error{Key: key, Reason: fmt.Sprintf(format, args...)}
	}
	for _, a := range []struct{ key, value string }{
		{"listen", c.ListenAddress()}, {"udp", c.UDP}, {"listen-http", c.ListenHTTP}, {"listen-metrics", c.ListenMetrics},
	} {
		if a.key == "listen-metrics" && a.value == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(a.value); err != nil {
			return wrong(a.key, "%q is not host:port, such as :8080 or 127.0.0.1:0", a.value)
		} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return wrong(a.key, "port %q is not a number from 0 to 65535", port)
		}
	}
	if c.Data == "" {
		return wrong("data", "must name a folder")
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return wrong("public-url", "%q is not a URL such as https://call.example.com, without a path", c.PublicURL)
		}
	}
	if c.Domain != "" && !hostName.MatchString(c.Domain) {
		return wrong("domain", "%q is not a host name such as call.example.com", c.Domain)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return wrong("tls-cert", "goes together with tls-key")
	}
	var v4, v6 int
	for _, ip := range c.ExternalIP {
		if ip.Unmap().Is4() {
			v4++
		} else {
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return wrong("external-ip", "takes one IPv4 and one IPv6 address at most")
	}
	for _, origin := range c.FrameAncestors {
		if !frameAncestor.MatchString(origin) {
			return wrong("frame-ancestors", "%q is not an origin such as https://www.example.com, without a path", origin)
		}
	}
	if c.ResumeWindow < time.Second || c.ResumeWindow > time.Hour {
		return wrong("resume-window", "%s is not between 1s and 1h", c.ResumeWindow)
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > 10*time.Minute {
		return wrong("drain-timeout", "%s is not between 0s and 10m", c.DrainTimeout)
	}
	return nil
}

// A PortRange is written MIN-MAX; both ends belong to it.
type PortRange struct{ Min, Max uint16 }

// UnmarshalText reads MIN-MAX.
func (r *PortRange) UnmarshalText(text []byte) error {
	low, high, ok := strings.Cut(string(text), "-")
	lo, err1 := strconv.ParseUint(low, 10, 16)
	hi, err2 := strconv.ParseUint(high, 10, 16)
	if !ok || err1 != nil || err2 != nil || lo == 0 || lo > hi {
		return fmt.Errorf("%q is not a range of ports such as 49152-65535", text)
	}
	r.Min, r.Max = uint16(lo), uint16(hi)
	return nil
}

func (r PortRange) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d-%d", r.Min, r.Max), nil }
