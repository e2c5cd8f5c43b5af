package portmux

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stunRequest is a Binding request (RFC 8489 §5).
var stunRequest = []byte{0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// port is a running Mux with an HTTP server that says how it was reached, and a TURN server that echoes.
type port struct {
	*Mux
	addr   string
	client *tls.Config
}

func start(t testing.TB, cfg Config, withTLS bool) *port {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	p := &port{addr: l.Addr().String()}
	if withTLS {
		cert, pool := certificate(t)
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		p.client = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	}
	if p.Mux, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s tls=%v", r.Proto, r.TLS != nil)
	})}
	redirect := &http.Server{Handler: RedirectToHTTPS("")}
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	plain := srv
	if withTLS {
		plain = redirect
	}
	wg.Go(func() { _ = plain.Serve(p.HTTP()) })
	wg.Go(func() { _ = srv.Serve(p.HTTPS()) })
	wg.Go(func() {
		for {
			c, err := p.TURN().Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		srv.Close()
		redirect.Close()
		wg.Wait()
	})
	return p
}

func (p *port) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func echo(t testing.TB, c net.Conn, first []byte) {
	t.Helper()
	if _, err := c.Write(first); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(first))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, first) {
		t.Fatalf("got %x, %v; want %x back", got, err, first)
	}
}

