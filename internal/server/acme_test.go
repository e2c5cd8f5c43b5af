package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/madang-rtc/madang/internal/config"
)

// pebbleVersion is Let's Encrypt's own test authority.
const pebbleVersion = "v2.10.1"

func TestDomainGetsItsCertificateByItself(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a certificate authority")
	}
	const domain = "call.madang.test"
	dir := t.TempDir()
	install := exec.Command("go", "install", "github.com/letsencrypt/pebble/v2/cmd/pebble@"+pebbleVersion)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	authority := filepath.Join(dir, "authority.pem")
	if _, err := makeSelfSigned(authority); err != nil {
		t.Fatal(err)
	}
	httpPort, httpsPort, directory, management := freePort(t), freePort(t), freePort(t), freePort(t)
	startPebble(t, dir, authority, httpPort, httpsPort, directory, management, serveDNS(t))

	node, err := New(Config{Config: config.Config{
		Domain: domain, Data: filepath.Join(dir, "data"), UDP: "127.0.0.1:0",
		Listen: fmt.Sprintf("127.0.0.1:%d", httpsPort), ListenHTTP: fmt.Sprintf("127.0.0.1:%d", httpPort),
		ACMEDirectory: fmt.Sprintf("https://localhost:%d/dir", directory), ACMERoot: authority,
		ResumeWindow: time.Minute, DrainTimeout: time.Second, RelayPorts: config.PortRange{Min: 49152, Max: 65535},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	up := make(chan Ready, 1)
	go func() { stopped <- node.Run(ctx, func(r Ready) { up <- r }) }()
	<-up
	defer func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}()

	roots := x509.NewCertPool()
	roots.AddCert(pebbleRoot(t, management, authority))
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(address)
				return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
			},
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true,
		},
	}
	url := fmt.Sprintf("https://%s:%d/healthz", domain, httpsPort)
	deadline := time.Now().Add(time.Minute)
	for {
		// The handshake itself is the event: it works from the moment on that the certificate is there.
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if got := resp.TLS.PeerCertificates[0].DNSNames; resp.StatusCode != 200 || len(got) != 1 || got[0] != domain {
				t.Errorf("got %d with a certificate for %v", resp.StatusCode, got)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case err := <-stopped:
			t.Fatalf("the node stopped: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}

	resp, err := client.Get(fmt.Sprintf("http://%s:%d/c/demo?x=1", domain, httpPort))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := resp.Header.Get("Location"), "https://"+domain+"/c/demo?x=1"; resp.StatusCode != http.StatusPermanentRedirect || got != want {
		t.Errorf("port 80: got %d to %q, want %d to %q", resp.StatusCode, got, http.StatusPermanentRedirect, want)
	}
}

func startPebble(t *testing.T, dir, authority string, httpPort, httpsPort, directory, management int, dns string) {
	t.Helper()
	conf := filepath.Join(dir, "pebble.json")
	raw, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", directory), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management),
		"certificate": authority, "privateKey": authority, "httpPort": httpPort, "tlsPort": httpsPort,
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	pebble := exec.Command(filepath.Join(dir, "pebble"), "-config", conf, "-dnsserver", dns)
	pebble.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	output, err := pebble.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pebble.Stderr = pebble.Stdout
	if err := pebble.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pebble.Process.Kill(); pebble.Wait() })
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "ACME directory available") {
			go io.Copy(io.Discard, output)
			return
		}
	}
	t.Fatal("pebble did not start")
}

// pebbleRoot asks the authority for the root that it has made for this run.
func pebbleRoot(t *testing.T, management int, authority string) *x509.Certificate {
	t.Helper()
	pool := x509.NewCertPool()
	own, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(own)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(fmt.Sprintf("https://localhost:%d/roots/0", management))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	root, err := parsePEM(raw)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// serveDNS answers every question for an IPv4 address with 127.0.0.1, over TCP as pebble asks.
func serveDNS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answerDNS(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// answerDNS answers one question. Messages have their length before them (RFC 1035 §4.2.2).
func answerDNS(c net.Conn) {
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return
	}
	question := make([]byte, binary.BigEndian.Uint16(length[:]))
	var q dnsmessage.Message
	if _, err := io.ReadFull(c, question); err != nil || q.Unpack(question) != nil || len(q.Questions) != 1 {
		return
	}
	a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: true}, Questions: q.Questions}
	if q.Questions[0].Type == dnsmessage.TypeA {
		a.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	if out, err := a.AppendPack(make([]byte, 2, 512)); err == nil {
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		c.Write(out)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func parsePEM(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}
