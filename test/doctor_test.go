//go:build linux

package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
)

// A finding is a line of `madang doctor --json`.
type finding struct {
	ID, Target, Status, Setting string
	Message, Hint               struct{ En, Ko string }
	Facts                       map[string]any
}

// A diagnosis is what the doctor says about a node.
type diagnosis struct {
	t        testing.TB
	findings []finding
	exit     int
	output   string
}

// A visit says how the doctor is called.
type visit struct {
	from    *lab.Namespace
	trust   string   // file of a certificate to trust
	secrets []string // must not be seen
}

var turnUsername = regexp.MustCompile(`\b1[0-9]{9}:[a-z0-9]+:`)

// doctor runs `madang doctor --json URL`.
func (v visit) doctor(t testing.TB, args ...string) diagnosis {
	t.Helper()
	return v.start(t, args...)(t)
}

// start starts it. What it returns waits for the end: most of a sick node's examination is waiting for what does not come, so several go side by side.
func (v visit) start(t testing.TB, args ...string) (wait func(testing.TB) diagnosis) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"doctor", "--json"}, args...)...)
	cmd.Env = os.Environ()
	if v.trust != "" {
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+v.trust)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	process, err := v.from.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return func(t testing.TB) diagnosis {
		t.Helper()
		select {
		case <-process.Done():
		case <-within(t, patience).Done():
			process.Kill()
			t.Fatalf("the doctor does not end; so far:\n%s", out.String())
		}
		return v.read(t, out.String(), process.Err())
	}
}

// read understands what the doctor has written.
func (v visit) read(t testing.TB, output string, err error) diagnosis {
	t.Helper()
	d := diagnosis{t: t, output: output}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		d.exit = exit.ExitCode()
	}
	for line := range strings.Lines(d.output) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if f.Message.En == "" || f.Message.Ko == "" || (f.Hint.En == "") != (f.Hint.Ko == "") {
			t.Errorf("%s: a text is missing in one language: %+v %+v", f.ID, f.Message, f.Hint)
		}
		if (f.Status == "fail" || f.Status == "warn") && f.Hint.En == "" {
			t.Errorf("%s says %q, and not what to do", f.ID, f.Message.En)
		}
		d.findings = append(d.findings, f)
	}
	if strings.Contains(d.output, "%!") || turnUsername.MatchString(d.output) {
		t.Errorf("a text is badly formatted, or shows credentials:\n%s", d.output)
	}
	for _, s := range v.secrets {
		if strings.Contains(d.output, s) {
			t.Errorf("the output shows the secret %q:\n%s", s, d.output)
		}
	}
	return d
}