func TestEachProtocolReachesItsListener(t *testing.T) {
	plain, secure := start(t, Config{}, false), start(t, Config{}, true)

	get := func(t *testing.T, c *http.Client, url string) string {
		t.Helper()
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(b))
	}
	client := func(c *tls.Config, h2 bool) *http.Client {
		c = c.Clone() // the transport changes it
		tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: h2}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}

	t.Run("HTTP", func(t *testing.T) {
		if got, want := get(t, client(nil, false), "http://"+plain.addr), "200 HTTP/1.1 tls=false"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("HTTPS with h2", func(t *testing.T) {
		if got, want := get(t, client(secure.client, true), "https://"+secure.addr), "200 HTTP/2.0 tls=true"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("HTTPS with http/1.1", func(t *testing.T) {
		c := secure.client.Clone()
		c.NextProtos = []string{"http/1.1"}
		if got, want := get(t, client(c, false), "https://"+secure.addr), "200 HTTP/1.1 tls=true"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("HTTPS without ALPN", func(t *testing.T) {
		c := tls.Client(secure.dial(t), secure.client)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		if !strings.Contains(string(b), "HTTP/1.1 tls=true") {
			t.Errorf("got %q", b)
		}
	})
	t.Run("TURN over TCP", func(t *testing.T) {
		echo(t, plain.dial(t), stunRequest)
		echo(t, secure.dial(t), stunRequest) // also beside TLS
	})
	t.Run("TURN over TLS", func(t *testing.T) {
		echo(t, tls.Client(secure.dial(t), secure.client), stunRequest)
	})
	t.Run("TURN over TLS with ALPN", func(t *testing.T) {
		c := secure.client.Clone()
		c.NextProtos = []string{"stun.turn"}
		echo(t, tls.Client(secure.dial(t), c), stunRequest)
	})
	t.Run("byte by byte", func(t *testing.T) {
		c := plain.dial(t)
		for _, b := range stunRequest {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(stunRequest))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, stunRequest) {
			t.Fatalf("got %x, %v", got, err)
		}
	})
	t.Run("plain HTTP on the TLS port", func(t *testing.T) {
		resp, err := client(nil, false).Get("http://" + secure.addr + "/c/demo?a=b")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got, want := resp.Header.Get("Location"), "https://"+secure.addr+"/c/demo?a=b"; resp.StatusCode != 308 || got != want {
			t.Errorf("got %d to %q, want 308 to %q", resp.StatusCode, got, want)
		}
		resp, err = client(nil, false).Post("http://"+secure.addr+"/v1/token", "text/plain", strings.NewReader("secret"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 400 || !strings.Contains(string(b), "https://") {
			t.Errorf("got %d %q, want 400 and a sentence", resp.StatusCode, b)
		}
	})
	t.Run("garbage", func(t *testing.T) {
		c := plain.dial(t)
		fmt.Fprintf(c, "\x00\x00 this is neither\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 400 {
			t.Errorf("got %v, %v; want 400", resp, err)
		}
	})
	t.Run("TLS on a port without it", func(t *testing.T) {
		err := tls.Client(plain.dial(t), &tls.Config{InsecureSkipVerify: true}).Handshake()
		var alert tls.AlertError
		if !errors.As(err, &alert) && !strings.Contains(fmt.Sprint(err), "handshake failure") {
			t.Errorf("got %v, want the alert handshake_failure", err)
		}
	})
}

func TestSilentConnectionIsClosedAfterTheTimeout(t *testing.T) {
	p := start(t, Config{Timeout: 50 * time.Millisecond}, true)
	for name, first := range map[string][]byte{"nothing": nil, "half a STUN header": stunRequest[:7], "half a ClientHello": {0x16, 3, 1, 2, 0, 1}} {
		c := p.dial(t)
		_, _ = c.Write(first)
		if n, err := c.Read(make([]byte, 64)); err == nil && n > 0 && first == nil {
			t.Errorf("%s: got %d bytes, want a closed connection", name, n)
		}
	}
	// Silent inside TLS.
	c := tls.Client(p.dial(t), p.client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes, want a closed connection", n)
	}
}

// Ten thousand sockets that say nothing must neither exhaust us nor keep others out, not even others from the same address.
func TestHalfOpenSocketsDoNotHurtOthers(t *testing.T) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	n := 10_000
	const bound = 256
	if most := int(lim.Cur) - bound - 500; most < n {
		if os.Getenv("CI") == "true" {
			t.Fatalf("open file limit %d is too low", lim.Cur)
		}
		t.Logf("open file limit %d: with %d sockets", lim.Cur, most)
		n = most
	}
	p := start(t, Config{Timeout: time.Minute, MaxUndecidedPerAddress: bound}, true)
	half := make([]net.Conn, 0, n)
	t.Cleanup(func() {
		for _, c := range half {
			c.Close()
		}
	})
	for i := range n {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatalf("socket %d: %v", i, err)
		}
		half = append(half, c)
		if i%1000 == 999 {
			began := time.Now()
			echo(t, p.dial(t), stunRequest)
			echo(t, tls.Client(p.dial(t), p.client), stunRequest)
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("after %d sockets an honest client waited %v", i+1, d)
			}
		}
	}
	if s := p.Stats(); s.Undecided > bound || s.Evicted < uint64(n-2*bound) {
		t.Errorf("got %+v, want at most %d undecided, the rest closed", s, bound)
	}
}

func TestTotalBoundClosesTheOldest(t *testing.T) {
	p := start(t, Config{Timeout: time.Minute, MaxUndecided: 3}, false)
	first := p.dial(t)
	for range 3 {
		p.dial(t)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the oldest connection lives on")
	}
	if s := p.Stats(); s.Undecided > 3 {
		t.Errorf("got %d undecided, want 3", s.Undecided)
	}
}

func TestRunEndsWithItsContextAndClosesAll(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Listener: l, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	pending, err := net.Dial("tcp", l.Addr().String()) // decided, but nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer pending.Close()
	_, _ = pending.Write(stunRequest)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{m.HTTP(), m.HTTPS(), m.TURN()} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Run: %v, want net.ErrClosed", err)
		}
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("an undecided connection lives on")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Listener: l})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if _, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
		t.Error("the port is still open")
	}
}

func TestPortFailureEndsRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Listener: l})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := m.Run(context.Background()); err == nil {
		t.Error("got nil, want the listener's error")
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(stunRequest)
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{0x16, 3, 1, 0, 200, 1})
	f.Add([]byte{0x16, 0x10, 0, 0, 0x21, 0x12, 0xA4, 0x42})
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := classify(b)
		if len(b) >= classifyBytes && whole == more {
			t.Fatalf("%x: no verdict after %d bytes", b, len(b))
		}
		// A verdict never depends on how the bytes were cut into segments.
		for i := range b {
			if v := classify(b[:i]); v != more && v != whole {
				t.Fatalf("%x: %v after %d bytes, %v after all", b, v, i, whole)
			}
		}
	})
}
