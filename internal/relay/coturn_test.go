package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// missing skips a test for which this machine lacks something, but not in CI.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// tool finds one of coturn's client programs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "%s is missing: install coturn", name)
	}
	return path
}

func run(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// dualNode serves UDP, TCP and TLS on 127.0.0.1 and ::1. ports are by family ("4", "6") and transport.
func dualNode(t *testing.T) (n *node, ports map[string]int) {
	ports = map[string]int{}
	n = start(t, func(c *Config) {
		c.TCP[0].Close()
		c.UDP[0].Close()
		c.UDP, c.TCP = nil, nil
		for family, host := range map[string]string{"4": "127.0.0.1", "6": "::1"} {
			u, err := ListenUDP(t.Context(), net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			c.UDP = append(c.UDP, u)
			ports[family+"udp"] = u.LocalAddr().(*net.UDPAddr).Port
			for _, transport := range []string{"tcp", "tls"} {
				l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
				if err != nil {
					t.Fatal(err)
				}
				ports[family+transport] = l.Addr().(*net.TCPAddr).Port
				if transport == "tls" {
					l = tls.NewListener(l, testTLS(t))
				}
				c.TCP = append(c.TCP, l)
			}
		}
	})
	return n, ports
}

// echoPair echoes on two adjacent UDP ports: turnutils_uclient sends its RTCP to the second.
func echoPair(t *testing.T, host string) int {
	t.Helper()
	for range 100 {
		a, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		b, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(port+1)))
		if err != nil {
			a.Close()
			continue
		}
		var wg sync.WaitGroup
		for _, c := range []net.PacketConn{a, b} {
			wg.Go(func() {
				buf := make([]byte, 2048)
				for {
					n, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo(buf[:n], from)
				}
			})
		}
		t.Cleanup(func() { a.Close(); b.Close(); wg.Wait() })
		return port
	}
	t.Fatal("no two adjacent free ports")
	return 0
}

var lostPackets = regexp.MustCompile(`Total lost packets (\d+)`)

func TestCoturnClient(t *testing.T) {
	uclient := tool(t, "turnutils_uclient")
	n, ports := dualNode(t)
	cred := n.Mint("p1", "coturn", time.Hour)
	type mode struct {
		name string
		args []string
	}
	basic := []mode{{"channels", []string{"-c"}}, {"indications", []string{"-c", "-s"}}}
	full := append(basic,
		mode{"channels with RTCP", nil}, // EVEN-PORT and RESERVATION-TOKEN; IPv4 only
		mode{"relay to relay", []string{"-c", "-y"}},
		mode{"relay to relay, indications", []string{"-c", "-y", "-s"}},
		mode{"extra requests", []string{"-c", "-G"}},
		mode{"padded channels", []string{"-c", "-D"}})
	for _, c := range []struct {
		server, transport, relay string // IP versions
		modes                    []mode
	}{
		{"4", "udp", "4", full}, {"4", "tcp", "4", full}, {"4", "tls", "4", basic},
		{"6", "udp", "6", slices.Delete(slices.Clone(full), 2, 3)}, {"6", "tcp", "6", basic}, {"6", "tls", "6", basic},
		{"6", "udp", "4", basic}, {"4", "udp", "6", basic}, {"6", "tls", "4", basic[:1]},
	} {
		for _, mode := range c.modes {
			t.Run(fmt.Sprintf("over IPv%s %s, IPv%s relay, %s", c.server, c.transport, c.relay, mode.name), func(t *testing.T) {
				t.Parallel() // the client program mostly waits
				host, peer := "127.0.0.1", "127.0.0.1"
				if c.server == "6" {
					host = "::1"
				}
				args := []string{"-u", cred.Username, "-w", cred.Credential, "-p", strconv.Itoa(ports[c.server+c.transport]), "-n", "20", "-m", "2", "-l", "170"}
				switch c.transport {
				case "tcp":
					args = append(args, "-t")
				case "tls":
					args = append(args, "-t", "-S")
				}
				if c.relay == "6" {
					args = append(args, "-x")
					peer = "::1"
				}
				if !strings.Contains(strings.Join(mode.args, " "), "-y") {
					args = append(args, "-e", peer, "-r", strconv.Itoa(echoPair(t, peer)))
				}
				args = append(append(args, mode.args...), host)
				out, err := run(t, uclient, args...)
				m := lostPackets.FindAllStringSubmatch(out, -1)
				if err != nil || len(m) == 0 || m[len(m)-1][1] != "0" {
					t.Errorf("%s %s\n%v\n%s", uclient, strings.Join(args, " "), err, tail(out, 30))
				}
			})
		}
	}
}

func TestCoturnSTUNClient(t *testing.T) {
	client := tool(t, "turnutils_stunclient")
	_, ports := dualNode(t)
	for family, host := range map[string]string{"4": "127.0.0.1", "6": "::1"} {
		out, err := run(t, client, "-p", strconv.Itoa(ports[family+"udp"]), host)
		if err != nil || !strings.Contains(out, "UDP reflexive addr: ") || !strings.Contains(out, host) {
			t.Errorf("%s: %v\n%s", host, err, out)
		}
	}
}

// A program that knows nothing of us must be refused with wrong credentials, and not hang.
func TestCoturnClientWithAWrongPassword(t *testing.T) {
	uclient := tool(t, "turnutils_uclient")
	n, ports := dualNode(t)
	cred := n.Mint("p1", "coturn", time.Hour)
	out, err := run(t, uclient, "-u", cred.Username, "-w", "wrong", "-p", strconv.Itoa(ports["4udp"]), "-n", "1", "-c", "-y", "127.0.0.1")
	if err == nil || !strings.Contains(out, "Cannot complete Allocation") {
		t.Errorf("got %v\n%s\nwant a failed allocation", err, tail(out, 10))
	}
	if f := n.Snapshot().AuthFailures["integrity"]; f == 0 {
		t.Error("no failure was counted")
	}
}

func tail(s string, lines int) string {
	l := bytes.Split(bytes.TrimSpace([]byte(s)), []byte("\n"))
	return string(bytes.Join(l[max(0, len(l)-lines):], []byte("\n")))
}