// are returns the ids with a status, each once.
func (d diagnosis) are(status string) []string {
	var ids []string
	for _, f := range d.findings {
		if f.Status == status && !slices.Contains(ids, f.ID) {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

// wrong asserts that these lines are wrong and no others; each may say which key of the configuration it is about: "relay:external-ip".
func (d diagnosis) wrong(want ...string) {
	d.t.Helper()
	var ids []string
	for _, w := range want {
		id, setting, _ := strings.Cut(w, ":")
		ids = append(ids, id)
		for _, f := range d.findings {
			if f.ID == id && f.Status == "fail" && setting != "" && f.Setting != setting {
				d.t.Errorf("%s is about the key %q, want %q: %s", id, f.Setting, setting, f.Hint.En)
			}
		}
	}
	exit := 0
	if len(want) > 0 {
		exit = 1
	}
	if got := d.are("fail"); !slices.Equal(got, ids) || d.exit != exit {
		d.t.Errorf("wrong: got %v and exit code %d, want %v and %d:\n%s", got, d.exit, ids, exit, d.output)
	}
}

// fine asserts that these lines are right.
func (d diagnosis) fine(want ...string) {
	d.t.Helper()
	got := d.are("ok")
	for _, id := range want {
		if !slices.Contains(got, id) {
			d.t.Errorf("%s is not ok:\n%s", id, d.output)
		}
	}
}

// targets counts the things that a check looked at with this result.
func (d diagnosis) targets(id, status string) (n int) {
	for _, f := range d.findings {
		if f.ID == id && f.Status == status {
			n++
		}
	}
	return n
}

// says asserts that a line's message or hint contains a text.
func (d diagnosis) says(id, want string) {
	d.t.Helper()
	for _, f := range d.findings {
		if f.ID == id && strings.Contains(f.Message.En+"\n"+f.Hint.En, want) {
			return
		}
	}
	d.t.Errorf("%s does not say %q:\n%s", id, want, d.output)
}

const relayLoopback = "--relay-allow=127.0.0.0/8"

// listenMetrics serves /metrics on a port of its own.
const listenMetrics = "--listen-metrics=127.0.0.1:0"

func TestDoctorFindsNothingWrongWithAHealthyNode(t *testing.T) {
	t.Run("development", func(t *testing.T) {
		node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
		d := visit{}.doctor(t, node.HTTP, "--data", node.Data)
		d.wrong()
		d.fine("tcp", "http", "ready", "node", "clock", "signal.websocket", "signal.sse", "stun", "turn.udp", "turn.tcp", "relay", "machine.disk")
	})
	t.Run("public", func(t *testing.T) {
		certificate := certificateFor(t, "call.example.test", nil)
		_, port := productionNode(t, certificate)
		d := visit{trust: certificate.CertFile}.doctor(t, "https://call.example.test:"+port, "--address", "127.0.0.1")
		d.wrong()
		d.fine("tcp", "tls", "http", "ready", "node", "clock", "signal.websocket", "signal.sse", "stun", "turn.udp", "turn.tcp", "turn.tls", "relay")
		d.says("dns", "call.example.test has no address yet")
	})
}

// certificateFor makes a certificate for a name.
func certificateFor(t testing.TB, name string, edit func(*x509.Certificate)) lab.Certificate {
	t.Helper()
	return lab.NewCertificateWith(t, func(c *x509.Certificate) {
		c.DNSNames = []string{name}
		if edit != nil {
			edit(c)
		}
	})
}

// productionNode starts a node named call.example.test on loopback.
func productionNode(t testing.TB, certificate lab.Certificate, args ...string) (node *lab.Node, port string) {
	t.Helper()
	node = serve(t, lab.NodeConfig{Args: append([]string{relayLoopback, "--domain", "call.example.test",
		"--tls-cert", certificate.CertFile, "--tls-key", certificate.KeyFile}, args...)})
	return node, node.HTTP[strings.LastIndexByte(node.HTTP, ':')+1:]
}

func TestDoctorJudgesCertificatesAsBrowsersDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(*x509.Certificate)
		host string
		says string
		tls  string // the wrong line
	}{
		{"expired", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}, "call.example.test", "ended on", "tls:tls-cert"},
		{"not yet", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Hour) }, "call.example.test", "valid from", "tls"},
		{"wrong name", func(c *x509.Certificate) { c.DNSNames = []string{"other.example.test"} }, "call.example.test", "is for other.example.test, not for call.example.test", "tls:domain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			certificate := certificateFor(t, "call.example.test", c.edit)
			_, port := productionNode(t, certificate)
			d := visit{trust: certificate.CertFile}.doctor(t, "https://"+c.host+":"+port, "--address", "127.0.0.1")
			d.wrong(c.tls, "turn.tls")
			d.says("tls", c.says)
			d.fine("http", "signal.websocket", "turn.udp", "turn.tcp")
		})
	}
	t.Run("untrusted", func(t *testing.T) {
		_, port := productionNode(t, certificateFor(t, "call.example.test", nil))
		const token = "a.secret.token"
		d := visit{secrets: []string{token}}.doctor(t, "https://call.example.test:"+port, "--address", "127.0.0.1", "--token", token)
		d.wrong("tls:tls-cert") // and nobody can join, since the token was not sent
		d.says("signal.websocket", "the token is not sent")
	})
	t.Run("soon over", func(t *testing.T) {
		certificate := certificateFor(t, "call.example.test", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-30*24*time.Hour), time.Now().Add(5*24*time.Hour)
		})
		_, port := productionNode(t, certificate)
		d := visit{trust: certificate.CertFile}.doctor(t, "https://call.example.test:"+port, "--address", "127.0.0.1")
		d.wrong()
		d.says("tls", "ends on")
	})
	t.Run("self-signed in development", func(t *testing.T) {
		node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
		d := visit{}.doctor(t, "https"+strings.TrimPrefix(node.HTTP, "http"))
		d.wrong()
		d.says("tls", "self-signed")
	})
}

func TestDoctorNamesWhatTheNetworkBlocks(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	blocked := n.Host("noudp", lab.HostConfig{Kind: lab.UDPBlocked})
	https := n.Host("https", lab.HostConfig{Kind: lab.TCP443Only})
	open := n.Host("open", lab.HostConfig{Kind: lab.Open})
	six := n.Host("six", lab.HostConfig{Kind: lab.IPv6Only})
	var judgements []func()
	try := func(name string, from *lab.Host, certificate lab.Certificate, url string, args []string, judge func(d diagnosis)) {
		wait := visit{from: from.Namespace, trust: certificate.CertFile}.start(t, append([]string{url}, args...)...)
		judgements = append(judgements, func() { t.Run(name, func(t *testing.T) { judge(wait(t)) }) })
	}
	all := []string{"tls", "signal.websocket", "signal.sse", "stun", "turn.udp", "turn.tcp", "turn.tls", "relay"}
	try("nothing", open, n.certificate, n.site(open), nil, func(d diagnosis) { d.wrong(); d.fine(all...) })
	try("IPv4", six, n.certificate, n.site(six), nil, func(d diagnosis) { d.wrong(); d.fine(all...) })
	try("UDP", blocked, n.certificate, n.site(blocked), nil, func(d diagnosis) {
		d.wrong("stun:udp", "turn.udp:udp")
		d.fine("turn.tcp", "turn.tls")
	})
	try("all but HTTPS", https, n.certificate, n.site(https), nil, func(d diagnosis) {
		d.wrong("stun:udp", "turn.udp:udp", "turn.tcp:listen")
		d.fine("signal.websocket", "turn.tls")
	})

	// A firewall on the client's own machine.
	own := n.Host("own", lab.HostConfig{Kind: lab.Open})
	if err := own.NFT("table inet own {\nchain out { type filter hook output priority filter; meta l4proto udp drop; }\n}"); err != nil {
		t.Fatal(err)
	}
	try("own firewall", own, n.certificate, n.site(own), nil, func(d diagnosis) {
		d.wrong("stun", "turn.udp")
		d.says("stun", "this machine's own firewall")
		d.fine("turn.tcp")
	})

	walled := n.Server()
	if err := walled.NFT("table inet relayports {\nchain in { type filter hook input priority filter; iifname != \"lo\" udp dport 49152-65535 drop; }\n}"); err != nil {
		t.Fatal(err)
	}
	serve(t, lab.NodeConfig{Namespace: walled.Namespace, Listen: "0.0.0.0:8080", UDP: "0.0.0.0:3478"})
	try("relay ports", open, lab.Certificate{}, "http://"+walled.Addr4.String()+":8080", nil, func(d diagnosis) {
		d.wrong("relay:relay-ports")
		d.fine("turn.udp", "turn.tcp")
	})

	// An external-ip that is not the node's. Without a domain, clients are told to use it for STUN too.
	serve(t, lab.NodeConfig{Namespace: n.server.Namespace, Listen: "0.0.0.0:8080", UDP: "0.0.0.0:3479", Args: []string{"--external-ip", "11.90.0.99"}})
	try("wrong external-ip", open, lab.Certificate{}, "http://"+n.server.Addr4.String()+":8080", nil, func(d diagnosis) {
		d.wrong("stun:external-ip", "turn.udp:external-ip", "turn.tcp:external-ip")
	})
	certificate := certificateFor(t, "call.example.test", nil)

	// A name with both families, and a node that serves one of them.
	both := []string{"--address", n.server.Addr4.String() + "," + n.server.Addr6.String()}
	for i, c := range []struct {
		name, listen string
		judge        func(d diagnosis)
	}{
		{"neither family", "[::]", func(d diagnosis) {
			d.wrong()
			for _, id := range []string{"tcp", "tls", "http", "stun", "turn.udp", "turn.tcp", "turn.tls"} {
				if got := d.targets(id, "ok"); got != 2 {
					t.Errorf("%s: got %d addresses that are ok, want both:\n%s", id, got, d.output)
				}
			}
		}},
		{"IPv6", n.server.Addr4.String(), func(d diagnosis) {
			d.wrong("tcp:listen", "turn.tcp:listen", "turn.tls:listen")
			d.says("tcp", "AAAA record")
		}},
	} {
		serve(t, lab.NodeConfig{Namespace: n.server.Namespace, Listen: fmt.Sprintf("%s:%d", c.listen, 8453+i), UDP: fmt.Sprintf("[::]:%d", 3490+i), Args: []string{
			"--domain", "call.example.test", "--tls-cert", certificate.CertFile, "--tls-key", certificate.KeyFile}})
		try(c.name, &lab.Host{Namespace: n.server.Namespace}, certificate, fmt.Sprintf("https://call.example.test:%d", 8453+i), both, c.judge)
	}
	for i, c := range []struct{ name, external, says string }{
		{"wrong external-ip with a domain", "11.90.0.99", "not the node's"},
		{"private external-ip", "10.1.2.3", "nobody outside can reach"},
	} {
		serve(t, lab.NodeConfig{Namespace: n.server.Namespace, Listen: fmt.Sprintf("0.0.0.0:%d", 8443+i), UDP: fmt.Sprintf("0.0.0.0:%d", 3480+i), Args: []string{
			"--external-ip", c.external, "--domain", "call.example.test", "--tls-cert", certificate.CertFile, "--tls-key", certificate.KeyFile}})
		try(c.name, open, certificate, fmt.Sprintf("https://call.example.test:%d", 8443+i), []string{"--address", n.server.Addr4.String()}, func(d diagnosis) {
			d.wrong("relay:external-ip")
			d.says("relay", c.says)
			d.fine("stun", "turn.udp", "turn.tcp", "turn.tls")
		})
	}
	for _, judge := range judgements {
		judge()
	}
}

// A proxy that stands in front of a node and spoils something.
func proxyTo(t testing.TB, node *lab.Node, spoil func(*httputil.ReverseProxy) http.Handler) string {
	t.Helper()
	target, err := url.Parse(node.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{}
	p.Transport = transport
	p.ErrorLog = log.New(io.Discard, "", 0)
	s := httptest.NewServer(spoil(p))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); transport.CloseIdleConnections() })
	return s.URL
}

func TestDoctorNamesWhatAProxySpoils(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
	t.Run("nothing", func(t *testing.T) {
		visit{}.doctor(t, proxyTo(t, node, func(p *httputil.ReverseProxy) http.Handler { return p })).wrong()
	})
	t.Run("WebSocket", func(t *testing.T) {
		d := visit{}.doctor(t, proxyTo(t, node, func(p *httputil.ReverseProxy) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Upgrade") // hop by hop (RFC 9110 §7.6.1), as a proxy must that does not know it
				r.Header.Del("Connection")
				p.ServeHTTP(w, r)
			})
		}))
		d.wrong("signal.websocket")
		d.says("signal.websocket", "must pass on Upgrade")
		d.fine("signal.sse", "turn.udp") // with the credentials of the other join
	})
	t.Run("SSE", func(t *testing.T) {
		d := visit{}.doctor(t, proxyTo(t, node, func(p *httputil.ReverseProxy) http.Handler {
			p.ModifyResponse = func(r *http.Response) error {
				if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
					return nil
				}
				all, err := io.ReadAll(r.Body) // the whole stream, before anything goes on
				r.Body = io.NopCloser(bytes.NewReader(all))
				return err
			}
			return p
		}))
		d.wrong("signal.sse")
		d.says("signal.sse", "turn buffering off")
		d.fine("signal.websocket")
	})
	for name, off := range map[string]time.Duration{"clock two hours ahead": 2 * time.Hour, "clock two hours behind": -2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			d := visit{}.doctor(t, proxyTo(t, node, func(p *httputil.ReverseProxy) http.Handler {
				p.ModifyResponse = func(r *http.Response) error {
					r.Header.Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
					return nil
				}
				return p
			}))
			d.wrong("clock")
			d.says("clock", "2h0m0s")
		})
	}
	t.Run("the node is not there", func(t *testing.T) {
		d := visit{}.doctor(t, proxyTo(t, node, func(*httputil.ReverseProxy) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		}))
		d.wrong("http:listen")
		d.says("http", "does not reach the node")
	})
}

func TestDoctorNamesWhyNobodyGetsIn(t *testing.T) {
	node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
	madang := func(args ...string) []byte {
		t.Helper()
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(within(t, patience), path, append(args, "--data", node.Data)...).Output()
		if err != nil {
			t.Fatalf("madang %v: %v", args, err)
		}
		return out
	}
	madang("project", "create", "shop")
	key := strings.TrimSpace(string(madang("project", "key", "add", "shop", "--browser", "--origin", "https://shop.example.com")))
	var secret struct{ Kid, Secret string }
	if err := json.Unmarshal(madang("project", "secret", "add", "shop", "--json"), &secret); err != nil {
		t.Fatal(err)
	}
	// The application's own server makes tokens, with a clock of its own.
	token := func(now time.Time) string {
		part := func(v any) string { return base64.RawURLEncoding.EncodeToString([]byte(js(v))) }
		signed := part(map[string]any{"alg": "HS256", "typ": "JWT", "kid": secret.Kid}) + "." + part(map[string]any{
			"iss": "shop", "aud": "madang", "channel": "*", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()})
		mac := hmac.New(sha256.New, []byte(secret.Secret))
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	signaling := []string{"signal.websocket", "signal.sse"}
	for _, c := range []struct {
		name, says string
		args       []string
	}{
		{"wrong key", "key_unknown", []string{"--key", "mbk_aaaaaaaaaaaaaaaaaaaaaaaaaa"}},
		{"server key", "key_wrong_kind", []string{"--key", "msk_aaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaa"}},
		{"wrong origin", "--origin", []string{"--key", key}},
		{"token from a clock two hours ahead", "token_not_yet_valid", []string{"--token", token(time.Now().Add(2 * time.Hour))}},
		{"token from a clock two hours behind", "token_expired", []string{"--token", token(time.Now().Add(-2 * time.Hour))}},
		{"no token", "token_malformed", []string{"--token", "not-a-token-at-all"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := visit{secrets: c.args[1:2]}.doctor(t, append([]string{node.HTTP}, c.args...)...)
			d.wrong(signaling...)
			d.says("signal.websocket", c.says)
			d.fine("stun", "clock") // needs nobody to get in
		})
	}
	t.Run("right key", func(t *testing.T) {
		visit{}.doctor(t, node.HTTP, "--key", key, "--origin", "https://shop.example.com").wrong()
	})
	t.Run("right token", func(t *testing.T) { visit{}.doctor(t, node.HTTP, "--token", token(time.Now())).wrong() })
	madang("project", "off", "shop")
	t.Run("project off", func(t *testing.T) {
		d := visit{}.doctor(t, node.HTTP, "--key", key, "--origin", "https://shop.example.com")
		d.wrong(signaling...)
		d.says("signal.sse", "madang project on")
	})
}

func TestDoctorNamesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	t.Run("name", func(t *testing.T) {
		d := visit{}.doctor(t, "https://call.example.invalid") // RFC 6761 §6.4
		d.wrong("dns")
	})
	t.Run("program", func(t *testing.T) { visit{}.doctor(t, "http://127.0.0.1:1").wrong("tcp:listen") })
	t.Run("node", func(t *testing.T) { visit{}.doctor(t, blankPages(t, nil, nil)).wrong("http:listen") })
	t.Run("http", func(t *testing.T) {
		_, port := productionNode(t, certificateFor(t, "call.example.test", nil))
		d := visit{}.doctor(t, "http://call.example.test:"+port, "--address", "127.0.0.1")
		d.wrong("http")
		d.says("http", "madang doctor https://call.example.test")
	})
	t.Run("relay on loopback", func(t *testing.T) {
		node := serve(t, lab.NodeConfig{})
		d := visit{}.doctor(t, node.HTTP)
		d.wrong()
		d.says("turn.udp", "--relay-allow")
	})
	t.Run("data", func(t *testing.T) {
		node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
		visit{}.doctor(t, node.HTTP, "--data", t.TempDir()).wrong("machine.files:data")
	})
	t.Run("URL", func(t *testing.T) {
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range []string{"call.example.com", "ftp://call.example.com", "https://call.example.com/c/demo", "https://a:b@call.example.com"} {
			out, err := exec.CommandContext(within(t, patience), path, "doctor", "--lang", "ko", u).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "노드 주소가 아닙니다") {
				t.Errorf("%s: got %v\n%s", u, err, out)
			}
		}
	})
}

// TestDoctorSpeaksToPeople holds the form of what people read.
func TestDoctorSpeaksToPeople(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for language, want := range map[string]string{"en_US.UTF-8": "fail  tcp               nothing listens at 127.0.0.1:1\n", "ko_KR.UTF-8": "fail  tcp               127.0.0.1:1: 응답하는 프로그램이 없습니다\n"} {
		cmd := exec.CommandContext(within(t, patience), path, "doctor", "http://127.0.0.1:1")
		cmd.Env = append(os.Environ(), "LC_ALL=", "LC_MESSAGES=", "LANG="+language)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), want) || !strings.Contains(string(out), "[listen]") {
			t.Errorf("%s: got %v\n%s", language, err, fmt.Sprint(string(out)))
		}
	}
}
